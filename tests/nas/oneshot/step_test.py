"""The search step: the same on any layout of devices, one program for a study."""

import dataclasses
import functools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from movinet_jax import cost
from movinet_jax.train import mesh, steps
from nas import oneshot
from nas.algorithms.parsec import Parsec
from nas.objective import Objective, absolute_reward
from tests.nas.oneshot.small import (
  LOSS,
  OPTIMIZER,
  learn_one_by_one,
  make_batch,
  make_cost,
  make_lively_state,
  make_net,
  make_settings,
  score_alone,
)
from tests.train import toy


@functools.cache
def make_step(candidates=8, **options):
  net = make_net(**({'causal': True} if options.get('subclips') else {}))
  step = oneshot.make_search_step(
    net,
    Objective(make_cost(net)),
    LOSS,
    mesh.make_mesh(),
    candidates=candidates,
    optimizer=OPTIMIZER,
    **options,
  )
  place = mesh.make_mesh()
  shardings = mesh.replicated(place), mesh.split(place)
  return net, jax.jit(step, in_shardings=shardings)


def run(step, state, count=3):
  found, state = [], jax.device_put(state, mesh.replicated(mesh.make_mesh()))
  for number in range(count):
    state, metrics = step(state, make_batch(number))
    found.append(jax.device_get(metrics))
  return state, found


def test_a_step_by_hand():
  """Each candidate alone, then the optimizer, then each on held-out clips.

  Of the second step: in the first the rate of the weights is 0.
  """
  net, step = make_step()
  settings = make_settings(net, weight_decay=0.01)
  before = make_lively_state(net, settings)
  params = jax.device_get(before.params)
  before, first = step(before, make_batch(0))
  start = jax.device_get(before)
  jax.tree.map(np.testing.assert_array_equal, start.params, params)
  batch = make_batch(1)
  after, metrics = step(before, batch)
  choices = np.asarray(metrics['aux']['choices'])
  assert (choices != np.asarray(first['aux']['choices'])).any()

  values, grads = learn_one_by_one(net, start.params, batch, choices, weight_decay=0.01)
  np.testing.assert_allclose(metrics['loss'], np.mean(values), rtol=1e-5)
  mean = jax.tree.map(lambda *g: sum(g) / 8, *grads)
  norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(mean)))
  np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-4)
  # A step of eight on a cosine; there is no momentum yet.
  rate = 0.1 * 0.5 * (1 + np.cos(np.pi / 8))
  assert metrics['learning_rate'] == pytest.approx(rate)
  for new, old, gradient in zip(
    *map(jax.tree.leaves, (after.params, start.params, mean)), strict=True
  ):
    wanted = old - rate * gradient / max(norm, 1)
    np.testing.assert_allclose(new, wanted, atol=1e-5 * rate + 1e-6)
  # The reward is that of the new weights on held-out clips, and of the exact cost.
  ratio = make_cost(net).count(choices) / float(settings['target'])
  wanted = [score_alone(net, after.params, batch, choices, row) for row in range(8)]
  np.testing.assert_allclose(metrics['aux']['accuracy'], wanted, rtol=1e-6)
  wanted = absolute_reward(metrics['aux']['accuracy'], ratio, -0.1)
  np.testing.assert_allclose(metrics['aux']['reward'], wanted, rtol=1e-5)


def test_candidates_are_scored_with_the_new_weights():
  """Far from the old ones: a rate that turns all of their answers around."""
  net, step = make_step()
  state = oneshot.make_state(net, make_settings(net, learning_rate=50.0), OPTIMIZER)
  state, _ = step(state, make_batch(0))
  old = jax.device_get(state.params)
  batch = make_batch(1)
  state, metrics = step(state, batch)
  samples = jax.device_get(metrics['aux'])
  new, stale = (
    [score_alone(net, params, batch, samples['choices'], row) for row in range(8)]
    for params in (state.params, old)
  )
  assert new != stale
  np.testing.assert_allclose(samples['accuracy'], new, rtol=1e-6)


def test_schedules_are_those_of_the_settings():
  net, step = make_step()
  given = {'total_steps': 40, 'warmup': 0.1, 'policy_rate': 0.02, 'policy_growth': 3.0}
  given |= {'policy_delay': 0.05, 'filters_warmup': 0.05, 'ops_warmup': 0.025}
  _, found = run(step, oneshot.make_state(net, make_settings(net, **given), OPTIMIZER), 6)
  cosine = 0.1 * 0.5 * (1 + np.cos(np.pi * np.arange(6) / 40))
  wanted = {
    'learning_rate': cosine * np.minimum(np.arange(6) / 4, 1),
    'rl_rate': [0, 0, *(0.02 * 3.0 ** (np.arange(4) / 38))],
    'filters_warmup': [1, 0.5, 0, 0, 0, 0],
    'ops_warmup': [1, 0, 0, 0, 0, 0],
  }
  for name, values in wanted.items():
    np.testing.assert_allclose([m[name] for m in found], values, rtol=1e-5, atol=1e-8)


