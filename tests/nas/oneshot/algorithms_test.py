"""Algorithms of one file each: found by name, and weighing candidates as they like."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas.algorithms
from movinet_jax.train import mesh
from nas import oneshot
from nas.objective import Objective
from tests.nas.oneshot.small import (
  LOSS,
  OPTIMIZER,
  learn_one_by_one,
  make_apply,
  make_batch,
  make_cost,
  make_lively_state,
  make_net,
  score_alone,
)

PLANTED = '''
"""A policy that learns from importance weights, as its supernet does."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from movinet_jax.schema import Count, Positive
from nas.algorithms.policy import Policy


class State(NamedTuple):
  logits: jax.Array
  weights: jax.Array  # of the last candidates
  log_likelihood: jax.Array


class Proposal(NamedTuple):
  choices: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance(Policy):
  total_steps: Count
  policy_step: Positive = 3.0

  scores_first = True

  def init(self, key):
    zeros = jnp.zeros((len(self.space), self.space.sizes.max()))
    return State(zeros, jnp.zeros(8), jnp.zeros(8))

  def propose(self, state, key):
    return Proposal(self.draw(state, key).astype(jnp.int32))

  def weigh(self, state, proposals, scores):
    return jax.nn.softmax(scores.log_likelihood)

  def update(self, state, proposals, scores):
    weights = self.weigh(state, proposals, scores)

    def likelihood(logits):
      return weights @ self.log_prob(state._replace(logits=logits), proposals.choices)

    logits = state.logits + self.policy_step * jax.grad(likelihood)(state.logits)
    return State(logits, weights, scores.log_likelihood)
'''


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
  """The class of an algorithm that stands in a folder of its own."""
  folder = tmp_path_factory.mktemp('planted')
  (folder / 'importance.py').write_text(PLANTED)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(nas.algorithms, '__path__', [*nas.algorithms.__path__, str(folder)])
    yield oneshot.find_algorithm('importance')
  del sys.modules['nas.algorithms.importance']


@pytest.fixture(scope='module')
def searched(planted):
  """(supernet, states before and after each of three steps, their metrics)."""
  net, cost = make_net(), make_cost(make_net())
  settings = oneshot.make_settings(
    net.space.space,
    planted,
    **{'target': sum(cost.bounds) / 2, 'total_steps': 8, 'learning_rate': 5.0},
    **{'policy_step': 2.5, 'weight_decay': 0.01},
  )
  step = oneshot.make_search_step(
    net,
    Objective(cost),
    LOSS,
    mesh.make_mesh(jax.devices()[:1]),
    candidates=8,
    algorithm=planted,
    optimizer={**OPTIMIZER, 'clip_norm': None},
  )
  step, states, found = jax.jit(step), [make_lively_state(net, settings, planted)], []
  for number in range(3):
    state, metrics = step(states[-1], make_batch(number))
    states.append(state)
    found.append(jax.device_get(metrics))
  return net, jax.device_get(states), found


def test_a_planted_algorithm_searches(searched):
  net, states, found = searched
  assert [int(state.step) for state in states] == [0, 1, 2, 3]
  assert all(row['finite'] for row in found)
  assert found[0]['entropy'] > found[2]['entropy'] > 0
  assert found[0]['aux']['choices'].shape == (8, len(net.space.space))
  settings = states[0].settings
  assert settings['policy_step'] == 2.5
  assert 'policy_delay' not in settings  # which is REINFORCE's


def test_gradients_are_weighed_as_the_algorithm_says(searched):
  """The first update of the weights is the second step's, whose rate is not 0."""
  net, states, found = searched
  before, after, metrics = states[1], states[2], found[1]
  choices, batch = metrics['aux']['choices'], make_batch(1)
  values, grads = learn_one_by_one(net, before.params, batch, choices, weight_decay=0.01)
  weights = after.policy.weights
  assert weights.max() > 1.2 * weights.min()
  wanted = jax.tree.map(lambda *g: sum(w * x for w, x in zip(weights, g, strict=True)), *grads)
  moved = jax.tree.map(
    lambda new, old: (old - new) / metrics['learning_rate'], after.params, before.params
  )
  scale = max(np.abs(g).max() for g in jax.tree.leaves(wanted))
  for a, b in zip(*map(jax.tree.leaves, (moved, wanted)), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5 * scale)
  np.testing.assert_allclose(metrics['loss'], values.mean(), rtol=1e-5)
  equal = jax.tree.map(lambda *g: sum(g) / 8, *grads)
  differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), wanted, equal)
  assert max(jax.tree.leaves(differences)) > 1e-2 * scale


def test_scores_come_first_where_gradients_are_weighed_by_them(searched):
  net, states, found = searched
  batch, choices = make_batch(1), found[1]['aux']['choices']
  clips = batch['valid']

  def find_likelihood(params, row):
    rows = slice(3 * row, 3 * row + 3)
    video = clips['video'][rows].astype(np.float32) / 255
    log_probs = jax.nn.log_softmax(make_apply(net)(params, video, choices[row])[0])
    return log_probs[np.arange(3), clips['label'][rows]].mean()

  old, new = (
    np.array([find_likelihood(state.params, row) for row in range(8)]) for state in states[1:3]
  )
  np.testing.assert_allclose(states[2].policy.log_likelihood, old, rtol=1e-4)
  assert np.abs(old - new).max() > 1e-2
  wanted = [score_alone(net, states[1].params, batch, choices, row) for row in range(8)]
  np.testing.assert_allclose(found[1]['aux']['accuracy'], wanted, rtol=1e-6)


def test_algorithms_by_name():
  assert oneshot.find_algorithm('reinforce').__name__ == 'Reinforce'
  assert 'evolve' not in nas.algorithms.list_algorithms(
    nas.algorithms.ONE_SHOT
  )  # which proposes trials
  with pytest.raises(ValueError, match="did you mean 'reinforce'"):
    oneshot.find_algorithm('reinforc')


def test_a_planted_algorithm_is_checked_as_reinforce_is(planted):
  space = make_net().space.space
  for given, message in (
    ({'policy_step': -1.0}, 'policy_step is -1.0; wanted a number, more than 0'),
    ({'policy_delay': 0.1}, "unknown setting of a search 'policy_delay'"),
  ):
    with pytest.raises(ValueError, match=message):
      oneshot.make_settings(space, planted, target=1.0, **given)


def test_equal_weights_are_exact_for_reinforce():
  space = make_net().space.space
  settings = oneshot.make_settings(space, target=1.0)
  proposals = oneshot.make_algorithm(space, settings).propose
  state = oneshot.make_algorithm(space, settings).init(jax.random.key(0))
  drawn = jax.vmap(proposals, (None, 0))(state, jax.random.split(jax.random.key(0), 8))
  weights = oneshot.make_algorithm(space, settings).weigh(state, drawn, None)
  np.testing.assert_array_equal(weights, jnp.full(8, 1 / 8))
