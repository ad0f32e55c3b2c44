"""The search for scaling coefficients: what it averages, and when it does not know."""

import collections
import dataclasses
import itertools
import re

import numpy as np
import pytest

from nas.algorithms import statistics
from nas.algorithms.scale import Scale
from nas.candidate import Candidate
from nas.history import Signal, State
from nas.space import OneOf, Space
from tests.nas.algorithms import workers

GRID = (1.0, 1.1, 1.2, 1.3, 1.4)
AXES = ('depth', 'width')


def make_parts(samples=3, phis=(1.0, 2.0)):
  """A space, its candidates (those of 1.3 and 1.4 are one depth), each axis alone."""
  space = Space(
    {
      **{axis: OneOf(GRID) for axis in AXES},
      **{'sample': OneOf(tuple(range(samples))), 'phi': OneOf(phis)},
    }
  )
  candidates = [
    Candidate(dict(zip(AXES, values, strict=True)), 2.0, f'{min(values[0], 1.3)}, {values[1]}')
    for values in itertools.product(GRID[1:], repeat=2)
  ]
  baselines = {
    'depth': Candidate({'depth': 1.4, 'width': 1.0}, 2.1, 'deep'),
    'width': Candidate({'depth': 1.0, 'width': 1.4}, 1.9, 'wide'),
  }
  return space, candidates, baselines


def make_search(samples=3, phis=(1.0, 2.0), baselines=True, **settings):
  space, candidates, alone = make_parts(samples, phis)
  settings = {'draws': 8, **settings}
  return Scale(space, candidates, alone if baselines else {}, **settings)


def objective(score, noise=0.0, seed=0, luck=0.0):
  """`score` of depth, width and φ, and noise around it.

  And luck, which all candidates have alike with their network of a number.
  """

  def measure(number, choices):
    depth, width = (GRID[choice] for choice in choices[:2])
    rng = np.random.default_rng((seed, number))
    value = score(depth, width, (1.0, 2.0)[choices[3]]) + noise * rng.normal()
    value += luck * np.random.default_rng((seed, 10**6, choices[2])).normal()
    metrics = {'macs': 10 * number, 'latency_ns': 1000 + number}
    return {'state': State.DONE, 'value': value, 'metrics': metrics}

  return measure


def balanced(depth, width, phi):
  return 0.5 - (depth - 1.18) ** 2 - (width - 1.27) ** 2


def run(search, score=balanced, noise=0.0, seed=0, luck=0.0):
  trials = workers.run(search, objective(score, noise, seed, luck))
  return trials, search.conclude(trials)


def test_what_is_tried():
  search = make_search(draws=8, repeats=2)
  trials, _ = run(search)
  assert len(trials) == (8 + 2) * 3 * 2
  tried = collections.Counter(tuple(trial.choices) for trial in trials)
  assert set(tried.values()) == {2}
  for trial in trials:
    assert trial.train == {'seed': trial.note['repeat']}
  # Everyone's first network comes before anyone's second.
  assert [trial.note['sample'] for trial in trials[:30]] == [0] * 10 + [1] * 10 + [2] * 10
  assert not any(trial.train for trial in run(make_search())[0])


def test_all_candidates_are_trained_on_the_same_networks_and_seeds():
  trials, _ = run(make_search(repeats=2, recheck=3))
  tried = collections.defaultdict(list)
  for trial in trials:
    depth, width, sample, phi = trial.choices
    assert (sample, trial.train['seed']) == (trial.note['sample'], trial.note['repeat'])
    tried[phi, depth, width].append((sample, trial.train['seed']))
  assert collections.Counter(phi for phi, *_ in tried) == {0: 8 + 2, 1: 3 + 2}
  every = list(itertools.product(range(3), range(2)))
  assert all(sorted(pairs) == every for pairs in tried.values())


def test_what_is_drawn_differs_after_rounding_and_follows_from_the_seed_alone():
  counts = collections.Counter()
  for seed in range(200):
    search = make_search(draws=4, top=1, seed=seed, baselines=False)
    trials, _ = run(search)
    assert workers.run(search, objective(balanced), seed=seed, workers=5) == trials
    drawn = {tuple(trial.choices[:2].tolist()) for trial in trials}
    assert len({(min(depth, 3), width) for depth, width in drawn}) == len(drawn) == 4
    counts.update(drawn)
  # Of two that are one after rounding, either is drawn; all are.
  assert len(counts) == 16
  assert min(counts.values()) > 20


