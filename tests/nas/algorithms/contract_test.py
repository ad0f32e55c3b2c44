"""What every one-shot algorithm of nas/algorithms promises to the search that uses it."""

import functools

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.algorithms import ONE_SHOT, list_algorithms
from nas.algorithms.policy import Scores
from nas.space import OneOf, Space

SPACE = Space(
  {
    'layer': OneOf((None, {'kernel': OneOf((1, 3, 5)), 'width': OneOf((8, 16), 'filters')})),
    'head': OneOf((0, 1, 2, 3)),
  }
)
BEST = np.int32([1, 2, 0, 1])
CANDIDATES = 4
STEPS = 400
# Hyperparameters for a search of STEPS steps, by file.
OPTIONS = {
  'reinforce': {'policy_rate': 0.05, 'total_steps': STEPS},
  'parsec': {'policy_rate': 0.025, 'total_steps': STEPS},
}


def make_scores(accuracy):
  """Scores of candidates that cost the target: the reward is the accuracy."""
  ones = jnp.ones_like(accuracy)
  return Scores(accuracy, accuracy, jnp.log(accuracy + 1e-3), ones)


ALGORITHMS = pytest.mark.parametrize(
  ('name', 'kind'), [pytest.param(*row, id=row[0]) for row in list_algorithms(ONE_SHOT).items()]
)


def make(name, kind):
  assert name in OPTIONS, f'say in OPTIONS which hyperparameters {name} is tested with'
  return kind(SPACE, **OPTIONS[name])


@functools.partial(jax.jit, static_argnames=('algorithm', 'steps'))
def search(algorithm, state, seed, steps, begin=0):
  """The state after more steps, and what was proposed in them: [S, R, D]."""
  matters = SPACE.is_open(BEST)

  def step(state, number):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), CANDIDATES)
    proposals = jax.vmap(algorithm.propose, (None, 0))(state, keys)
    # The share of what matters in the best that is as in it.
    share = (proposals.choices == BEST).mean(-1, where=matters)
    return algorithm.update(state, proposals, make_scores(share)), proposals

  return jax.lax.scan(step, state, begin + jnp.arange(steps))


def make_state(algorithm):
  return jax.jit(algorithm.init)(jax.random.key(0))


def assert_equal(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_there_are_algorithms():
  assert {'reinforce', 'parsec'} <= set(list_algorithms(ONE_SHOT))


@ALGORITHMS
def test_proposals_are_architectures(name, kind):
  algorithm = make(name, kind)
  _, proposals = search(algorithm, make_state(algorithm), 0, 50)
  choices = np.asarray(proposals.choices)
  assert choices.shape == (50, CANDIDATES, len(SPACE))
  assert choices.dtype == np.int32
  assert (choices >= 0).all()
  assert (choices < SPACE.sizes).all()


@ALGORITHMS
def test_the_same_seed_gives_the_same_search(name, kind):
  algorithm = make(name, kind)
  first = search(algorithm, make_state(algorithm), 0, 50)
  assert_equal(first, search(algorithm, make_state(algorithm), 0, 50))
  _, others = search(algorithm, make_state(algorithm), 1, 50)
  assert (first[1].choices != others.choices).any()


@ALGORITHMS
def test_a_state_that_was_written_and_read_goes_on_the_same(name, kind):
  algorithm = make(name, kind)
  half, _ = search(algorithm, make_state(algorithm), 0, 200)
  written = flax.serialization.to_bytes(half)
  read = flax.serialization.from_bytes(make_state(algorithm), written)
  assert_equal(half, read)
  assert_equal(search(algorithm, half, 0, 200, 200), search(algorithm, read, 0, 200, 200))


@ALGORITHMS
def test_states_are_arrays_that_keep_their_shapes(name, kind):
  """A step that is compiled for the first state serves all."""
  algorithm = make(name, kind)
  first = make_state(algorithm)
  last, _ = search(algorithm, first, 0, 1)
  shapes = [[(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(s)] for s in (first, last)]
  assert shapes[0] == shapes[1]


@ALGORITHMS
def test_hyperparameters_may_be_traced(name, kind):
  algorithm = make(name, kind)

  @jax.jit
  def step(options, state):
    traced = kind(SPACE, **options)
    keys = jax.random.split(jax.random.key(0), CANDIDATES)
    proposals = jax.vmap(traced.propose, (None, 0))(state, keys)
    return traced.update(state, proposals, make_scores(jnp.arange(CANDIDATES) / CANDIDATES))

  state = step(OPTIONS[name], algorithm.init(jax.random.key(0)))
  assert jax.tree.structure(state) == jax.tree.structure(make_state(algorithm))


@ALGORITHMS
def test_learns_what_is_best(name, kind):
  algorithm = make(name, kind)
  state, _ = search(algorithm, make_state(algorithm), 0, STEPS)
  found = algorithm.most_probable(state)
  np.testing.assert_array_equal(SPACE.canonical(found), SPACE.canonical(BEST))
  probabilities = np.asarray(algorithm.probabilities(state))
  assert probabilities.shape == (len(SPACE), SPACE.sizes.max())
  np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
  assert (probabilities[np.arange(len(SPACE)), BEST] > 0.8).all()


@ALGORITHMS
def test_holds_what_is_held(name, kind):
  """Decisions that are held fixed are never anything else, and only others learn."""
  held = np.int32([-1, 1, -1, 3])
  algorithm = kind(SPACE, held=held, **OPTIONS[name])
  first = make_state(algorithm)
  run = jax.jit(functools.partial(search.__wrapped__, algorithm, seed=0, steps=STEPS))
  last, proposals = run(first)
  is_held = held >= 0
  assert (np.asarray(proposals.choices)[..., is_held] == held[is_held]).all()
  for choice in (0, 1):
    assert (np.asarray(proposals.choices)[:10, :, ~is_held] == choice).any()
  np.testing.assert_array_equal(algorithm.most_probable(last), [1, 1, 0, 3])
  np.testing.assert_array_equal(algorithm.probabilities(last)[is_held], np.eye(4)[[1, 3]])
  np.testing.assert_array_equal(last.logits[is_held], first.logits[is_held])
  assert (last.logits[~is_held] != first.logits[~is_held]).any(-1).all()


@ALGORITHMS
def test_weights_of_candidates_sum_to_1(name, kind):
  algorithm = make(name, kind)
  state = make_state(algorithm)
  keys = jax.random.split(jax.random.key(0), CANDIDATES)
  proposals = jax.vmap(algorithm.propose, (None, 0))(state, keys)
  scores = make_scores(jnp.arange(1, CANDIDATES + 1) / CANDIDATES)
  weights = algorithm.weigh(state, proposals, scores if algorithm.scores_first else None)
  assert weights.shape == (CANDIDATES,)
  np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)


@ALGORITHMS
def test_charts_show_every_choice(name, kind):
  algorithm = make(name, kind)
  probabilities = np.asarray(algorithm.probabilities(make_state(algorithm)))
  labels = [[str(value) for value in row] for row in SPACE.values]
  charts = algorithm.chart(probabilities, labels)
  uniform = [charts[f'probability/head/{n}'] for n in range(4)]
  np.testing.assert_allclose(uniform, 0.25, rtol=1e-6)
  assert charts['entropy/head'] == pytest.approx(1)
  assert 0 <= algorithm.learns_from() <= STEPS
