"""Tries the choices of a space's first decision in their order."""

import dataclasses
from typing import Annotated

import numpy as np

from nas.algorithms.arguments import FromSpace
from nas.history import Conclusion, Proposal, Signal, rank
from nas.space import Space


@dataclasses.dataclass(frozen=True)
class InOrder:
  space: Annotated[Space, FromSpace('space')]
  budget: int = 4

  def propose(self, trials, rng):
    if len(trials) >= self.budget:
      return Signal.STOP
    choices = np.zeros(len(self.space), np.int32)
    choices[0] = len(trials)
    return Proposal(choices)

  def conclude(self, trials) -> Conclusion:
    return Conclusion(best=tuple(trial.number for trial in rank(trials)))
