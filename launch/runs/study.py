"""The study of a sweep: run from wherever it stands, or only drawn."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from launch import devices
from launch.runs import harvest, training, trial
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
  trial.check_networks(sweep)
  workers = workers or sweep.config.workers or max(1, devices.count_accelerators())
  environments = devices.make_environments(workers)
  storage = storage or make_storage(home)
  home.mkdir(parents=True, exist_ok=True)
  with open_study(
    storage,
    sweep.config.study,
    space=sweep.space.space,
    algorithm=sweep.algorithm,
    seed=sweep.config.seed,
    about=sweep.describe(),
    free=('algorithm.budget',),
  ) as study:
    # Only now: a command that the study refuses must not change the workdir.
    workdir.claim_workdir(home, sweep.record, begun=bool(study.history), free=FREE)
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
        trial_secs=sweep.config.trial_secs or None,
        folder=home / 'logs' / socket.gethostname(),
      )
    finally:  # also of a search that was stopped, or cannot go on
      found = harvest.write(sweep, home, study.history, storage)
  return found


def redraw(sweep: Sweep, home: Path, storage: str = '') -> dict:
  """Writes found.json and the report of a study as it stands, running or not."""
  storage = storage or make_storage(home)
  saved = read_study(storage, sweep.config.study)
  return harvest.write(sweep, home, saved.trials, storage)


def make_storage(home: Path) -> str:
  return f'sqlite:///{home / STUDY}'


def _print_start(sweep: Sweep, home: Path, storage: str, history: Sequence[Trial]):
  print(f'{"Resuming" if history else "Starting"} {sweep.config.study} in {home}')
  if history:
    finished = sum(known.finished for known in history)
    print(f'{finished} of {len(history)} trials are finished', file=sys.stderr)
  address = show_address(parse_address(storage))
  print(f'Look at it: optuna-dashboard {address}', file=sys.stderr)
