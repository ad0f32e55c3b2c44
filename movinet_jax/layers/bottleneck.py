"""X3D's block, of which X3D and Auto-TSNet are made."""

import functools

import flax.linen as nn
import jax.numpy as jnp

from movinet_jax import ops
from movinet_jax.layers.conv import ConvNorm, DepthwiseConv, PointwiseConv
from movinet_jax.layers.norm import PYTORCH_NORM
from movinet_jax.layers.residual import StochasticDepth
from movinet_jax.layers.squeeze_excite import SqueezeExcite
from movinet_jax.layers.stream import Thread
from movinet_jax.layers.weights import kaiming_normal
from movinet_jax.layers.width import round_to_8


class Bottleneck(nn.Module):
  """Expands, convolves per channel, perhaps excites, projects; the sum is rectified.

  The shortcut is a convolution where size or width change, and where `projects` says so.
  """

  features: int
  inner: int
  kernel: tuple[int, int, int] = (3, 3, 3)
  stride: int = 1
  squeeze: bool = True
  shortcut_norm: bool = False
  projects: bool = False
  causal: bool = False
  drop_rate: float = 0.0
  norm_group: int | None = None
  form: str = 'auto'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    thread = Thread(state, train)
    norm = {**PYTORCH_NORM, 'group_size': self.norm_group}
    conv_norm = functools.partial(ConvNorm, norm=norm)
    bare = functools.partial(PointwiseConv, kernel_init=kaiming_normal, dtype=self.dtype)
    # Without a parent of its own yet, a convolution becomes part of its ConvNorm.
    pointwise = functools.partial(bare, parent=None)
    depthwise = DepthwiseConv(
      self.kernel,
      (self.stride, self.stride),
      causal=self.causal,
      padding='centred',
      kernel_init=kaiming_normal,
      form=self.form,
      dtype=self.dtype,
      parent=None,
    )
    y = thread(conv_norm(pointwise(self.inner), 'relu', name='expand'), x)
    y = thread(conv_norm(depthwise, name='depthwise'), y)
    if self.squeeze:
      excite = SqueezeExcite(
        hidden=count_squeezed(self.inner),
        causal=self.causal,
        activation='relu',
        kernel_init=kaiming_normal,
        dtype=self.dtype,
        name='se',
      )
      y = thread(excite, y)
    y = ops.get_activation('swish')(y)
    # A fresh network is its shortcuts alone.
    last = {**norm, 'scale_init': nn.initializers.zeros}
    project = ConvNorm(pointwise(self.features), norm=last, name='project')
    y = thread(project, y)
    y = thread(StochasticDepth(self.drop_rate, name='drop'), y)
    projects = self.projects or x.shape[-1] != self.features
    x = ops.skip_pixels(x, self.stride)
    if projects or (self.stride > 1 and self.shortcut_norm):
      x = thread(conv_norm(pointwise(self.features), name='shortcut'), x)
    elif self.stride > 1:
      x = thread(bare(self.features, name='shortcut'), x)
    return nn.relu(x + y), thread.after


def count_squeezed(inner: int) -> int:
  """Channels inside the squeeze-and-excitation of a block."""
  return round_to_8(inner / 16)
