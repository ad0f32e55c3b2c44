"""X3D's space: six factors that expand a tiny image network into a video network.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR
2020, sections 3.1 and 3.2. The first value of every axis is X2D's.
"""

import dataclasses
import functools
import math
import numbers
import typing
from collections.abc import Mapping

import numpy as np

from movinet_jax.models import x3d
from movinet_jax.names import check_name
from movinet_jax.spec import build, check_at_least_1
from nas.space import OneOf, Space


def _list_steps(first: float, last: float, step: float) -> tuple[float, ...]:
  return tuple(round(first + i * step, 6) for i in range(round((last - first) / step) + 1))


FRAMES = tuple(range(1, 129))
# Of 30 fps video. Below 3 also halves, that XXL's 32 of 80 frames need.
FRAME_STRIDES = (1, 1.5, 2, 2.5, *range(3, 65))
RESOLUTIONS = tuple(range(112, 641, 2))  # the paper's crops are even
DEPTHS = _list_steps(1, 12, 0.1)
# Of the published code, whose 2 is the paper's 1. Channels are multiples of 8 anyway.
WIDTHS = _list_steps(2, 6, 0.1)
BOTTLENECKS = _list_steps(1, 6, 0.05)
WHOLE = ('frames', 'resolution')


@dataclasses.dataclass(frozen=True)
class X3dSpace:
  """X3Ds to choose among.

  Attributes:
    values: that each factor may have, ascending, by its name in x3d.make_spec.
    num_classes: N, of which the classifier's multiply-adds are counted.
    fields: the rest of x3d.Spec: causal, hidden, …
  """

  values: Mapping[str, tuple]
  num_classes: int
  fields: Mapping

  family: typing.ClassVar[str] = 'x3d'

  @functools.cached_property
  def space(self) -> Space:
    return Space({name: OneOf(values) for name, values in self.values.items()})

  def decode(self, choices) -> x3d.Spec:
    """The network that a vector of choices stands for, with its native clip."""
    # Space.decode walks all of the many values: an expansion asks thousands of times.
    chosen = zip(self.values.items(), self.space.check(choices), strict=True)
    factors = {name: values[choice] for (name, values), choice in chosen}
    return x3d.make_spec(**factors, **self.fields)

  def encode(self, factors: Mapping[str, float]) -> np.ndarray:
    """The choices [D] of factors by name; those not named are X2D's, the first.

    Raises:
      ValueError: no such factor or value; names the nearest.
    """
    chosen = {}
    for name, value in factors.items():
      check_name(name, self.values, 'factor')
      values = self.values[name]
      if value not in values:
        near = min(values, key=lambda known: abs(known - value))
        raise ValueError(f'{name} has no value {value!r} in this space; the nearest is {near}')
      chosen[name] = values.index(value)
    return self.space.encode(chosen)

  def smallest(self, cost: str, num_classes: int) -> np.ndarray:
    """The choices of the network with the least of any cost: values ascend."""
    return np.zeros(len(self.space), np.int32)

  def macs(self, choices) -> int:
    """Multiply-adds of a native clip, exactly."""
    return count_macs(self.decode(choices), self.num_classes)


def count_macs(spec: x3d.Spec, num_classes: int = 400) -> int:
  """Multiply-adds of a native clip, as movinet_jax.cost.count traces them."""
  frames, size = spec.frames, _halve(spec.resolution)
  # A clip is squeezed once, a stream with every frame.
  times = frames if spec.causal else 1
  total = frames * size**2 * spec.stem * (27 + 5)
  before = spec.stem
  for stage in spec.stages:
    inner, features, rest = stage.inner, stage.features, stage.depth - 1
    wide, size = frames * size**2, _halve(size)
    narrow = frames * size**2
    total += wide * before * inner + narrow * (before * features)
    total += narrow * rest * features * inner
    total += narrow * stage.depth * inner * (27 + features)
    hidden = x3d.round_width(inner, 1 / 16)
    total += times * math.ceil(stage.depth / 2) * 2 * inner * hidden
    before = features
  inner = spec.stages[-1].inner
  total += frames * size**2 * before * inner
  return total + spec.hidden * (inner + num_classes)


def _halve(size: int) -> int:
  return -(-size // 2)


def make_space(
  *,
  frames=FRAMES,
  frame_stride=FRAME_STRIDES,
  resolution=RESOLUTIONS,
  depth=DEPTHS,
  width=WIDTHS,
  bottleneck=BOTTLENECKS,
  num_classes: int = 400,
  **fields,
) -> X3dSpace:
  """The space of X3Ds with these values of the six factors, each a list that ascends.

  Args:
    frames, frame_stride, resolution: of the native clip; strides may be fractions.
    depth, width, bottleneck: see x3d.make_spec.
    num_classes: N.
    **fields: of x3d.Spec: causal, hidden, mean, …

  Raises:
    ValueError: an argument does not fit.
  """
  values = {
    'frames': frames,
    'frame_stride': frame_stride,
    'resolution': resolution,
    'depth': depth,
    'width': width,
    'bottleneck': bottleneck,
  }
  values = {name: _check_values(name, found) for name, found in values.items()}
  check_at_least_1(num_classes=build(int, num_classes, 'num_classes'))
  types = typing.get_type_hints(x3d.Spec)
  own = {'stem', 'stages', *values}
  for name in fields:
    check_name(name, {*values, 'num_classes', *(types.keys() - own)}, 'argument of a space')
  fields = {name: build(types[name], value, name) for name, value in fields.items()}
  made = X3dSpace(values, num_classes, fields)
  made.decode(np.zeros(len(values), np.int32))  # the smallest is a network
  return made


def _check_values(name: str, values) -> tuple:
  """As a tuple of numbers.

  Raises:
    ValueError: they are none, or do not ascend.
  """
  if not isinstance(values, (list, tuple)) or not values:
    raise ValueError(f'{name} is {values!r}; wanted a list of values such as (1, 2, 4)')
  kind = numbers.Integral if name in WHOLE else numbers.Real
  for value in values:
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < 1e6:
      wanted = 'whole numbers' if name in WHOLE else 'numbers'
      raise ValueError(f'{name} has {value!r}; wanted {wanted} above 0, up to a million')
  if list(values) != sorted(set(values)):
    raise ValueError(f'{name} is {values!r}; wanted numbers that ascend, none twice')
  return tuple(v.item() if isinstance(v, np.generic) else v for v in values)
