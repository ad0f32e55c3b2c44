"""The moves of an evolution one by one; whether it finds anything: tabular_test.py."""

import collections
import dataclasses
import math
import time

import numpy as np
import pytest

from nas.algorithms import moves
from nas.algorithms.evolve import Evolve
from nas.history import Proposal, Signal, State, Trial
from nas.space import OneOf, Space
from tests.nas.algorithms import workers

# Decisions that open others, one with a single choice, 624 architectures.
SPACE = Space(
  {
    'layer': OneOf(
      (
        None,
        {
          'kernel': OneOf((1, 3, 5)),
          'ratio': OneOf((None, {'size': OneOf((4, 8, 16))})),
        },
      )
    ),
    'fixed': OneOf((7,)),
    'head': OneOf(tuple(range(8))),
    'tail': OneOf(tuple(range(6))),
  }
)


def make(**options):
  defaults = {'budget': 60, 'population': 10, 'tournament': 4, 'lag': 0}
  return Evolve(SPACE, **{**defaults, **options})


def draw_value(number):
  return float(np.random.default_rng((9, number)).integers(20))  # with ties


def end_well(number, choices):
  return {'state': State.DONE, 'value': draw_value(number)}


def end_somehow(number, choices):
  """Half of the trials are trained; what is not is worth much more or nothing."""
  state = list(State)[1:][number * 7 % 8 % 4] if number % 2 else State.DONE
  value = {State.DONE: draw_value(number), State.PRUNED: 1e6}.get(state)
  return {'state': state, 'value': value}


def make_trials(values):
  rng = np.random.default_rng(0)
  return [
    Trial(n, SPACE.canonical(SPACE.sample(rng)), state=State.DONE, value=float(value))
    for n, value in enumerate(values)
  ]


def count_open(choices):
  return int((SPACE.is_open(choices) & (SPACE.sizes > 1)).sum())


def test_a_mutation_changes_one_decision():
  """Of what is open before and after exactly one differs, which the note names."""
  rng = np.random.default_rng(0)
  algorithm = make()
  for choices in SPACE.enumerate():
    parent = Trial(5, choices, state=State.DONE, value=1.0)
    child = algorithm.mutate(parent, rng)
    np.testing.assert_array_equal(child.choices, SPACE.canonical(child.choices))
    stays = SPACE.is_open(choices) & SPACE.is_open(child.choices)
    (changed,) = np.flatnonzero((choices != child.choices) & stays)
    assert child.note == {'parent': 5, 'mutated': SPACE.decisions[changed].path}


def test_every_mutation_is_as_probable_as_it_should_be():
  """Open decisions, their other choices and what these open: each uniform."""
  rng = np.random.default_rng(0)
  for chosen in ({'head': 3}, {'layer': 1, 'layer:1/kernel': 2, 'head': 5}):
    choices = SPACE.encode(chosen)
    parent, draws = Trial(0, choices, state=State.DONE, value=1.0), 4000
    found = collections.Counter(make().mutate(parent, rng).choices.tobytes() for _ in range(draws))
    wanted = _list_children(choices)
    assert set(found) == set(wanted)
    for child, share in wanted.items():
      error = math.sqrt(share * (1 - share) / draws)
      assert abs(found[child] / draws - share) < 4.5 * error


def _list_children(choices):
  """The probability of each, by enumeration of all architectures."""
  shares, is_open = collections.defaultdict(float), SPACE.is_open(choices)
  movable = [n for n in np.flatnonzero(is_open) if SPACE.sizes[n] > 1]
  for child in SPACE.enumerate():
    stays = is_open & SPACE.is_open(child)
    changed = np.flatnonzero((choices != child) & stays)
    if len(changed) == 1:
      opened = SPACE.is_open(child) & ~is_open
      others = SPACE.sizes[changed[0]] - 1
      shares[child.tobytes()] += 1 / len(movable) / others / SPACE.sizes[opened].prod()
  assert sum(shares.values()) == pytest.approx(1)
  return shares


def test_the_parent_is_the_best_of_a_tournament():
  """The member of rank r wins where all others drawn are behind it."""
  algorithm = make(population=8, tournament=3)
  values = [4, 9, 1, 7, 3, 8, 2, 6]
  members, draws = make_trials(values), 6000
  rng = np.random.default_rng(0)
  won = collections.Counter(algorithm.select(members, rng).value for _ in range(draws))
  for place, value in enumerate(sorted(values, reverse=True)):
    share = math.comb(7 - place, 2) / math.comb(8, 3)
    assert abs(won[value] / draws - share) < 4.5 * math.sqrt(share / draws) + 1e-9


