"""Whether searches find the best of problems in which that is known.

All at equal numbers of trials, over many problems. To be better than random search is
little: so regret has a bound too, and evolutions with a mistake built in must fail.
"""

import bisect
import functools
import itertools

import numpy as np
import pytest

from nas.algorithms import moves
from nas.algorithms.evolve import Evolve
from nas.history import Proposal, State, Trial, rank
from tests.nas.algorithms import searches, tabular, workers

PROBLEMS = 16
BUDGET = 240


class TakesTheWorst(Evolve):
  def select(self, members, rng):
    drawn = rng.choice(len(members), self.tournament, replace=False)
    return rank([members[i] for i in drawn])[-1]


class MutatesNothing(Evolve):
  def mutate(self, parent, rng):
    return Proposal(parent.choices, {'parent': parent.number})


class RemovesTheBest(Evolve):
  def find_population(self, settled):
    members = []
    for trial in settled:
      if trial.state is not State.DONE:
        continue
      if len(members) == self.population:
        if trial.value <= members[-1].value:
          continue
        del members[0]
      bisect.insort(members, trial, key=lambda t: (-t.value, t.number))
    return members


@functools.cache
def find_regrets(make, **options) -> np.ndarray:
  """[P, BUDGET], see searches.find_regrets."""
  return searches.find_regrets(functools.partial(make, **options), PROBLEMS, BUDGET)


@functools.cache
def list_architectures():
  return np.stack(list(tabular.SPACE.enumerate()))


def test_the_table_has_all_architectures():
  every, table = list_architectures(), tabular.make_table(3)
  assert len(every) == len(table.costs) == len(table.accuracies) == 46_656
  assert [table.index(choices) for choices in every[::997]] == [*range(0, 46_656, 997)]
  within = [c for c in every if table.fits(c)]
  assert 0.15 < len(within) / len(every) < 0.35
  best = max(within, key=table.accuracy)
  np.testing.assert_array_equal(best, table.best)
  assert table.regret(best) == 0
  assert all(table.regret(choices) > 0 for choices in within[::50])


def test_costs_ascend_and_two_steps_double_them():
  for seed in range(PROBLEMS):
    costs = tabular.make_table(seed).costs.reshape(tabular.SPACE.sizes)
    assert costs.flat[0] == 1
    for axis in range(costs.ndim):
      assert (np.diff(np.log2(costs), axis=axis) > 0.2).all()
      ahead, behind = (np.take(costs, r, axis) for r in (range(2, 6), range(4)))
      np.testing.assert_allclose(np.log2(ahead / behind), 1, atol=0.21)


def test_accuracies_are_no_sum_over_axes():
  """Pairs add three times as much as what is each architecture's own, and no less."""
  every = list_architectures()
  columns = [every[:, axis] == value for axis in range(6) for value in range(6)]
  places = 2 * every / (tabular.STEPS - 1) - 1
  pairs = [places[:, a] * places[:, b] for a, b in itertools.combinations(range(6), 2)]
  for seed in range(2):
    accuracies = tabular.make_table(seed).accuracies
    alone = _find_rest(np.stack(columns, -1), accuracies)
    together = _find_rest(np.stack([*columns, *pairs], -1), accuracies)
    assert together.std() == pytest.approx(tabular.RUGGED, rel=0.05)
    assert alone.std() > 3 * together.std()


def _find_rest(features, values):
  features = features.astype(float)
  found, *_ = np.linalg.lstsq(features, values, rcond=None)
  return values - features @ found


def test_climbing_one_decision_at_a_time_is_not_enough():
  """In most problems it ends at an architecture that is not the best."""
  stuck = [_climb(tabular.make_table(seed)) > 0 for seed in range(PROBLEMS)]
  assert sum(stuck) > PROBLEMS / 2


def _climb(table) -> float:
  """The regret of what no change of one decision improves, from the smallest."""
  choices = np.zeros(6, np.int32)
  while True:
    changed = np.repeat(choices[None], 36, 0)
    changed[range(36), np.repeat(range(6), 6)] = np.tile(range(6), 6)
    best = max(filter(table.fits, changed), key=table.accuracy)
    if table.accuracy(best) <= table.accuracy(choices):
      return table.regret(choices)
    choices = best


def test_problems_and_what_trials_measure_are_fixed():
  first, again = tabular.make_table(5, 0.01), tabular.make_table.__wrapped__(5, 0.01)
  np.testing.assert_array_equal(first.accuracies, again.accuracies)
  assert (first.accuracies != tabular.make_table(6, 0.01).accuracies).all()
  assert first.evaluate(7, first.best) == again.evaluate(7, again.best)
  measured = [first.evaluate(n, first.best) for n in range(2000)]
  assert np.mean(measured) == pytest.approx(first.accuracy(first.best), abs=0.001)
  assert np.std(measured) == pytest.approx(0.01, rel=0.1)


