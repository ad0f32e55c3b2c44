"""Evaluate a trained network on every video of a split, once each.

  movinet evaluate --checkpoint=runs/mine
  movinet evaluate --checkpoint=runs/mine --mode=stream --chunk=1
  movinet evaluate --checkpoint=runs/mine --mode=multiclip --clips=10
  movinet evaluate --checkpoint=runs/mine --mode=multiclip --clips=10 --crops=3
  movinet evaluate --checkpoint=runs/mine --mode=frames --against=runs/base/OUT.json
  movinet evaluate --checkpoint=runs/mine --set root=other_videos --set split=test
  movinet evaluate --checkpoint=runs/mine --set name=csv --set path=videos.csv

--set changes a key of the config's data.eval, and values are read as those of --config are. Another
name than the config's begins a section of its own: say everything that this kind of data needs.
--set multi_label=true reads videos as of several labels, which is the default for a network that
was trained on such.

Modes: `clip` runs each clip whole, `stream` frame by frame with the state carried (the
same numbers, for a causal network), `multiclip` averages the probabilities of several
clips of a video. With --crops=3 each clip is seen as three squares that take the whole of
the shorter side: left, centre and right; ten clips of it are the 30 views of papers.
`frames` says how often the answer is right for each frame of a clip. The features of a frame are
pooled over space and classified alone and, of a stream, its answer after each frame counts, too.
Of an ensemble, each member is also evaluated alone, on the frames that it sees. --skip-members
leaves this out, and `frames` has it not.

Writes OUT.json, OUT-classes.csv and OUT-confusion.png, where OUT is evaluation-MODE-STEP in
the workdir, or FILE-evaluation-MODE beside a file of weights, unless --out says otherwise. The JSON
says what was evaluated and how; an evaluation of something else is not written over it. With
`frames` the files are OUT.json, OUT-frames.csv and OUT-frames.png. --against=OTHER.json, such a
file of another network, is drawn in the same picture, and may be given several times.

  movinet evaluate --checkpoint=runs/mine --predictions=videos.csv

--predictions writes a row for each video, into a table (.csv) or as a JSON object a line (.jsonl):
its name, its label or labels, whether the best class is right, how many views were seen, the
--topk best classes with their probabilities, and why, if it could not be decoded. The ten most
confident mistakes are printed.
"""

import argparse
import csv
import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from launch import cluster, devices
from launch.arguments import add_trained, at_least_1, make_parser, pair
from launch.config import parse_value
from launch.errors import ExitCode
from launch.runs import frames
from launch.runs.ensemble import evaluate_members, print_scores
from launch.runs.evaluation import make_evaluate, make_evaluate_frames
from launch.runs.pictures import draw_confusion
from launch.runs.trained import Trained, load_given
from launch.runs.training import warn_of_data
from movinet_jax.names import show
from movinet_jax.paths import check_writable
from movinet_jax.train import evaluation
from movinet_jax.train.predictions import Predictions, find_format
from movinet_jax.train.workdir import CONFIG, replace_file

DISTRIBUTED = True  # its processes are one run
_TOPK = 5  # of --predictions, where videos have one label
_MISTAKES = 10  # that are printed
_WIDTH = 32  # letters of a class that are printed
# The modes that an option is for, of those which are not for all.
_MODES = {
  'chunk': ('stream',),
  'clips': ('multiclip',),
  'crops': ('multiclip',),
  'against': ('frames',),
  'predictions': evaluation.MODES,
  'skip_members': evaluation.MODES,
}


def main(argv: Sequence[str]) -> int:
  parser = make_arguments()
  arguments = parser.parse_args(argv)
  _check_options(parser, arguments)
  cluster.connect()
  devices.check_platform()
  trained = load_given(arguments)
  if arguments.skip_members and not trained.members:
    parser.error(f'--skip-members is for ensembles, and {trained.place} is one network')
  clip = _choose_views(trained.clip, arguments)
  if arguments.frames:
    clip = dataclasses.replace(clip, frames=arguments.frames)
  others = [frames.read_curves(path, clip) for path in arguments.against]
  section = _choose_data(trained, arguments)
  source = trained.open_eval(section)
  warn_of_data({'eval': source}, {})
  out = arguments.out or name_files(trained, arguments.mode)
  subject = {
    'checkpoint': trained.place,
    'step': trained.version,
    'data': section,
    'clip': dataclasses.asdict(clip),
    'chunk': arguments.chunk if arguments.mode == 'stream' else None,
  }
  kept = check_free(out, arguments.mode, subject, arguments.predictions)
  if arguments.mode == 'frames':
    _evaluate_frames(trained, source, clip, arguments, others, (out, subject))
  else:
    _evaluate(trained, source, clip, arguments, (out, subject), kept)
  return ExitCode.DONE


