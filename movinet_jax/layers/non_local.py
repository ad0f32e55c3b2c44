"""Non-local blocks: every place of a clip sees every other one."""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from movinet_jax import ops
from movinet_jax.layers.conv import ConvNorm, PointwiseConv


class NonLocal(nn.Module):
  """Adds to each place what all places have that match it.

  Wang et al., "Non-local Neural Networks", CVPR 2018, section 3.3: the embedded Gaussian
  with `hidden` channels inside, whose last norm begins at zero, so that a fresh block
  changes nothing. `norm` holds the norm's other fields. Whole clips only.
  """

  hidden: int
  norm: Mapping = FrozenDict()
  dtype: jnp.dtype = jnp.float32
  causal = False

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    b, t, h, w, c = x.shape
    embed = functools.partial(PointwiseConv, self.hidden, use_bias=True, dtype=self.dtype)
    rows = x.reshape(b, 1, 1, t * h * w, c)
    query, key, value = (embed(name=name)(rows)[0][:, 0, 0] for name in ('query', 'key', 'value'))
    y = ops.attend(query, key, value).reshape(b, t, h, w, self.hidden)
    conv = PointwiseConv(c, dtype=self.dtype, parent=None)
    norm = {**self.norm, 'scale_init': nn.initializers.zeros}
    y, _ = ConvNorm(conv, norm=norm, name='project')(y, train=train)
    return x + y, {}
