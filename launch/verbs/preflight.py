"""Find out before paying whether a command will run: memory, batch, data, workdir.

  movinet preflight --topology=v5e:16x16 -- \\
      train --config=configs/movinet/kinetics600.py:a2 --workdir=runs/a2
  movinet preflight --topology=h100:8 -- train --config=configs/x3d/kinetics400.py:m
  movinet preflight -- search --config=configs/search/quickstart.py --workdir=runs/found

What follows `--` is the command as it will be given. With --topology its step is compiled for TPUs
(`pip install 'jax[tpu]'`) or NVIDIA GPUs (`pip install 'jax[cuda13]'`) that need not be here, and
without for the devices of this machine, where it is also run. Nothing is trained and nothing is
written. TPUs are v5e, v5p and v6e; GPUs are a100, h100, h200 and b200, with their number.

Of `sweep`, the training step of the largest network of its space is checked, on one device. Of an
ensemble, the step of each member is checked, or with --member that of one; members whose steps are
alike are checked once.

Exit code 0: it fits; 2: it does not, and what to do is said.
"""

import argparse
import json
from collections.abc import Sequence

import jax

from launch import devices
from launch.arguments import at_least_1, make_parser
from launch.config import parse_config
from launch.errors import ExitCode
from launch.pods.job import find_option
from launch.pods.preflight.checks import Command, check
from launch.pods.preflight.findings import Findings
from launch.pods.preflight.machine import find_machine
from launch.runs import training
from launch.runs.kinds import RUNS
from launch.verbs import find_verb
from movinet_jax.names import check_name

LOOKS_AT_JOBS = True  # so it is no job itself


def main(argv: Sequence[str]) -> int:
  own, words = _split_command(argv)
  arguments = make_arguments().parse_args(own)
  command = read_command(words)
  findings = Findings(quiet=arguments.json)
  if arguments.topology:
    jax.config.update('jax_platforms', 'cpu')  # none of the devices here are asked
  devices.check_platform()
  machine = find_machine(arguments.topology)
  options = {'classes': arguments.classes, 'compiles': arguments.compiles}
  found = check(command, machine, findings, **options)
  if arguments.json:
    print(json.dumps({**found, 'ok': findings.ok, 'rows': findings.rows}))
  else:
    print('\nIt will run.' if findings.ok else '\nIt will not run like this (✗).')
  return ExitCode.DONE if findings.ok else ExitCode.MISUSE


def read_command(words: Sequence[str]) -> Command:
  """The command behind --, read as its verb reads it; the workdir may be left out."""
  if not words:
    raise ValueError('there is no command after --')
  verb, *rest = words
  check_name(verb, RUNS, 'verb whose step can be checked')
  given = find_option(rest, 'workdir')
  default = [] if given else ['--workdir=.']
  arguments, config = parse_config(find_verb(verb).make_arguments(), [*default, *rest])
  config = config.to_dict()
  if getattr(arguments, 'spec', None):
    config = training.replace_network(config, arguments.spec)
  member = getattr(arguments, 'member', '')
  return Command(verb, config, arguments.workdir if given else '', member)


def _split_command(argv):
  argv = list(argv)
  if '--' not in argv:
    make_arguments().parse_args(argv)  # --help, or what is misspelt
    raise ValueError('say which command to check, after --: movinet preflight -- train --config=…')
  cut = argv.index('--')
  return argv[:cut], argv[cut + 1 :]


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('preflight', __doc__)
  add = parser.add_argument
  add('--topology', default='', help='TPU slice, v5e:16x16, or GPUs, h100:8; default: what is here')
  add('--classes', type=at_least_1, help='where neither data nor config say how many')
  add(
    '--compiles',
    type=at_least_1,
    default=5,
    help='programs to compile at most, in search of the largest batch; 1: only this one',
  )
  add('--json', action='store_true', help='print what was found as JSON, at the end')
  return parser