def test_every_setting_of_the_policy_reaches_it():
  net = make_net()
  given = {
    **{'policy_rate': 0.3, 'policy_growth': 2.0, 'policy_delay': 0.6},
    **{'filters_warmup': 0.5, 'ops_warmup': 0.4, 'second_moment': 0.9, 'epsilon': 0.1},
    **{'baseline_momentum': 0.8, 'entropy': 0.7, 'temperature': 2.0, 'total_steps': 7},
  }
  settings = make_settings(net, **given)
  policy = oneshot.make_algorithm(net.space.space, settings)
  wanted = {
    **{'policy_rate': 0.3, 'policy_growth': 2.0, 'policy_delay': 0.6, 'filters_warmup': 0.5},
    **{'ops_warmup': 0.4, 'second_moment': 0.9, 'epsilon': 0.1, 'total_steps': 7},
    **{'baseline_momentum': 0.8, 'entropy': 0.7, 'temperature': 2.0},
  }
  for field in dataclasses.fields(policy):
    if field.name not in ('space', '_', 'held'):
      assert getattr(policy, field.name) == pytest.approx(wanted[field.name])


def test_a_state_is_laid_out_as_checkpoints_have_it():
  """Searches that have begun would not resume with another layout, or other defaults."""
  net = make_net(positions=True, causal=True)
  settings = oneshot.make_settings(net.space.space, target=1.0)
  state = jax.eval_shape(lambda: oneshot.make_state(net, settings, OPTIMIZER))
  assert {name: x.item() for name, x in settings.items()} == pytest.approx(
    {
      **{'seed': 0, 'total_steps': 27_050, 'learning_rate': 2.64, 'warmup': 0.025},
      **{'weight_decay': 4e-5, 'target': 1.0, 'beta': -0.1},
      **{'memory_target': 1.0, 'memory_beta': 0.0},
      **{'policy_rate': 4.8e-3, 'policy_growth': 10.0, 'policy_delay': 0.25},
      **{'filters_warmup': 0.25, 'ops_warmup': 0.25, 'second_moment': 0.999},
      **{'epsilon': 1e-8, 'baseline_momentum': 0.95, 'entropy': 0.0, 'temperature': 1.0},
    }
  )
  whole = {name for name, x in settings.items() if x.dtype == jnp.int32}
  assert whole == {'seed', 'total_steps'}
  assert set(state.settings) == set(settings)
  table = (len(net.space.space), net.space.space.sizes.max())
  policy = {'step': (), 'logits': table, 'squares': table, 'reward_sum': (), 'reward_weight': ()}
  assert {name: x.shape for name, x in state.policy._asdict().items()} == policy
  assert {f.name for f in dataclasses.fields(state)} == {
    *('step', 'params', 'opt_state', 'policy', 'settings', 'held'),
  }
  assert state.held is None  # which is no leaf: checkpoints of before have no such thing
  assert set(state.params) == {'stem', 'block0', 'block1', 'project', 'hidden', 'classifier'}
  layer = jax.tree.map(jnp.shape, state.params['block1']['rest'])
  assert layer == {
    'expand': make_conv_shapes(1, 32, 32),
    'kernels': {
      '0': {'depthwise': make_conv_shapes(1, 1, 3, 3, 1, 32)},
      '1': {'depthwise': make_conv_shapes(1, 3, 1, 1, 1, 32)},
    },
    'project': make_conv_shapes(1, 32, 32),
    'rezero': {'scale': (1,)},
    'se': {
      'reduce': {'kernel': (1, 32, 8), 'bias': (1, 8)},
      'expand': {'kernel': (1, 8, 32), 'bias': (1, 32)},
      'position_scale': (1,),
    },
  }


def make_conv_shapes(*shape):
  """Of a convolution with its norm; the layers after a block's first lead."""
  norm = shape[0], shape[-1]
  return {'conv': {'kernel': shape}, 'norm': {'scale': norm, 'bias': norm}}


