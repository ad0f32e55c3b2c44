"""Write videos, search a network for them, train, evaluate and stream it: all, small.

  make quickstart            or: movinet quickstart --workdir=runs/quickstart

The videos are real MP4 files of four classes that differ in motion only: any single frame
could be of any class. The trained network therefore has to be good on clips and streams,
where it gives the same answers, and no better than chance on single frames.
"""

import argparse
import dataclasses
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launch import devices
from launch.arguments import make_parser
from launch.config import load_config, merge_config
from launch.errors import ExitCode
from launch.runs import search, training
from launch.runs.evaluation import make_evaluate
from launch.runs.outcome import FOUND, REPORT
from launch.runs.ownership import check_owner
from launch.runs.trained import load_trained
from launch.verbs.search import print_found
from movinet_jax import serve
from movinet_jax.data import motion
from movinet_jax.data.address import parse_source
from movinet_jax.data.live import open_feed
from movinet_jax.train.workdir import CHECKPOINTS

CONFIG, SEARCH = 'configs/movinet/quickstart.py', 'configs/search/quickstart.py'


def main(argv: Sequence[str]) -> int:
  home = Path(make_arguments().parse_args(argv).workdir)
  began = time.perf_counter()
  check_owner(home, '')
  devices.check_platform()
  videos, folder = home / 'videos', home / 'run'
  _say(f'Writing videos to {videos}')
  count = motion.write_motion(str(videos), videos_per_class=100, size=40, seed=0)
  print(f'{count} videos of {len(motion.STRAIGHT)} classes: {", ".join(motion.STRAIGHT)}')

  _say('Searching')
  found = _search(home / 'search', videos)

  _say('Training what was found')
  root = {'root': str(videos)}
  config = merge_config(load_config(CONFIG).to_dict(), {'data': {'train': root, 'eval': root}})
  config = training.replace_network(config, str(found))
  training.run(training.resolve(config), str(folder))

  _say('Evaluating')
  trained = load_trained(str(folder))
  results = {
    'as whole clips': _evaluate(trained, trained.clip, 'clip'),
    'as streams, frame by frame': _evaluate(trained, trained.clip, 'stream'),
    'on single frames': _evaluate(trained, dataclasses.replace(trained.clip, frames=1), 'clip'),
  }

  example = videos / 'val' / 'up' / '00000.mp4'
  _say(f'Streaming {example} (its class is "up")')
  live = _stream(trained, str(example))

  _say('Done')
  _print_summary(results, live, home, len(trained.labels), began)
  return ExitCode.DONE


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('quickstart', __doc__)
  parser.add_argument('--workdir', type='path', default='runs/quickstart', help='folder of the run')
  return parser


def _search(folder: Path, videos: Path) -> Path:
  """Searches, or goes on from where that stands: the architecture file."""
  config = merge_config(load_config(SEARCH).to_dict(), {'data': {'train': {'root': str(videos)}}})
  resolved = search.resolve(config)
  print_found(resolved, search.run(resolved, str(folder)))
  return folder / FOUND


def _say(text: str):
  print(f'\n== {text}', flush=True)


def _evaluate(trained, clip, mode):
  config = trained.config
  source = training.open_eval(config.data.eval, trained.labels)
  loader, size = config.loader, config.eval_batch_size
  run = make_evaluate(trained.model, source, clip, loader, size, mode=mode)
  return run(trained.variables)[0]


def _stream(trained, path):
  size = (trained.clip.size, trained.clip.size)
  live = serve.Live(trained.model, trained.variables, size)
  with open_feed(parse_source(path)) as feed:
    fps = serve.find_fps(trained.clip, feed)
    for step in serve.predict(live, feed.frames(), trained.clip, fps):
      (label, probability), *_ = step.prediction.top(1, trained.labels)
      print(f'{step.times_secs[-1]:6.2f} s   {label:6} {probability:6.1%}')
  return live


def _print_summary(results, live, home, classes, began):
  peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  if sys.platform == 'darwin':  # where the unit is bytes
    peak_mib /= 1024
  rows = [
    (f'top-1 {name}', f'{result.metrics["top1"]:.1%} of {result.evaluated} videos')
    for name, result in results.items()
  ]
  rows += [
    ('chance', f'{1 / classes:.1%}'),
    ('milliseconds per frame', f'{live.latency.percentiles()["p50_ms"]:.2f} (median)'),
    ('peak memory', f'{peak_mib:,.0f} MiB'),
    ('time in all', f'{time.perf_counter() - began:.0f} s'),
    ('found network', str(home / 'search' / FOUND)),
    ('report of the search', str(home / 'search' / REPORT)),
    ('checkpoints', str(home / 'run' / CHECKPOINTS)),
    ('TensorBoard', f'tensorboard --logdir {home}'),
  ]
  width = max(len(name) for name, _ in rows)
  for name, value in rows:
    print(f'{name:{width}}   {value}')
