"""Which checkpoints a directory holds, and the JSON of each.

A checkpoint is `DIRECTORY/STEP/`; its JSON is `meta/metadata` in it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from movinet_jax.train.metrics import choose_mode


def count_steps(directory) -> list[int]:
  """Steps of the whole checkpoints in a directory, ascending; [] if it is missing."""
  folder = Path(directory)
  return sorted(step for step, path in _list_folders(folder) if not _find_missing(path))


def list_incomplete(directory) -> dict[int, str]:
  """Steps of the checkpoints that lack a file, with its name; {} if there are none.

  A save ends with a rename, so something was lost since: by a disk, a copy, or a process that
  was killed while it deleted an old checkpoint.
  """
  found = {step: _find_missing(path) for step, path in sorted(_list_folders(Path(directory)))}
  return {step: missing for step, missing in found.items() if missing}


def _list_folders(folder: Path) -> list[tuple[int, Path]]:
  if not folder.is_dir():
    return []
  return [
    (int(path.name), path) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()
  ]


def find_step(
  directory, which: str | int = 'latest', metric: str | None = None, mode: str | None = None
) -> int:
  """The step that 'latest', 'best' (by metric) or a number means.

  Args:
    metric: what 'best' is best in.
    mode: 'max' or 'min'; None for the metric's own direction.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: for 'best' without a metric or against its direction, or another word.
  """
  steps = count_steps(directory)
  incomplete = [
    f'{step} is incomplete (no {name})' for step, name in list_incomplete(directory).items()
  ]
  lost = f'; {", ".join(incomplete)}' if incomplete else ''
  if not steps:
    raise FileNotFoundError(f'No checkpoint in {directory}{lost}.')
  if which == 'latest':
    return steps[-1]
  if which == 'best':
    if metric is None:
      raise ValueError("which='best' needs the name of a metric to be best in.")
    mode = choose_mode(metric, mode)
    scores = {s: read_step(directory, s)['metrics'].get(metric) for s in steps}
    best = pick_best(scores, mode)
    if best is None:
      raise FileNotFoundError(
        f'None of the checkpoints {steps} in {directory} was evaluated for {metric!r}.'
      )
    return best
  if not isinstance(which, int):
    raise ValueError(f"which is {which!r}, wanted 'latest', 'best' or a step.")
  if which not in steps:
    raise FileNotFoundError(f'No checkpoint {which} in {directory}; there are {steps}{lost}.')
  return which


def read_meta(directory, which: str | int = 'latest', metric=None, mode=None) -> dict:
  """The JSON of a checkpoint, without reading its arrays; see `find_step`."""
  return read_step(directory, find_step(directory, which, metric, mode))


def read_step(directory, step: int) -> dict:
  """The JSON of the checkpoint of a step.

  Raises:
    ValueError: it is damaged, or of another step.
  """
  path = meta_path(directory, step)
  try:
    meta = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(
      f'{path} is no JSON ({error}), so the checkpoint is damaged: move {path.parents[1]} '
      'elsewhere to go on without it'
    ) from error
  scores = meta.get('metrics') if isinstance(meta, dict) else None
  if not isinstance(scores, dict) or meta.get('step') != step:
    raise ValueError(
      f'{path} is not of checkpoint {step}, or damaged (wanted a table with the step and '
      f'metrics): move {path.parents[1]} elsewhere to go on without it'
    )
  if bad := [name for name, score in scores.items() if not _is_score(score)]:
    raise ValueError(f'{path} has the metric {bad[0]} {scores[bad[0]]!r}, wanted a number')
  return meta


def meta_path(directory, step: int) -> Path:
  """The file of a checkpoint's JSON."""
  return Path(directory) / str(step) / 'meta' / 'metadata'


def pick_best(scores: Mapping[int, float | None], mode: str) -> int | None:
  """The step with the best score; among equals the earliest, None if none has a score."""
  known = {step: value for step, value in scores.items() if value is not None}
  sign = 1 if mode == 'max' else -1
  return max(sorted(known), key=lambda step: sign * known[step], default=None)


def _find_missing(path: Path) -> str:
  """What a checkpoint lacks; '' for nothing."""
  needed = '_CHECKPOINT_METADATA', 'meta/metadata', 'state/_METADATA'
  return next((name for name in needed if not (path / name).is_file()), '')


def _is_score(value) -> bool:
  if value is None:
    return True
  return type(value) in (int, float) and math.isfinite(value)
