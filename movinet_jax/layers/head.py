"""What X3D's head has behind the pool: a wide layer, and a mean over places."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from movinet_jax.layers.conv import PointwiseConv
from movinet_jax.layers.weights import kaiming_normal


class Hidden(nn.Module):
  """The wide layer before the classifier: no bias, no norm, and the only dropout."""

  features: int
  dropout: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    conv = PointwiseConv(self.features, kernel_init=kaiming_normal, dtype=self.dtype, name='conv')
    x = nn.relu(conv(x)[0])
    return nn.Dropout(self.dropout, deterministic=not train)(x), {}


class Average(nn.Module):
  """Mean over all places, [B, T, H, W, N] -> [B, 1, 1, 1, N] float32.

  `values` says of what: of `logits`, or of `probabilities`, whose logarithms come out except in
  training. A stream has pooled its frames before, so there is one place in time.
  """

  values: str
  causal = False

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return self._average(x, (1, 2, 3), as_logits=train), {}

  def each_frame(self, x):
    """Mean over the places of each frame, [B, T, H, W, N] -> [B, T, 1, 1, N] float32."""
    return self._average(x, (2, 3))

  def _average(self, x, axes, *, as_logits=False):
    x = x.astype(jnp.float32)
    if as_logits or self.values == 'logits':
      return x.mean(axes, keepdims=True)
    places = math.prod(x.shape[axis] for axis in axes)
    total = jax.nn.logsumexp(jax.nn.log_softmax(x), axes, keepdims=True)
    return total - math.log(places)
