"""What stands between a residual branch and its sum."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class ReZero(nn.Module):
  """Multiplies by one learned number that starts at zero (Bachlechner et al., 2020)."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    scale = self.param('scale', nn.initializers.zeros, ())
    return x * scale.astype(x.dtype), {}


class StochasticDepth(nn.Module):
  """Drops the branch of whole examples in training (Huang et al., 2016).

  The sub-clips of one clip, given the same key, drop the same examples.
  """

  rate: float = 0.0

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    if not train or self.rate == 0.0:
      return x, {}
    shape = (x.shape[0], *(1,) * (x.ndim - 1))
    kept = jax.random.bernoulli(self.make_rng('dropout'), 1 - self.rate, shape)
    return jnp.where(kept, x / (1 - self.rate), 0).astype(x.dtype), {}
