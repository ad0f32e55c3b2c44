"""Uniform random search: what any other search has to be better than.

Every decision is drawn uniformly by itself, as evolutions begin; nothing is learnt.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Annotated, ClassVar

import numpy as np

from movinet_jax import schema
from movinet_jax.schema import Count
from nas.algorithms.arguments import FromSpace, check_space
from nas.algorithms.moves import draw, draw_new
from nas.history import (
  Conclusion,
  Proposal,
  Signal,
  Trial,
  count_states,
  find_signal,
  list_best,
  list_records,
)
from nas.space import Space


@dataclasses.dataclass(frozen=True)
class Uniform:
  """Random networks, none twice unless hardly any is left.

  Attributes:
    space: what is decided.
    budget: trials. Discarded ones do not count.
    fits: whether an architecture [D] is within limits that are known without training,
      such as parameters. Those that are not are never proposed.
    identify: equal for choices [D] that are one network; without it, all differ.

  Raises:
    ValueError: a setting out of its range, or a space with nothing to search.
  """

  sections: ClassVar[tuple[str, ...]] = ('course',)  # of nas.report

  space: Annotated[Space, FromSpace('space')]
  _: dataclasses.KW_ONLY
  budget: Count
  fits: Annotated[Callable[[np.ndarray], bool] | None, FromSpace('fits')] = None
  identify: Annotated[Callable[[np.ndarray], Hashable] | None, FromSpace('identify')] = None

  def __post_init__(self):
    schema.verify(self)
    check_space(self.space)

  def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal | Signal:
    """A network, unless the budget is used. Never waits for what a trial finds.

    Raises:
      ValueError: none of TRIES networks drawn fits.
    """
    if signal := find_signal(history, self.budget):
      return signal
    return draw_new(self, history, lambda: draw(self.space, rng))

  def conclude(self, history: Sequence[Trial]) -> Conclusion:
    """The best networks, and those that were better than all before them."""
    return Conclusion(list_best(history), list_records(history), count_states(history))
