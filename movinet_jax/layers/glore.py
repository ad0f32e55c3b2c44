"""Graph reasoning: a clip's places, gathered in a few nodes that see each other."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from movinet_jax import ops
from movinet_jax.layers.conv import ConvNorm, PointwiseConv
from movinet_jax.layers.norm import PYTORCH_NORM

EPSILON = 1e-4  # of the norm, the published code's


class GlobalReasoning(nn.Module):
  """Adds to each place what a graph of `width` nodes says of the whole clip.

  Chen et al., "Graph-Based Global Reasoning Networks", CVPR 2019, section 3, as in the
  published code: nodes have 2 `width` numbers each, and the last norm begins at zero, so that
  a fresh block changes nothing. Nodes are means over places, not sums: sizes of clips differ.
  `norm` holds the last norm's other fields.

  A causal block, which is this project's own, takes the mean over all frames so far, so its
  nodes differ from frame to frame.
  """

  width: int
  causal: bool = False
  norm: Mapping = FrozenDict()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    def conv(features, name, use_bias=True):
      return PointwiseConv(features, use_bias, dtype=self.dtype, name=name)

    values = conv(2 * self.width, 'state')(x)[0]
    shares = conv(self.width, 'nodes')(x)[0]
    nodes, after = ops.gather_nodes(values, shares, state, causal=self.causal)
    nodes = nodes + conv(self.width, 'mix_nodes')(nodes)[0]
    nodes = nn.relu(jnp.swapaxes(nodes, -1, -2))
    nodes = conv(2 * self.width, 'mix_states', use_bias=False)(nodes)[0]
    norm = {**PYTORCH_NORM, **self.norm, 'epsilon': EPSILON, 'scale_init': nn.initializers.zeros}
    extend = PointwiseConv(x.shape[-1], dtype=self.dtype, parent=None)
    y = ops.scatter_nodes(nodes, shares)
    y, _ = ConvNorm(extend, norm=norm, name='extend')(y, train=train)
    return x + y, after
