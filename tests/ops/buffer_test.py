"""A buffer holds the last frames, however many come at once."""

import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.ops import prepend


@pytest.mark.parametrize('chunks', [(1,) * 7, (2, 5), (5, 2), (7,), (1, 4, 2)])
@pytest.mark.parametrize('kept', [1, 2, 4])
def test_buffer_is_the_last_frames(kept, chunks):
  frames = np.arange(7, dtype=np.float32).reshape(1, 7, 1, 1, 1) + 1
  seen = np.concatenate([np.zeros((1, kept, 1, 1, 1), np.float32), frames], 1)
  buffer, start = jnp.zeros((1, kept, 1, 1, 1)), 0
  for n in chunks:
    full, buffer = prepend(buffer, jnp.asarray(frames[:, start : start + n]))
    np.testing.assert_array_equal(full, seen[:, start : start + kept + n])
    start += n
    np.testing.assert_array_equal(buffer, seen[:, start : start + kept])


def test_frames_decide_the_type():
  full, buffer = prepend(jnp.zeros((1, 2, 1, 1, 1)), jnp.ones((1, 1, 1, 1, 1), jnp.bfloat16))
  assert full.dtype == buffer.dtype == jnp.bfloat16
