"""Train several networks, evaluate each in several ways, and draw the comparison.

  movinet compare --config=configs/compare/quickstart.py --workdir=runs/compare
  movinet compare --config=configs/compare/duration.py --workdir=runs/duration
  movinet compare --config=configs/compare/views.py --workdir=runs/views --training=train16

A config has a training config as its `base`, and three sections: `trainings` says by name what each
changes of it, `evaluations` what each of them is evaluated on (frames, stride or fps, clips, crops,
mode), and `plot` the axes of the picture. Any key can be set with --config.section.key=value, such
as --config.base.loop.total_steps=100.

The same command resumes after a stop: trainings that have ended and evaluations that were done are
not repeated. Evaluations and trainings may be added to a workdir; a training that has
begun with another config is refused, and the differences are shown. --training=NAME runs one
training and its evaluations, so that several machines can share the work.

The workdir gets a folder for each training, which is a workdir of `movinet train`, evaluations/
with what each found, results.json, results.csv and comparison.png. The last three are written after
each training, of what there is by then.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from launch import cluster, devices
from launch.arguments import make_parser
from launch.config import parse_config
from launch.errors import ExitCode
from launch.runs import comparison, results

DISTRIBUTED = True  # its processes are one run


def main(argv: Sequence[str]) -> int:
  arguments, config = parse_config(make_arguments(), argv)
  cluster.connect()
  devices.check_platform()
  config = config.to_dict()
  rows = comparison.run(config, arguments.workdir, arguments.training)
  if rows:  # not a process that only helps another
    home = Path(arguments.workdir)
    results.print_table(rows, comparison.read(config)[0].plot)
    print(f'wrote {home / results.JSON}, {results.CSV} and {results.PICTURE}')
  return ExitCode.DONE


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('compare', __doc__)
  parser.add_argument('--workdir', type='path', required=True, help='folder of the comparison')
  parser.add_argument('--training', default='', help='run one training, by name; default: all')
  return parser