def test_one_program_serves_a_study():
  """Seeds, targets, weights of cost and schedules are numbers of the state."""
  net, step = make_step()
  run(step, oneshot.make_state(net, make_settings(net), OPTIMIZER))
  before, rewards = step._cache_size(), []
  for given in ({}, {'seed': 5}, {'beta': -2.0}, {'target': 5e5}, {'policy_rate': 0.5}):
    state = oneshot.make_state(net, make_settings(net, **given), OPTIMIZER)
    state, found = run(step, state)
    rewards.append(found[-1]['aux']['reward'])
  assert len({r.tobytes() for r in rewards[:4]}) == 4
  assert step._cache_size() == before


def test_decisions_that_are_held():
  """All candidates of all steps have them so; the number of programs does not grow."""
  net, step = make_step()
  held = np.full(len(net.space.space), -1)
  held[::2] = net.space.space.sizes[::2] - 1
  settings = make_settings(net, policy_rate=0.3, policy_growth=1.0)
  state = oneshot.make_state(net, settings, OPTIMIZER, held=held)
  state, found = run(step, state)
  programs = step._cache_size()
  choices = np.stack([metrics['aux']['choices'] for metrics in found])
  assert (choices[..., ::2] == held[::2]).all()
  assert (choices[..., 1::2].min((0, 1)) < choices[..., 1::2].max((0, 1))).any()
  np.testing.assert_array_equal(state.held, held)
  assert found[0]['entropy_bound'] < math.log(net.space.space.count())
  run(step, oneshot.make_state(net, settings, OPTIMIZER, held=0 * held))
  assert step._cache_size() == programs


def whole(tree):
  return np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)])


def test_layouts_of_devices_agree(tmp_path):
  """1 x 8, 2 x 4 and 8 x 1: the same architectures, the same search."""
  runs = {}
  for devices in (1, 2, 8):
    path = tmp_path / f'{devices}.npz'
    process = toy.start('tests.nas.oneshot.step_test', path, devices=devices)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    with np.load(path) as file:
      runs[devices] = dict(file)
  for devices in (2, 8):
    np.testing.assert_array_equal(runs[1]['choices'], runs[devices]['choices'])
    np.testing.assert_array_equal(runs[1]['accuracy'], runs[devices]['accuracy'])
    for name in ('params', 'policy'):
      a, b = runs[1][name], runs[devices][name]
      assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(a)
    assert runs[devices]['collectives_in_branches'] == 0
    assert 2 <= runs[devices]['collectives'] <= 8  # weights' and the policy's
    assert runs[devices]['planted_in_branches'] > 0


def plant_collective():
  """The program of a mean of several arrays inside a branch, on all devices."""
  place = mesh.make_mesh()

  def body(choice, tree):
    mean = functools.partial(jax.lax.pmean, axis_name='data')
    return jax.lax.cond(choice[0] > 0, mean, lambda tree: tree, tree)

  run = jax.shard_map(
    body,
    mesh=place,
    in_specs=oneshot.SPLIT,
    out_specs=oneshot.SPLIT,
    check_vma=False,  # which would refuse it
  )
  tree = {'a': jnp.ones((8, 16)), 'b': jnp.ones(8)}
  return jax.jit(run).lower(jnp.zeros(8), tree).compile().as_text()


@pytest.mark.parametrize('boundary', ['truncated', 'exact'])
def test_clips_run_in_parts(boundary):
  """Loss, gradients and scores are those of halves through buffers, not of the whole."""
  net, step = make_step(subclips=2, boundary=boundary)
  # A rate at which the weights go so far that answers depend on how a clip is run.
  settings = make_settings(net, weight_decay=0.0, learning_rate=20.0)
  state, _ = step(make_lively_state(net, settings), make_batch(0))
  start, batch = jax.device_get(state), make_batch(1)
  after, metrics = step(state, batch)
  choices = np.asarray(metrics['aux']['choices'])
  norms = {}
  for given in (boundary, 'exact' if boundary == 'truncated' else 'truncated', None):
    values, mean = learn_by_hand(net, start.params, batch, choices, given)
    norms[given] = float(optax.tree.norm(mean))
    if given == boundary:
      assert metrics['loss'] == pytest.approx(np.mean(values), rel=1e-5)
  assert metrics['grad_norm'] == pytest.approx(norms.pop(boundary), rel=1e-4)
  for other in norms.values():
    assert metrics['grad_norm'] != pytest.approx(other, rel=1e-3)
  wanted = [score_alone(net, after.params, batch, choices, r, parts=2) for r in range(8)]
  np.testing.assert_allclose(metrics['aux']['accuracy'], wanted, rtol=1e-6)


