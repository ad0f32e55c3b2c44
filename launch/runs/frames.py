"""The files of an evaluation of each frame, and its picture beside other networks'."""

import csv
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
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
_RATE = ('frames', 'stride', 'fps')  # what has to be the same for curves in one picture


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
  networks = [_list_curves(json.loads(json.dumps(summary))), *others]
  notes = list(_list_differences(networks))
  for note in notes:
    print(f'Note: {note}', file=sys.stderr)
  title = 'Not all were evaluated on the same videos and sizes' if notes else ''
  draw_frames(_name_apart(networks), str(picture), _say_rate(subject['clip']), title)
  print('wrote', ', '.join(map(str, paths)), file=sys.stderr)


def _list_differences(networks: Sequence[Sequence[Curve]]) -> Iterator[str]:
  """What others were evaluated on, where that is not what the first was evaluated on."""
  (first, *_), *others = networks
  for other, *_ in others:
    said = []
    for section in filter(other.subject.get, ('data', 'clip')):
      ours, theirs = first.subject.get(section) or {}, other.subject[section]
      for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
          said.append(f'{section}.{key} {theirs.get(key)} and not {ours.get(key)}')
    if said:
      yield f'{other.place} was evaluated on something else: {show(", ".join(said))}'


def _name_apart(networks: Sequence[Sequence[Curve]]) -> list[list[Curve]]:
  """Curves whose networks have names of their own: as much of a path as tells them apart."""
  levels = [[_name(one, parts) for one, *_ in networks] for parts in (1, 2, 3, None)]
  return [
    [dataclasses.replace(curve, network=_choose_name(levels, number)) for curve in curves]
    for number, curves in enumerate(networks)
  ]


def _name(curve: Curve, parts: int | None) -> str:
  """A network and the end of the path of its weights; for None all of it, and the step."""
  if parts is None:
    return f'{curve.network} ({show(curve.place)}, step {curve.subject.get("step")})'
  own = Path(curve.place).parts[-parts:]
  return f'{curve.network} ({"/".join(show(part, 24) for part in own)})'


def _choose_name(levels: Sequence[Sequence[str]], number: int) -> str:
  alone = (names[number] for names in levels if names.count(names[number]) == 1)
  return next(alone, levels[-1][number])


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
    summary = json.loads(Path(path).read_text())
    if summary['mode'] != 'frames':
      raise ValueError
    curves, theirs = _list_curves(summary), summary['of']['clip']
    found = {key: theirs[key] for key in _RATE}
  except (ValueError, TypeError, KeyError, AttributeError):
    raise ValueError(
      f'--against={path} is no evaluation of frames: wanted the OUT.json of '
      '`movinet evaluate --mode=frames`'
    ) from None
  ours = dataclasses.asdict(clip)
  different = [key for key in _RATE if found[key] != ours[key]]
  if different:
    said = ', '.join(f'{key} {found[key]} and not {ours[key]}' for key in different)
    raise ValueError(
      f'--against={path} is of other frames ({said}), so they cannot be drawn over one another: '
      'evaluate networks of the same frame rate, with the same --frames'
    )
  return curves


def _list_curves(summary: Mapping) -> list[Curve]:
  """The curves of a summary.

  Raises:
    ValueError, TypeError, KeyError, AttributeError: it is none of an evaluation of frames.
  """
  subject = dict(summary['of'])
  subject |= {'clip': dict(subject['clip']), 'data': dict(subject.get('data') or {})}
  curves = [
    Curve(
      network=str(summary['network']),
      place=str(subject['checkpoint']),
      subject=subject,
      kind=_KINDS[kind],
      accuracy=np.asarray(found['accuracy'], float),
      error=np.asarray(found['error'], float),
      videos=int(summary['evaluated']),
    )
    for kind, found in summary['frames'].items()
  ]
  frames = {curve.accuracy.shape for curve in curves} | {curve.error.shape for curve in curves}
  if frames != {(subject['clip']['frames'],)}:
    raise ValueError(f'curves of {frames} frames')
  return curves


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
