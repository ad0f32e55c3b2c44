"""Auto-TSNet's search space: two streams, what joins them, and where attention stands.

Gong et al., "Searching for Two-Stream Models in Multivariate Space for Video Recognition", ICCV
2021, section 3 and Tables 1 and 2. Six things vary: the temporal and the spatial kernel, the
width and the expansion of every group of blocks, the fusion behind every group, and attention
at six places of each stream.

The paper says that the six places are picked uniformly in stages 2, 3 and 4, and leaves open
which they are. Here two of each stage are taken, all of them between groups. The dense stream is
a decision as well, because the first step of the progressive search has none.
"""

import dataclasses
import functools
import math
import typing
from typing import Annotated

import numpy as np

from movinet_jax.models import tsnet
from movinet_jax.schema import ASCENDING, DISTINCT, SOME, Limit
from movinet_jax.spec import Size, read_fields
from nas.space import OneOf, Space
from nas.spaces.tsnet import cost

EXPANSIONS = tuple(0.75 * n for n in range(2, 9))
TIMES, SIZES = (1, 3, 5), (3, 5)  # Table 2
FUSIONS = typing.get_args(tsnet.Fusion)
# Widths of the groups of each stage, Table 1.
SPARSE = (
  tuple(range(32, 49, 8)),
  tuple(range(64, 89, 8)),
  tuple(range(128, 177, 16)),
  tuple(range(248, 345, 24)),
)
DENSE = (
  tuple(range(8, 17, 8)),
  tuple(range(8, 25, 8)),
  tuple(range(16, 33, 8)),
  tuple(range(32, 57, 8)),
)

_Odd = Annotated[Size, Limit(lambda size: size % 2 == 1, 'an odd number')]
_Odds = Annotated[tuple[_Odd, ...], ASCENDING]
_Multiple = Annotated[Size, Limit(lambda size: size % 8 == 0, 'a multiple of 8')]
_Stages = Annotated[tuple[Annotated[tuple[_Multiple, ...], ASCENDING], ...], SOME]
_Depths = Annotated[tuple[Annotated[tuple[Size, ...], SOME], ...], SOME]
_Eighth = Annotated[float, Limit(lambda x: x > 0 and x * 8 % 1 == 0, 'eighths, above 0')]
_Expansions = Annotated[tuple[_Eighth, ...], ASCENDING]
_Fusions = Annotated[tuple[tsnet.Fusion, ...], DISTINCT]


class Group(typing.NamedTuple):
  """A group of `depth` equal blocks, the first of which has the spatial `stride`.

  Attributes:
    widths: that it may have.
    stage: its number.
    position: of its first block among the blocks of its stage.
  """

  widths: tuple[int, ...]
  depth: int
  stride: int
  stage: int
  position: int


