"""What a search takes over from searches before it: choices that it holds, and weights."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from movinet_jax.train.checkpoint import read_meta
from nas import choices
from nas.oneshot import progressive
from nas.space import Space

SPACE, FOUND = 'space.json', 'found.json'


def find_held(cfg, space: Space, before: Sequence) -> np.ndarray | None:
  """The decisions that are not searched, and their choices; see `progressive.hold`.

  Args:
    cfg: the Config of a search.
    before: Configs of steps that will have run before it, where they have not yet.
  """
  first = before[0] if before else cfg
  decided = read_found(Path(first.inherit), space) if first.inherit else None
  if before:
    steps = [(step.searched, step.held or {}) for step in (*before, cfg)]
    return progressive.preview(space, steps, decided)
  return progressive.hold(space, cfg.searched, decided, cfg.held or {})


def read_found(home: Path, space: Space) -> np.ndarray:
  """The network that a search has found, as choices [D] of the same space.

  Raises:
    FileNotFoundError: it has not ended, or is no search.
    ValueError: it is of another space.
  """
  for name in (SPACE, FOUND):
    if not (home / name).exists():
      raise FileNotFoundError(f'{home} has no {name}: {_advise(home)}')
  check_space(home / SPACE, space)
  try:
    chosen = choices.find_chosen(space, json.loads((home / FOUND).read_text())['choices'])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{home / FOUND} is not of a search of this space: {error}') from error
  return space.encode({space.decisions[n].path: choice for n, choice in chosen.items()})


def _advise(home: Path) -> str:
  """What to inherit from instead of a workdir that lacks what a search leaves."""
  if (home / FOUND).exists() and (steps := json.loads((home / FOUND).read_text()).get('steps')):
    return f'it is of a search in steps, so inherit from the last one, {home / list(steps)[-1]}'
  return 'wanted the workdir of a search, or of a step of one, that has ended'


def check_space(path: Path, space: Space):
  """Raises a ValueError if a workdir's samples are of another space than `space`."""
  if not path.exists():
    return
  try:
    found = Space.from_json(json.loads(path.read_text()))
  except ValueError as error:
    raise ValueError(f'{path}: {error}; begin another workdir') from error
  if found != space:
    raise ValueError(
      f'{path} is the space {found.digest} of {len(found)} decisions, the config says '
      f'{space.digest} of {len(space)}: begin another workdir'
    )


def check_labels(checkpoints: Path, labels: Sequence[str]):
  """Raises a ValueError if the weights to begin with are for other classes than `labels`."""
  saved = read_meta(checkpoints)['labels']
  if saved == list(labels):
    return
  other = [name for name in labels if name not in saved] or list(labels)
  raise ValueError(
    f'{checkpoints} is of {len(saved)} classes, and not of the {len(labels)} of this data, such as '
    f'{other[0]!r}: inherit from a search of the same classes (data.classes)'
  )


def check_held(path: Path, saved: np.ndarray | None, held: np.ndarray | None, space: Space):
  """Raises a ValueError if a checkpoint's search holds other choices than the config's."""
  if held is None:
    return
  differing = np.flatnonzero(np.asarray(saved) != held)
  if differing.size:
    n = differing[0]
    raise ValueError(
      f'{path} was begun with choice {int(saved[n])} of {space.decisions[n].path}, the config '
      f'says {int(held[n])} (-1 is searched): inherit from the same search'
    )
