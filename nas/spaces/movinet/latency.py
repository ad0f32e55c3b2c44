"""How long the parts of MoViNet's networks take: the measured alternative to counting.

The latency of a network is taken to be the sum of its parts' (Cai et al., ProxylessNAS,
ICLR 2019, section 3.3; Wu et al., FBNet, CVPR 2019): each stem, bottleneck and head that a
network of the space could have is run alone, in the form and on the device in question.
`movinet latency` also measures whole networks, to say how far the sum is off.
"""

import dataclasses
import typing

import flax.linen as nn
import jax.numpy as jnp

from movinet_jax import layers
from movinet_jax.models import movinet
from movinet_jax.spec import to_json
from nas import machine, runtime
from nas.spaces.movinet.cost import Part

if typing.TYPE_CHECKING:  # a space has these functions as its methods
  from nas.spaces.movinet.space import MovinetSpace


class _Stem(movinet.Model):
  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return self._stem()(x, train=train)


class _Head(movinet.Model):
  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    thread = layers.Thread(state, train)
    for part in self._head():
      x = thread(part, x)
    return x, thread.after


@dataclasses.dataclass(frozen=True)
class Bench:
  """What parts and networks of a space are run on.

  Attributes:
    space: whose networks they are.
    num_classes: N.
    batch: B, clips at a time.
    frames: T, of each; a stream's are what a call is given.
    dtype: what is computed in.
  """

  space: 'MovinetSpace'
  num_classes: int
  batch: int
  frames: int
  dtype: jnp.dtype = jnp.float32

  def about(self) -> dict:
    """What all times depend on, as JSON: the machine, and what is run on it."""
    fields = to_json(self.space.base)
    common = {k: v for k, v in fields.items() if k not in ('stem', 'blocks', 'project')}
    return {
      **machine.describe(),
      'batch': self.batch,
      'frames': self.frames,
      'dtype': jnp.dtype(self.dtype).name,
      'num_classes': self.num_classes,
      'networks': common,
    }

  def make_part(self, part: Part) -> runtime.Work:
    """One part, to be timed."""
    spec, (height, width) = self.space.base, part.size
    if part.kind == 'stem':
      spec = dataclasses.replace(spec, stem=part.width)
      module = _Stem(spec, self.num_classes, dtype=self.dtype)
      return self._make_work(module, (2 * height, 2 * width, 3), jnp.float32)
    if part.kind == 'layer':
      module = movinet.Bottleneck(spec, part.layer, part.width, part.stride, dtype=self.dtype)
    else:
      spec = dataclasses.replace(spec, project=part.width)
      module = _Head(spec, self.num_classes, dtype=self.dtype)
    return self._make_work(module, (height, width, part.before), self.dtype)

  def make_network(self, choices) -> runtime.Work:
    """A whole network, to be timed."""
    model = movinet.Model(self.space.decode(choices), self.num_classes, dtype=self.dtype)
    size = self.space.base.resolution
    return self._make_work(model, (size, size, 3), jnp.float32)

  def _make_work(self, module, frame, dtype) -> runtime.Work:
    return runtime.Work(module, (self.batch, self.frames, *frame), dtype)
