"""Workers that are not there: trials that end in any order, in no time."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas.history import Proposal, Signal, State, Trial

# (number, choices) -> what becomes of the trial, as fields of Trial.
Objective = Callable[[int, np.ndarray], Mapping]


def run(
  algorithm,
  objective: Objective,
  *,
  workers: int = 1,
  seed: int = 0,
  order: int = 0,
  trials: Sequence[Trial] = (),
  most: float = math.inf,
) -> list[Trial]:
  """All trials of a search, as an engine with so many workers makes them.

  Args:
    seed: of the search: what is proposed depends on it.
    order: seed of the order in which trials end, on which nothing depends.
    trials: those of the same search when it was killed.
    most: trials after which it is killed: some of those returned are running.

  Raises:
    AssertionError: the search waits for nobody, or stops while somebody works.
  """
  trials, order = list(trials), np.random.default_rng(order)
  running = [trial.number for trial in trials if not trial.finished]
  while len(trials) < most:
    answer = ask(algorithm, trials, seed) if len(running) < workers else Signal.WAIT
    if isinstance(answer, Proposal):
      running.append(len(trials))
      trials.append(begin(answer, len(trials)))
    elif answer is Signal.STOP:
      assert not running, f'it stops while trials {running} run'
      return trials
    else:
      assert running, f'it waits after {len(trials)} trials, of which none runs'
      number = running.pop(order.integers(len(running)))
      trials[number] = end(trials[number], objective)
  return trials


def ask(algorithm, trials, seed: int):
  """What is answered after these trials; proposal n has a generator of its own."""
  rng = np.random.default_rng((seed, len(trials)))
  return algorithm.propose(tuple(trials), rng)


def begin(proposal: Proposal, number: int) -> Trial:
  return Trial(number, proposal.choices, proposal.note, proposal.train)


def end(trial: Trial, objective: Objective) -> Trial:
  return dataclasses.replace(trial, **objective(trial.number, trial.choices))


def measure(table) -> Objective:
  """Every trial of a table is trained to its end."""
  return lambda number, choices: {
    'state': State.DONE,
    'value': table.evaluate(number, choices),
    'metrics': {'macs': table.cost(choices)},
  }


def measure_within(table) -> Objective:
  """The same, but architectures over the limit are discarded."""

  def objective(number, choices):
    if table.fits(choices):
      return measure(table)(number, choices)
    return {'state': State.DISCARDED, 'reason': f'cost over {table.limit}'}

  return objective


def measure_unreliably(table) -> Objective:
  """Of ten trials about six are trained; the others end in some other way."""

  def objective(number, choices):
    done = measure(table)(number, choices)
    ends = {
      State.FAILED: {'reason': 'out of memory'},
      State.DISCARDED: {'reason': 'too slow', 'metrics': {'latency_ns': 1e9}},
      State.PRUNED: {'value': done['value'] - 0.1, 'reason': 'worse than most'},
    }
    state = np.random.default_rng((table.seed, number)).choice([*ends, *[None] * 4])
    return done if state is None else {'state': state, **ends[state]}

  return objective
