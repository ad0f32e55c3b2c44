"""Uniform random search: what any other search has to be better than.

Every decision is drawn uniformly by itself, as evolutions begin; nothing is learnt.
"""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from nas.history import (
  Conclusion,
  Proposal,
  Signal,
  State,
  Trial,
  count_trained,
  list_records,
  make_key,
  rank,
)
from nas.space import Space

BEST = 5  # networks that a conclusion recommends
TRIES = 10_000  # networks looked at until one is within the limits
DISCARDS = 1_000  # networks over a limit, with none within it, that end a search
REPEATS = 100  # of known networks, until there seem to be no others


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

  space: Space
  _: dataclasses.KW_ONLY
  budget: int
  fits: Callable[[np.ndarray], bool] | None = None
  identify: Callable[[np.ndarray], Hashable] | None = None

  def __post_init__(self):
    check_space(self.space)
    check_whole('budget', self.budget, 1)

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
    best = tuple(trial.number for trial in rank(history)[:BEST])
    return Conclusion(best, list_records(history), count_states(history))


def draw(space: Space, rng: np.random.Generator) -> Proposal:
  """A canonical vector, every decision uniform by itself."""
  return Proposal(space.canonical(space.sample(rng)))


def draw_new(algorithm, history: Sequence[Trial], *makers: Callable[[], Proposal]) -> Proposal:
  """The first proposal made that fits and is no network of the history.

  Which networks earlier trials are does not depend on how those end, so running ones are
  looked at too. The next maker is asked when all that one makes seems to be known, or not
  to fit; when there is no other, a known network is proposed again.

  Raises:
    ValueError: nothing that fits was made.
  """
  fits, identify = algorithm.fits, algorithm.identify
  # Of a key, bytes are the key itself.
  name = functools.partial(_name, identify) if identify else bytes
  known, last = {name(trial.key) for trial in history}, None
  for make in makers:
    repeats = 0
    for _ in range(TRIES):
      made = make()
      if fits is not None and not fits(made.choices):
        continue
      if name(make_key(made.choices)) not in known:
        return made
      last, repeats = made, repeats + 1
      if repeats == REPEATS:
        break
  if last is not None:
    return last
  raise ValueError(
    f'no network of {TRIES:,} drawn is within the limits: raise the limits, or let '
    f'the space have smaller ones; the last one was {made.choices.tolist()}'
  )


# A network is named again by every later proposal, and its name may be a whole spec.
@functools.cache
def _name(identify: Callable[[np.ndarray], Hashable], key: bytes) -> Hashable:
  return identify(np.frombuffer(key, np.int32))


def find_signal(history: Sequence[Trial], budget: int) -> Signal | None:
  """What to answer when the budget is used; None while it is not.

  WAIT while a trial is running, for one that ends as discarded makes room for another.

  Raises:
    ValueError: very many networks were discarded, and none was not: they would be for ever.
  """
  trained = count_trained(history)
  if trained >= budget:
    return Signal.STOP if all(trial.finished for trial in history) else Signal.WAIT
  if len(history) - trained >= DISCARDS and all(map(_is_untrained, history)):
    last = next(t for t in reversed(history) if t.state is State.DISCARDED)
    raise ValueError(
      f'all {len(history) - trained:,} networks tried are over a limit, and none was '
      f'trained: raise the limits, or let the space have smaller ones; the last one: '
      f'{last.reason}'
    )
  return None


def _is_untrained(trial: Trial) -> bool:
  return trial.state in (State.DISCARDED, State.RUNNING)


def count_states(history: Sequence[Trial]) -> dict[str, int]:
  """How many trials there are of each state, by its name."""
  return {state.value: sum(t.state is state for t in history) for state in State}


def check_space(space: Space):
  """Raises a ValueError unless there is something to decide."""
  if space.count() < 2:
    raise ValueError('the space has a single architecture: there is nothing to search')


def check_whole(name: str, value, least: int):
  """Raises a ValueError unless a setting is a whole number from `least`."""
  whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not whole or value < least:
    raise ValueError(f'{name} is {value!r}, wanted a whole number from {least}')
