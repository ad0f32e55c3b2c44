"""Convolutions with their stream buffers, and the conv-norm-activation block."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from movinet_jax import ops
from movinet_jax.layers.norm import BatchNorm
from movinet_jax.layers.stream import Thread
from movinet_jax.layers.weights import he_normal


class PointwiseConv(nn.Module):
  """1x1x1 convolution: the same matrix at every position.

  `use_bias` adds one; parameters are float32, `dtype` is what is computed in.
  """

  features: int
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = he_normal
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    kernel = self.param('kernel', self.kernel_init, (x.shape[-1], self.features))
    bias = None
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return ops.pointwise_conv(x, kernel.astype(self.dtype), bias), {}


class SpatialConv(nn.Module):
  """Dense convolution of every frame: the stem. `padding` is that of the operation."""

  features: int
  kernel_size: tuple[int, int] = (3, 3)
  stride: tuple[int, int] = (1, 1)
  padding: str = 'same'
  kernel_init: nn.initializers.Initializer = he_normal
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    shape = (1, *self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape).astype(self.dtype)
    x = x.astype(self.dtype)
    return ops.spatial_conv(x, kernel, stride=self.stride, padding=self.padding), {}


class DepthwiseConv(nn.Module):
  """Depthwise 3D convolution that remembers the last KT - 1 frames if it is causal.

  `padding` and `form` are those of `ops.depthwise_conv3d`.
  """

  kernel_size: tuple[int, int, int] = (3, 3, 3)
  stride: tuple[int, int] = (1, 1)
  causal: bool = False
  padding: str = 'same'
  kernel_init: nn.initializers.Initializer = he_normal
  form: str = 'auto'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    shape = (*self.kernel_size, 1, x.shape[-1])
    kernel = self.param('kernel', self.kernel_init, shape).astype(self.dtype)
    x, after, time = x.astype(self.dtype), {}, 'same'
    history = self.kernel_size[0] - 1
    if self.causal and history:
      b, _, *rest = x.shape
      buffer = state['buffer'] if state else jnp.zeros((b, history, *rest), x.dtype)
      x, buffer = ops.prepend(buffer, x)
      after, time = {'buffer': buffer}, 'valid'
    how = {'stride': self.stride, 'time': time, 'padding': self.padding}
    return ops.depthwise_conv3d(x, kernel, **how, form=self.form), after


class ConvNorm(nn.Module):
  """A convolution, batch normalisation and an activation.

  `norm` holds the norm's fields where they are not the usual ones.
  """

  conv: nn.Module
  activation: str = 'identity'
  norm: Mapping = FrozenDict()

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    thread = Thread(state, train)
    x = thread(self.conv, x)
    x = thread(BatchNorm(**self.norm, name='norm'), x)
    return ops.get_activation(self.activation)(x), thread.after
