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
import dataclasses
import importlib
import inspect
import json
import math
import numbers
import pkgutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from launch import config as configs
from launch import devices, parts, trial
from launch.arguments import at_least_1, make_parser
from launch.harvest import (
  FOUND,
  REPORT,
  harvest,
  print_scaled,
  read_coefficients,
)
from launch.verbs import train
from movinet_jax import data
from movinet_jax.names import check_name, find
from movinet_jax.spec import to_json
from movinet_jax.train import workdir
from nas import algorithms, spaces
from nas.trials.database import check_no_password, parse_address, show_address
from nas.trials.engine import coordinate
from nas.trials.pruning import Pruning
from nas.trials.study import open_study, read_study

STUDY = 'study.db'
PUBLISHED = 'configs/sweep/movinet.py:published'  # coefficients without a search
NEEDED = (
  *('seed', 'study', 'algorithm.name', 'space.name', 'train_with', 'data.train'),
  *('held_out', 'fitness'),
)
DEFAULTS = {
  'coefficients': None,  # for --phi, in place of a search's
  'recipe': {},  # changes to the config that `train_with` names
  'limits': {},
  'pruning': {},
  'latency_repeats': 5,
  'workers': 0,
  'max_attempts': 3,
  'trial_secs': 0,  # 0: as long as it takes
}
# What may change when a sweep goes on: how it runs, and where its data has moved to.
FREE = (
  'algorithm.budget',
  'workers',
  *(f'data.train.{key}' for key in ('root', 'path', 'directory')),
  *(f'data.eval.{key}' for key in ('name', 'root', 'path', 'directory', 'split')),
  *(f'recipe.{key}' for key in train.FREE),
)
COUNTED = ('params', 'macs')  # limits that hold before a network is proposed
# What an algorithm needs of the space that it searches: its field, the space's attribute.
GIVEN = {'cost': 'macs', 'candidates': 'candidates', 'baselines': 'baselines'}


def main(argv: Sequence[str]) -> int:
  # Its workers have the accelerators; here networks are only counted.
  jax.config.update('jax_platforms', 'cpu')
  parser = make_arguments()
  arguments, _ = parser.parse_known_args(argv)
  if arguments.storage:
    check_no_password(arguments.storage)
  home = Path(arguments.workdir)
  if arguments.report:
    if any(word.startswith('--config') for word in argv):
      cfg = configs.parse(parser, argv)[1].to_dict()
    else:
      parser.parse_args(argv)
      cfg = _read_config(home)
    return redraw({**DEFAULTS, **cfg}, home, arguments.storage)
  if arguments.phi is not None and arguments.workdir:
    parser.parse_args(argv)
    return print_scaled(*read_coefficients(home), arguments.phi)
  if arguments.phi is not None and not any(w.startswith('--config') for w in argv):
    argv = [*argv, f'--config={PUBLISHED}']
  arguments, cfg = configs.parse(parser, argv)
  cfg = {**DEFAULTS, **cfg.to_dict()}
  if arguments.phi is not None:
    return print_scaled(cfg, cfg['coefficients'], arguments.phi)
  if arguments.workers:
    cfg['workers'] = arguments.workers
  home = home if arguments.workdir else Path('runs', cfg['study'])
  print_found(sweep(cfg, home, arguments.storage), home)
  return 0


