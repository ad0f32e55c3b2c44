"""Progressive search: steps that each search some decisions and inherit all others.

Gong et al., "Searching for Two-Stream Models in Multivariate Space for Video Recognition", ICCV
2021, section 4.2. A step begins with the weights of the step before. It holds what that step
has decided, and decisions that no step has searched yet have their first choice. Any space may be
searched so: decisions are named by their paths.
"""

import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np

from movinet_jax.names import check_name
from nas.space import Space

OPEN = -1  # in place of a choice, where a decision is searched


def hold(
  space: Space,
  searched: Sequence[str] | None,
  decided: np.ndarray | None = None,
  given: Mapping[str, int] = {},
) -> np.ndarray | None:
  """Says which decisions a search holds fixed, and at which choices.

  Args:
    searched: paths of the decisions to search; `*` stands for anything: 'sparse/groups/*'.
      None searches all but those that are given.
    decided: [D], what a search before has found. None stands for the first choices.
    given: choices by path, for decisions that are not searched; they count more than `decided`.

  Returns:
    [D] int32, -1 for decisions that are searched. None where nothing is held.

  Raises:
    ValueError: no such decision or choice, nothing that is searched, or a decision both given
      and searched.
  """
  decided = _begin(space, decided)
  held = _hold(space, searched, decided, given)
  return None if (held == OPEN).all() else held


def preview(
  space: Space,
  steps: Sequence[tuple[Sequence[str] | None, Mapping[str, int]]],
  decided: np.ndarray | None = None,
):
  """Says what the last of several steps may hold, before any of them has run.

  Args:
    steps: `searched` and `given` of each, see `hold`.
    decided: what the first of them begins with, see `hold`.

  Returns:
    As `hold`, with -1 also for decisions that a step before it searches.

  Raises:
    ValueError: as `hold`, for any of the steps.
  """
  decided = _begin(space, decided)
  for searched, given in steps:
    decided = _hold(space, searched, decided, given)
  return None if (decided == OPEN).all() else decided


def _begin(space, decided) -> np.ndarray:
  return np.zeros(len(space), np.int32) if decided is None else space.canonical(decided)


def _hold(space, searched, decided, given) -> np.ndarray:
  """As `hold`; -1 in `decided` is a choice that is not known yet."""
  opened = _find_searched(space, searched, given)
  held = decided.copy()
  for path, choice in given.items():
    number = space.number(path)
    if opened[number]:
      raise ValueError(f'{path} is held at choice {choice} and is searched too: leave one out')
    if not 0 <= choice < space.sizes[number]:
      most = space.sizes[number] - 1
      raise ValueError(f'{path} has choices 0 to {most}, got {choice}')
    held[number] = choice
  held[opened] = OPEN
  if not (opened & (space.sizes > 1) & can_open(space, held)).any():
    said = 'all' if searched is None else ', '.join(searched) or 'none'
    raise ValueError(f'no decision that matters is searched: {said}')
  return held


def _find_searched(space, searched, given) -> np.ndarray:
  """[D] bool."""
  paths = [decision.path for decision in space.decisions]
  if searched is None:
    return np.array([path not in given for path in paths], bool)
  opened = np.zeros(len(space), bool)
  for pattern in searched:
    found = np.array([fnmatch.fnmatchcase(path, pattern) for path in paths], bool)
    if not found.any():
      check_name(pattern, paths, 'decision of the space')
    opened |= found
  return opened


def can_open(space: Space, held: np.ndarray) -> np.ndarray:
  """[D] bool: decisions that matter in some network with these choices, -1 being any."""
  able = np.ones(len(space), bool)
  for n, decision in enumerate(space.decisions):
    for parent, wanted in decision.needs:
      able[n] &= held[parent] in (OPEN, wanted)
  return able


def impose(held: np.ndarray | None, choices: np.ndarray) -> np.ndarray:
  """Puts held choices [D] into vectors [..., D]."""
  return choices if held is None else np.where(held == OPEN, choices, held)
