import jax.numpy as jnp
import numpy as np
import optax
import pytest

from movinet_jax.train.optimizers import make_optimizer, make_schedule

PARAMS = {
  'head': {'kernel': np.array([0.5, -2.0]), 'bias': np.array([1.0])},
  'classifier': {'kernel': np.array([3.0, 3.0])},
}


def _tensorflow_rmsprop(params, gradients, *, rate, steps, l2, decay, momentum, eps):
  """tf.keras' RMSprop (ApplyRMSProp) with the L2 loss, written out on flat arrays."""
  square, moment = np.zeros_like(params), np.zeros_like(params)
  decayed = np.array([1, 1, 0, 0, 0.0])  # head kernel, head bias, classifier kernel
  for step in range(steps):
    g = gradients[step] + 2 * (l2 / 2) * params * decayed
    g = g / max(1.0, np.sqrt((g**2).sum()))
    square = decay * square + (1 - decay) * g**2
    moment = momentum * moment + rate(step) * g / np.sqrt(square + eps)
    params = params - moment
  return params


def _flat(tree):
  return np.concatenate(
    [tree['head']['kernel'], tree['head']['bias'], tree['classifier']['kernel']]
  )


def _tree(flat):
  return {
    'head': {'kernel': flat[:2], 'bias': flat[2:3]},
    'classifier': {'kernel': flat[3:]},
  }


def _run(tx, gradients):
  params = PARAMS
  state = tx.init(params)
  for g in gradients:
    updates, state = tx.update(_tree(jnp.asarray(g)), state, params)
    params = optax.apply_updates(params, updates)
  return _flat(params)


def test_rmsprop_is_tensorflows():
  gradients = np.random.default_rng(0).normal(size=(6, 5)) * 3
  # A heavy L2, so that a wrong mask or place in the chain cannot hide.
  tx = make_optimizer(batch_size=512, total_steps=10, warmup_steps=2, weight_decay=0.3)
  cosine = [0.9 * 0.5 * (1 + np.cos(np.pi * s / 10)) for s in range(10)]
  want = _tensorflow_rmsprop(
    _flat(PARAMS),
    gradients,
    rate=lambda s: cosine[2] * s / 2 if s < 2 else cosine[s],
    steps=6,
    l2=0.3,
    decay=0.9,
    momentum=0.9,
    eps=1.0,
  )
  np.testing.assert_allclose(_run(tx, gradients), want, rtol=2e-5)
  for wrong in ({'epsilon': 1.1}, {'momentum': 0.8}, {'weight_decay': 0.15}):
    other = make_optimizer(
      batch_size=512,
      total_steps=10,
      warmup_steps=2,
      **{'weight_decay': 0.3, **wrong},
    )
    assert np.abs(_run(other, gradients) - want).max() > 1e-3


def test_schedule_of_the_kinetics_run():
  schedule = make_schedule(1.8, 85_785, 2_145)
  assert schedule(0) == 0
  np.testing.assert_allclose(schedule(2_145), 1.8, rtol=2e-3)
  np.testing.assert_allclose(schedule(85_785), 0, atol=1e-6)
  np.testing.assert_allclose(schedule(42_892), 0.9, rtol=1e-3)


def test_the_rate_is_scaled_by_the_batch():
  tx = make_optimizer(batch_size=64, total_steps=10)
  np.testing.assert_allclose(tx.schedule(0), 1.8 * 64 / 1024, rtol=1e-6)


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_the_others_move_decayed_weights_only_without_a_gradient(name):
  tx = make_optimizer(name, batch_size=1024, total_steps=10, learning_rate=0.1)
  moved = _run(tx, np.zeros((3, 5))) != _flat(PARAMS)
  np.testing.assert_array_equal(moved, [True, True, False, False, False])


def test_sgd_by_hand():
  tx = make_optimizer(
    'sgd',
    batch_size=1024,
    total_steps=10**9,
    learning_rate=0.1,
    weight_decay=0,
    clip_norm=None,
    momentum=0.5,
  )
  got = _run(tx, np.ones((2, 5)))
  np.testing.assert_allclose(got, _flat(PARAMS) - 0.1 - (0.1 + 0.05), rtol=1e-6)


def test_mistakes_name_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'rmsprop'"):
    make_optimizer('rmsporp', batch_size=8, total_steps=10)
  with pytest.raises(ValueError, match="option of sgd 'momentun'; did you mean 'momentum'"):
    make_optimizer('sgd', batch_size=8, total_steps=10, momentun=0.9)
  with pytest.raises(ValueError, match='warmup_steps=10 and total_steps=10'):
    make_optimizer(batch_size=8, total_steps=10, warmup_steps=10)
