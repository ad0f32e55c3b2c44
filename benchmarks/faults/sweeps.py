"""Trials of `movinet sweep` whose workers, coordinator, disk or database are taken away."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from benchmarks.faults.disk import fill, mount_disk
from benchmarks.faults.job import Job, list_children
from benchmarks.faults.report import Report
from benchmarks.faults.run import Lost, Place
from benchmarks.postgres import run_server
from nas.trials.study import read_study

CONFIG = 'benchmarks/faults/small_sweep.py'
STUDY, TRIALS = 'faults', 4
OUTAGE_SECS = 60
_WORKER = 'nas.trials.worker'  # in the command of a process that trains
_DISK_MIB = 64


class Sweep:
  """A workdir of `movinet sweep`, and its command."""

  def __init__(self, place: Place, name: str, *, workdir: Path | None = None, storage: str = ''):
    """Args:
    workdir: that of `name` in the place, unless given.
    storage: address of a database; a file in the workdir, unless given.
    """
    self.place, self.name = place, name
    self.workdir = workdir or place.make_folder(name)
    self._storage = storage or f'sqlite:///{self.workdir}/study.db'
    self._words = [
      'sweep',
      f'--config={CONFIG}',
      f'--workdir={self.workdir}',
      f'--config.data.train.root={place.videos}',
      *([f'--storage={storage}'] if storage else []),
    ]

  def start(self) -> Job:
    return self.place.start(self._words, self.name)

  def read_finished(self) -> dict[int, float | None]:
    """Value by number of the trials that are over; {} as long as there is no study."""
    with contextlib.suppress(OSError, ValueError):
      trials = read_study(self._storage, STUDY).trials
      return {trial.number: trial.value for trial in trials if trial.finished}
    return {}

  def is_training(self) -> bool:
    """Whether a trial has saved a checkpoint and is not over."""
    for folder in self.workdir.glob('trials/*'):
      saved = any(path.name.isdecimal() for path in folder.glob('checkpoints/*'))
      if saved and not (folder / 'trial.json').exists():
        return True
    return False

  def has_trained(self) -> bool:
    """Whether a trial is over, without asking the database: trials are soon all over."""
    return any(self.workdir.glob('trials/*/trial.json'))

  def check(self, before: dict[int, float | None]):
    """Raises Lost unless all trials are done, and those before as they were."""
    trials = read_study(self._storage, STUDY).trials
    states = {trial.number: trial.state.value for trial in trials}
    if states != dict.fromkeys(range(TRIALS), 'done'):
      raise Lost(f'trials of {self.workdir}: {states}')
    values = {trial.number: trial.value for trial in trials}
    if not values.items() >= before.items():
      raise Lost(f'trials of {self.workdir} were {before} and are {values}')
    trained = [json.loads(p.read_text()) for p in self.workdir.glob('trials/*/trial.json')]
    if any(one['state'] != 'done' for one in trained):
      raise Lost(f'{self.workdir}: {trained}')

  def go_on(self, before: dict[int, float | None]) -> float:
    """Gives the same command again and awaits its end: seconds to its next trial."""
    with self.start() as job:
      job.await_until(lambda: len(self.read_finished()) > len(before))
      secs = time.monotonic() - job.began
      job.await_end()
      job.expect({0})
    self.check(before)
    return secs


def _go_on(sweep, job, before, began: float) -> float:
  """Sees a sweep to its end; seconds from `began` until its next finished trial."""
  job.await_until(lambda: len(sweep.read_finished()) > len(before))
  resumed_secs = time.monotonic() - began
  job.await_end()
  job.expect({0})
  sweep.check(before)
  return resumed_secs


def kill_a_trial_worker(place: Place) -> Report:
  """a worker of `movinet sweep` is killed while it trains"""
  sweep = Sweep(place, 'kill_a_trial_worker')
  with sweep.start() as job:
    job.await_until(sweep.is_training)
    before, began = sweep.read_finished(), time.monotonic()
    os.kill(list_children(job.processes[0].pid, _WORKER)[0], signal.SIGKILL)
    job.await_until(lambda: 'died by' in job.read_errors())
    noticed_secs = time.monotonic() - began
    resumed_secs = _go_on(sweep, job, before, began)
    lines = job.read_errors().splitlines()
    says = next(line for line in lines if 'died by' in line)
    note = f'told after {noticed_secs:.1f} s; the next trial ends then'
    return Report('nothing', None, resumed_secs, [], says, note)


def kill_the_sweep(place: Place) -> Report:
  """the coordinator of `movinet sweep` is killed"""
  sweep = Sweep(place, 'kill_the_sweep')
  with sweep.start() as job:
    job.await_until(sweep.is_training)
    workers = list_children(job.processes[0].pid, _WORKER)
    before, began = sweep.read_finished(), time.monotonic()
    job.processes[0].kill()
    while any(Path(f'/proc/{pid}').exists() for pid in workers):
      time.sleep(0.01)
    secs = time.monotonic() - began
    codes = [-signal.SIGKILL]
  resumed_secs = sweep.go_on(before)
  return Report('nothing', secs, resumed_secs, codes, '', 'its workers end with it')


def fill_the_disk_of_a_sweep(place: Place) -> Report:
  """the disk of a sweep is full, study and trials; then there is room again"""
  with mount_disk(place, _DISK_MIB) as disk:
    sweep = Sweep(place, 'fill_the_disk_of_a_sweep', workdir=disk / 'sweep')
    with sweep.start() as job:
      job.await_until(sweep.is_training)
      before, began = sweep.read_finished(), time.monotonic()
      fill(disk)
      secs = job.await_end() - began
      job.expect({os.EX_IOERR})
    says = job.read_last_line()
    (disk / 'filler').unlink()
    return Report('nothing', secs, sweep.go_on(before), job.codes, says)


def drop_the_database(place: Place, outage_secs: float = OUTAGE_SECS) -> Report:
  """PostgreSQL is out of reach for a minute while a sweep runs"""
  with run_server() as storage:
    sweep = Sweep(place, 'drop_the_database', storage=storage)
    with sweep.start() as job:
      job.await_until(lambda: sweep.has_trained() and sweep.is_training())
      before = sweep.read_finished()
      with _drop(storage):
        time.sleep(outage_secs)
      began = time.monotonic()
      resumed_secs = _go_on(sweep, job, before, began)
      lines = job.read_errors().splitlines()
      says = next((line for line in lines if 'out of reach' in line), '')
  return Report('nothing', None, resumed_secs, [], says, f'{outage_secs:g} s without it')


@contextlib.contextmanager
def _drop(storage: str) -> Iterator[None]:
  """Cuts all connections to a database and lets none in, for a while."""
  base, _, name = storage.rpartition('/')

  def allow(connections: bool):
    with psycopg.connect(f'{base}/template1', autocommit=True) as connection:
      connection.execute(f'alter database {name} allow_connections {connections}')
      connection.execute(
        'select pg_terminate_backend(pid) from pg_stat_activity where datname = %s',
        (name,),
      )

  allow(False)
  try:
    yield
  finally:
    allow(True)
