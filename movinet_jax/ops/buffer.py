"""Stream buffers: the last frames of a sub-clip, kept for the next one.

MoViNet, section 3.2 ("Stream Buffer") and supplement A.3.
"""

import jax
import jax.numpy as jnp


def prepend(buffer: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Puts the frames that were kept before new ones.

  Plain concatenation was as fast as anything measured; ring buffers were slower.

  Args:
    buffer: [B, K, H, W, C], the K frames before x.
    x: [B, T, H, W, C], any T, also below K.

  Returns:
    [B, K + T, H, W, C] and its last K frames, the next buffer.
  """
  full = jnp.concatenate([buffer.astype(x.dtype), x], axis=1)
  return full, full[:, full.shape[1] - buffer.shape[1] :]
