"""What two-stream networks of a space cost: every group that one could have, beforehand.

Costs are those of movinet_jax.cost.count on the network alone, by the formulas of
movinet_jax.models.tsnet. A group's first block depends on what comes in: on the group before,
and in the sparse stream on the fusion before and on the dense group that is fused.
"""

import dataclasses
import typing
from collections.abc import Callable, Sequence

import numpy as np

from movinet_jax.layers import Costs, add_costs, count_norm
from movinet_jax.models import tsnet
from movinet_jax.names import check_name
from nas.cost import CostTable, Term

if typing.TYPE_CHECKING:  # a space has this function as its method
  from nas.spaces.tsnet.space import Group, TsnetSpace


def make_cost_table(
  space: 'TsnetSpace',
  cost: str = 'macs',
  *,
  num_classes: int = tsnet.NUM_CLASSES,
  clip: tuple[int, int, int] | None = None,
) -> CostTable:
  """Counts every group that a network of the space could have.

  Args:
    cost: 'macs' of a clip, 'params', or 'state_bytes', which is 0: networks take whole clips.
    num_classes: N.
    clip: (T, H, W) of the dense stream; default: the space's native one.

  Raises:
    ValueError: an unknown cost.
  """
  check_name(cost, Costs._fields, 'cost')
  frames, *size = clip or (space.base.frames, space.base.resolution, space.base.resolution)
  count, terms = _Counter(space, cost), []
  videos = -(-frames // space.base.ratio), frames
  for stream, length in enumerate(videos):
    video = tsnet.Extent(length, tuple(size), False)
    terms.append(count.term(stream, [], lambda s=stream, v=video: count.stem(s, v)))
    maps = video.shrink(2)
    for number, group in enumerate(space.groups[stream]):
      terms += count.group(stream, number, group, maps)
      maps = maps.shrink(group.stride)
      if stream == 0:
        terms.append(count.fusion(number, maps))
    terms += count.head(stream, maps, num_classes)
  return CostTable(terms)


@dataclasses.dataclass(frozen=True)
class _Axis:
  """A decision, and what it may be."""

  number: int
  values: Sequence


@dataclasses.dataclass(frozen=True)
class _Counter:
  """Terms of one cost. Those of the dense stream are 0 in networks without one."""

  space: 'TsnetSpace'
  cost: str

  def term(self, stream: int, axes: Sequence[_Axis], count: Callable[..., Costs]) -> Term:
    """A term over some decisions; `count` takes what each is."""
    if stream == 1:
      mine, axes = count, [_Axis(self.space.dense_number, (False, True)), *axes]
      count = lambda present, *values: mine(*values) if present else Costs(0, 0, 0)  # noqa: E731
    table = np.zeros([len(axis.values) for axis in axes], np.int64)
    for index in np.ndindex(table.shape):
      values = (axis.values[i] for axis, i in zip(axes, index, strict=True))
      table[index] = getattr(count(*values), self.cost)
    return Term(tuple(axis.number for axis in axes), table)

  def axis(self, stream: int, group: int, name: str) -> _Axis:
    values = {
      **{'features': self.space.groups[stream][group].widths, 'time': self.space.times},
      **{'expansion': self.space.expansions, 'space': self.space.sizes},
    }[name]
    return _Axis(self.space.number(stream, f'groups/{group}/{name}'), values)

  def fused(self, number: int) -> list[_Axis]:
    """What says how many channels are fused behind a group."""
    return [
      _Axis(self.space.dense_number, (False, True)),
      _Axis(self.space.fusion_number(number), self.space.fusions),
      self.axis(1, number, 'features'),
    ]

  def count_fused(self, present=False, kind='none', width=0) -> int:
    """Channels that a fusion adds to those of the sparse stream."""
    if not present or self.space.base.join == 'sum':
      return 0
    return tsnet.count_concatenated(self.space.base, kind, width)

  def stem(self, stream: int, video: tsnet.Extent) -> Costs:
    return tsnet.count_stem(self.space.base.stems[stream], video)

  def group(self, stream: int, number: int, group: 'Group', maps: tsnet.Extent) -> list[Term]:
    """What is read by the first block, all other parts of blocks, and attention."""
    features, expansion, time, size = (
      self.axis(stream, number, name) for name in ('features', 'expansion', 'time', 'space')
    )
    before = [self.axis(stream, number - 1, 'features')] if number else []
    fused = self.fused(number - 1) if number and stream == 0 else []

    def count_first(width, factor, *rest):
      inputs = rest[0] if number else self.space.base.stems[stream]
      beside = self.count_fused(*rest[1:])
      inputs += beside
      projects = group.stride > 1 or beside > 0 or inputs != width
      sizes = width, int(factor * width), group.stride, maps
      reads = tsnet.count_reads(inputs, *sizes, projects=projects)
      return add_costs([reads, *([count_norm(width)] if projects else [])])

    def count_blocks(width, factor, time, size):
      return _count_blocks(group, width, int(factor * width), (time, size, size), maps)

    terms = [
      self.term(stream, [features, expansion, *before, *fused], count_first),
      self.term(stream, [features, expansion, time, size], count_blocks),
    ]
    if number in self.space.places:
      place, after = self.space.places.index(number), maps.shrink(group.stride)
      taken = _Axis(self.space.number(stream, f'attention/{place}'), (False, True))
      width = self.space.base.attention_width
      count = lambda taken, features: (  # noqa: E731
        tsnet.count_attention(features, width, after) if taken else Costs(0, 0, 0)
      )
      terms.append(self.term(stream, [taken, features], count))
    return terms

  def fusion(self, number: int, maps: tsnet.Extent) -> Term:
    """What a fusion costs itself; `maps` are those of the sparse stream."""
    _, kind, width = self.fused(number)
    count = lambda kind, dense, sparse: tsnet.count_fusion(  # noqa: E731
      self.space.base, kind, dense, sparse, maps
    )
    return self.term(1, [kind, width, self.axis(0, number, 'features')], count)

  def head(self, stream: int, maps: tsnet.Extent, num_classes: int) -> list[Term]:
    """The last convolution of a stream, and what reads it behind the pool."""
    last = len(self.space.groups[stream]) - 1
    axes = [self.axis(stream, last, name) for name in ('features', 'expansion')]
    fused = self.fused(last) if stream == 0 else []

    def count_project(width, factor, *rest):
      inputs = width + self.count_fused(*rest)
      return tsnet.count_project(inputs, int(factor * width), maps)

    def count_rest(width, factor):
      base, inner = self.space.base, int(factor * width)
      if stream == 0:
        return tsnet.count_head(base, (inner,), num_classes, maps)
      both, one = (tsnet.count_head(base, (1, *x), num_classes, maps) for x in ([inner], []))
      return Costs(*(a - b for a, b in zip(both, one, strict=True)))

    return [self.term(stream, [*axes, *fused], count_project), self.term(stream, axes, count_rest)]


def _count_blocks(group: 'Group', width, inner, kernel, maps) -> Costs:
  """All blocks of a group but for what the first one reads."""
  parts = []
  for j in range(group.depth):
    stride, squeeze = 1 if j else group.stride, (group.position + j) % 2 == 0
    how = {'squeeze': squeeze, 'projects': False}
    parts.append(tsnet.count_block(width, inner, kernel, stride, maps, **how))
    if j:
      parts.append(tsnet.count_reads(width, width, inner, 1, maps, projects=False))
    maps = maps.shrink(stride)
  return add_costs(parts)
