"""The engine of trial searches: what a trial costs, and what kills do to a study.

python benchmarks/trials.py            both parts; ten minutes
python benchmarks/trials.py overhead   what a trial costs beyond its training, by how many
                                       are over, on SQLite; and Optuna's own loop
python benchmarks/trials.py kills      eight workers on PostgreSQL, killed all along
"""

import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import optuna
from chaos import run_with_kills
from postgres import run_server

from nas.algorithms.uniform import Uniform
from nas.history import Proposal
from nas.space import OneOf, Space
from nas.trials.engine import coordinate
from nas.trials.outcome import make_outcome
from nas.trials.study import open_study, read_study

ROOT = pathlib.Path(__file__).resolve().parents[1]
DECISIONS, CHOICES = 20, 4
SPACE = Space({f'layer{i}': OneOf(tuple(range(CHOICES))) for i in range(DECISIONS)})
FINISHED = (0, 1000, 5000)  # trials before those measured
STARTING, MEASURED = 10, 100  # trials in which the workers start, and after them
TRIALS, COORDINATORS, WORKERS = 2000, 2, 4
KILL_SECS = 2.0


def make_objective(log: str | None = None):
  """Trains nothing, and writes down that it has."""

  def run(job, report):
    if log:
      fd = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
      os.write(fd, f'{job["number"]}\n'.encode())
      os.close(fd)
    value = float(sum(job['choices']))
    return {'state': 'done', 'value': value, 'metrics': {'macs': 3 * value}}

  return run


def sweep(storage: str, algorithm, folder, *, workers: int, arguments=(), **options):
  with open_study(storage, 'trials', space=SPACE, algorithm=algorithm, **options) as study:
    return coordinate(
      study,
      algorithm,
      'trials:make_objective',
      dict(arguments),
      workers=workers,
      environments=[{'PYTHONPATH': f'{ROOT}/benchmarks'}] * workers,
      max_attempts=1000,  # The dice may fall on the same one again and again.
      folder=folder,
      progress=False,
    )


def overhead() -> Iterator[dict]:
  """Milliseconds of a trial with two workers that do nothing, and of Optuna's own loop.

  The trials before those measured are added by the same calls, without workers.
  """
  with tempfile.TemporaryDirectory() as folder:
    url = f'sqlite:///{folder}/optuna.db'
    for before in FINISHED:
      ours = _time_ours(f'{folder}/ours.db', before, folder)
      yield {'finished_before': before, **ours, **_time_optuna(url, before)}


def _time_ours(path, before, folder) -> dict:
  _fill(path, before)
  algorithm = Clocked(SPACE, budget=before + STARTING + MEASURED)
  sweep(path, algorithm, folder, workers=2, free=('algorithm.budget',))
  clock = algorithm.clock[before + STARTING :]
  wall, cpu, own = (clock[-1][i] - clock[0][i] for i in range(3))
  # Own is what the algorithm needs, which looks at all trials to propose none twice.
  return {
    'ms_a_trial': round(1e3 * wall / MEASURED, 1),
    'cpu_ms_a_trial': round(1e3 * cpu / MEASURED, 1),
    'cpu_ms_of_the_algorithm': round(1e3 * own / MEASURED, 1),
  }


@dataclasses.dataclass(frozen=True)
class Clocked(Uniform):
  """Knows when it was first asked for each trial: (seconds, CPU seconds, its own)."""

  clock: list = dataclasses.field(default_factory=list, kw_only=False)

  def propose(self, history, rng):
    began = time.process_time()
    if len(history) >= len(self.clock):
      own = self.clock[-1][2] if self.clock else 0.0
      late = [(time.perf_counter(), began, own)] * (len(history) + 1 - len(self.clock))
      self.clock.extend(late)
    try:
      return super().propose(history, rng)
    finally:
      wall, cpu, own = self.clock[-1]
      self.clock[-1] = wall, cpu, own + time.process_time() - began


