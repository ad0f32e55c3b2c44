"""Train a network from a config; the same command and workdir go on after a stop.

  movinet train --config=configs/movinet/folder.py --workdir=runs/mine \\
      --config.data.train.root=videos --config.data.eval.root=videos
  movinet train --config=configs/movinet/kinetics600.py:a2-stream --workdir=runs/a2 \\
      --config.train.subclips=5 --config.train.boundary=truncated

  movinet train --config=configs/movinet/kinetics600.py:a2-pair-stream --workdir=runs/pair

A config with `members` trains an ensemble: one member after another, each in a folder of the
workdir, member0, member1 and so on. --member=1 trains that member alone. Once all are trained, the
workdir is what `movinet evaluate` and `movinet stream` take as --checkpoint; so is a member's.

The workdir gets config.json, checkpoints/, metrics.jsonl and tensorboard/. Any key of the
config can be set with --config.section.key=value; a workdir begun with another config is
refused, and the differences are shown.
"""

import argparse
from collections.abc import Sequence

from launch import cluster, devices
from launch.arguments import make_parser
from launch.config import parse_config
from launch.errors import ExitCode
from launch.runs import ensemble, training

DISTRIBUTED = True  # its processes are one run


def main(argv: Sequence[str]) -> int:
  arguments, config = parse_config(make_arguments(), argv)
  cluster.connect()
  devices.check_platform()
  config = config.to_dict()
  if arguments.spec:
    config = training.replace_network(config, arguments.spec)
  if not config.get('members'):
    if arguments.member:
      raise ValueError(f'--member={arguments.member}, but {arguments.config} has no members')
    training.run(training.resolve(config), arguments.workdir)
  else:
    ensemble.run(config, arguments.workdir, arguments.member)
  return ExitCode.DONE


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('train', __doc__)
  parser.add_argument('--workdir', type='path', required=True, help='folder of the run')
  parser.add_argument('--spec', type='path', help='architecture file to train: found.json')
  parser.add_argument('--member', default='', help='of an ensemble: the member to train, 0, 1, …')
  return parser
