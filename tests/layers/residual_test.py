"""Stochastic depth drops whole examples, keeps the mean, and repeats with its key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.layers import ReZero, StochasticDepth

X = jnp.ones((400, 2, 2, 1, 3))


def drop(rate, key=0, x=X, train=True):
  rngs = {'dropout': jax.random.key(key)}
  return np.asarray(StochasticDepth(rate).apply({}, x, train=train, rngs=rngs)[0])


@pytest.mark.parametrize('rate', [0.2, 0.5])
def test_whole_examples_are_dropped_and_the_mean_stays(rate):
  y = drop(rate)
  kept = y[:, 0, 0, 0, 0]
  assert set(np.unique(kept)) == {0, np.float32(1 / (1 - rate))}
  np.testing.assert_array_equal(y, np.broadcast_to(kept[:, None, None, None, None], y.shape))
  assert abs((kept == 0).mean() - rate) < 0.1  # four deviations


def test_the_key_decides():
  np.testing.assert_array_equal(drop(0.5), drop(0.5))
  assert (drop(0.5) != drop(0.5, key=1)).any()


def test_sub_clips_of_a_clip_drop_the_same_examples():
  whole, parts = drop(0.5), [drop(0.5, x=X[:, :1]), drop(0.5, x=X[:, 1:])]
  np.testing.assert_array_equal(whole, np.concatenate(parts, 1))


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
  np.testing.assert_array_equal(drop(0.5, train=False), X)
  np.testing.assert_array_equal(StochasticDepth(0.0).apply({}, X, train=True)[0], X)


def test_rezero_begins_as_zero():
  y, variables = ReZero().init_with_output(jax.random.key(0), X)
  assert (y[0] == 0).all()
  assert variables == {'params': {'scale': 0}}
