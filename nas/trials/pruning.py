"""When a trial is stopped early: where it is worse than most that came as far.

Thresholds are settled when a trial is proposed, from trials before it that are over: so
that who is pruned does not depend on who runs beside whom, or how fast.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from movinet_jax import schema
from movinet_jax.schema import ASCENDING, Count, Natural, Range


@dataclasses.dataclass(frozen=True)
class Pruning:
  """Stops what is below a quantile of earlier trials, at given steps.

  A half is the median rule; 1 - 1/η lets the best of η go on, as successive halving does
  (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, where every
  rung is η times as far as the one before).

  Attributes:
    steps: rungs, in training steps, ascending.
    quantile: share of the earlier trials that are worse than what may go on.
    least: trials that must have come to a rung before one is stopped there.
    lag: how many of the latest trials are not looked at: see nas.history.find_settled.

  Raises:
    ValueError: a setting out of its range.
  """

  steps: Annotated[tuple[Count, ...], ASCENDING]
  quantile: Annotated[float, Range(above=0, below=1)] = 0.5
  least: Count = 5
  lag: Natural = 16

  def __post_init__(self):
    schema.verify(self)

  def find_thresholds(self, curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The least value to go on at each step that enough trials have come to.

    Args:
      curves: step -> value, of trials that are over, each network once.
    """
    reached = {step: [c[step] for c in curves if step in c] for step in self.steps}
    return {
      step: float(np.quantile(values, self.quantile))
      for step, values in reached.items()
      if len(values) >= self.least
    }
