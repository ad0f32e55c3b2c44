import dataclasses

import numpy as np
import pytest

from nas.algorithms import moves
from nas.algorithms.uniform import Uniform
from nas.history import Signal, State, Trial
from nas.space import OneOf, Space
from tests.nas.algorithms import workers

NESTED = Space(
  {
    'layer': OneOf((None, {'kernel': OneOf((1, 3, 5)), 'width': OneOf((8, 16), 'filters')})),
    'head': OneOf((0, 1, 2, 3)),
  }
)


def end_well(number, choices):
  return {'state': State.DONE, 'value': float(number % 7)}


def list_keys(trials):
  return [tuple(trial.choices.tolist()) for trial in trials]


def test_every_decision_is_uniform_by_itself():
  rng = np.random.default_rng(0)
  drawn = np.stack([moves.draw(NESTED, rng).choices for _ in range(6000)])
  np.testing.assert_array_equal(drawn, [NESTED.canonical(c) for c in drawn])
  for decision, size in enumerate(NESTED.sizes):
    values = drawn[NESTED.is_open(drawn)[:, decision], decision]
    shares = np.bincount(values, minlength=size) / len(values)
    # Five standard deviations of a share.
    np.testing.assert_allclose(shares, 1 / size, atol=2.5 / np.sqrt(len(values)))


def test_nothing_is_repeated_until_hardly_anything_is_left():
  """Then the search goes on, and finds most of the rest."""
  count = NESTED.count()
  trials = workers.run(Uniform(NESTED, budget=count + 10), end_well, workers=3)
  assert len(trials) == count + 10
  assert len(set(list_keys(trials[: count * 3 // 4]))) == count * 3 // 4
  assert len(set(list_keys(trials))) >= count - 1


def test_nobody_waits_until_the_budget_is_used():
  """However slow the first trial is."""
  algorithm, trials = Uniform(NESTED, budget=6), []
  for _ in range(6):
    trials.append(workers.begin(workers.ask(algorithm, trials, seed=0), len(trials)))
  assert workers.ask(algorithm, trials, seed=0) is Signal.WAIT
  ended = [workers.end(trial, end_well) for trial in trials]
  assert workers.ask(algorithm, ended, seed=0) is Signal.STOP
  ended[2] = dataclasses.replace(trials[2], state=State.DISCARDED)
  assert workers.ask(algorithm, ended, seed=0) not in (Signal.WAIT, Signal.STOP)


def test_only_what_fits_is_proposed():
  def fits(choices):
    return choices[0] == 1 and choices[1] == 2

  trials = workers.run(Uniform(NESTED, budget=8, fits=fits), end_well)
  assert all(fits(trial.choices) for trial in trials)
  assert len(set(list_keys(trials))) == 8  # all that there are


def test_limits_that_nothing_meets():
  calls = []

  def fits(choices):
    calls.append(choices)
    return False

  with pytest.raises(ValueError, match=r'no network of 10,000 drawn is within the limi'):
    workers.run(Uniform(NESTED, budget=8, fits=fits), end_well)
  assert len(calls) == moves.TRIES


def test_limits_that_no_trial_meets():
  """Those that are found by measuring."""

  def discard(number, choices):
    return {'state': State.DISCARDED, 'reason': '80 ms, over 50'}

  algorithm = Uniform(Space([OneOf((0, 1, 2))] * 12), budget=8)
  with pytest.raises(ValueError, match=r'all 1,000 networks .*last one: 80 ms, over 50'):
    workers.run(algorithm, discard, workers=3, most=2000)

  def train_one(number, choices):
    return end_well(number, choices) if number in range(300, 2000, 200) else discard(0, 0)

  trials = workers.run(algorithm, train_one)
  assert sum(trial.state is State.DONE for trial in trials) == 8


def test_a_known_network_that_fits_is_better_than_none():
  """Where almost nothing fits and all of that is known, the search goes on."""
  rng = np.random.default_rng(0)
  only = moves.draw(NESTED, rng)
  history = [Trial(0, only.choices, state=State.DONE, value=1.0)]
  turns = iter([True, *[False] * moves.TRIES])
  search = Uniform(NESTED, budget=8, fits=lambda _: next(turns))
  found = moves.draw_new(search, history, lambda: only)
  assert found is only


def test_numbers_of_another_type_are_the_same_network():
  """A storage may give 64 bits back."""
  space = Space({'a': OneOf((0, 1))})
  history = [Trial(0, np.array([0]), state=State.DONE, value=1.0)]
  algorithm = Uniform(space, budget=2)
  for seed in range(20):
    proposal = algorithm.propose(history, np.random.default_rng(seed))
    assert proposal.choices.tolist() == [1]


def test_a_network_is_identified_once():
  """However many proposals look at it."""
  asked = []

  def identify(choices):
    asked.append(tuple(choices.tolist()))
    return asked[-1]

  algorithm = Uniform(NESTED, budget=20, identify=identify)
  trials = workers.run(algorithm, end_well, workers=3)
  assert set(list_keys(trials)) <= set(asked)
  assert len(set(asked)) == len(asked)
  # Of another search the same vectors may be other networks.
  parity = Uniform(NESTED, budget=2, identify=lambda choices: choices[-1] % 2)
  for seed in range(20):
    trials = workers.run(parity, end_well, seed=seed)
    assert {trial.choices[-1] % 2 for trial in trials} == {0, 1}


def test_conclusion():
  algorithm = Uniform(NESTED, budget=20)
  values = [3, 5, 1, 5, 8, 2, 9, 4]
  trials = [
    Trial(n, NESTED.sizes * 0, state=State.DONE, value=float(v)) for n, v in enumerate(values)
  ]
  trials[4] = dataclasses.replace(trials[4], state=State.PRUNED)
  trials[5] = dataclasses.replace(trials[5], state=State.DISCARDED, value=None)
  found = algorithm.conclude(trials)
  assert found.best == (6, 1, 3, 7, 0)
  assert found.path == (0, 1, 6)
  assert found.facts == {
    'running': 0,
    'done': 6,
    'pruned': 1,
    'discarded': 1,
    'failed': 0,
  }


@pytest.mark.parametrize('budget', [0, -1, 2.0, '5', True, None])
def test_the_budget_is_checked(budget):
  with pytest.raises(ValueError, match=rf'budget (is|should be int, got) {budget}|budget .*\'5\''):
    Uniform(NESTED, budget=budget)


def test_a_space_with_nothing_to_search():
  with pytest.raises(ValueError, match='a single architecture'):
    Uniform(Space({'a': OneOf((3,)), 'b': 1}), budget=2)
