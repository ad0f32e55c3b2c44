"""One set of weights for the planted family: a network uses the first channels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from nas.cost import CostTable, Term


@dataclasses.dataclass(frozen=True)
class Supernet:
  space: object
  num_classes: int
  dtype: object = jnp.float32
  remat: bool = False

  def init(self, key):
    hidden, classifier = jax.random.split(key)
    widest = max(self.space.widths)
    return {
      'hidden': 0.5 * jax.random.normal(hidden, (3, widest)),
      'classifier': 0.5 * jax.random.normal(classifier, (widest, self.num_classes)),
    }

  def apply(self, params, x, choices, state=None):
    width = jnp.asarray(self.space.widths)[choices[0]]
    total, frames = state or (0.0, 0.0)
    total, frames = total + x.mean((2, 3)).sum(1), frames + x.shape[1]
    x = jax.nn.relu(total / frames @ params['hidden'])
    x = jnp.where(jnp.arange(x.shape[-1]) < width, x, 0)
    return x @ params['classifier'], (total, frames)

  def extract(self, params, choices):
    width = self.space.widths[choices[0]]
    kernels = params['hidden'][:, :width], params['classifier'][:width]
    zeros = jnp.zeros(width), jnp.zeros(self.num_classes)
    names = 'hidden', 'classifier'
    layers = zip(names, kernels, zeros, strict=True)
    return {'params': {name: {'kernel': k, 'bias': b} for name, k, b in layers}}

  def make_cost_table(self, cost: str = 'macs', **options) -> CostTable:
    each = {'macs': 3 + self.num_classes, 'params': 4 + self.num_classes, 'state_bytes': 0}[cost]
    table = each * np.array(self.space.widths, np.int64) + (16 if cost == 'state_bytes' else 0)
    return CostTable([Term((0,), table)])
