"""Squeeze-and-excitation for clips and streams."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from movinet_jax import ops
from movinet_jax.layers.conv import PointwiseConv, he_normal
from movinet_jax.names import check_name

SE_KINDS = ('2d', '3d', '2plus3d')


class SqueezeExcite(nn.Module):
  """Scales channels by what the video shows (MoViNet, section 3.2, "Causal SE").

  `kind` says what the squeeze sees: `3d` the mean of the clip, or of all frames so far
  when causal; `2d` the frame itself; `2plus3d` both, side by side, the former first.
  `positions` adds a sine encoding of the frame's number, scaled by a learned zero: a
  stream can then tell how much its running mean has seen.
  """

  hidden: int
  kind: str = '3d'
  causal: bool = False
  positions: bool = False
  activation: str = 'swish'
  gate: str = 'sigmoid'
  kernel_init: nn.initializers.Initializer = he_normal
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    check_name(self.kind, SE_KINDS, 'squeeze-excite')
    if self.positions and not (self.causal and '3d' in self.kind):
      raise ValueError('positions are of a stream: they need causal=True and 3d in kind')
    squeezed, after = self._squeeze(x, state)
    if self.positions:
      scale = self.param('position_scale', nn.initializers.zeros, ())
      first = after['count'] - x.shape[1]
      squeezed = squeezed + scale * sine_positions(first, x.shape[1], squeezed.shape[-1])
    conv = {'use_bias': True, 'kernel_init': self.kernel_init, 'dtype': self.dtype}
    y, _ = PointwiseConv(self.hidden, name='reduce', **conv)(squeezed)
    y = ops.get_activation(self.activation)(y)
    y, _ = PointwiseConv(x.shape[-1], name='expand', **conv)(y)
    return x * ops.get_activation(self.gate)(y), after

  def _squeeze(self, x, state):
    """[B, T or 1, 1, 1, C or 2 C] float32, and the state."""
    frames = ops.spatial_mean(x)
    if self.kind == '2d':
      return frames, {}
    if self.causal:
      b, _, _, _, c = x.shape
      start = {'total': jnp.zeros((b, 1, 1, 1, c)), 'count': jnp.zeros(b, jnp.int32)}
      past, total, count = ops.cumulative_mean(frames, **(state or start))
      after = {'total': total, 'count': count}
    else:
      past, after = frames.mean(1, keepdims=True), {}
    if self.kind == '3d':
      return past, after
    past = jnp.broadcast_to(past, frames.shape)
    return jnp.concatenate([past, frames], -1), after


def sine_positions(first: jax.Array, frames: int, channels: int) -> jax.Array:
  """Sine halves then cosine halves of each frame's number, [B, T, 1, 1, C] float32.

  Args:
    first: [B] int32, the number of the first frame, from 0.
    frames: T.
    channels: C.
  """
  position = (first[:, None] + jnp.arange(frames))[..., None]
  angle = position / 10_000 ** (2 * (jnp.arange(channels) // 2) / channels)
  halves = [jnp.sin(angle[..., 0::2]), jnp.cos(angle[..., 1::2])]
  return jnp.concatenate(halves, -1)[:, :, None, None]
