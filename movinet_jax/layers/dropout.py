"""Dropout as a part of a network."""

import flax.linen as nn


class Dropout(nn.Module):
  """Drops values in training, each by itself, and scales up the others."""

  rate: float = 0.0

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return nn.Dropout(self.rate, deterministic=not train)(x), {}