def test_of_equal_members_the_earlier_is_the_parent():
  members = make_trials([1, 5, 5, 5])
  algorithm = make(population=4, tournament=4)
  rng = np.random.default_rng(0)
  assert {algorithm.select(members, rng).number for _ in range(20)} == {1}


def test_the_population_is_what_the_paper_says():
  """Replayed child by child: it enters when better than the worst, which then leaves."""
  rng = np.random.default_rng(0)
  for _ in range(50):
    algorithm = make(population=5, tournament=2)
    trials = make_trials(rng.integers(8, size=40))
    ends = rng.choice(list(State)[1:], 40, p=[0.7, 0.1, 0.1, 0.1])
    trials = [dataclasses.replace(t, state=State(s)) for t, s in zip(trials, ends, strict=True)]
    members = []
    for trial in trials:
      if trial.state is not State.DONE:
        continue
      if len(members) == 5:
        worst = min(members, key=lambda t: (t.value, -t.number))
        if trial.value <= worst.value:
          continue
        members.remove(worst)
      members.append(trial)
    found = algorithm.find_population(trials)
    assert {t.number for t in found} == {t.number for t in members}


def test_the_first_population_is_random_and_trained():
  """Networks that were discarded, pruned or lost have to be replaced."""
  trials = workers.run(make(budget=80), end_somehow)
  trained = 0
  for trial in trials:
    assert ('parent' in trial.note) == (trained >= 10)
    trained += trial.state is State.DONE
  assert any('parent' in trial.note for trial in trials)


def test_only_trained_networks_have_children():
  trials = workers.run(make(budget=100, lag=3), end_somehow, workers=4)
  parents = {trial.note['parent'] for trial in trials if 'parent' in trial.note}
  assert len(parents) > 5
  assert {trials[parent].state for parent in parents} == {State.DONE}


def test_the_first_population_is_drawn_without_waiting():
  algorithm, trials = make(lag=3), []
  while isinstance(answer := workers.ask(algorithm, trials, 0), Proposal):
    trials.append(workers.begin(answer, len(trials)))
  assert answer is Signal.WAIT
  assert len(trials) == 10 + 3
  trials[:9] = [workers.end(trial, end_well) for trial in trials[:9]]
  assert workers.ask(algorithm, trials, 0) is Signal.WAIT
  trials[9] = workers.end(trials[9], end_well)
  assert 'parent' in workers.ask(algorithm, trials, 0).note
  # Had it been lost, an eleventh would be needed.
  trials[9] = dataclasses.replace(trials[9], state=State.FAILED)
  assert workers.ask(algorithm, trials, 0).note == {}


def test_the_latest_trials_are_not_looked_at():
  """As many as the lag; the one before them is."""
  algorithm = make(lag=5)
  trials = workers.run(make(budget=40, lag=5), end_well)[:30]
  first = workers.ask(algorithm, trials, 0)
  for number, matters in ((25, False), (29, False), (24, True)):
    changed = list(trials)
    changed[number] = dataclasses.replace(trials[number], value=1e9)
    parents = {
      seed: (
        workers.ask(algorithm, trials, seed).note['parent'],
        workers.ask(algorithm, changed, seed).note['parent'],
      )
      for seed in range(20)
    }
    assert any(a != b for a, b in parents.values()) == matters
  running = [dataclasses.replace(t, state=State.RUNNING) for t in trials[25:]]
  again = workers.ask(algorithm, [*trials[:25], *running], 0)
  np.testing.assert_array_equal(first.choices, again.choices)
  assert first.note == again.note


def test_no_network_is_tried_twice():
  """Where all children of the population are known, random ones join it."""
  trials = workers.run(make(budget=250), end_well)
  assert len({trial.choices.tobytes() for trial in trials}) == 250
  assert any(not trial.note for trial in trials[100:])


