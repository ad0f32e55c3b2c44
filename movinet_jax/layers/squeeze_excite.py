"""Squeeze-and-excitation for clips and streams."""

import flax.linen as nn
import jax.numpy as jnp

from movinet_jax import ops
from movinet_jax.layers.conv import PointwiseConv, he_normal


class SqueezeExcite(nn.Module):
  """Scales channels by what the video shows (MoViNet, section 3.2, "Causal SE").

  `kind` says what the squeeze sees, see `ops.squeeze_means`. `positions` adds a sine encoding
  of the frame's number, scaled by a learned zero: a stream can then tell how much its running
  mean has seen.
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
    if self.positions and not (self.causal and '3d' in self.kind):
      raise ValueError('positions are of a stream: they need causal=True and 3d in kind')
    squeezed, after = ops.squeeze_means(x, state, kind=self.kind, causal=self.causal)
    if self.positions:
      scale = self.param('position_scale', nn.initializers.zeros, ())
      first = after['count'] - x.shape[1]
      squeezed = squeezed + scale * ops.sine_positions(first, x.shape[1], squeezed.shape[-1])
    conv = {'use_bias': True, 'kernel_init': self.kernel_init, 'dtype': self.dtype}
    y, _ = PointwiseConv(self.hidden, name='reduce', **conv)(squeezed)
    y = ops.get_activation(self.activation)(y)
    y, _ = PointwiseConv(x.shape[-1], name='expand', **conv)(y)
    return x * ops.get_activation(self.gate)(y), after
