"""The study of a sweep: run from wherever it stands, or only drawn."""

import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from launch import devices
from launch.runs import harvest, latencies, training, trial
from launch.runs.ownership import check_owner
from launch.runs.sweep import Sweep
from movinet_jax.train import workdir
from nas.history import Trial
from nas.trials.database import parse_address, show_address
from nas.trials.engine import coordinate
from nas.trials.study import open_study, read_study

STUDY = 'study.db'
# What may change when a sweep goes on: how it runs, and where its data has moved to.
FREE = (
  'algorithm.budget',
  'workers',
  'max_failures',
  *(f'data.train.{key}' for key in ('root', 'path', 'directory')),
  *(f'data.eval.{key}' for key in ('name', 'root', 'path', 'directory', 'split')),
  *(f'recipe.{key}' for key in training.FREE),
)


def run(sweep: Sweep, home: Path, storage: str = '', workers: int = 0) -> dict:
  """Searches from wherever the study stands.

  Args:
    home: the workdir.
    storage: URL of the study's database; '' is a file in the workdir.
    workers: networks at a time; 0 is as the config says.

  Returns:
    found.json.
  """
  check_owner(home, 'sweep')
  devices.probe_platform()
  tried = any(home.glob(f'{trial.TRIALS}/*'))
  if tried:
    workdir.check_claim(home, sweep.record, FREE)
  trial.check_networks(sweep)
  trial.check_memory(sweep)
  workers = workers or sweep.config.workers or max(1, devices.count_accelerators())
  environments = devices.make_environments(workers)
  about = sweep.describe()
  if sweep.config.limits.latency_ns:
    # Which networks are discarded depends on it, on every machine that shares the study.
    about['latency_on'] = latencies.describe_worker(environments[0])
    latencies.check(home, about['latency_on'])
  storage = storage or make_storage(home)
  home.mkdir(parents=True, exist_ok=True)
  with open_study(
    storage,
    sweep.config.study,
    space=sweep.space.space,
    algorithm=sweep.algorithm,
    seed=sweep.config.seed,
    about=about,
    free=('algorithm.budget',),
  ) as study:
    # Only now: a command that the study refuses must not change the workdir.
    workdir.claim_workdir(home, sweep.record, begun=tried or bool(study.history), free=FREE)
    _print_start(sweep, home, storage, study.history)
    try:
      coordinate(
        study,
        sweep.algorithm,
        'launch.runs.trial:make_objective',
        {'config': sweep.record, 'folder': str(home)},
        key=sweep.make_key,
        workers=workers,
        environments=environments,
        pruning=sweep.pruning,
        max_attempts=sweep.config.max_attempts,
        max_failures=sweep.config.max_failures,
        trial_secs=sweep.config.trial_secs or None,
        folder=home / 'logs' / socket.gethostname(),
      )
    except BaseException:  # a search that was stopped, or cannot go on
      # What it has found replaces nothing that others may have found.
      if any(known.finished for known in study.history) or not (home / harvest.FOUND).exists():
        harvest.write(sweep, home, study.history, storage)
      raise
    return harvest.write(sweep, home, study.history, storage)


def redraw(sweep: Sweep, home: Path, storage: str = '') -> dict:
  """Writes found.json and the report of a study as it stands, running or not."""
  check_owner(home, 'sweep')
  storage = storage or make_storage(home)
  saved = read_study(storage, sweep.config.study)
  was, now = saved.identity.get('about', {}).get('fitness'), sweep.scored
  if was is not None and was != now:
    raise ValueError(
      f'the values of the study {sweep.config.study!r} are of fitness {was}, and this config is '
      f'of {now}: give the config that the study was begun with, or begin another study'
    )
  return harvest.write(sweep, home, saved.trials, storage)


def make_storage(home: Path) -> str:
  # Quoted: a ? would begin options, and %20 stand for a space.
  return sa.URL.create('sqlite', database=str(home / STUDY)).render_as_string()


def _print_start(sweep: Sweep, home: Path, storage: str, history: Sequence[Trial]):
  print(f'{"Resuming" if history else "Starting"} {sweep.config.study} in {home}')
  if history:
    finished = sum(known.finished for known in history)
    print(f'{finished} of {len(history)} trials are finished', file=sys.stderr)
  _tell_classes(sweep)
  address = show_address(parse_address(storage))
  print(f'Look at it: optuna-dashboard {shlex.quote(address)}', file=sys.stderr)


def _tell_classes(sweep: Sweep):
  """Prints once what each of the trials would say of its videos."""
  cfg = training.read(sweep.recipe)
  training.tell_classes(sweep.sources['train'], cfg.loss, cfg.sampling, 'config.recipe')