def _check_options(parser: argparse.ArgumentParser, arguments):
  """Refuses options of other modes, which would do nothing."""
  for key, modes in _MODES.items():
    value = getattr(arguments, key)
    if value != parser.get_default(key) and arguments.mode not in modes:
      value = value[0] if isinstance(value, list) else value
      flag = f'--{key.replace("_", "-")}' + ('' if value is True else f'={value}')
      parser.error(f'{flag} is for --mode={" or --mode=".join(modes)}')
  if arguments.topk and not arguments.predictions:
    parser.error(f'--topk={arguments.topk} is for --predictions=FILE')
  if arguments.predictions:
    find_format(arguments.predictions)


def _evaluate_frames(trained: Trained, source, clip, arguments, others, where):
  """Evaluates the answer to each frame, and writes and prints it."""
  size = arguments.batch_size or trained.eval_batch_size
  run = make_evaluate_frames(trained.model, source, clip, trained.loader, size)
  found, failures = run(trained.complete())
  if not jax.process_index():
    out, subject = where
    files = name_outputs(out, arguments.mode)
    frames.write_files(found, failures, trained.name, subject, files, others)
    frames.print_table(found, failures)


def _evaluate(trained: Trained, source, clip, arguments, where, kept):
  """Evaluates the network, and the members of an ensemble, and writes and prints it."""
  size = arguments.batch_size or trained.eval_batch_size
  how = {'mode': arguments.mode, 'chunk_frames': arguments.chunk}
  run = make_evaluate(trained.model, source, clip, trained.loader, size, **how)
  result, failures = run(trained.complete())
  members = {}
  if not arguments.skip_members:
    views = functools.partial(_choose_member_views, whole=trained.clip, arguments=arguments)
    members = evaluate_members(trained, source, trained.loader, size, views=views, **how)
  if jax.process_index():
    return
  out, subject = where
  if arguments.predictions:
    topk = arguments.topk or (len(trained.labels) if source.multi_label else _TOPK)
    rows = result.predictions.list_rows(trained.labels, topk, failures)
    kept = {**kept, **write_predictions(arguments.predictions, rows)}
  scores = {name: one.metrics for name, one in members.items()}
  write_files(result, failures, trained.labels, subject, out, kept, scores)
  # Last: whoever reads this may have gone, as `head` does, and nothing is lost.
  print_table(result, failures, trained.labels)
  print_mistakes(result.predictions, trained.labels)
  if scores:
    print()
    print_scores({**scores, 'ensemble': result.metrics})


def name_files(trained: Trained, mode: str) -> str:
  """Where the files of an evaluation are written by default: in a workdir, or beside a file."""
  place = Path(trained.place)
  if not (place / CONFIG).exists():
    name = place.stem if place.is_file() else place.name
    return str(place.with_name(f'{name}-evaluation-{mode}'))
  steps = [member.step for member in trained.members.values()] or [trained.step]
  if len(set(steps)) == 1:
    steps = steps[:1]
  return str(place / '-'.join(['evaluation', mode, *map(str, steps)]))


def _choose_data(trained: Trained, arguments) -> dict:
  """Arguments of the evaluation split, changed by --set."""
  if trained.eval_section is None and not arguments.set:
    raise ValueError(
      f'{trained.place} names no videos to evaluate on: say which, as --set name=folder '
      '--set root=VIDEOS --set split=val'
    )
  section, changes = dict(trained.eval_section or {}), dict(arguments.set)
  if changes.get('name', section.get('name')) != section.get('name'):
    section = {}  # whose keys are of another kind of data
  for key, text in changes.items():
    section[key] = parse_value(text, section.get(key), f'--set {key}')
  return section