@pytest.mark.parametrize('top', [1, 3, 5])
def test_the_best_by_mean_are_averaged(top):
  search = make_search(draws=12, top=top)
  trials, found = run(search, noise=0.02)
  values = collections.defaultdict(list)
  for trial in trials:
    if 0 not in trial.choices[:2]:  # no baseline
      values[tuple(GRID[choice] for choice in trial.choices[:2])].append(trial.value)
  best = sorted(values, key=lambda pair: -np.mean(values[pair]))[:top]
  assert found.facts['coefficients'] == {
    axis: pytest.approx(np.mean([pair[n] for pair in best])) for n, axis in enumerate(AXES)
  }
  first = [trial.value for n in found.best for trial in [trials[n]]]
  assert first == sorted(values[best[0]], reverse=True)
  row = next(row for row in found.facts['candidates'] if row['name'] in found.facts['averaged'])
  assert row['mean'] == pytest.approx(np.mean(values[best[0]]))
  assert row['sd'] == pytest.approx(np.std(values[best[0]], ddof=1))
  assert row['n'] == 3
  assert row['alike'] == (2 if best[0][0] > 1.25 else 1)
  assert row['macs'] == np.mean([10 * n for n in row['trials']])
  assert row['latency_ns'] == np.mean([1000 + n for n in row['trials']])


def test_costs_that_were_not_measured_are_not_known():
  search = make_search()
  trials = workers.run(search, lambda *_: {'state': State.DONE, 'value': 0.5})
  for row in search.conclude(trials).facts['candidates']:
    assert (row['macs'], row['latency_ns']) == (None, None)


def test_a_baseline_is_compared_with_and_never_averaged():
  def wide(depth, width, phi):
    return width - depth

  found = run(make_search(), wide, noise=0.1)[1].facts
  assert found['candidates'][0]['name'] == 'width'
  assert 'width' not in found['averaged']
  (width,) = [row for row in found['comparisons'] if row['with'] == 'width']
  assert width['gain'] < 0
  assert found['beaten_by'] == []  # for all that is known: there is some noise in it
  sure = run(make_search(), wide, noise=1e-4)[1].facts
  assert sure['beaten_by'] == ['width']
  assert 'width' not in sure['undecided']['baselines']


@pytest.mark.parametrize('luck', [0.0, 0.1])
def test_means_of_equal_candidates_are_hardly_ever_told_apart(luck):
  """Of 400 studies in which nothing matters, one in twenty sees the best win."""
  search = make_search(draws=12, top=5)
  wrong = 0
  for seed in range(400):
    found = run(search, lambda *_: 0.5, noise=0.01, seed=seed, luck=luck)[1].facts
    assert found['noise']['sd'] == pytest.approx(0.01, rel=0.6)
    assert found['noise']['freedom'] == 13 * 2
    wrong += not all(row['undecided'] for row in found['comparisons'])
  assert wrong <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5
  assert wrong > 4  # nor is it so wide that nothing ever differs


def test_differences_beyond_noise_are_told_apart():
  found = run(make_search(draws=12), noise=0.0005)[1].facts
  assert found['undecided'] == {'baselines': [], 'candidates': []}
  assert all(0 < row['margin'] < row['gain'] for row in found['comparisons'])
  found = run(make_search(draws=12), noise=0.5)[1].facts
  assert found['undecided']['baselines'] == ['depth', 'width']
  assert len(found['undecided']['candidates']) == 11


def test_luck_that_all_candidates_share_is_no_noise():
  found = run(make_search(), noise=0.0005, luck=0.5)[1].facts
  assert np.std(found['candidates'][0]['samples']) > 0.05
  assert found['noise']['sd'] == pytest.approx(0.0005, rel=0.5)
  assert found['undecided'] == {'baselines': [], 'candidates': []}


