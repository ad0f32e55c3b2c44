"""Any algorithm runs in the search step; PARSEC's step is checked by hand.

Weights and distribution learn from different clips. Steps in which they do not are planted, and
the checks must fail for them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nas.algorithms
from movinet_jax.train import mesh
from nas import oneshot
from nas.algorithms.parsec import Drawn, Parsec
from nas.algorithms.policy import Scores
from nas.objective import Objective, hinge_reward
from tests.nas.oneshot.small import (
  LOSS,
  OPTIMIZER,
  learn_one_by_one,
  make_apply,
  make_batch,
  make_cost,
  make_lively_state,
  make_net,
)

SHARE = 0.5  # of the weights that are by accuracy
FEW = {'samples_per_nat': 1e-3}  # two samples of eight candidates


class Step(NamedTuple):
  """One step of a search: states before and after, the batch, and the metrics."""

  before: Any
  after: Any
  batch: dict
  metrics: dict


@functools.cache
def make_step():
  net = make_net()
  step = oneshot.make_search_step(
    net,
    Objective(make_cost(net), reward='hinge'),
    LOSS,
    mesh.make_mesh(),
    candidates=8,
    algorithm=Parsec,
    optimizer={**OPTIMIZER, 'clip_norm': None},
  )
  return jax.jit(step)


def make_state(**given):
  net = make_net()
  settings = oneshot.make_settings(
    net.space.space,
    Parsec,
    **{'target': sum(make_cost(net).bounds) / 2, 'total_steps': 8, 'learning_rate': 5.0},
    **{'policy_rate': 0.5, 'accuracy_share': SHARE, 'weight_decay': 0.01, 'beta': -0.3, **given},
  )
  return make_lively_state(net, settings, Parsec)


def take_steps(count=3, show=lambda batch: batch, **given) -> list[Step]:
  """Steps of a search whose step is shown another batch than it is meant to see."""
  states, found = [make_state(**given)], []
  for number in range(count):
    batch = make_batch(number)
    state, metrics = make_step()(states[-1], show(batch))
    states.append(jax.device_get(state))
    found.append(Step(*states[-2:], batch, jax.device_get(metrics)))
  return found


@pytest.fixture(scope='module')
def searched():
  return take_steps()


def score_by_hand(params, batch, choices, settings) -> Scores:
  """Of eight candidates on their three held-out clips each."""
  net, clips, found = make_net(), batch['valid'], []
  for row in range(8):
    rows = slice(3 * row, 3 * row + 3)
    video, label = clips['video'][rows].astype(np.float32) / 255, clips['label'][rows]
    logits = make_apply(net)(params, video, choices[row])[0]
    log_probs = jax.nn.log_softmax(logits)[np.arange(3), label].mean()
    found.append((np.mean(np.argmax(logits, -1) == label), log_probs))
  accuracy, log_likelihood = np.array(found, np.float32).T
  ratio = make_cost(net).count(choices) / float(settings['target'])
  reward = hinge_reward(accuracy, ratio, float(settings['beta']))
  return Scores(np.float32(reward), accuracy, log_likelihood, np.float32(ratio))


def weigh_by_hand(scores):
  likelihood = np.exp(scores.log_likelihood)
  accuracy = scores.accuracy / scores.accuracy.sum()
  return SHARE * accuracy + (1 - SHARE) * likelihood / likelihood.sum()


def check_weights_learn(step: Step):
  """Gradients are of the training clips, weighed by scores of the old weights on held-out ones."""
  before, metrics = step.before, step.metrics
  choices = metrics['aux']['choices']
  scores = score_by_hand(before.params, step.batch, choices, before.settings)
  np.testing.assert_allclose(metrics['aux']['accuracy'], scores.accuracy, rtol=1e-6)
  np.testing.assert_allclose(metrics['aux']['reward'], scores.reward, rtol=1e-5)
  weights = weigh_by_hand(scores)
  assert weights.max() > 1.2 * weights.min()
  args = make_net(), before.params, step.batch, choices
  values, grads = learn_one_by_one(*args, weight_decay=0.01)
  np.testing.assert_allclose(metrics['loss'], values.mean(), rtol=1e-5)
  wanted = sum_weighted(weights, grads)
  scale = max(np.abs(g).max() for g in jax.tree.leaves(wanted))
  moved = jax.tree.map(
    lambda new, old: (old - new) / metrics['learning_rate'], step.after.params, before.params
  )
  for a, b in zip(*map(jax.tree.leaves, (moved, wanted)), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5 * scale)
  equal = sum_weighted(np.full(8, 1 / 8), grads)
  differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), wanted, equal)
  assert max(jax.tree.leaves(differences)) > 1e-2 * scale


def check_distribution_learns(step: Step):
  """From the scores of the old weights on held-out clips."""
  before, choices = step.before, jnp.asarray(step.metrics['aux']['choices'])
  scores = score_by_hand(before.params, step.batch, choices, before.settings)
  settings = jax.tree.map(jnp.asarray, before.settings)
  policy = oneshot.make_algorithm(make_net().space.space, settings, Parsec)
  wanted = policy.update(before.policy, Drawn(choices), scores)
  assert np.abs(wanted.logits - before.policy.logits).max() > 0.1
  np.testing.assert_allclose(step.after.policy.adam.mu, wanted.adam.mu, atol=1e-5)


def sum_weighted(weights, grads):
  return jax.tree.map(lambda *g: sum(w * x for w, x in zip(weights, g, strict=True)), *grads)


def test_parsec_searches(searched):
  assert [int(step.after.step) for step in searched] == [1, 2, 3]
  assert all(step.metrics['finite'] for step in searched)
  assert searched[0].metrics['entropy'] > searched[2].metrics['entropy'] > 0
  assert searched[0].metrics['aux']['choices'].shape == (8, len(make_net().space.space))
  settings = searched[0].before.settings
  assert settings['policy_rate'] == 0.5
  assert 'policy_growth' not in settings  # which is REINFORCE's


def test_a_step_by_hand(searched):
  """The second one: in the first the rate of the weights is 0."""
  check_weights_learn(searched[1])
  check_distribution_learns(searched[1])


def show_training_clips_to_the_judge(batch):
  rows = np.resize(np.arange(16), 24)
  return {**batch, 'valid': {name: batch[name][rows] for name in batch['valid']}}


def show_held_out_clips_to_the_weights(batch):
  return {**{name: rows[:16] for name, rows in batch['valid'].items()}, 'valid': batch['valid']}


@pytest.mark.parametrize(
  'show', [show_training_clips_to_the_judge, show_held_out_clips_to_the_weights]
)
def test_weights_and_distribution_on_the_same_clips_are_caught(show):
  step = take_steps(2, show)[1]
  with pytest.raises(AssertionError):
    check_weights_learn(step)
  if show is show_training_clips_to_the_judge:
    with pytest.raises(AssertionError):
      check_distribution_learns(step)


def test_scores_come_first_where_gradients_are_weighed_by_them(searched):
  """Those of the new weights are others."""
  step = searched[1]
  choices, settings = step.metrics['aux']['choices'], step.before.settings
  old, new = (
    score_by_hand(state.params, step.batch, choices, settings)
    for state in (step.before, step.after)
  )
  assert np.abs(old.log_likelihood - new.log_likelihood).max() > 1e-2


def test_candidates_that_weigh_nothing_are_not_trained():
  """Their clips are such that 0 times their gradients would not be a number."""

  def spoil(batch):
    mask = np.where(np.arange(16) < 4, batch['mask'], np.float32('nan'))
    return {**batch, 'mask': mask}

  step = take_steps(2, spoil, **FEW)[1]
  assert step.metrics['samples'] == 2
  assert step.metrics['finite']
  choices = step.metrics['aux']['choices']
  scores = score_by_hand(step.before.params, step.batch, choices, step.before.settings)
  weights = weigh_by_hand(jax.tree.map(lambda x: x[:2], scores))
  args = make_net(), step.before.params, step.batch, choices
  values, grads = learn_one_by_one(*args, weight_decay=0.01)
  np.testing.assert_allclose(step.metrics['loss'], values[:2].mean(), rtol=1e-5)
  wanted = sum_weighted(weights, grads[:2])
  norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(wanted)))
  np.testing.assert_allclose(step.metrics['grad_norm'], norm, rtol=1e-4)
  assert not take_steps(1, spoil)[0].metrics['finite']


def test_algorithms_by_name():
  assert oneshot.find_algorithm('reinforce').__name__ == 'Reinforce'
  assert oneshot.find_algorithm('parsec') is Parsec
  assert 'evolve' not in nas.algorithms.list_algorithms(
    nas.algorithms.ONE_SHOT
  )  # which proposes trials
  with pytest.raises(ValueError, match="did you mean 'reinforce'"):
    oneshot.find_algorithm('reinforc')


def test_settings_are_those_of_the_algorithm():
  space = make_net().space.space
  for given, message in (
    ({'policy_rate': -1.0}, 'policy_rate is -1.0; wanted a number, more than 0'),
    ({'policy_growth': 2.0}, "unknown setting of a search 'policy_growth'"),
  ):
    with pytest.raises(ValueError, match=message):
      oneshot.make_settings(space, Parsec, target=1.0, **given)


def test_equal_weights_are_exact_for_reinforce():
  space = make_net().space.space
  settings = oneshot.make_settings(space, target=1.0)
  proposals = oneshot.make_algorithm(space, settings).propose
  state = oneshot.make_algorithm(space, settings).init(jax.random.key(0))
  drawn = jax.vmap(proposals, (None, 0))(state, jax.random.split(jax.random.key(0), 8))
  weights = oneshot.make_algorithm(space, settings).weigh(state, drawn, None)
  np.testing.assert_array_equal(weights, jnp.full(8, 1 / 8))
