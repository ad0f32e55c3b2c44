"""What every algorithm of nas/algorithms that trains networks one by one promises."""

import copy
import dataclasses
import functools
import importlib
import inspect
import json
import pathlib

import numpy as np
import pytest

import nas.algorithms
from nas.algorithms.evolve import Evolve
from nas.algorithms.uniform import Uniform
from nas.history import Conclusion, Proposal, Signal, State, count_trained, rank
from tests.nas.algorithms import searches, tabular, workers

TABLE = tabular.make_table(0)
# A search of TABLE that is done after a few dozen trials, by file.
MAKE = {
  'evolve': lambda: Evolve(TABLE.space, budget=60, population=12, tournament=4, lag=3),
  'expand': lambda: searches.make_expansion(TABLE, budget=60),
  'scale': lambda: searches.make_scaling(TABLE, budget=24, repeats=2, recheck=3),
  'uniform': lambda: Uniform(TABLE.space, budget=40, fits=TABLE.fits),
}
ENDS = {
  'well': workers.measure,
  'within': workers.measure_within,
  'unreliably': workers.measure_unreliably,
  'failed': lambda table: lambda number, choices: {'state': State.FAILED, 'reason': '?'},
}


def find_algorithms() -> dict[str, type]:
  """Classes that propose and conclude, by file."""
  found = {}
  for path in sorted(pathlib.Path(nas.algorithms.__file__).parent.glob('*.py')):
    module = importlib.import_module(f'nas.algorithms.{path.stem}')
    for _, value in inspect.getmembers(module, inspect.isclass):
      own = value.__module__ == module.__name__
      if own and hasattr(value, 'propose') and hasattr(value, 'conclude'):
        assert path.stem not in found, f'{path.stem} has two algorithms'
        found[path.stem] = value
  return found


def _list_names(kind):
  return {field.name for field in dataclasses.fields(kind)}


@pytest.fixture(params=find_algorithms())
def algorithm(request):
  name = request.param
  assert name in MAKE, f'say in MAKE how {name} searches a table'
  made = MAKE[name]()
  assert type(made) is find_algorithms()[name]
  return made


@pytest.fixture(params=ENDS)
def objective(request, algorithm):
  return ENDS[request.param](searches.find_view(TABLE, algorithm))


@pytest.fixture
def unreliable(algorithm):
  return workers.measure_unreliably(searches.find_view(TABLE, algorithm))


class Peeks(Uniform):
  """Looks at whatever has ended."""

  def propose(self, history, rng):
    answer, best = super().propose(history, rng), rank(history)[:1]
    if best and isinstance(answer, Proposal):
      return dataclasses.replace(answer, note={'best': best[0].number})
    return answer


class WaitsForAll(Uniform):
  """Also for a trial that has failed."""

  def propose(self, history, rng):
    failed = any(trial.state is State.FAILED for trial in history)
    return Signal.WAIT if failed else super().propose(history, rng)


class StopsAtOnce(Uniform):
  """Though one that runs may be discarded."""

  def propose(self, history, rng):
    if count_trained(history) >= self.budget:
      return Signal.STOP
    return super().propose(history, rng)


class Remembers(Uniform):
  """How often it was asked."""

  @functools.cached_property
  def asked(self):
    return []

  def propose(self, history, rng):
    answer = super().propose(history, rng)
    self.asked.append(answer)
    note = {'asked': len(self.asked)}
    is_signal = isinstance(answer, Signal)
    return answer if is_signal else dataclasses.replace(answer, note=note)


def list_decisions(trials):
  return [(t.choices.tolist(), dict(t.note), dict(t.train)) for t in trials]


def test_there_are_algorithms():
  assert {'evolve', 'uniform'} <= set(find_algorithms())


def test_choices_are_architectures(algorithm, objective):
  trials = workers.run(algorithm, objective, workers=2)
  assert trials
  for trial in trials:
    assert trial.choices.dtype == np.int32
    np.testing.assert_array_equal(trial.choices, algorithm.space.canonical(trial.choices))


def test_nothing_depends_on_workers_and_who_is_first(algorithm, objective):
  check_workers(algorithm, objective)


def check_workers(algorithm, objective):
  """Nor does anybody wait for nobody, nor stop while somebody works: see workers.run."""
  alone = workers.run(algorithm, objective)
  for count, order in ((2, 0), (4, 0), (4, 1), (9, 2)):
    trials = workers.run(algorithm, objective, workers=count, order=order)
    assert list_decisions(trials) == list_decisions(alone)
    assert [t.state for t in trials] == [t.state for t in alone]


