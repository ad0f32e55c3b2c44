"""Means leave padding out, and running means are means of what was seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from movinet_jax.ops import (
  average_pool,
  cumulative_mean,
  max_pool,
  same_padding,
  spatial_mean,
)


def pool_by_hand(x, window, stride):
  """Mean of the pixels of each window that exist, [B, T, h, w, C]."""
  rows, columns = (
    [slice(max(i * s - before, 0), min(i * s - before + k, n)) for i in range(-(-n // s))]
    for n, k, s in zip(x.shape[2:4], window, stride, strict=True)
    for before in [same_padding(n, k, s)[0]]
  )
  return np.stack([np.stack([x[:, :, r, c].mean((2, 3)) for c in columns], 2) for r in rows], 2)


@pytest.mark.parametrize('size', [(6, 6), (7, 7), (5, 8)])
@pytest.mark.parametrize(
  ('window', 'stride'), [((3, 3), (2, 2)), ((3, 3), (1, 1)), ((2, 3), (2, 1))]
)
def test_average_pool_by_hand(size, window, stride):
  x = np.random.default_rng(0).normal(size=(2, 2, *size, 3)).astype(np.float32)
  ours = average_pool(x, window, stride)
  np.testing.assert_allclose(ours, pool_by_hand(x, window, stride), atol=1e-6)


def test_edges_divide_by_what_is_there():
  """A lone pixel of 36 weighs 36 / 4 in a corner, 36 / 6 at an edge, 36 / 9 inside."""
  x = np.zeros((1, 1, 5, 5, 3), np.float32)
  x[0, 0, 0, 0, 0] = x[0, 0, 0, 2, 1] = x[0, 0, 2, 2, 2] = 36
  y = average_pool(x, (3, 3), (2, 2))[0, 0]
  assert [y[0, 0, 0], y[0, 1, 1], y[1, 1, 2]] == pytest.approx([9, 6, 4])


def test_average_pool_of_a_constant_is_the_constant():
  for dtype in (jnp.float32, jnp.bfloat16):
    y = average_pool(jnp.full((1, 1, 7, 6, 2), 3, dtype), (3, 3), (2, 2))
    assert y.dtype == dtype
    np.testing.assert_allclose(np.float32(y), 3, rtol=4e-3)


def test_spatial_mean_is_float32():
  x = jnp.full((1, 2, 40, 40, 1), 1.01, jnp.bfloat16)
  y = spatial_mean(x)
  assert (y.shape, y.dtype) == ((1, 2, 1, 1, 1), jnp.float32)
  np.testing.assert_allclose(y, np.float32(x[0, 0, 0, 0, 0]), rtol=1e-6)


def test_cumulative_mean_goes_on_where_it_stopped():
  x = np.random.default_rng(0).normal(size=(2, 7, 1, 1, 3)).astype(np.float32)
  total, count = jnp.zeros((2, 1, 1, 1, 3)), jnp.zeros(2, jnp.int32)
  means = []
  for chunk in (x[:, :1], x[:, 1:5], x[:, 5:]):
    mean, total, count = jax.jit(cumulative_mean)(chunk, total, count)
    means.append(mean)
  wanted = np.cumsum(x, 1) / np.arange(1, 8)[:, None, None, None]
  np.testing.assert_allclose(np.concatenate(means, 1), wanted, atol=1e-6)
  np.testing.assert_allclose(total, x.sum(1, keepdims=True), atol=1e-6)
  assert count.tolist() == [7, 7]


def test_each_video_of_a_batch_has_its_own_count():
  x = jnp.ones((2, 1, 1, 1, 1))
  mean, _, count = cumulative_mean(x, jnp.zeros((2, 1, 1, 1, 1)), jnp.array([0, 3]))
  assert mean.ravel().tolist() == [1, 0.25]
  assert count.tolist() == [1, 4]


@pytest.mark.parametrize('size', [(6, 6), (7, 5), (1, 9)])
@pytest.mark.parametrize(
  ('window', 'stride'),
  [((3, 3), (2, 2)), ((2, 8), (1, 1)), ((4, 1), (3, 1)), ((2, 2), (5, 8))],
)
def test_max_pool_is_the_windowed_maximum(size, window, stride):
  x = np.random.default_rng(0).normal(size=(2, 2, *size, 3)).astype(np.float32)
  ours = max_pool(x - 9, window, stride)  # padding with zeros would be seen
  shape = (1, 1, *window, 1), (1, 1, *stride, 1)
  wanted = lax.reduce_window(x - 9, -np.inf, lax.max, *shape, 'SAME')
  np.testing.assert_array_equal(ours, wanted)


def test_the_gradient_of_max_pool_goes_to_the_maxima():
  x = np.random.default_rng(0).normal(size=(1, 2, 7, 6, 3)).astype(np.float32)

  def loss(pool):
    return lambda x: (pool(x) ** 2).sum()

  def windowed(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3, 1), (1, 1, 2, 2, 1), 'SAME')

  ours = jax.grad(loss(lambda x: max_pool(x, (3, 3), (2, 2))))(x)
  np.testing.assert_allclose(ours, jax.grad(loss(windowed))(x), rtol=1e-6)
  # Of equal values each has a share; none is lost.
  equal = jax.grad(lambda x: max_pool(x, (3, 3), (2, 2)).sum())(np.ones_like(x))
  assert equal.sum() == pytest.approx(max_pool(x, (3, 3), (2, 2)).size)