def _fill(path, count):
  """Adds trials that are over, until there are so many."""
  rng, algorithm = np.random.default_rng(0), Clocked(SPACE, budget=max(1, count))
  outcome = make_outcome({'state': 'done', 'value': 1.0, 'metrics': {'macs': 3}})
  with open_study(
    path, 'trials', space=SPACE, algorithm=algorithm, free=('algorithm.budget',)
  ) as study:
    for n in range(len(study.history), count):
      record = study.add(Proposal(SPACE.sample(rng)), f'filled {n}', {}, None)
      study.finish(record, outcome)


def _time_optuna(url, before) -> dict:
  """Optuna's loop as its documentation has it: in one process, without any worker."""
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = optuna.create_study(
    study_name='trials',
    storage=url,
    sampler=optuna.samplers.RandomSampler(0),
    load_if_exists=True,
  )
  kind = optuna.distributions.CategoricalDistribution(range(CHOICES))
  kinds = {f'layer{i}': kind for i in range(DECISIONS)}
  over = optuna.create_trial(params=dict.fromkeys(kinds, 1), distributions=kinds, value=1)
  for _ in range(len(study.get_trials(deepcopy=False)), before):
    study.add_trial(over)

  def objective(trial):
    value = sum(trial.suggest_categorical(name, range(CHOICES)) for name in kinds)
    trial.set_user_attr('metrics', {'macs': 3 * value})
    return value

  secs, cpu = _time(lambda: study.optimize(objective, n_trials=MEASURED))
  return {
    'optuna_ms_a_trial': round(1e3 * secs / MEASURED, 1),
    'optuna_cpu_ms_a_trial': round(1e3 * cpu / MEASURED, 1),
  }


def _time(call) -> tuple[float, float]:
  """Seconds, and those that this process itself was at work."""
  began, cpu = time.perf_counter(), time.process_time()
  call()
  return time.perf_counter() - began, time.process_time() - cpu


def kills() -> Iterator[dict]:
  """Two coordinators of four workers each; what is lost, and what is there twice."""
  with run_server() as storage, tempfile.TemporaryDirectory() as folder:
    log = f'{folder}/log'
    commands = [
      [sys.executable, __file__, 'coordinate', storage, f'{folder}/{i}', log]
      for i in range(COORDINATORS)
    ]
    began = time.perf_counter()
    counts = run_with_kills(commands, every_secs=KILL_SECS, parents=0.15, limit_secs=3600, cwd=ROOT)
    secs = time.perf_counter() - began
    _, trials = read_study(storage, 'trials')
    with open(log) as file:
      begun = [int(line) for line in file]
    numbers = [trial.number for trial in trials]
    done = [trial for trial in trials if trial.state == 'done']
    expected = [_propose(trials, n) for n in range(TRIALS)]
    yield {
      'trials': TRIALS,
      'workers': COORDINATORS * WORKERS,
      'killed_workers': counts['children'],
      'killed_coordinators': counts['parents'],
      'secs': round(secs, 1),
      'ms_a_trial': round(1e3 * secs / TRIALS, 1),
      'done': len(done),
      'lost': len(set(range(TRIALS)) - {trial.number for trial in done}),
      'doubled': len(numbers) - len(set(numbers)),
      'other_than_undisturbed': sum(
        not np.array_equal(t.choices, e) for t, e in zip(trials, expected, strict=False)
      ),
      'trained_more_than_once': len(begun) - len(set(begun)),
    }


def _propose(trials, number):
  """What is proposed where nobody is killed."""
  proposal = Uniform(SPACE, budget=TRIALS).propose(
    trials[:number], np.random.default_rng((0, number))
  )
  return proposal.choices


PARTS = {'overhead': overhead, 'kills': kills}


def main(names):
  if names[:1] == ['coordinate']:
    _, storage, folder, log = names
    beats = {'beat_secs': 1, 'silence_secs': 4}
    algorithm = Uniform(SPACE, budget=TRIALS)
    sweep(storage, algorithm, folder, workers=WORKERS, arguments={'log': log}, **beats)
    return
  for name in names or PARTS:
    if name not in PARTS:
      raise SystemExit(f'no part {name!r}; there are {", ".join(PARTS)}')
    for row in PARTS[name]():
      about = {'date': time.strftime('%Y-%m-%d'), 'cores': os.cpu_count()}
      about['load'] = round(os.getloadavg()[0], 1)
      print(json.dumps({'benchmark': f'trials_{name}', **row, **about}), flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
