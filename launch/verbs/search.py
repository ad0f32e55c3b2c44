"""Search for a network; the same command and workdir go on after a stop.

  movinet search --config=configs/search/movinet.py:a2 --workdir=runs/search
  movinet search --config=configs/search/quickstart.py --workdir=runs/found \\
      --config.search.target=30e6 --config.data.train.root=videos

then train what was found:

  movinet train --config=configs/movinet/folder.py --spec=runs/search/found.json …

The workdir gets what `movinet train` leaves, space.json and samples/ with every network that
was tried, found.json, the network with how it was found, finalists/ with its best neighbours,
and report.html. Weights and policy learn on two parts of the training split; other splits are
not read.

A config with `steps` is searched step by step, each in a folder of the workdir:

  movinet search --config=configs/search/tsnet.py --workdir=runs/tsnet
  movinet search --config=configs/search/tsnet.py --workdir=runs/tsnet --step=step2_dense
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch import cluster, devices
from launch.arguments import make_parser
from launch.config import parse_config
from launch.errors import ExitCode
from launch.runs import search, steps
from launch.runs.outcome import FOUND, REPORT
from movinet_jax import models
from nas.cost import TITLES

DISTRIBUTED = True  # its processes are one run


def main(argv: Sequence[str]) -> int:
  arguments, config = parse_config(make_arguments(), argv)
  config = config.to_dict()
  if arguments.step and not config.get('steps'):
    raise ValueError(f'--step={arguments.step}, but {arguments.config} has no steps: leave it out')
  cluster.connect()
  devices.check_platform()
  if config.get('steps'):
    resolved, found = steps.run(config, arguments.workdir, arguments.step)
  else:
    resolved = search.resolve(config)
    found = search.run(resolved, arguments.workdir)
  if found:  # not a process that only helps another
    print_found(resolved, found)
    print(f'wrote {Path(arguments.workdir) / FOUND} and {REPORT}; train it with\n')
    print(f'  {found["train"]}')
  return ExitCode.DONE


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('search', __doc__)
  parser.add_argument('--workdir', type='path', required=True, help='folder of the search')
  parser.add_argument('--step', default='', help='run one step of a search in steps; default: all')
  return parser


def print_found(resolved: search.Search, found: Mapping):
  """Prints a found network and what it costs."""
  cost, aim = found['cost'], found['target']
  network = models.create(found['family'], resolved.num_classes, spec=found['spec'])
  print('', *resolved.networks.describe_network(network.spec), sep='\n')
  print(
    f'{cost["macs"]:,} multiply-adds, {cost["params"]:,} parameters; {TITLES[aim["cost"]]} '
    f'{cost[aim["cost"]] / aim["value"]:.2f} of the target; accuracy with shared weights '
    f'{found["accuracy"]:.1%}\n'
  )