def learn_by_hand(net, params, batch, choices, boundary):
  """Losses and mean gradients of eight candidates, whole or in halves."""
  options = {'subclips': 2, 'boundary': boundary} if boundary else {}

  @jax.jit
  def learn(params, choices, clips):
    forward = oneshot.make_forward(net, choices)
    found = steps.make_gradients(forward, LOSS, **options)(params, {}, clips, None)
    return found[2], found[0]

  rows = [
    learn(
      params,
      choices[r],
      {k: batch[k][2 * r : 2 * r + 2] for k in batch if k != 'valid'},
    )
    for r in range(8)
  ]
  values, grads = zip(*rows, strict=True)
  return values, jax.tree.map(lambda *g: sum(g) / 8, *grads)


def test_memory_presses_on_temporal_kernels():
  net = make_net(causal=True)
  cost, memory = make_cost(net), make_cost(net, 'state_bytes')
  objective = Objective(cost, memory=memory)
  step = oneshot.make_search_step(
    net, objective, LOSS, mesh.make_mesh(), candidates=8, optimizer=OPTIMIZER
  )
  settings = make_settings(net, memory_target=1000.0, memory_beta=-0.5)
  state = oneshot.make_state(net, settings, OPTIMIZER)
  _, metrics = jax.jit(step)(state, make_batch(0))
  samples = jax.device_get(metrics['aux'])
  plain = absolute_reward(
    samples['accuracy'],
    cost.count(samples['choices']) / float(settings['target']),
    -0.1,
  )
  over = np.maximum(memory.count(samples['choices']) / 1000 - 1, 0)
  assert over.min() < over.max()
  np.testing.assert_allclose(samples['reward'], plain - 0.5 * over, rtol=1e-4)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'targt': 1}, "did you mean 'target'"),
    ({'target': 0}, 'target is 0'),
    ({'policy_rate': -1.0}, 'policy_rate is -1.0; wanted a number, more than 0'),
    ({'policy_growth': 0}, 'policy_growth is 0'),
    ({'policy_delay': 2}, 'policy_delay is 2.0; wanted a number, from 0 to 1'),
    ({'learning_rate': -5}, 'learning_rate is -5'),
    ({'weight_decay': -1}, 'weight_decay is -1'),
    ({'memory_target': 0}, 'memory_target is 0'),
    ({'seed': 1.5}, 'seed should be int, got 1.5'),
    ({'seed': 2**31}, 'seed is 2147483648; wanted a whole number, from 0'),
    ({'beta': None}, 'beta should be float, got None'),
    ({'beta': 0.1}, 'beta is 0.1'),
    ({'warmup': 1.0}, 'warmup is 1.0'),
    ({'policy_delay': 0.1, 'filters_warmup': 0.25}, 'filters_warmup is 0.25'),
  ],
)
def test_settings_that_make_no_sense(given, message):
  with pytest.raises(ValueError, match=message):
    make_settings(make_net(), **given)


def test_counts_that_do_not_divide():
  net = make_net()
  objective = Objective(make_cost(net))
  place = mesh.make_mesh(jax.devices()[:1])
  with pytest.raises(ValueError, match=r'candidates is 1; Parsec.* take 2 or more'):
    oneshot.make_search_step(net, objective, LOSS, place, candidates=1, algorithm=Parsec)
  with pytest.raises(ValueError, match='candidates is 0'):
    oneshot.make_search_step(net, objective, LOSS, mesh.make_mesh(), candidates=0)
  _, step = make_step()
  state = oneshot.make_state(net, make_settings(net), OPTIMIZER)
  with pytest.raises(ValueError, match='9 clips cannot be dealt to 8 candidates'):
    step(state, make_batch(0, clips=9))


def main(path):
  """Three steps on however many devices there are, for `test_layouts_of_devices_agree`."""
  net, step = make_step()
  settings = make_settings(net, policy_rate=0.1)
  state = oneshot.make_state(net, settings, OPTIMIZER)
  program = step.lower(state, make_batch(0)).compile()
  state, found = run(step, state)
  collectives = cost.find_collectives(program.as_text())
  planted = cost.find_collectives(plant_collective())
  np.savez(
    path,
    choices=np.stack([m['aux']['choices'] for m in found]),
    accuracy=np.stack([m['aux']['accuracy'] for m in found]),
    params=whole(state.params),
    policy=whole(state.policy),
    collectives=len(collectives),
    collectives_in_branches=sum(one.in_branch for one in collectives),
    planted_in_branches=sum(one.in_branch for one in planted),
  )


if __name__ == '__main__':
  main(sys.argv[1])