def sweep(cfg: dict, home: Path, storage: str = '') -> dict:
  """Searches as a config says, from wherever its study stands.

  Args:
    home: the workdir.
    storage: URL of the study's database; '' is a file in the workdir.

  Returns:
    found.json.
  """
  cfg = {**DEFAULTS, **cfg}
  check(cfg)
  space = spaces.create(**cfg['space'])
  sources = trial.open_sources(cfg)
  algorithm = make_algorithm(cfg, space, len(sources['train'].labels))
  trial.check_fitness(cfg['fitness'], sources['eval'])
  trial.check_smallest(cfg, space, sources)
  for _, changes in getattr(algorithm, 'schedule', ()):
    trial.check_recipe(cfg, space, sources, changes)
  workers = cfg['workers'] or max(1, devices.count_accelerators())
  environments = devices.make_environments(workers)
  storage = storage or make_storage(home)
  home.mkdir(parents=True, exist_ok=True)
  with open_study(
    storage,
    cfg['study'],
    space=space.space,
    algorithm=algorithm,
    seed=cfg['seed'],
    about=make_about(cfg, sources['train']),
    free=('algorithm.budget',),
  ) as study:
    # Only now: a command that the study refuses must not change the workdir.
    workdir.claim_workdir(home, cfg, begun=bool(study.history), free=FREE)
    _print_start(cfg, home, storage, study.history)
    try:
      coordinate(
        study,
        algorithm,
        'launch.trial:make_objective',
        {'config': cfg, 'folder': str(home)},
        key=lambda proposal: trial.make_key(cfg, space, proposal),
        workers=workers,
        environments=environments,
        pruning=make_pruning(cfg),
        max_attempts=cfg['max_attempts'],
        trial_secs=cfg['trial_secs'] or None,
        folder=home / 'logs' / socket.gethostname(),
      )
    finally:  # also of a search that was stopped, or cannot go on
      found = harvest(cfg, home, space, algorithm, study.history, storage)
  return found


def redraw(cfg: Mapping, home: Path, storage: str) -> int:
  """Writes found.json and the report of a study as it stands, running or not."""
  storage = storage or make_storage(home)
  saved = read_study(storage, cfg['study'])
  space = spaces.create(**cfg['space'])
  labels = trial.open_sources(cfg)['train'].labels
  algorithm = make_algorithm(cfg, space, len(labels))
  print_found(harvest(cfg, home, space, algorithm, saved.trials, storage), home)
  return 0


def _read_config(home: Path) -> dict:
  """The config of a sweep, as long as it runs no code but ours: a workdir is data."""
  cfg = workdir.read_config(home)
  recipe = cfg.get('train_with')
  if not isinstance(recipe, str) or not configs.is_shipped(recipe):
    raise ValueError(
      f'{home}/config.json would run {recipe!r}, which is not part of this package: if it '
      'is yours, say --config=… as when the sweep was begun'
    )
  return cfg


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
    print(f'their spaces: movinet sweep --workdir={home} --phi=2')
  if 'value' in found:
    print(f'best: trial {found["trial"]}, {found["value"]:.4f}; train it with\n')
    print(f'  {found["train"]}\n')
  print(f'wrote {home / FOUND} and {home / REPORT}')


def make_storage(home: Path) -> str:
  return f'sqlite:///{home / STUDY}'


def make_about(cfg: Mapping, source: data.Source) -> dict:
  """What the results of trials depend on, beside the search itself."""
  training = trial.list_settings(trial.load_recipe(cfg))
  kept = (
    *('space', 'held_out', 'fitness', 'limits', 'pruning', 'latency_repeats'),
    *('max_attempts', 'trial_secs'),  # which decide what fails
  )
  return {
    **{key: cfg[key] for key in kept},
    'training': training,
    'data': source.digest,
  }


def make_pruning(cfg: Mapping) -> Pruning | None:
  """The rule of a config.

  Raises:
    ValueError: it does not fit, or names steps at which trials are not evaluated.
  """
  if not cfg['pruning']:
    return None
  rule, loop = parts.call(Pruning, cfg['pruning']), trial.load_recipe(cfg)['loop']
  every = loop.get('eval_every', 0)
  for step in rule.steps:
    if not every or step % every or step >= loop['total_steps']:
      raise ValueError(
        f'pruning at step {step}, but trials are evaluated '
        + (f'every {every} of {loop["total_steps"]} steps' if every else 'at their end')
        + ': set recipe.loop.eval_every, and steps that are multiples of it'
      )
  return rule


