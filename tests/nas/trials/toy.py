"""Searches of a second: a space, an algorithm that learns, an objective, a coordinator."""

import dataclasses
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from nas.history import Conclusion, Proposal, Signal, find_settled, rank
from nas.space import OneOf, Space

ROOT = Path(__file__).parents[3]
SPACE = Space(
  {
    'stem': OneOf((8, 16, 24), 'filters'),
    'layers': tuple(
      OneOf((None, {'op': OneOf(('conv', 'pool', 'attend')), 'size': OneOf((1, 3, 5))}))
      for _ in range(4)
    ),
  }
)


@dataclasses.dataclass(frozen=True)
class Climb:
  """Changes one decision of the best network known: so that it matters what is known."""

  space: Space
  _: dataclasses.KW_ONLY
  budget: int
  lag: int = 4

  def propose(self, history, rng):
    if len(history) == self.budget:
      return Signal.STOP if all(t.finished for t in history) else Signal.WAIT
    settled = find_settled(history, self.lag)
    if settled is None:
      return Signal.WAIT
    choices = self.space.sample(rng)
    if best := rank(settled):
      kept = rng.integers(len(self.space), size=5)
      choices, drawn = best[0].choices.copy(), choices
      choices[kept] = drawn[kept]
    note = {'parent': best[0].number if best else None}
    return Proposal(self.space.canonical(choices), note, {'model.dropout': 0.5})

  def conclude(self, history):
    return Conclusion(tuple(t.number for t in rank(history)[:1]))


def make_objective(
  secs: float = 0.0, log: str | None = None, kill_first: int = 0, broken: str = ''
):
  """Says what a network is worth, in no more than `secs`; some end in other ways.

  Args:
    log: file that gets a line when a trial begins and when it ends.
    kill_first: attempts of trial 3 that end the worker.
    broken: the error of every trial, as of a machine without its device.
  """

  def run(job, report):
    _write(log, 'begin', job)
    print(f'{{"outcome": "printed by a library about {job["number"]}"}}')
    os.write(1, b'{"step": 1}\n')
    assert sys.stdin.read() == ''
    if broken:
      raise RuntimeError(broken)
    if job['number'] == 3 and job['attempt'] <= kill_first:
      os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(secs * random.random())
    choices = np.array(job['choices'])
    value = float(np.sin(choices @ np.arange(1, len(choices) + 1)) + choices.sum() / 10)
    outcome = end(choices, value, report, job['thresholds'])
    _write(log, 'end', job)
    return outcome

  return run


def end(choices, value, report, thresholds) -> dict:
  kind = int(hashlib.sha256(choices.tobytes()).hexdigest(), 16) % 16
  curve = {1: value / 4, 2: value / 2, 3: value}
  if kind == 0:
    raise MemoryError('RESOURCE_EXHAUSTED: out of memory')
  if kind == 1:
    return {'state': 'done', 'value': float('nan')}
  if kind in (2, 5):
    return {'state': 'discarded', 'reason': 'macs', 'metrics': {'macs': 10**12}}
  for step, reached in curve.items():
    report(step, np.float32(reached))
    if reached < thresholds.get(str(step), -np.inf):
      short = {s: v for s, v in curve.items() if s <= step}
      return {'state': 'pruned', 'value': reached, 'reason': 'bad', 'curve': short}
  metrics = {'macs': np.int64(choices.sum()), 'top1': np.float32(0.5), 'none': None}
  return {
    'state': 'done',
    'value': np.float64(value),
    'metrics': metrics,
    'curve': curve,
  }


def _write(log, what, job):
  if log:
    # One write of a line is never mixed with others'.
    fd = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(fd, f'{what} {job["number"]} {job["attempt"]} {job["key"]}\n'.encode())
    os.close(fd)


def make_digest(trials) -> list:
  """What must be the same however a search is run."""
  return [
    (t.number, t.choices.tolist(), dict(t.note), t.state.value, t.value, t.reason) for t in trials
  ]


def run(
  storage: str,
  folder,
  *,
  budget: int = 30,
  lag: int = 4,
  prune: bool = False,
  arguments=(),
  name: str = 'toy',
  objective: str = 'tests.nas.trials.toy:make_objective',
  opening=(),
  **options,
):
  """A sweep, as one command; returns its trials."""
  from nas.trials.engine import coordinate
  from nas.trials.pruning import Pruning
  from nas.trials.study import open_study

  algorithm = Climb(SPACE, budget=budget, lag=lag)
  with open_study(
    storage, name, space=SPACE, algorithm=algorithm, seed=7, **dict(opening)
  ) as study:
    return coordinate(
      study,
      algorithm,
      objective,
      dict(arguments),
      pruning=Pruning((1, 2), lag=lag) if prune else None,
      folder=folder,
      progress=False,
      **options,
    )


if __name__ == '__main__':
  run(**json.loads(sys.argv[1]))
