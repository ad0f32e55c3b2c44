"""Entropies of a policy, and decisions that are held fixed, against all architectures."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.algorithms.policy import Policy, Scores
from nas.space import OneOf, Space

FLAT = Space({'op': OneOf((1, 3, 5)), 'width': OneOf((8, 16), 'filters')})
NESTED = Space(
  {
    'layer': OneOf((None, {'kernel': OneOf((1, 3, 5)), 'width': OneOf((8, 16), 'filters')})),
    'head': OneOf(('plain', {'squeeze': OneOf((False, True))})),
  }
)
DEEP = Space({'a': OneOf((OneOf((OneOf((1, 2, 3)), 4)), OneOf((5, 6)))), 'b': OneOf((8, 16, 24))})
CASES = pytest.mark.parametrize(
  ('space', 'held'),
  [
    pytest.param(FLAT, None, id='flat'),
    pytest.param(FLAT, [-1, 1], id='flat-held'),
    pytest.param(NESTED, None, id='nested'),
    pytest.param(NESTED, [-1, 2, -1, -1, -1], id='nested-inside-held'),
    pytest.param(NESTED, [0, 2, -1, 1, -1], id='nested-outside-held'),
    pytest.param(DEEP, None, id='deep'),
    pytest.param(DEEP, [-1, 0, -1, -1, 2], id='deep-held'),
    pytest.param(DEEP, [1, 0, 2, 1, 0], id='all-held'),
  ],
)


def make(space, held):
  return Policy(space, temperature=1.5, held=None if held is None else np.int32(held))


def make_state(space):
  """A policy that prefers some choices."""
  exists = np.arange(space.sizes.max()) < space.sizes[:, None]
  logits = np.random.default_rng(0).normal(0, 1, exists.shape) * exists
  return types.SimpleNamespace(logits=jnp.float32(logits))


def list_possible(space, held):
  """All architectures whose open decisions are as they are held."""
  held = np.full(len(space), -1) if held is None else np.array(held)
  every = np.array(list(space.enumerate()))
  free = (held < 0) | (every == held) | ~space.is_open(every)
  return every[free.all(-1)]


@CASES
def test_entropies_of_the_distribution_over_architectures(space, held):
  policy, state = make(space, held), make_state(space)
  possible = list_possible(space, held)
  log_probs = np.asarray(policy.log_prob(state, possible), np.float64)
  np.testing.assert_allclose(np.exp(log_probs).sum(), 1, rtol=1e-5)
  wanted = -np.sum(np.exp(log_probs) * log_probs)
  np.testing.assert_allclose(policy.entropy_total(state), wanted, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(policy.entropy_bound(), math.log(len(possible)), rtol=1e-5, atol=1e-6)


def test_the_bound_is_the_count_of_a_space_that_is_too_large_to_enumerate():
  layer = OneOf((None, {'kernel': OneOf((1, 3, 5)), 'ratio': OneOf((1, OneOf((2, 3))))}))
  space = Space([layer] * 60)
  wanted = math.log(space.count())
  assert wanted > 100
  np.testing.assert_allclose(Policy(space).entropy_bound(), wanted, rtol=1e-6)


def test_a_held_decision_is_certain_and_has_no_gradient():
  held = [-1, 2, -1, 1, 0]
  policy, free, state = make(NESTED, held), make(NESTED, None), make_state(NESTED)
  assert free.most_probable(state)[1] != 2 or free.most_probable(state)[3] != 1
  found = np.asarray(policy.most_probable(state))
  np.testing.assert_array_equal(found[[3, 4]], [1, 0])
  probabilities = np.asarray(policy.probabilities(state))
  np.testing.assert_array_equal(probabilities[[1, 3, 4]], np.eye(3)[[2, 1, 0]])
  np.testing.assert_array_equal(policy.entropies(state)[jnp.array([1, 3, 4])], 0)
  drawn = jax.vmap(policy.draw, (None, 0))(state, jax.random.split(jax.random.key(0), 200))
  np.testing.assert_array_equal(drawn[:, [1, 3, 4]], np.tile([2, 1, 0], (200, 1)))
  assert {0, 1} == set(np.asarray(drawn)[:, 0].tolist())

  choices = jnp.int32([1, 2, 1, 1, 0])
  gradient = jax.grad(
    lambda logits: policy.log_prob(types.SimpleNamespace(logits=logits), choices)
  )(state.logits)
  np.testing.assert_array_equal(gradient[jnp.array([1, 3, 4])], 0)
  assert (np.abs(gradient[jnp.array([0, 2])]).max(-1) > 0.01).all()


def test_what_is_held_may_be_traced():
  """So one compiled step serves all phases of a search."""
  state = make_state(NESTED)

  @jax.jit
  def find(held):
    policy = Policy(NESTED, held=held)
    metrics = policy.metrics(state, Scores(jnp.zeros(1)))
    return policy.probabilities(state), metrics

  for held in ([-1] * 5, [-1, 2, -1, 1, 0]):
    probabilities, metrics = find(jnp.int32(held))
    policy = Policy(NESTED, held=np.int32(held))
    np.testing.assert_allclose(probabilities, policy.probabilities(state), rtol=1e-5)
    wanted = math.log(len(list_possible(NESTED, held)))
    np.testing.assert_allclose(metrics['entropy_bound'], wanted, rtol=1e-5)
    searched = np.array(held) < 0
    wanted = policy.entropies(state)[searched].mean()
    np.testing.assert_allclose(metrics['entropy'], wanted, rtol=1e-5)
    assert metrics['entropy_total'] < metrics['entropy_bound']
  assert find._cache_size() == 1


@pytest.mark.parametrize(
  ('held', 'message'),
  [
    ([-1, -1], r'held has shape \[2\]; wanted a choice or -1 for each of the 5 decisions'),
    ([-1, 3, -1, -1, -1], 'held has 3 for layer:1/kernel; wanted a choice from 0 to 2, or -1'),
    ([-2, -1, -1, -1, -1], 'held has -2 for layer; wanted a choice from 0 to 1, or -1'),
  ],
)
def test_what_cannot_be_held(held, message):
  with pytest.raises(ValueError, match=message):
    make(NESTED, held)
