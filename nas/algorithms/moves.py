"""How trial algorithms come to the next network: random draws, mutations, tournaments."""

import functools
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from nas.history import Proposal, Trial, make_key, rank
from nas.space import Space

TRIES = 10_000  # draws until one is within the limits
REPEATS = 100  # draws of known networks after which there seem to be no others


def draw(space: Space, rng: np.random.Generator) -> Proposal:
  """Draws a canonical vector, every decision uniform and independent."""
  return Proposal(space.canonical(space.sample(rng)))


def mutate(space: Space, choices, rng: np.random.Generator) -> tuple[np.ndarray, int]:
  """Changes one decision, and what that opens or closes.

  The decision is uniform over the open ones that have an alternative, its new choice over
  the alternatives. The decisions that it opens are drawn uniformly.

  Args:
    choices: [D], of the parent.

  Returns:
    The canonical child [D], and the number of the decision that was changed.
  """
  is_open = space.is_open(choices)
  number = rng.choice(np.flatnonzero(is_open & (space.sizes > 1)))
  child = np.where(is_open, choices, space.sample(rng))
  other = rng.integers(space.sizes[number] - 1)
  child[number] = other + (other >= choices[number])
  return space.canonical(child), int(number)


def hold_tournament(members: Sequence[Trial], size: int, rng: np.random.Generator) -> Trial:
  """The best of `size` members, which are drawn without replacement."""
  drawn = rng.choice(len(members), size, replace=False)
  return rank([members[i] for i in drawn])[0]


def draw_new(algorithm, history: Sequence[Trial], *makers: Callable[[], Proposal]) -> Proposal:
  """Makes proposals until one fits and is no network of the history.

  Which networks earlier trials are does not depend on how they end, so running ones are
  looked at too. The next maker is asked when all that one makes seems to be known or not
  to fit. After the last maker, a known network is proposed again.

  Args:
    algorithm: its `fits` says whether choices are within the limits, and its `identify`
      is equal for choices that are one network. Either may be None.
    *makers: each makes a proposal.

  Raises:
    ValueError: nothing that fits was made.
  """
  fits, identify = algorithm.fits, algorithm.identify
  # The bytes of a key are the key itself.
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


# Every later proposal names a network again, and its name may be a whole spec.
@functools.cache
def _name(identify: Callable[[np.ndarray], Hashable], key: bytes) -> Hashable:
  return identify(np.frombuffer(key, np.int32))
