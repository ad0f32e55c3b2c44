"""Pooling over time: plain means, and means weighted by a softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.layers import GlobalPool, TemporalSoftmaxPool, init_state

LOGITS = 9 * np.random.default_rng(0).normal(size=(2, 6, 1, 1, 5)).astype(np.float32)


def softmax_over_frames(logits, frames):
  weights = np.exp(logits / np.sqrt(frames))
  return (weights * logits).sum(1, keepdims=True) / weights.sum(1, keepdims=True)


@pytest.mark.parametrize('frames', [6, 64])
@pytest.mark.parametrize('chunks', [(6,), (1,) * 6, (1, 3, 2)])
def test_temporal_softmax(frames, chunks):
  pool, state, start = TemporalSoftmaxPool(frames), None, 0
  for n in chunks:
    y, state = pool.apply({}, LOGITS[:, start : start + n], state)
    start += n
    wanted = softmax_over_frames(LOGITS[:, :start], frames)
    np.testing.assert_allclose(y, wanted, rtol=1e-5)


@pytest.mark.parametrize('shift', [1000.0, -1000.0])
def test_temporal_softmax_does_not_overflow(shift):
  """Nor underflow where all logits lie below the zeros of a state that has not begun."""
  pool = TemporalSoftmaxPool(1)
  state = init_state(pool, 2, (1, 1, 5))
  for i in range(6):
    y, state = pool.apply({}, LOGITS[:, i : i + 1] + shift, state)
  np.testing.assert_allclose(y, softmax_over_frames(LOGITS, 1) + shift, rtol=1e-5)


def test_global_pool_of_an_hour_in_bfloat16():
  """The running sum goes on where a bfloat16 one would have stopped growing."""
  pool, frames = GlobalPool(causal=True), 100_000
  state = {
    'total': jnp.full((1, 1, 1, 1, 1), 1.0 * frames),
    'count': jnp.array([frames]),
  }
  x = jnp.full((1, 1000, 2, 2, 1), 3, jnp.bfloat16)
  y, state = jax.jit(pool.apply)({}, x, state)
  assert y.dtype == jnp.bfloat16
  assert state['total'].item() == frames + 3000
  assert state['count'].item() == frames + 1000
