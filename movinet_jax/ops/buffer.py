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

  Raises:
    ValueError: the frames kept are of another size.
  """
  if buffer.shape[2:] != x.shape[2:]:
    raise ValueError(
      f'the frames that a stream state keeps are {buffer.shape[2:]} here, the new ones '
      f'{x.shape[2:]}: begin anew, with state=None or init_state'
    )
  full = jnp.concatenate([buffer.astype(x.dtype), x], axis=1)
  return full, full[:, full.shape[1] - buffer.shape[1] :]