@dataclasses.dataclass(frozen=True)
class TsnetSpace:
  """Two-stream networks to choose among.

  Attributes:
    groups: of the sparse and of the dense stream.
    expansions: of a block's inner width, relative to its group's width.
    times, sizes: temporal and spatial kernels.
    fusions: that may stand behind a group.
    places: groups that attention may stand behind.
    base: all else, as a tsnet.Spec, whose own streams and fusions are not used.
  """

  groups: tuple[tuple[Group, ...], tuple[Group, ...]]
  expansions: tuple[float, ...]
  times: tuple[int, ...]
  sizes: tuple[int, ...]
  fusions: tuple[str, ...]
  places: tuple[int, ...]
  base: tsnet.Spec

  family: typing.ClassVar[str] = 'tsnet'
  supernet: typing.ClassVar[str] = 'tsnet'
  sections: typing.ClassVar[tuple[str, ...]] = ('streams',)
  causal: typing.ClassVar[bool] = False

  make_cost_table = cost.make_cost_table

  @functools.cached_property
  def space(self) -> Space:
    """Its decisions: groups and attention of the sparse stream, the dense one, and fusions."""
    sparse, dense = self.groups
    fusions = [OneOf(self.fusions)] * len(sparse)
    return Space(
      {
        'sparse': self._list_stream(sparse),
        'dense': OneOf((None, {**self._list_stream(dense), 'fusion': fusions})),
      }
    )

  def _list_stream(self, groups) -> dict:
    made = [
      {
        'time': OneOf(self.times),
        'space': OneOf(self.sizes),
        'features': OneOf(group.widths, 'filters'),
        'expansion': OneOf(self.expansions, 'filters'),
      }
      for group in groups
    ]
    return {'groups': made, 'attention': [OneOf((False, True))] * len(self.places)}

  @property
  def dense_number(self) -> int:
    """The number of the decision whether there is a dense stream."""
    return self.space.number('dense')

  def number(self, stream: int, path: str) -> int:
    """The number of a decision about a stream: 0 is the sparse one, 1 the dense one."""
    return self.space.number(f'{("sparse", "dense:1")[stream]}/{path}')

  def fusion_number(self, group: int) -> int:
    return self.number(1, f'fusion/{group}')

  def decode(self, choices) -> tsnet.Spec:
    """The network that a vector of choices stands for."""
    tree = self.space.decode(choices)
    sparse = self._decode_stream(self.groups[0], tree['sparse'])
    if tree['dense'] is None:
      return dataclasses.replace(self.base, sparse=sparse, dense=(), fusions=())
    dense, fusions = self._decode_stream(self.groups[1], tree['dense']), tree['dense']['fusion']
    return dataclasses.replace(self.base, sparse=sparse, dense=dense, fusions=fusions)

  def _decode_stream(self, groups, tree) -> tuple[tsnet.Group, ...]:
    attended = {p for p, taken in zip(self.places, tree['attention'], strict=True) if taken}
    return tuple(
      tsnet.Group(
        chosen['features'],
        chosen['expansion'],
        (chosen['time'], chosen['space'], chosen['space']),
        group.depth,
        group.stride,
        number in attended,
      )
      for number, (group, chosen) in enumerate(zip(groups, tree['groups'], strict=True))
    )

  def encode(self, spec: tsnet.Spec) -> np.ndarray:
    """The canonical choices of a network.

    Raises:
      ValueError: the network does not lie in the space; says where not.
    """
    chosen = {'dense': int(bool(spec.dense))}
    for stream, groups in enumerate((spec.sparse, spec.dense)):
      prefix, mine = ('sparse', 'dense:1')[stream], self.groups[stream]
      if groups and len(groups) != len(mine):
        raise ValueError(f'{prefix} has {len(groups)} groups; those of this space have {len(mine)}')
      for i, group in enumerate(groups):
        values = {
          **{'time': group.kernel[0], 'space': group.kernel[1]},
          **{'features': group.features, 'expansion': group.expansion},
        }
        for name, value in values.items():
          chosen[f'{prefix}/groups/{i}/{name}'] = self._find(f'{prefix}/groups/{i}/{name}', value)
        if group.attention and i not in self.places:
          raise ValueError(f'{prefix} group {i} has attention; the space has it at {self.places}')
      for place, i in enumerate(self.places):
        chosen[f'{prefix}/attention/{place}'] = int(bool(groups and groups[i].attention))
    for i, kind in enumerate(spec.fusions):
      chosen[f'dense:1/fusion/{i}'] = self._find(f'dense:1/fusion/{i}', kind)
    choices = self.space.encode(chosen)
    if self.decode(choices) != spec:
      raise ValueError('the network has other depths, strides or fields than those of this space')
    return choices

  def _find(self, path: str, value) -> int:
    values = self.space.values[self.space.number(path)]
    if value not in values:
      known = ', '.join(map(str, values))
      raise ValueError(
        f'the network is not in this space: {path} is {value}, wanted one of {known}'
      )
    return values.index(value)

  @staticmethod
  def describe_network(spec: tsnet.Spec) -> list[str]:
    """Lines that show a network: a row for each group, the two streams side by side."""
    rows = [('group', 'sparse', *(('dense', 'fusion') if spec.dense else ()))]
    for i, sparse in enumerate(spec.sparse):
      dense = (_describe_group(spec.dense[i]), spec.fusions[i]) if spec.dense else ()
      rows.append((f'{i:5}', _describe_group(sparse), *dense))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
      '    '.join(f'{cell:{width}}' for cell, width in zip(row, widths, strict=True)).rstrip()
      for row in rows
    ]

  def smallest(self, cost: str, num_classes: int) -> np.ndarray:
    """The choices of the cheapest network: one stream, narrow, small kernels, no attention."""
    return np.zeros(len(self.space), np.int32)

  def largest(self) -> np.ndarray:
    """The choices of the widest network, with the largest kernels and the dearest fusions."""
    chosen = (self.space.sizes - 1).astype(np.int32)
    table = self.make_cost_table('macs')
    for group in range(len(self.groups[0])):
      number, tried = self.fusion_number(group), []
      for kind in range(len(self.fusions)):
        chosen[number] = kind
        tried.append(int(table.count(chosen)))
      chosen[number] = int(np.argmax(tried))
    return chosen

  def count_parts(self) -> dict[str, int]:
    """How many networks each of the paper's three steps chooses among (section 4.2).

    Returns:
      sizes of the sparse stream's groups, of the dense stream's groups with fusions, and of
      the attention.
    """
    kernels = len(self.times) * len(self.sizes) * len(self.expansions)
    sparse, dense = (math.prod(kernels * len(g.widths) for g in groups) for groups in self.groups)
    return {
      'sparse': sparse,
      'dense': dense * len(self.fusions) ** len(self.groups[0]),
      'attention': 4 ** len(self.places),
    }


