"""The files of an evaluation of each frame, and its picture beside other networks'."""

import csv
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from launch.runs.pictures import Curve, draw_frames
from movinet_jax import data
from movinet_jax.names import show
from movinet_jax.train.evaluation import FrameEvaluation
from movinet_jax.train.workdir import replace_file

_KINDS = {'alone': 'each frame alone', 'so_far': 'all frames so far'}
_COLUMNS = ('accuracy', 'deviation', 'error')
_ROWS = 10  # of the table that is printed


def write_files(
  found: FrameEvaluation,
  failures: Mapping[str, str],
  network: str,
  subject: Mapping,
  paths: tuple[Path, Path, Path],
  others: Sequence[Sequence[Curve]] = (),
):
  """Writes what was found of each frame.

  Args:
    network: its name.
    subject: what was evaluated.
    paths: of the summary, the table and the picture.
    others: curves of other networks in the picture.
  """
  path, table, picture = paths
  summary = {
    'mode': 'frames',
    'of': subject,
    'network': network,
    'frames': {
      kind: {column: getattr(found, column)[kind].tolist() for column in _COLUMNS}
      for kind in found.accuracy
    },
    'evaluated': found.evaluated,
    'missing': found.missing,
    'failures': failures,
  }
  replace_file(path, json.dumps(summary, indent=2) + '\n')
  with table.open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['frame', *(f'{kind}_{one}' for kind in found.accuracy for one in _COLUMNS)])
    writer.writerows(_list_rows(found))
  draw_frames([_list_curves(summary), *others], str(picture), _say_rate(subject['clip']))
  print('wrote', ', '.join(map(str, paths)), file=sys.stderr)


def _say_rate(clip: Mapping) -> str:
  if clip['fps']:
    return f'{clip["fps"]:g} a second'
  stride = clip['stride'] or 1
  return 'every frame of the video' if stride == 1 else f'one of each {stride} of the video'


def _list_rows(found: FrameEvaluation) -> list[list]:
  """Rows of a frame's number, from 1 on, and its numbers."""
  columns = [getattr(found, one)[kind].tolist() for kind in found.accuracy for one in _COLUMNS]
  return [[number, *row] for number, row in enumerate(zip(*columns, strict=True), 1)]


def read_curves(path: str, clip: data.EvalClip) -> list[Curve]:
  """Reads the curves of an earlier evaluation of frames.

  Args:
    path: of its summary.
    clip: of the evaluation that they are drawn beside.

  Raises:
    ValueError: it is no such evaluation, or its frames are others.
  """
  try:
    summary = dict(json.loads(Path(path).read_text()))
    mode = summary['mode']
    theirs = summary['of']['clip']
  except (ValueError, TypeError, KeyError):
    mode = None
  if mode != 'frames':
    raise ValueError(
      f'--against={path} is no evaluation of frames: wanted the OUT.json of '
      '`movinet evaluate --mode=frames`'
    )
  ours = dataclasses.asdict(clip)
  different = [key for key in ('frames', 'stride', 'fps') if theirs[key] != ours[key]]
  if different:
    said = ', '.join(f'{key} {theirs[key]} and not {ours[key]}' for key in different)
    raise ValueError(
      f'--against={path} is of other frames ({said}), so they cannot be drawn over one another: '
      'evaluate networks of the same frame rate, with the same --frames'
    )
  return _list_curves(summary)


def _list_curves(summary: Mapping) -> list[Curve]:
  place = os.path.basename(summary['of']['checkpoint'].rstrip('/'))
  return [
    Curve(
      network=f'{summary["network"]} ({show(place, 24)})',
      kind=_KINDS[kind],
      accuracy=np.asarray(found['accuracy']),
      error=np.asarray(found['error']),
      videos=summary['evaluated'],
    )
    for kind, found in summary['frames'].items()
  ]


def print_table(found: FrameEvaluation, failures: Mapping[str, str]):
  """Prints the accuracy of some frames, the first and the last among them."""
  kinds = list(found.accuracy)
  frames = len(found.accuracy[kinds[0]])
  print(f'{"videos evaluated":24} {found.evaluated}')
  print(f'{"videos missing":24} {found.missing}')
  for name, reason in sorted(failures.items()):
    print(f'  {show(name)}: {reason}')
  print(f'\n{"frame":>5}', *(f'{_KINDS[kind]:>20}' for kind in kinds))
  for i in np.unique(np.linspace(0, frames - 1, min(frames, _ROWS)).round().astype(int)):
    cells = (f'{found.accuracy[kind][i]:.4f} ± {found.error[kind][i]:.4f}' for kind in kinds)
    print(f'{i + 1:>5}', *(f'{cell:>20}' for cell in cells))
  print(f'± is one standard deviation of a mean over {found.evaluated} videos.')