def _choose_views(clip, arguments):
  """The clip of training's evaluation, with as many views as the mode wants."""
  if arguments.mode != 'multiclip':
    return clip.take()
  return clip.take(arguments.clips, arguments.crops)


def _choose_member_views(clip, whole, arguments):
  """The views of a member of an ensemble, which sees as much of a video as the whole does."""
  clip = _choose_views(clip, arguments)
  if not arguments.frames:
    return clip
  return dataclasses.replace(clip, frames=max(1, clip.frames * arguments.frames // whole.frames))


def check_free(
  out: str, mode: str, subject: Mapping, predictions: str | None = None
) -> dict[str, str]:
  """Finds before the work that its files could not be written, or would replace others'.

  Returns:
    the predictions that earlier evaluations of the same wrote, SHA-256 by file.
  """
  path, own = Path(f'{out}.json'), name_outputs(out, mode)
  if not path.parent.is_dir():
    raise FileNotFoundError(f'--out={out}: there is no folder {path.parent}')
  for file in own:
    check_writable(file)
  kept = _read_before(path, mode, subject).get('predictions') or {}
  if predictions:
    _check_predictions(Path(predictions), own, kept)
  return kept


def name_outputs(out: str, mode: str) -> tuple[Path, Path, Path]:
  """The files that an evaluation writes: summary, table, picture."""
  ends = ('frames', 'frames') if mode == 'frames' else ('classes', 'confusion')
  return Path(f'{out}.json'), Path(f'{out}-{ends[0]}.csv'), Path(f'{out}-{ends[1]}.png')


def _read_before(path: Path, mode: str, subject: Mapping) -> dict:
  """What an earlier evaluation of the same wrote; {} for none.

  Raises:
    FileExistsError: the file is of another evaluation, or of none.
  """
  if not path.exists():
    return {}
  try:
    before = dict(json.loads(path.read_text()))
  except (ValueError, TypeError):
    raise FileExistsError(
      f'{path} is no evaluation: say with --out where to write this one'
    ) from None
  same = before.get('mode') == mode
  if not same or before.get('of') != json.loads(json.dumps(subject)):
    raise FileExistsError(
      f'{path} is of another evaluation ({before.get("mode")} of {before.get("of")}): '
      'say with --out where to write this one'
    )
  return before


def _check_predictions(file: Path, own: Sequence[Path], kept: Mapping[str, str]):
  """Raises an error for a file of predictions that cannot be written, or that is another's.

  Args:
    own: the other files of this evaluation; the first of them tells whose predictions are.
    kept: what that says of predictions, SHA-256 by file.
  """
  if not file.parent.is_dir():
    raise FileNotFoundError(f'--predictions={file}: there is no folder {file.parent}')
  if file.resolve() in [other.resolve() for other in own]:
    raise FileExistsError(f'--predictions={file} is a file of --out, too: give another name')
  if file.is_file() and not _describe_file(file, file.read_bytes()).items() <= kept.items():
    raise FileExistsError(
      f'{file} is there, and {own[0]} does not say that it is of this evaluation: give another '
      'name as --predictions, or remove it'
    )
  check_writable(file)


def _describe_file(file: Path, content: bytes) -> dict[str, str]:
  return {str(file.resolve()): hashlib.sha256(content).hexdigest()}


def write_predictions(path: str, rows: Sequence[Mapping]) -> dict[str, str]:
  """Writes the rows of each video, whole or not at all.

  Returns:
    what the JSON file keeps, to tell later that the file is of this evaluation: its SHA-256.
  """
  # Where a name holds a lone surrogate, its escape is JSON of it, too.
  content = find_format(path)(rows).encode(errors='backslashreplace')
  replace_file(Path(path), content)
  print('wrote', path, file=sys.stderr)
  return _describe_file(Path(path), content)


def write_files(
  result, failures, labels, subject: Mapping, out: str, kept: Mapping, members: Mapping = {}
):
  """Writes the three files of an evaluation.

  Args:
    kept: files of predictions that this evaluation has written, now or earlier.
    members: of an ensemble, the metrics of each by itself.
  """
  summary = {
    'mode': result.mode,
    'of': subject,
    **result.metrics,
    'evaluated': result.evaluated,
    'missing': result.missing,
    'views': result.views,
    'failures': failures,
    **({'predictions': kept} if kept else {}),
    **({'members': members} if members else {}),
  }
  path, table, picture = name_outputs(out, result.mode)
  replace_file(path, json.dumps(summary, indent=2) + '\n')
  with table.open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['class', 'score', 'videos'])
    writer.writerows(_class_rows(result, labels))
  written = [path, table]
  if result.confusion is not None:
    written.append(picture)
    draw_confusion(result.confusion, labels, str(picture))
  print('wrote', ', '.join(map(str, written)), file=sys.stderr)


def print_table(result, failures, labels):
  one_class = result.confusion is not None and len(labels) == 1
  if not one_class:
    for name, value in result.metrics.items():
      print(f'{name:24} {value:.4f}')
  print(f'{"videos evaluated":24} {result.evaluated}')
  print(f'{"videos missing":24} {result.missing}')
  for name, reason in sorted(failures.items()):
    print(f'  {show(name)}: {reason}')
  if one_class:
    print(
      f'\nAll videos are of one class, {show(labels[0], _WIDTH)!r}: there is nothing to tell '
      'apart, so no accuracy is shown.'
    )
    return
  everything = _class_rows(result, labels)
  rows = sorted((row for row in everything if not np.isnan(row[1])), key=lambda row: row[1])
  print(f'\n{"class (worst first)":32} {"score":>7} {"videos":>7}')
  for label, score, videos in rows[:20]:
    print(f'{show(label, _WIDTH):32} {score:7.3f} {videos:>7}')
  if len(rows) > 20:
    print(f'… {len(rows) - 20} more in the CSV file')
  if none := len(everything) - len(rows):
    print(f'{none} of {len(everything)} classes have no video here')


def print_mistakes(found: Predictions, labels: Sequence[str]):
  """Prints the videos whose best class is wrong, those with the highest probabilities first."""
  mistakes = found.find_mistakes()
  if not len(mistakes):
    return
  shown = mistakes[:_MISTAKES]
  some = f'the {len(shown)} most confident of ' if len(mistakes) > len(shown) else ''
  print(f'\nmistakes ({some}{len(mistakes)}):')
  best, chances = found.rank()[:, 0], found.probabilities
  for i in shown:
    own = [show(labels[n], _WIDTH) for n in found.list_labels(found.labels[i])]
    taken = show(labels[best[i]], _WIDTH)
    said = f'{", ".join(own)}, predicted {taken} ({100 * chances[i, best[i]]:.1f} %)'
    print(f'  {show(str(found.names[i]))}: {said}')


def _class_rows(result, labels):
  counts = [''] * len(labels)
  if result.confusion is not None:
    counts = result.confusion.sum(1).astype(int).tolist()
  return list(zip(labels, map(float, result.per_class), counts, strict=True))


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('evaluate', __doc__)
  add = parser.add_argument
  add_trained(parser, exported=True)
  add('--mode', default='clip', choices=(*evaluation.MODES, 'frames'))
  add('--chunk', type=at_least_1, default=1, help='frames per call in mode stream')
  add('--clips', type=at_least_1, default=10, help='clips per video in mode multiclip')
  add('--crops', type=int, default=1, choices=(1, 3), help='squares per clip, as above')
  add('--frames', type=at_least_1, help='frames of a clip; default: as trained')
  add('--batch-size', type=at_least_1, help='videos at a time; default: as the config')
  add('--out', type='path', help='where to write, without suffix')
  add(
    '--against',
    action='append',
    default=[],
    type='path',
    metavar='OTHER.json',
    help='in mode frames: another network, drawn in the same picture',
  )
  add('--skip-members', action='store_true', help='of an ensemble: leave out its members')
  add('--predictions', type='path', metavar='FILE', help='.csv or .jsonl: a row for each video')
  add(
    '--topk',
    type=at_least_1,
    help='best classes in each row of --predictions; default: 5, with several labels a video all',
  )
  add(
    '--set',
    action='append',
    default=[],
    type=pair,
    metavar='KEY=VALUE',
    help='change a key of the data section: root, split, path, multi_label, …',
  )
  return parser
