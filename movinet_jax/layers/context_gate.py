"""Context gating: channels scaled by what the clip shows, without a bottleneck."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from movinet_jax.layers.conv import PointwiseConv
from movinet_jax.layers.pool import GlobalPool


class ContextGate(nn.Module):
  """x times sigmoid(W mean(x) + b), the mean over space and time.

  Miech et al., "Learnable Pooling with Context Gating", 2017, section 3.2; on feature
  maps as in Xie et al., S3D-G, 2018, section 6. Whole clips only.
  """

  dtype: jnp.dtype = jnp.float32
  causal = False

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    mean, _ = GlobalPool()(x)
    conv = PointwiseConv(x.shape[-1], use_bias=True, dtype=self.dtype, name='conv')
    return x * jax.nn.sigmoid(conv(mean)[0]), {}
