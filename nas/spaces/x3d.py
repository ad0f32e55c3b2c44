"""X3D's space: six factors that expand a tiny image network into a video network.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR
2020, sections 3.1 and 3.2. The first value of every axis is X2D's.
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Annotated

import numpy as np

from movinet_jax.models import x3d
from movinet_jax.names import check_name
from movinet_jax.schema import ASCENDING, Range
from movinet_jax.spec import MOST, Size, read_fields
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
  supernet: typing.ClassVar[None] = None

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

  @staticmethod
  def describe_network(spec: x3d.Spec) -> list[str]:
    """Lines that show a network: its clip, and width and depth of each stage."""
    return [
      f'clip      {spec.frames} frames of {spec.resolution} x {spec.resolution}, one in '
      f'{spec.frame_stride:g} of the video',
      f'stem      {spec.stem:4}',
      *(
        f'stage {i}   {stage.features:4}  {stage.depth} bottlenecks of {stage.inner}'
        for i, stage in enumerate(spec.stages)
      ),
      f'hidden    {spec.hidden:4}',
    ]

  def smallest(self, cost: str, num_classes: int) -> np.ndarray:
    """The choices of the network with the least of any cost: values ascend."""
    return np.zeros(len(self.space), np.int32)

  def macs(self, choices) -> int:
    """Multiply-adds of a native clip, exactly."""
    return x3d.count_macs(self.decode(choices), self.num_classes)


_Wholes = Annotated[tuple[Size, ...], ASCENDING]
# Whole numbers stay whole, so that files of networks have them as they are given.
_Numbers = Annotated[tuple[Annotated[int | float, Range(above=0, most=MOST)], ...], ASCENDING]


def make_space(
  *,
  frames: _Wholes = FRAMES,
  frame_stride: _Numbers = FRAME_STRIDES,
  resolution: _Wholes = RESOLUTIONS,
  depth: _Numbers = DEPTHS,
  width: _Numbers = WIDTHS,
  bottleneck: _Numbers = BOTTLENECKS,
  num_classes: Size = 400,
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
  own = {'stem', 'stages', *values}
  fields = read_fields(x3d.Spec, fields, own, {*values, 'num_classes'})
  made = X3dSpace(values, num_classes, fields)
  made.decode(np.zeros(len(values), np.int32))  # the smallest is a network
  return made