def test_a_search_that_was_killed_goes_on_the_same(algorithm, objective):
  whole = workers.run(algorithm, objective, workers=3)
  for most in (1, 5, len(whole) // 2, len(whole)):
    killed = workers.run(algorithm, objective, workers=3, order=most, most=most)
    resumed = workers.run(algorithm, objective, workers=2, order=9, trials=killed)
    assert list_decisions(resumed) == list_decisions(whole)


def test_every_decision_follows_from_the_trials_before_it(algorithm, objective):
  check_replay(algorithm, objective)


def check_replay(algorithm, objective):
  """Asked again, by whom nothing was asked before."""
  trials = workers.run(algorithm, objective, workers=3)
  for n in reversed(range(len(trials))):
    fresh = dataclasses.replace(algorithm)
    proposal = workers.ask(fresh, trials[:n], seed=0)
    assert list_decisions([workers.begin(proposal, n)]) == list_decisions([trials[n]])
  assert workers.ask(dataclasses.replace(algorithm), trials, seed=0) is Signal.STOP


@pytest.mark.parametrize('kind', [Peeks, WaitsForAll, StopsAtOnce])
def test_planted_dependence_on_workers_is_found(kind):
  algorithm = kind(TABLE.space, budget=40)
  with pytest.raises(AssertionError):
    check_workers(algorithm, workers.measure_unreliably(TABLE))


def test_a_planted_memory_is_found():
  with pytest.raises(AssertionError):
    check_replay(Remembers(TABLE.space, budget=40), workers.measure_unreliably(TABLE))


def test_proposing_and_concluding_change_nothing(algorithm, unreliable):
  trials = workers.run(algorithm, unreliable)
  for n in (0, len(trials) // 2, len(trials)):
    before = copy.deepcopy(trials[:n])
    history = trials[:n]
    answers = [algorithm.propose(history, np.random.default_rng(3)) for _ in range(2)]
    if n < len(trials):
      first, second = (list_decisions([workers.begin(a, n)]) for a in answers)
      assert first == second
    algorithm.conclude(history)
    assert len(history) == n
    assert list_decisions(history) == list_decisions(before)
    assert [t.value for t in history] == [t.value for t in before]


BUDGETED = [n for n, kind in find_algorithms().items() if 'budget' in _list_names(kind)]


@pytest.mark.parametrize('algorithm', BUDGETED, indirect=True)
def test_the_budget_is_used_and_no_more(algorithm, objective):
  """Other searches know themselves when they are done."""
  for count in (1, 5):
    trials = workers.run(algorithm, objective, workers=count)
    assert count_trained(trials) == algorithm.budget
    assert trials[-1].state is not State.DISCARDED


def test_all_that_is_kept_is_json(algorithm, unreliable):
  for trial in workers.run(algorithm, unreliable):
    for kept in (trial.note, trial.train):
      assert json.loads(json.dumps(kept, allow_nan=False)) == kept
  # What is given by name comes from a config; the rest is made of the space.
  named = [field.name for field in dataclasses.fields(algorithm) if field.kw_only]
  settings = {name: getattr(algorithm, name) for name in named}
  json.dumps({k: v for k, v in settings.items() if not callable(v)}, allow_nan=False)


def test_a_setting_that_does_not_exist(algorithm):
  with pytest.raises(TypeError, match='bugdet'):
    dataclasses.replace(algorithm, bugdet=3)


def test_settings_do_not_change(algorithm):
  with pytest.raises(dataclasses.FrozenInstanceError):
    algorithm.space = None


def test_there_is_a_conclusion_at_any_time(algorithm, objective):
  trials = workers.run(algorithm, objective, workers=3)
  killed = [workers.run(algorithm, objective, workers=4, most=most) for most in (1, 4, 20)]
  for history in [*killed, *(trials[:n] for n in range(len(trials) + 1))]:
    found = algorithm.conclude(history)
    assert isinstance(found, Conclusion)
    json.dumps(found.facts, allow_nan=False)
    assert len(set(found.best)) == len(found.best)
    for number in (*found.best, *found.path):
      assert history[number].state is State.DONE
  done = [trial for trial in trials if trial.state is State.DONE]
  assert bool(algorithm.conclude(trials).best) == bool(done)


def test_a_proposal_is_one_or_a_signal(algorithm):
  assert isinstance(workers.ask(algorithm, [], seed=0), Proposal)
