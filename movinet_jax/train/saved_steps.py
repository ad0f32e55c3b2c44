"""Which checkpoints a directory holds, and the JSON of each.

A checkpoint is `DIRECTORY/STEP/`; its JSON is `meta/metadata` in it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path


def count_steps(directory) -> list[int]:
  """Steps of the whole checkpoints in a directory, ascending; [] if it is missing."""
  folder = Path(directory)
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and _is_whole(p))


def find_step(directory, which: str | int = 'latest', metric: str | None = None, mode='max') -> int:
  """The step that 'latest', 'best' (by metric) or a number means.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: for 'best' without a metric, or another word.
  """
  steps = count_steps(directory)
  if not steps:
    raise FileNotFoundError(f'No checkpoint in {directory}.')
  if which == 'latest':
    return steps[-1]
  if which == 'best':
    if metric is None:
      raise ValueError("which='best' needs the name of a metric to be best in.")
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
    raise FileNotFoundError(f'No checkpoint {which} in {directory}; there are {steps}.')
  return which


def read_meta(directory, which: str | int = 'latest', metric=None, mode='max') -> dict:
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
    raise ValueError(f'{path} is no JSON ({error}): it is damaged') from error
  scores = meta.get('metrics') if isinstance(meta, dict) else None
  if not isinstance(scores, dict) or meta.get('step') != step:
    raise ValueError(
      f'{path} is not of checkpoint {step}: it wants a table with the step and metrics'
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


def _is_whole(path):
  # Writing ends with a rename, so what has its final name was once whole. Deleting is
  # not atomic: a process killed then leaves remains of an old checkpoint.
  meta = path / 'meta' / 'metadata'
  return (path / '_CHECKPOINT_METADATA').exists() and meta.is_file()


def _is_score(value) -> bool:
  if value is None:
    return True
  return type(value) in (int, float) and math.isfinite(value)
