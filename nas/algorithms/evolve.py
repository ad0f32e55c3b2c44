"""Evolution of networks by tournaments and discrete mutations.

Piergiovanni, Angelova and Ryoo, "Tiny Video Networks" (2020), section 2 and A.5, after
Goldberg and Deb (1991) and Real et al. (2019). What the paper leaves open, and how it is
decided here: a child is "adequate" when it is better than the worst of the population, and
which part of a network mutates is uniform over its open decisions.
"""

import dataclasses
import functools
import heapq
from collections.abc import Callable, Hashable, Sequence
from typing import Annotated, ClassVar

import numpy as np

from movinet_jax import schema
from movinet_jax.schema import Count, Natural
from nas.algorithms.arguments import FromSpace, check_space
from nas.algorithms.moves import draw, draw_new, hold_tournament, mutate
from nas.history import (
  Conclusion,
  Proposal,
  Signal,
  State,
  Trial,
  count_states,
  find_settled,
  find_signal,
  list_best,
  rank,
)
from nas.space import Space

HOPEFUL = (State.DONE, State.RUNNING)  # that are members, or may become such


@dataclasses.dataclass(frozen=True)
class Evolve:
  """Random networks until a population is trained, then children of its winners.

  Attributes:
    space: what is decided.
    budget: trials, those of the first population too. Discarded ones do not count.
    population: networks that may have children. The paper's: 200.
    tournament: how many of them are drawn for the best of these to have a child. The
      paper's: 50.
    lag: how many of the latest trials a proposal does without, so that as many may run
      beside it: at least the number of workers less one, and more where some networks take
      longer to train than others. What is proposed depends on it.
    fits: whether an architecture [D] is within limits that are known without training,
      such as parameters. Those that are not are never proposed.
    identify: equal for choices [D] that are one network; without it, all differ.

  Raises:
    ValueError: a setting out of its range, or a space with nothing to search.
  """

  sections: ClassVar[tuple[str, ...]] = ('course', 'lineage')  # of nas.report

  space: Annotated[Space, FromSpace('space')]
  _: dataclasses.KW_ONLY
  budget: Count
  population: Count = 200
  tournament: Count = 50
  lag: Natural = 16
  fits: Annotated[Callable[[np.ndarray], bool] | None, FromSpace('fits')] = None
  identify: Annotated[Callable[[np.ndarray], Hashable] | None, FromSpace('identify')] = None

  def __post_init__(self):
    schema.verify(self)
    check_space(self.space)
    if self.population < self.tournament:
      raise ValueError(
        f'population ({self.population}) must be no less than tournament ({self.tournament})'
      )
    if self.budget <= self.population:
      raise ValueError(
        f'budget ({self.budget}) must be more than population ({self.population}): '
        'the search would end before the first child'
      )

  def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal | Signal:
    """A random network or a child, or WAIT for a trial that decides about it.

    Raises:
      ValueError: none of the many networks drawn fits.
    """
    if signal := find_signal(history, self.budget):
      return signal
    draw_any = functools.partial(draw, self.space, rng)
    if self._is_too_few(history[: max(0, len(history) - self.lag)]):
      return draw_new(self, history, draw_any)
    settled = find_settled(history, self.lag)
    if settled is None:
      return Signal.WAIT
    members = self.find_population(settled)

    def draw_child():
      return self.mutate(self.select(members, rng), rng)

    # A child that is known or does not fit makes way for one of another tournament; where
    # there is no other child, for a random network.
    return draw_new(self, history, draw_child, draw_any)

  def _is_too_few(self, seen) -> bool:
    """Whether these make no population, however those end that run."""
    return sum(trial.state in HOPEFUL for trial in seen) < self.population

  def find_population(self, settled: Sequence[Trial]) -> list[Trial]:
    """The members, best first.

    A child that is better than the worst member takes its place (of equals, the latest's).
    So the population is at any time the best of all that were trained.
    """
    return rank(settled)[: self.population]

  def select(self, members: Sequence[Trial], rng: np.random.Generator) -> Trial:
    """The parent: the winner of a tournament among the members."""
    return hold_tournament(members, self.tournament, rng)

  def mutate(self, parent: Trial, rng: np.random.Generator) -> Proposal:
    """A child that differs in one decision, and in what that opens or closes."""
    child, number = mutate(self.space, parent.choices, rng)
    note = {'parent': parent.number, 'mutated': self.space.decisions[number].path}
    return Proposal(child, note)

  def conclude(self, history: Sequence[Trial]) -> Conclusion:
    """The best networks, and how the first of them came to be: its ancestors and it.

    The facts: how many trials there are of each state, children among those trained, and
    the share of these that became members.
    """
    best = list_best(history)
    path = find_lineage(history, best[0]) if best else ()
    children, accepted = self._count_children(history)
    facts = {**count_states(history), 'children': children, 'accepted': accepted}
    facts['acceptance'] = accepted / children if children else None
    return Conclusion(best, path, facts)

  def _count_children(self, history) -> tuple[int, int]:
    """How many were trained, and how many of them became members."""
    values, children, accepted = [], 0, 0  # of members: a heap, the least one first
    for trial in history:
      if trial.state is not State.DONE:
        continue
      enters = len(values) < self.population or trial.value > values[0]
      if len(values) < self.population:
        heapq.heappush(values, trial.value)
      elif enters:
        heapq.heapreplace(values, trial.value)
      is_child = 'parent' in trial.note
      children, accepted = children + is_child, accepted + (is_child and enters)
    return children, accepted


def find_lineage(history: Sequence[Trial], number: int) -> tuple[int, ...]:
  """Numbers from a random network through its descendants to a trial."""
  lineage = [number]
  while (parent := history[lineage[-1]].note.get('parent')) is not None:
    lineage.append(parent)
  return tuple(reversed(lineage))