def make_algorithm(cfg: Mapping, space, num_classes: int):
  """The algorithm of a config, for a space of networks.

  Raises:
    ValueError: no such algorithm or setting, or the space lacks what it needs.
  """
  settings = dict(cfg['algorithm'])
  name = settings.pop('name')
  make = find(list_algorithms(), name, 'algorithm')
  known = [field.name for field in dataclasses.fields(make)]
  given = {'space': space.space}
  for field, attribute in GIVEN.items():
    if field not in known:
      continue
    if not hasattr(space, attribute):
      raise ValueError(
        f'{name} needs a space that has {attribute}, which {space.family} spaces as this one do not'
      )
    given[field] = getattr(space, attribute)
  limits = {key: cfg['limits'][key] for key in COUNTED if key in cfg['limits']}
  if limits and 'fits' in known and hasattr(space, 'count_costs'):

    def fits(choices) -> bool:
      costs = space.count_costs(choices, num_classes)
      return all(costs[key] <= most for key, most in limits.items())

    given['fits'] = fits
  if 'identify' in known:
    # Several vectors may be one network, that is trained once.

    def name_spec(choices: np.ndarray) -> str:
      return json.dumps(to_json(space.decode(choices)))

    given['identify'] = name_spec
  if cfg['limits'] and 'fits' not in known:
    raise ValueError(
      f'limits are for evolve and uniform, which draw other networks for those that are '
      f'over one; {name} has its own idea of cost: leave limits out'
    )
  return parts.call(make, settings, **given)


def list_algorithms() -> dict[str, type]:
  """All algorithms that propose trials by the name of their file."""
  found = {}
  for module in pkgutil.iter_modules(algorithms.__path__):
    members = vars(importlib.import_module(f'{algorithms.__name__}.{module.name}'))
    for member in members.values():
      proposes = inspect.isclass(member) and hasattr(member, 'conclude')
      if proposes and member.__module__.endswith(f'.{module.name}'):
        found[module.name] = member
  return found


def check(cfg: Mapping):
  """Finds what is wrong in a config before anything is opened."""
  parts.check_config(cfg, NEEDED, {}, ())
  known = {*DEFAULTS, *(key.partition('.')[0] for key in NEEDED)}
  for key in cfg:
    check_name(key, known, 'key of a sweep')
  for key in cfg['limits']:
    check_name(key, trial.LIMITS, 'limit')
  for key, most in cfg['limits'].items():
    if not isinstance(most, numbers.Real) or not 0 < most < math.inf:
      raise ValueError(f'limits.{key} is {most!r}; wanted a number above 0')
  sizes = {'workers': 0, 'latency_repeats': 0, 'trial_secs': 0, 'max_attempts': 1}
  for key, least in sizes.items():
    if type(cfg[key]) is not int or cfg[key] < least:
      raise ValueError(f'{key} is {cfg[key]!r}; wanted a whole number, {least} or more')
  if 'latency_ns' in cfg['limits'] and not cfg['latency_repeats']:
    raise ValueError('limits.latency_ns needs measurements: set latency_repeats to 1 or more')
  if cfg['coefficients']:
    raise ValueError(
      'this config has coefficients already, there is nothing to search: say --phi=1 for '
      'the spaces that they scale, or coefficients=None to search'
    )
  make_pruning(cfg)


def _print_start(cfg, home, storage, history):
  state = 'Resuming' if history else 'Starting'
  print(f'{state} {cfg["study"]} in {home}')
  if history:
    finished = sum(known.finished for known in history)
    print(f'{finished} of {len(history)} trials are finished', file=sys.stderr)
  print(
    f'Look at it: optuna-dashboard {show_address(parse_address(storage))}',
    file=sys.stderr,
  )


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('sweep', __doc__)
  add = parser.add_argument
  add('--workdir', default='', help='folder of the search')
  add('--storage', default='', help="the study's database; default: a file in the workdir")
  add('--workers', type=at_least_1, help='networks at a time; default: the config says')
  add('--report', action='store_true', help='only draw the report of what is there')
  add('--phi', type=float, help='only print the scaled spaces that were found')
  return parser