def test_scaled_architectures_are_the_tables_own():
  table = tabular.make_table(0)
  view, samples = searches.scale_table(table), searches.draw_samples(table)
  for choices in list(view.space.enumerate())[::41]:
    chosen = view.space.describe(choices)
    sample, phi = samples[chosen.pop('sample')], chosen.pop('phi')
    values = table.space.describe(sample)
    wanted = {a: min(v * chosen.get(a, 1) ** phi, tabular.AXES[a][-1]) for a, v in values.items()}
    nearest = {
      axis: int(np.argmin(np.abs(np.array(tabular.AXES[axis]) - value)))
      for axis, value in wanted.items()
    }
    scaled = table.space.encode(nearest)
    assert view.cost(choices) == table.cost(scaled)
    assert view.accuracy(choices) == table.accuracy(scaled)


def test_regret_is_of_the_network_that_measured_best():
  """Though another one is better; what is over the limit or not trained is none."""
  table = tabular.make_table(0)
  some = [c for c in list_architectures()[::97] if table.fits(c)][:3]
  over = table.space.sizes - 1
  rows = [(some[0], 3), (over, 9), (some[1], 2), (some[2], 4)]
  trials = [Trial(n, c, state=State.DONE, value=v) for n, (c, v) in enumerate(rows)]
  trials.insert(3, Trial(4, some[1], state=State.PRUNED, value=8))
  found = searches.list_regrets(table, table, trials, 7)
  a, c = table.regret(some[0]), table.regret(some[2])
  np.testing.assert_allclose(found, [a, a, a, a, c, c, c])
  found = searches.list_regrets(table, table, trials[1:2], 2)
  np.testing.assert_allclose(found, table.regret(0 * over))


def check_better(regrets, others, trials=BUDGET):
  """After so many trials, over the problems that both had."""
  low, high = searches.find_interval(regrets[:, trials - 1] - others[:, trials - 1])
  assert high < 0, f'regret is {low:.4f} to {high:.4f} more than that of the others'


def check_evolution(regrets):
  """What every evolution here is held to."""
  check_better(regrets, find_regrets(searches.make_random))
  assert regrets[:, -1].mean() <= 0.008
  assert np.median(regrets[:, -1]) <= 0.006


def test_evolution_is_better_than_random_search():
  check_evolution(find_regrets(searches.make_evolution))


@pytest.mark.parametrize('kind', [TakesTheWorst, MutatesNothing, RemovesTheBest])
def test_a_mistake_is_found(kind, monkeypatch):
  """By the comparison with random search, and by the bound."""
  if kind is MutatesNothing:  # only lest it look for other children for long
    monkeypatch.setattr(moves, 'REPEATS', 10)
  regrets = find_regrets(searches.make_evolution, kind=kind)
  with pytest.raises(AssertionError, match='more than that of the others'):
    check_evolution(regrets)
  assert regrets[:, -1].mean() > 0.012


def test_the_first_population_is_as_good_as_random_search():
  """Nothing has been learnt yet."""
  evolution, others = (
    find_regrets(searches.make_evolution),
    find_regrets(searches.make_random),
  )
  np.testing.assert_array_equal(evolution[:, :50], others[:, :50])


def test_expansion_is_better_than_random_search_of_as_many_trials():
  """It needs about forty; later random search catches up, and evolution is better."""
  expansion = find_regrets(searches.make_expansion)
  check_better(expansion, find_regrets(searches.make_random), trials=45)
  check_better(find_regrets(searches.make_evolution), expansion)


def test_coefficients_are_better_than_others_for_other_networks():
  """What φ search finds is no network: on tables those that it tries are few and poor."""
  gains = []
  for seed in range(PROBLEMS // 2):
    table = tabular.make_table(seed, searches.NOISE)
    algorithm = searches.make_scaling(table, BUDGET)
    view = searches.find_view(table, algorithm)
    trials = workers.run(algorithm, workers.measure(view), seed=seed)
    rows = algorithm.conclude(trials).facts['candidates']
    others = searches.draw_samples(table, 30)[searches.SAMPLES :]
    means = [
      np.mean([table.accuracy(searches.scale(network, row['coefficients'])) for network in others])
      for row in rows
    ]
    gains.append(means[0] - np.mean(means))
  low, _ = searches.find_interval(np.array(gains))
  assert low > 0
