"""Evaluate a trained network on every video of a split, once each.

  movinet evaluate --checkpoint=runs/mine
  movinet evaluate --checkpoint=runs/mine --mode=stream --chunk=1
  movinet evaluate --checkpoint=runs/mine --mode=multiclip --clips=10
  movinet evaluate --checkpoint=runs/mine --mode=multiclip --clips=10 --crops=3
  movinet evaluate --checkpoint=runs/mine --set root=other_videos --set split=test

Modes: `clip` runs each clip whole, `stream` frame by frame with the state carried (the
same numbers, for a causal network), `multiclip` averages the probabilities of several
clips of a video. With --crops=3 each clip is seen as three squares that take the whole of
the shorter side: left, centre and right; ten clips of it are the 30 views of papers.
Writes OUT.json, OUT-classes.csv and OUT-confusion.png, where OUT is evaluation-MODE-STEP in
the workdir unless --out says otherwise. The JSON says what was evaluated and how; an
evaluation of something else is not written over it.
"""

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from launch import cluster, devices
from launch.arguments import at_least_1, make_parser, pair
from launch.errors import ExitCode
from launch.runs.evaluation import make_evaluate
from launch.runs.trained import Trained, load_trained
from launch.runs.training import open_eval
from movinet_jax.paths import check_writable
from movinet_jax.train import evaluation

DISTRIBUTED = True  # its processes are one run


def main(argv: Sequence[str]) -> int:
  parser = make_arguments()
  arguments = parser.parse_args(argv)
  if arguments.crops > 1 and arguments.mode != 'multiclip':
    parser.error(f'--crops={arguments.crops} is for --mode=multiclip')
  cluster.connect()
  devices.check_platform()
  trained = load_trained(arguments.checkpoint, arguments.which)
  clip = _choose_views(trained.clip, arguments)
  if arguments.frames:
    clip = dataclasses.replace(clip, frames=arguments.frames)
  section = _choose_data(trained, arguments)
  source = open_eval(section, trained.labels, trained.config.data.classes)
  name = f'evaluation-{arguments.mode}-{trained.step}'
  out = arguments.out or str(Path(arguments.checkpoint) / name)
  subject = {
    'checkpoint': str(arguments.checkpoint),
    'step': trained.step,
    'data': section,
    'clip': dataclasses.asdict(clip),
    'chunk': arguments.chunk if arguments.mode == 'stream' else None,
  }
  check_free(out, arguments.mode, subject)
  run = make_evaluate(
    trained.model,
    source,
    clip,
    trained.config.loader,
    arguments.batch_size or trained.config.eval_batch_size,
    mode=arguments.mode,
    chunk_frames=arguments.chunk,
  )
  result, failures = run(trained.complete())
  if not jax.process_index():
    report(result, failures, trained.labels, subject, out)
  return ExitCode.DONE


def _choose_data(trained: Trained, arguments) -> dict:
  """Arguments of the evaluation split, changed by --set."""
  if trained.config.data.eval is None and not arguments.set:
    raise ValueError(
      f'{arguments.checkpoint} was trained without data.eval: say what to evaluate on, as '
      '--set name=folder --set root=VIDEOS --set split=val'
    )
  return {**(trained.config.data.eval or {}), **dict(arguments.set)}


def _choose_views(clip, arguments):
  """The clip of training's evaluation, with as many views as the mode wants."""
  if arguments.mode != 'multiclip':
    return dataclasses.replace(clip, clips=1, crops=1)
  # Three squares cover the longer side only if each takes the whole of the shorter one.
  size = clip.short_side if arguments.crops > 1 else clip.size
  views = {'clips': arguments.clips, 'crops': arguments.crops}
  return dataclasses.replace(clip, size=size, **views)


def check_free(out: str, mode: str, subject: dict):
  """Finds before the work that its files could not be written, or would replace others'."""
  path = Path(f'{out}.json')
  if not path.parent.is_dir():
    raise FileNotFoundError(f'--out={out}: there is no folder {path.parent}')
  for file in (path, f'{out}-classes.csv', f'{out}-confusion.png'):
    check_writable(file)
  if not path.exists():
    return
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


