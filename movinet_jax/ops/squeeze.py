"""The squeeze of squeeze-and-excitation, for clips and streams."""

import jax
import jax.numpy as jnp

from movinet_jax.names import check_name
from movinet_jax.ops.pool import running_means, spatial_mean

SE_KINDS = ('2d', '3d', '2plus3d')


def squeeze_means(
  x: jax.Array, state, *, kind: str, causal: bool
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Means of what a video shows (MoViNet, section 3.2, "Causal SE").

  Args:
    x: [B, T, H, W, C].
    state: running sums of the frames before, empty or None at a video's beginning.
    kind: `3d` is the mean of the clip, or of all frames so far when causal; `2d` is the mean
      of each frame; `2plus3d` is both, side by side, the former first.
    causal: whether x is part of a stream.

  Returns:
    [B, T or 1, 1, 1, C or 2 C] float32, and the new state, which is {} where nothing is
    remembered.

  Raises:
    ValueError: an unknown kind.
  """
  check_name(kind, SE_KINDS, 'squeeze-excite')
  frames = spatial_mean(x)
  if kind == '2d':
    return frames, {}
  if causal:
    past, after = running_means(frames, state)
  else:
    past, after = frames.mean(1, keepdims=True), {}
  if kind == '3d':
    return past, after
  past = jnp.broadcast_to(past, frames.shape)
  return jnp.concatenate([past, frames], -1), after


def sine_positions(
  first: jax.Array, frames: int, channels: int | jax.Array, place: jax.Array | None = None
) -> jax.Array:
  """Encodes each frame's number by sines, then cosines, of C / 2 wavelengths, float32.

  Args:
    first: [B] int32, the number of the first frame, from 0.
    frames: T.
    channels: C; it may be traced if `place` is given.
    place: [K] int32, which of the C channels are wanted; by default all.

  Returns:
    [B, T, 1, 1, C], or [B, T, 1, 1, K] with `place`.
  """
  half = (channels + 1) // 2
  position = (first[:, None] + jnp.arange(frames))[..., None]

  def find_angles(pair):
    return position / 10_000 ** (2 * pair / channels)

  if place is None:
    angles = find_angles(jnp.arange(half))
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles[..., : channels - half])], -1)
  else:
    angles = find_angles(jnp.where(place < half, place, place - half))
    waves = jnp.where(place < half, jnp.sin(angles), jnp.cos(angles))
  return waves[:, :, None, None]
