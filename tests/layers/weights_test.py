"""Initial weights are those of flax's initializers, number for number."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from movinet_jax.layers import weights

SHAPES = ((3, 4, 5), (5, 3, 3, 1, 40), (7,) * 4, (1, 300, 400))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('mode', ['fan_in', 'fan_out'])
@pytest.mark.parametrize('distribution', ['normal', 'truncated_normal'])
def test_weights_are_flaxs(shape, mode, distribution):
  key = jax.random.key(3)
  for axes in ({}, {'in_axis': -1, 'out_axis': -2}):
    found = weights.variance_scaling(2.0, mode, distribution, **axes)(key, shape)
    wanted = nn.initializers.variance_scaling(2.0, mode, distribution, **axes)
    np.testing.assert_allclose(found, wanted(key, shape), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('shape', [(), *SHAPES])
def test_normal_weights_are_flaxs(shape):
  key = jax.random.key(4)
  found = weights.normal(0.01)(key, shape)
  wanted = nn.initializers.normal(0.01)(key, shape)
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-9)


def test_more_than_the_longest_draw(monkeypatch):
  monkeypatch.setattr(weights, '_LENGTHS', (16,))
  key = jax.random.key(5)
  found = weights.he_normal(key, (5, 7))
  wanted = nn.initializers.he_normal()(key, (5, 7))
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
