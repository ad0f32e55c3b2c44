"""Batch normalisation against NumPy: groups, moving statistics, precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.layers import BatchNorm

X = np.random.default_rng(0).normal(2, 3, (6, 2, 3, 3, 4)).astype(np.float32)
VARIABLES = {
  'params': {'scale': jnp.array([1.0, 2, 3, 4]), 'bias': jnp.array([0.0, 1, 0, -1])},
  'batch_stats': {'mean': jnp.array([1.0, 2, 3, 4]), 'var': jnp.array([4.0, 3, 2, 1])},
}
SCALE, BIAS = (np.array(VARIABLES['params'][k]) for k in ('scale', 'bias'))
MEAN, VAR = (np.array(VARIABLES['batch_stats'][k]) for k in ('mean', 'var'))


def normalise(x, mean, var):
  return (x - mean) / np.sqrt(var + 1e-3) * SCALE + BIAS


def train(group_size, x=X):
  module = BatchNorm(group_size=group_size)
  (y, state), changed = module.apply(VARIABLES, x, train=True, mutable=['batch_stats'])
  assert state == {}
  return y, changed['batch_stats']


@pytest.mark.parametrize('group_size', [None, 1, 2, 3, 6])
def test_training_uses_the_statistics_of_each_group(group_size):
  y, after = train(group_size)
  groups = X.reshape(-1, group_size or 6, *X.shape[1:])
  means, variances = groups.mean((1, 2, 3, 4)), groups.var((1, 2, 3, 4))
  wanted = [normalise(g, m, v) for g, m, v in zip(groups, means, variances, strict=True)]
  np.testing.assert_allclose(y, np.concatenate(wanted), atol=2e-5)
  # Moving averages take the mean over groups, and the variance within them.
  np.testing.assert_allclose(after['mean'], 0.99 * MEAN + 0.01 * means.mean(0), 1e-5)
  np.testing.assert_allclose(after['var'], 0.99 * VAR + 0.01 * variances.mean(0), 1e-5)


def test_evaluation_uses_the_past_and_changes_nothing():
  (y, _), changed = BatchNorm().apply(VARIABLES, X, mutable=['batch_stats'])
  np.testing.assert_allclose(y, normalise(X, MEAN, VAR), atol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, changed['batch_stats'], VARIABLES['batch_stats'])


def test_initialising_counts_no_batch():
  stats = BatchNorm().init(jax.random.key(0), X, train=True)['batch_stats']
  assert stats['mean'].tolist() == [0] * 4
  assert stats['var'].tolist() == [1] * 4


def test_bfloat16_in_and_out_float32_within():
  """4096 values around 100 with deviation 1: a bfloat16 sum would have no variance."""
  x = jnp.asarray(np.random.default_rng(0).normal(100, 2, (4, 4, 16, 16, 4)), jnp.bfloat16)
  y, after = train(None, x)
  assert y.dtype == jnp.bfloat16
  assert after['var'].dtype == after['mean'].dtype == jnp.float32
  exact = np.asarray(x, np.float64)
  wanted = 0.99 * VAR + 0.01 * exact.var((0, 1, 2, 3))
  np.testing.assert_allclose(after['var'], wanted, rtol=1e-3)


def test_groups_that_do_not_divide_the_batch():
  with pytest.raises(ValueError, match='groups of 4 examples do not divide a batch of 6'):
    train(4)