def report(result: evaluation.Evaluation, failures, labels, subject: dict, out: str):
  """Prints an evaluation and writes its three files."""
  print_table(result, failures, labels)
  summary = {
    'mode': result.mode,
    'of': subject,
    **result.metrics,
    'evaluated': result.evaluated,
    'missing': result.missing,
    'views': result.views,
    'failures': failures,
  }
  Path(f'{out}.json').write_text(json.dumps(summary, indent=2) + '\n')
  with open(f'{out}-classes.csv', 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['class', 'score', 'videos'])
    writer.writerows(_class_rows(result, labels))
  written = [f'{out}.json', f'{out}-classes.csv']
  if result.confusion is not None:
    written.append(f'{out}-confusion.png')
    draw_confusion(result.confusion, labels, written[-1])
  print('wrote', ', '.join(written), file=sys.stderr)


def print_table(result, failures, labels):
  for name, value in result.metrics.items():
    print(f'{name:24} {value:.4f}')
  print(f'{"videos evaluated":24} {result.evaluated}')
  print(f'{"videos missing":24} {result.missing}')
  for name, reason in sorted(failures.items()):
    print(f'  {name}: {reason}')
  rows = sorted(_class_rows(result, labels), key=lambda row: (np.isnan(row[1]), row[1]))
  print(f'\n{"class (worst first)":32} {"score":>7} {"videos":>7}')
  for label, score, videos in rows[:20]:
    print(f'{label:32} {score:7.3f} {videos:>7}')
  if len(rows) > 20:
    print(f'… {len(rows) - 20} more in the CSV file')


def _class_rows(result, labels):
  counts = [''] * len(labels)
  if result.confusion is not None:
    counts = result.confusion.sum(1).astype(int).tolist()
  return list(zip(labels, map(float, result.per_class), counts, strict=True))


def draw_confusion(confusion: np.ndarray, labels, path: str):
  """Draws a confusion matrix [N, N] (true, predicted) as shares of each true class."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  counts = confusion.sum(1, keepdims=True)
  shares = np.divide(confusion, counts, where=counts > 0, out=np.zeros(confusion.shape))
  n = len(labels)
  side = min(4 + 0.35 * n, 24)
  figure, axes = pyplot.subplots(figsize=(side + 1, side), layout='constrained')
  image = axes.imshow(shares, vmin=0, vmax=1, cmap='Blues')
  figure.colorbar(image, label='share of the true class')
  axes.set(xlabel='predicted', ylabel='true')
  if n <= 60:  # More names than that cannot be read.
    axes.set_xticks(range(n), labels, rotation=90 if n > 6 else 0)
    axes.set_yticks(range(n), labels)
  if n <= 20:
    for i, j in np.ndindex(n, n):
      dark = 'white' if shares[i, j] > 0.5 else 'black'
      axes.text(j, i, int(confusion[i, j]), ha='center', va='center', color=dark)
  figure.savefig(path, dpi=120)
  pyplot.close(figure)


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('evaluate', __doc__)
  add = parser.add_argument
  add('--checkpoint', type='path', required=True, help='workdir of a training run')
  add('--which', default='latest', help='latest, best or a step')
  add('--mode', default='clip', choices=evaluation.MODES)
  add('--chunk', type=at_least_1, default=1, help='frames per call in mode stream')
  add('--clips', type=at_least_1, default=10, help='clips per video in mode multiclip')
  add('--crops', type=int, default=1, choices=(1, 3), help='squares per clip, as above')
  add('--frames', type=at_least_1, help='frames of a clip; default: as trained')
  add('--batch-size', type=at_least_1, help='videos at a time; default: as the config')
  add('--out', type='path', help='where to write, without suffix')
  add(
    '--set',
    action='append',
    default=[],
    type=pair,
    metavar='KEY=VALUE',
    help='change a key of the data section: root, split, path, …',
  )
  return parser