def _describe_group(group: tsnet.Group) -> str:
  kernel = 'x'.join(map(str, group.kernel))
  attention = ' glore' if group.attention else ''
  return f'{group.features:4} {kernel} x{group.expansion:g} ({group.depth}){attention}'


def make_space(
  *,
  sparse: _Stages = SPARSE,
  dense: _Stages = DENSE,
  depths: _Depths = tsnet.DEPTHS,
  expansions: _Expansions = EXPANSIONS,
  times: _Odds = TIMES,
  sizes: _Odds = SIZES,
  fusions: _Fusions = FUSIONS,
  places: tuple[int, ...] = tsnet.PLACES,
  **fields,
) -> TsnetSpace:
  """The space of two-stream networks; by default the paper's.

  Args:
    sparse, dense: widths that the groups of each stage may have, multiples of 8.
    depths: blocks of each group, by stage.
    expansions: eighths, so that every inner width is a whole number.
    times, sizes: temporal and spatial kernels, odd.
    fusions: of the dense stream into the sparse one; 'none' comes first.
    places: groups, counted from 0, that attention may stand behind; () is no attention.
    **fields: of tsnet.Spec: frames, resolution, join, stems, attention_width, …

  Raises:
    ValueError: an argument does not fit.
  """
  decided = {'sparse', 'dense', 'fusions', 'causal'}
  own = {'sparse', 'dense', 'depths', 'expansions', 'times', 'sizes', 'fusions', 'places'}
  fields = read_fields(tsnet.Spec, fields, decided, own)
  for name, widths in (('sparse', sparse), ('dense', dense)):
    if len(widths) != len(depths):
      raise ValueError(f'{name} has {len(widths)} stages, depths has {len(depths)}: one for each')
  if fusions[0] != 'none':
    raise ValueError(f'fusions begin with {fusions[0]!r}; wanted "none" as the first')
  count = sum(map(len, depths))
  if list(places) != sorted(set(places)) or not all(0 <= place < count for place in places):
    raise ValueError(f'places are {places}; wanted groups from 0 to {count - 1} that ascend')
  streams = tuple(_list_groups(widths, depths) for widths in (sparse, dense))
  first = tuple(
    tsnet.Group(g.widths[0], expansions[0], (times[0], sizes[0], sizes[0]), g.depth, g.stride)
    for g in streams[0]
  )
  base = tsnet.Spec(sparse=first, **fields)
  return TsnetSpace(streams, expansions, times, sizes, fusions, tuple(places), base)


def _list_groups(widths, depths) -> tuple[Group, ...]:
  return tuple(
    Group(widths[stage], depth, 1 if i else 2, stage, sum(counts[:i]))
    for stage, counts in enumerate(depths)
    for i, depth in enumerate(counts)
  )
