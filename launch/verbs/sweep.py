"""Search by training many networks, one trial each; the same command goes on after a stop.

  movinet sweep --config=configs/sweep/quickstart.py --workdir=runs/sweep
  movinet sweep --config=configs/sweep/tvn.py:1 --workdir=runs/tvn --workers=8
  movinet sweep --config=configs/sweep/x3d.py --workdir=runs/x3d \\
      --storage=postgresql://USER@HOST/DATABASE     # on as many machines as there are

Its password belongs in the environment (PGPASSWORD) or in ~/.pgpass, not in a command.

Then, of a search for scaling coefficients, the spaces of a size φ and networks of them:

  movinet sweep --workdir=runs/sweep --phi=2
  movinet sweep --phi=2                             # by the published coefficients

Look at the study while it runs:

  optuna-dashboard sqlite:///runs/sweep/study.db

The workdir gets the study, trials/ with what each trial left (checkpoint, metrics),
found.json and found/ with the networks to train further, and report.html. Trials learn on
a part of the training split and are scored on the rest; other splits are not read.
"""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from launch.arguments import at_least_1, make_parser
from launch.config import parse_config
from launch.errors import ExitCode
from launch.runs import harvest, study, sweep
from movinet_jax import schema
from movinet_jax.spec import to_json
from nas import spaces
from nas.trials.database import check_no_password

PUBLISHED = 'configs/sweep/movinet.py:published'  # coefficients without a search


def main(argv: Sequence[str]) -> int:
  # Its workers have the accelerators; here networks are only counted.
  jax.config.update('jax_platforms', 'cpu')
  arguments, config = parse(argv)
  if arguments.phi is not None:
    print_scaled(config, arguments.workdir, arguments.phi)
    return ExitCode.DONE
  resolved = sweep.resolve(config)
  home = Path(arguments.workdir or f'runs/{resolved.config.study}')
  if arguments.report:
    found = study.redraw(resolved, home, arguments.storage)
  else:
    found = study.run(resolved, home, arguments.storage, arguments.workers or 0)
  print_found(found, home)
  return ExitCode.DONE


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict]:
  """The options, and the config that they name or that the workdir was begun with."""
  parser = make_arguments()
  arguments, _ = parser.parse_known_args(argv)
  if arguments.storage:
    check_no_password(arguments.storage)
  if not any(word.startswith('--config') for word in argv):
    if arguments.workdir and (arguments.report or arguments.phi is not None):
      read = sweep.read_safe_config if arguments.report else sweep.read_config
      return parser.parse_args(argv), read(arguments.workdir)
    if arguments.phi is not None:
      argv = [*argv, f'--config={PUBLISHED}']
  arguments, config = parse_config(parser, argv)
  return arguments, config.to_dict()


def print_scaled(config: Mapping, folder: str, phi: float):
  """Prints the spaces of size φ, by the coefficients of a sweep's workdir or of its config.

  Raises:
    ValueError: it is no search for coefficients, or has found none yet.
  """
  cfg = schema.build(sweep.Config, config, '')
  coefficients = harvest.read_coefficients(Path(folder)) if folder else cfg.coefficients
  space = spaces.create(**cfg.space)
  if not hasattr(space, 'list_scaled'):
    raise ValueError(f'{cfg.study} is no search for scaling coefficients, which --phi is for')
  if not coefficients:
    raise ValueError(
      f'{cfg.study} has no coefficients: none is given, or none is trained whole yet'
    )
  print('\n'.join(describe_scaled(space, coefficients, phi)))


def describe_scaled(space, coefficients: Mapping[str, float], phi: float) -> list[str]:
  """Lines that show the space that coefficients scale, and networks of it.

  Each network is a line that `movinet train --spec` takes as a file.

  Args:
    space: a nas.spaces.scaling.ScalingSpace.

  Raises:
    ValueError: coefficients or φ do not fit.
  """
  rows = space.list_scaled(coefficients, dict.fromkeys((0.0, phi)))
  found = rows[-1]
  growth = found.stretch_macs / rows[0].stretch_macs
  named = ', '.join(f'{axis} {coefficients[axis]:g}' for axis in space.values)
  lines = [
    f'φ = {phi:g}, of {named}:',
    f'  clip      {found.frames} frames of {found.resolution} x {found.resolution}, one in '
    f'{found.frame_stride:g} of the video',
    f'  layers    {found.least} to {found.depth} in each block',
    f'  stem      {_join(found.stems)}',
    *(f'  block {i}   {_join(widths)}' for i, widths in enumerate(found.widths)),
    f'  project   {_join(found.projects)}',
    f'  cost      {found.mean_macs / 1e9:,.3f} billion multiply-adds on average, '
    f'{found.frame_macs / 1e6:,.1f} million a frame;',
    f'            a second of video costs {growth:.2f} times as much as at φ = 0',
    'Networks of it:',
  ]
  for number in range(space.samples):
    spec = to_json(space.sample(coefficients, phi, number))
    lines.append(json.dumps({'family': space.family, 'spec': spec}))
  return lines


def _join(widths: Sequence[int]) -> str:
  return ', '.join(map(str, widths))


def print_found(found: dict, home: Path):
  """Prints what a search has found, and how to go on with it."""
  told = ', '.join(f'{count} {state}' for state, count in found['trials'].items())
  print(f'trials: {told or "none"}')
  for name, value in found['facts'].items():
    if isinstance(value, (str, int, float)):
      print(f'{name.replace("_", " ")}: {value}')
  if found['facts'].get('coefficients'):
    shown = ', '.join(f'{k} {v:.3f}' for k, v in found['facts']['coefficients'].items())
    print(f'coefficients: {shown}')
    print(f'their spaces: movinet sweep {shlex.quote(f"--workdir={home}")} --phi=2')
  if 'value' in found:
    value = f'{found["measure"]} {found["value"]:.4f}'
    print(f'best: trial {found["trial"]}, {value}; train it with\n')
    print(f'  {found["train"]}\n')
  print(f'wrote {home / harvest.FOUND} and {home / harvest.REPORT}')


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('sweep', __doc__)
  add = parser.add_argument
  add('--workdir', type='path', help='folder of the search; default: runs/STUDY')
  add('--storage', default='', help="the study's database; default: a file in the workdir")
  add('--workers', type=at_least_1, help='networks at a time; default: the config says')
  add('--report', action='store_true', help='only draw the report of what is there')
  add('--phi', type=float, help='only print the scaled spaces that were found')
  return parser
