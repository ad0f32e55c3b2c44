import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax import ops

FIRST = jnp.int32([0, 7])


@pytest.mark.parametrize('channels', [6, 7])
def test_positions_are_sines_then_cosines(channels):
  found = ops.sine_positions(FIRST, 3, channels)
  assert found.shape == (2, 3, 1, 1, channels)
  half = -(-channels // 2)
  for clip, first in enumerate(FIRST):
    for frame in range(3):
      for c in range(channels):
        wave, pair = (np.sin, c) if c < half else (np.cos, c - half)
        wanted = wave((int(first) + frame) / 10_000 ** (2 * pair / channels))
        assert found[clip, frame, 0, 0, c] == pytest.approx(wanted, abs=1e-5)


def test_positions_of_chosen_channels():
  place = jnp.int32([4, 0, 5, 2])
  found = ops.sine_positions(FIRST, 3, jnp.int32(6), place)
  wanted = ops.sine_positions(FIRST, 3, 6)[..., place]
  np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


def test_an_unknown_squeeze():
  with pytest.raises(ValueError, match="unknown squeeze-excite '4d'"):
    ops.squeeze_means(jnp.zeros((1, 2, 2, 2, 3)), None, kind='4d', causal=True)