def test_vectors_of_one_network_are_one_network():
  """Half of the vectors differ in a decision that does nothing."""
  tree = {f'{letter}': OneOf(tuple(range(5))) for letter in 'abcd'}
  algorithm = Evolve(
    Space({**tree, 'idle': OneOf((0, 1, 2, 3, 4))}),
    budget=300,
    population=30,
    tournament=10,
    lag=2,
    identify=lambda choices: choices[:4].tobytes(),
  )
  trials = workers.run(algorithm, end_well, workers=3)
  assert len({trial.choices[:4].tobytes() for trial in trials}) == 300
  blind = dataclasses.replace(algorithm, identify=None)
  trials = workers.run(blind, end_well, workers=3)
  assert len({trial.choices[:4].tobytes() for trial in trials}) < 300


def test_a_space_that_is_used_up_does_not_end_the_search():
  space = Space({'a': OneOf((0, 1, 2))})
  algorithm = Evolve(space, budget=12, population=3, tournament=2, lag=1)
  trials = workers.run(algorithm, end_well, workers=2)
  assert len(trials) == 12
  assert len({trial.choices.tobytes() for trial in trials}) == 3


def test_only_what_fits_is_proposed():
  def fits(choices):
    return choices[0] == 1 and choices[-1] < 4

  trials = workers.run(make(fits=fits), end_well, workers=2)
  assert all(fits(trial.choices) for trial in trials)


@pytest.mark.parametrize('allowed', [0, 15])
def test_limits_that_nothing_meets(allowed):
  """Random networks, or children of those that were within them."""
  known = []

  def fits(choices):
    known.append(choices)
    return len(known) <= allowed

  with pytest.raises(ValueError, match=r'no network of 10,000 drawn is within the limi'):
    workers.run(make(fits=fits), end_well)
  assert len(known) <= allowed + 4 * moves.TRIES


def test_conclusion():
  algorithm = make(population=3, tournament=2)
  values = [5, 2, 4, 1, 6, 7, 3, 6, 9]
  parents = [None, None, None, None, 0, 4, 0, 2, 5]
  trials = [
    dataclasses.replace(t, note={} if p is None else {'parent': p, 'mutated': 'head'})
    for t, p in zip(make_trials(values), parents, strict=True)
  ]
  trials.append(Trial(9, trials[0].choices, {'parent': 8}, state=State.DISCARDED))
  trials.append(Trial(10, trials[0].choices, {'parent': 8}))
  found = algorithm.conclude(trials)
  assert found.best == (8, 5, 4, 7, 0)
  assert found.path == (0, 4, 5, 8)
  facts = found.facts
  assert (facts['done'], facts['discarded'], facts['running']) == (9, 1, 1)
  # Of children 4, 5, 6, 7, 8 the sixth was no better than 5, 6 and 7 were.
  assert (facts['children'], facts['accepted'], facts['acceptance']) == (5, 4, 0.8)


def test_conclusion_of_nothing():
  found = make().conclude([])
  assert (found.best, found.path, found.facts['acceptance']) == ((), (), None)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'population': 5, 'tournament': 10}, r'population \(5\) .* tournament \(10\)'),
    ({'budget': 10}, r'budget \(10\) must be more than population \(10\)'),
    ({'budget': 0}, 'budget is 0; wanted a whole number, 1 or more'),
    ({'population': 0}, 'population is 0'),
    ({'tournament': 0}, 'tournament is 0; wanted a whole number, 1 or more'),
    ({'tournament': 2.5}, 'tournament should be int, got 2.5'),
    ({'lag': -1}, 'lag is -1; wanted a whole number, 0 or more'),
    ({'lag': True}, 'lag should be int, got True'),
    ({'budget': '9'}, "budget should be int, got '9'"),
  ],
)
def test_settings_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_a_space_with_nothing_to_search():
  with pytest.raises(ValueError, match='a single architecture'):
    Evolve(Space({'a': OneOf((3,))}), budget=300)


def test_the_defaults_are_the_papers():
  algorithm = Evolve(SPACE, budget=1000)
  assert (algorithm.population, algorithm.tournament) == (200, 50)


def test_a_proposal_is_quick_after_five_thousand_trials():
  """About 5 ms; a search that replays every tournament would take seconds."""
  trials = make_trials(np.random.default_rng(0).random(5000))
  wide = Space([OneOf(tuple(range(4)))] * 150)
  rng = np.random.default_rng(1)
  trials = [dataclasses.replace(t, choices=wide.sample(rng)) for t in trials]
  algorithm, secs = Evolve(wide, budget=10_000), []
  for _ in range(5):
    began = time.process_time()
    assert workers.ask(algorithm, trials, 0).note
    secs.append(time.process_time() - began)
  assert min(secs) < 0.05
