"""What a search takes over from searches before it: choices that it holds, and weights."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

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
  if before:
    steps = [(step.searched, step.held or {}) for step in (*before, cfg)]
    return progressive.preview(space, steps)
  decided = read_found(Path(cfg.inherit), space) if cfg.inherit else None
  return progressive.hold(space, cfg.searched, decided, cfg.held or {})


def read_found(home: Path, space: Space) -> np.ndarray:
  """The network that a search has found, as choices [D] of the same space.

  Raises:
    FileNotFoundError: it has not ended, or is no search.
    ValueError: it is of another space.
  """
  for name in (SPACE, FOUND):
    if not (home / name).exists():
      raise FileNotFoundError(
        f'{home} has no {name}: inherit from the workdir of a search, or of a step, that has ended'
      )
  check_space(home / SPACE, space)
  try:
    chosen = choices.find_chosen(space, json.loads((home / FOUND).read_text())['choices'])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{home / FOUND} is not of a search of this space: {error}') from error
  return space.encode({space.decisions[n].path: choice for n, choice in chosen.items()})


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
