"""Batch normalisation over all devices, or over groups of examples."""

import math

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict
from jax import lax

# The norm of PyTorch with its usual momentum, for fields of BatchNorm.
PYTORCH_NORM = FrozenDict(momentum=0.9, epsilon=1e-5, unbiased=True)


class BatchNorm(nn.Module):
  """Normalises channels with statistics of the batch (training) or of the past.

  Under jit with the batch sharded over devices the statistics are global, which is what
  the papers call synchronised. `group_size` examples that follow each other share
  statistics when it is set: with the number of examples on a device, no communication is
  needed; with a constant, results do not depend on how many devices there are.

  Statistics and parameters are float32 whatever x is. Moving statistics follow Keras'
  momentum convention (new = 0.99 old + 0.01 batch); of variances biased ones, or with
  `unbiased` those of n - 1, as PyTorch has them.
  """

  momentum: float = 0.99
  epsilon: float = 1e-3
  group_size: int | None = None
  unbiased: bool = False
  scale_init: nn.initializers.Initializer = nn.initializers.ones

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    shape = (x.shape[-1],)
    scale = self.param('scale', self.scale_init, shape, jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, shape, jnp.float32)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
    var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
    if not train:
      y = normalise(x, mean.value, var.value, scale, bias, self.epsilon)
      return y, {}
    groups = self._split(x)
    batch_mean, batch_var = batch_moments(groups)
    if not self.is_initializing():
      keep, count = self.momentum, math.prod(groups.shape[1:-1])
      unbias = count / max(count - 1, 1) if self.unbiased else 1
      mean.value = keep * mean.value + (1 - keep) * batch_mean.mean(0)
      var.value = keep * var.value + (1 - keep) * batch_var.mean(0) * unbias
    wide = (-1, *(1,) * (groups.ndim - 2), x.shape[-1])
    moments = batch_mean.reshape(wide), batch_var.reshape(wide)
    y = normalise(groups, *moments, scale, bias, self.epsilon)
    return y.reshape(x.shape), {}

  def _split(self, x):
    """[B, ...] -> [G, B / G, ...]."""
    size = self.group_size or x.shape[0]
    if x.shape[0] % size:
      raise ValueError(
        f'batch norm groups of {size} examples do not divide a batch of {x.shape[0]}: '
        'choose a group size that does, or None for the whole batch'
      )
    return x.reshape(x.shape[0] // size, size, *x.shape[1:])


def batch_moments(groups):
  """Mean and variance of each group [G, ..., C], both [G, C] float32."""
  axes = tuple(range(1, groups.ndim - 1))
  x = groups.astype(jnp.float32)
  mean = jnp.mean(x, axes)
  # One pass over x instead of two; rounding can leave a tiny negative variance.
  var = jnp.maximum(jnp.mean(lax.square(x), axes) - lax.square(mean), 0)
  return mean, var


def normalise(x, mean, var, scale, bias, epsilon):
  """x with the given moments taken out, scaled and shifted; computed in float32."""
  factor = scale * lax.rsqrt(var + epsilon)
  y = x.astype(jnp.float32) * factor + (bias - mean * factor)
  return y.astype(x.dtype)