def test_luck_of_a_seed_is_no_noise():
  search = make_search(samples=1, repeats=3)

  def measure(number, choices):  # all ten candidates once, then with the next seed
    found = objective(balanced, noise=0.0005)(number, choices)
    return {**found, 'value': found['value'] + (0.3, 0.0, 0.7)[number // 10]}

  found = search.conclude(workers.run(search, measure)).facts
  assert found['noise']['over'] == 'repeats'
  assert found['noise']['sd'] == pytest.approx(0.0005, rel=0.5)
  assert found['undecided'] == {'baselines': [], 'candidates': []}


def make_row(name, *samples):
  known = [value for value in samples if value is not None]
  mean = float(np.mean(known))
  return {
    'name': name,
    'mean': mean,
    'samples': samples,
    'repeats': [[v] for v in samples],
  }


def test_of_two_candidates_the_comparison_is_a_paired_t_test():
  rows = [make_row('a', 1.0, 5.0, 3.0), make_row('b', 3.0, 6.0, 6.0)]
  noise = statistics.find_noise(rows)
  assert (noise.sd, noise.freedom) == (pytest.approx(0.5**0.5), 2)
  found = statistics.compare(rows[1], rows[0], noise)
  # Differences are 2, 1 and 3; 4.303 is the 97.5 % point of t with two degrees of freedom.
  assert found['margin'] == pytest.approx(4.303 * (1 / 3) ** 0.5, rel=0.015)
  assert (found['gain'], found['undecided']) == (2.0, True)


def test_a_network_is_never_compared_with_one_of_another_number():
  """The first of them is easy, and 'b' has lost its own."""
  rows = [
    make_row('a', 9.0, 5.0, 3.0, 4.0),
    make_row('b', None, 6.1, 4.0, 4.9),
    make_row('c', 9.5, None, None, None),
  ]
  noise = statistics.find_noise(rows)
  # As of the differences 1.1, 1.0 and 0.9: what only one has tells nothing of noise.
  assert (noise.sd, noise.freedom) == (pytest.approx(0.1 / 2**0.5), 2)
  found = statistics.compare(rows[1], rows[0], noise)
  assert rows[1]['mean'] < rows[0]['mean']
  assert (found['gain'], found['undecided']) == (pytest.approx(1.0), False)
  assert found['margin'] == pytest.approx(noise.quantile * noise.sd / 3**0.5)
  found = statistics.compare(rows[1], rows[2], noise)
  assert (found['gain'], found['margin'], found['undecided']) == (None, None, True)


def test_a_seed_is_never_compared_with_another():
  """The first is lucky, and 'b' has lost that of its second network."""
  rows = [make_row('a', 6.0, 7.0), make_row('b', 6.5, 6.5)]
  rows[0]['repeats'] = [[4.0, 8.0], [6.0, 8.0]]
  rows[1]['repeats'] = [[5.0, 8.0], [None, 8.0]]
  found = statistics.compare(rows[1], rows[0], statistics.find_noise(rows))
  assert found['gain'] == pytest.approx((0.5 + 0.0) / 2)


def test_with_one_network_each_noise_is_that_of_repeats():
  found = run(make_search(samples=1, repeats=3), noise=0.01)[1].facts
  assert found['noise']['over'] == 'repeats'
  assert found['noise']['freedom'] == 9 * 2
  assert found['noise']['sd'] == found['noise']['repeats_sd']
  assert found['comparisons'][0]['margin'] < 0.06


def test_without_any_repetition_nothing_is_decided():
  found = run(make_search(samples=1))[1].facts
  assert found['noise']['over'] is None
  assert all(row['undecided'] for row in found['comparisons'])
  assert all(row['margin'] is None for row in found['comparisons'])
  assert found['coefficients']


def test_networks_differ_by_more_than_their_repeats():
  search = make_search(repeats=3)

  def measure(number, choices):
    rng = np.random.default_rng(choices)
    own = 0.1 * rng.normal()
    return {'value': own + 0.001 * (number % 7), 'state': State.DONE}

  noise = search.conclude(workers.run(search, measure)).facts['noise']
  assert noise['over'] == 'samples'
  assert noise['freedom'] == 9 * 2
  assert noise['sd'] > 0.05
  assert noise['repeats_sd'] < 0.005


def test_the_best_are_trained_again_at_the_last_phi():
  def turned(depth, width, phi):  # what is best at φ = 1 is worst at 2
    return balanced(depth, width, phi) * (1 if phi == 1 else -1)

  trials, found = run(make_search(recheck=3), turned)
  again = [trial for trial in trials if trial.note['phi'] == 2]
  assert len(again) == (3 + 2) * 3
  assert trials[-len(again) :] == again
  names = {trial.note['name'] for trial in again}
  assert names == {'depth', 'width', *found.facts['averaged'][:3]}
  check = found.facts['recheck']
  assert check['order'] == check['order_before'][::-1]
  assert (check['held'], check['best_held'], check['agreement']) == (False, False, -1)
  assert set(check['undecided']) == {'baselines', 'candidates'}
  held = run(make_search(recheck=3))[1].facts['recheck']
  assert (held['held'], held['best_held'], held['agreement']) == (True, True, 1)
  # What is found at φ = 1 is found there alone.
  same = run(make_search())[1].facts
  assert found.facts['candidates'] == run(make_search(recheck=3))[1].facts['candidates']
  assert found.facts['coefficients'] == same['coefficients']
  assert same['recheck'] is None


def test_the_last_phi_waits_for_all_of_the_first():
  search = make_search(recheck=3)
  trials, _ = run(search)
  first = len([trial for trial in trials if trial.note['phi'] == 1])
  opened = dataclasses.replace(trials[0], state=State.RUNNING, value=None)
  assert workers.ask(search, [opened, *trials[1:first]], 0) is Signal.WAIT
  last = dataclasses.replace(trials[-1], state=State.RUNNING, value=None)
  assert workers.ask(search, [*trials[:-1], last], 0) is Signal.WAIT
  assert workers.ask(search, trials, 0) is Signal.STOP
  assert search.conclude(trials[:first]).facts['recheck'] is None
  assert search.conclude(trials[: first + 2]).facts['recheck']['agreement'] is not None


def test_trials_that_failed_are_counted_and_pruned_ones_are_not_forgotten():
  search = make_search(draws=8, baselines=False, recheck=2)
  trials, _ = run(search)
  name = trials[0].note['name']
  mine = [n for n, t in enumerate(trials) if t.note['name'] == name and t.note['phi'] == 1]
  lost = {'state': State.FAILED, 'value': None, 'reason': 'out of memory'}
  cut = {'state': State.PRUNED, 'value': -1.0}
  changed = list(trials)
  changed[mine[0]] = dataclasses.replace(changed[mine[0]], **lost)
  changed[mine[1]] = dataclasses.replace(changed[mine[1]], **cut)
  changed = changed[:24]
  (row,) = [r for r in search.conclude(changed).facts['candidates'] if r['name'] == name]
  assert (row['n'], row['lost'], row['trials']) == (2, 1, [mine[2]])
  assert row['mean'] == pytest.approx((-1 + trials[mine[2]].value) / 2)
  for n in mine:
    changed[n] = dataclasses.replace(changed[n], **lost)
  found = search.conclude(changed).facts
  assert (found['candidates'][-1]['name'], found['candidates'][-1]['mean']) == (
    name,
    None,
  )
  assert name not in found['averaged']


def test_nothing_is_found_where_nothing_was_trained():
  search = make_search(recheck=2)
  trials = workers.run(search, lambda *_: {'state': State.FAILED, 'reason': 'no memory'})
  found = search.conclude(trials)
  assert (found.best, found.facts['coefficients'], found.facts['averaged']) == (
    (),
    {},
    [],
  )
  assert search.conclude([]).facts['candidates'] == []


def test_trials_of_another_search_are_refused():
  trials, _ = run(make_search())
  with pytest.raises(ValueError, match=r'trial 0 is .*another study'):
    workers.ask(make_search(seed=1), trials, 0)
  with pytest.raises(ValueError, match=r'no trial: the study'):
    workers.ask(make_search(repeats=1), [*trials, trials[-1]], 0)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'draws': 13}, 'draws is 13, but of 16 candidates only 12 differ once sizes'),
    ({'draws': -1}, 'draws is -1; wanted a whole number, 0 or more'),
    ({'draws': 2.5}, 'draws should be int, got 2.5'),
    ({'top': 0}, 'top is 0; wanted a whole number, 1 or more'),
    ({'repeats': 0}, 'repeats is 0; wanted a whole number, 1 or more'),
    ({'top': 9}, 'top is 9, more than the 8 draws: none would be left out'),
    ({'recheck': 9}, 'recheck is 9, more than the 8 draws'),
    ({'recheck': 1, 'phis': (1.0,)}, 'recheck is 1, but the space has no second phi'),
    ({'draws': 0, 'baselines': False}, 'there is nothing to try'),
  ],
)
def test_settings_that_make_no_sense(settings, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    make_search(**settings)


def test_candidates_of_another_space_are_refused():
  space, candidates, _ = make_parts()
  other = Candidate({'depth': 1.15, 'width': 1.1}, 2.0, 'other')
  with pytest.raises(ValueError, match=r'a candidate has depth 1\.15, which the space'):
    Scale(space, [other], draws=1, top=1)
  with pytest.raises(ValueError, match="no decision at 'sample'"):
    Scale(Space({'depth': OneOf(GRID)}), candidates, draws=1, top=1)
