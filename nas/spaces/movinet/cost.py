"""What networks of MoViNet's space cost: every layer that one could have, beforehand.

Counted costs are those of movinet_jax.cost.count on the network alone, by the formulas of
movinet_jax.models.movinet. Latency is the sum of the measured times of parts, see latency.py.
"""

import dataclasses
import typing
from collections.abc import Mapping

import numpy as np

from movinet_jax.models import movinet
from movinet_jax.names import check_name
from nas.cost import CostTable, Term

if typing.TYPE_CHECKING:  # a space has these functions as its methods
  from nas.spaces.movinet.space import MovinetSpace, Place


def make_cost_table(
  space: 'MovinetSpace',
  cost: str = 'macs',
  *,
  num_classes: int = 600,
  clip: tuple[int, int, int] | None = None,
  times: Mapping['Part', int] | None = None,
) -> CostTable:
  """Counts every layer that a network of the space could have.

  Args:
    cost: 'macs' of a clip, 'params', or 'state_bytes' of a stream in float32: the same
      numbers as movinet_jax.cost.count gives for the network alone. Or 'latency_ns', the
      sum of the parts' measured times.
    num_classes: N.
    clip: (T, H, W); default: the space's native one.
    times: nanoseconds of each part, see find_times.

  Raises:
    ValueError: an unknown cost, or latency without times.
  """
  base = space.base
  frames, *size = clip or (base.frames, base.resolution, base.resolution)
  check_name(cost, (*movinet.Costs._fields, 'latency_ns'), 'cost')
  if cost != 'latency_ns':
    count = _Counted(base, frames, num_classes, cost)
  elif times is None:
    raise ValueError('latency_ns needs measured times: see `movinet latency`')
  else:
    count = _Measured(times)
  size = _halve(size, 2)
  stems = [count.stem(width, size) for width in space.stems]
  terms = [Term((space.stem_number,), np.array(stems, np.int64))]
  for place in space.places:
    terms.append(_count_place(count, place, size))
    size = _halve(size, place.stride)
  heads = [
    [count.head(width, project, size) for project in space.projects]
    for width in space.blocks[-1].widths
  ]
  numbers = space.places[-1].numbers['width'], space.project_number
  return CostTable([*terms, Term(numbers, np.array(heads, np.int64))])


def _count_place(count, place: 'Place', size) -> Term:
  names = list(place.numbers)
  choices = [place.choices[name] for name in names]
  table = np.zeros([len(c) for c in choices], np.int64)
  for index in np.ndindex(table.shape):
    chosen = {n: c[i] for n, c, i in zip(names, choices, index, strict=True)}
    if chosen.pop('skip', False):
      continue
    width = chosen.pop('width')
    before = chosen.pop('before', width)
    layer = movinet.Layer(**{'se': place.choices['se'][0], **chosen})
    table[index] = count.layer(before, width, layer, place.stride, size)
  return Term(tuple(place.numbers.values()), table)


def _halve(size, stride: int) -> list[int]:
  return [-(-n // stride) for n in size]


class Part(typing.NamedTuple):
  """A part of a network, by all that its time depends on within one space.

  Attributes:
    kind: 'stem', 'layer' or 'head'.
    before, width: channels in and out.
    size: (height, width) that it reads; of the stem, half the video's.
    layer: of kind 'layer', with its stride.
  """

  kind: str
  before: int
  width: int
  size: tuple[int, int]
  layer: movinet.Layer | None = None
  stride: int = 1

  def __str__(self):
    how = ''
    if self.layer:
      kernel = 'x'.join(map(str, self.layer.kernel))
      se = ' se' if self.layer.se else ''
      how = f' {kernel}:{self.layer.expand}{se} /{self.stride}'
    return f'{self.kind} {self.before}>{self.width}{how} at {"x".join(map(str, self.size))}'


@dataclasses.dataclass(frozen=True)
class _Counted:
  """A cost that the family's formulas give; `size` is (height, width) of what a part reads.

  Of the stem it is what comes out.
  """

  base: movinet.Spec
  frames: int
  num_classes: int
  cost: str

  def stem(self, width, size) -> int:
    return getattr(movinet.count_stem(width, self.frames, size), self.cost)

  def layer(self, before, width, layer, stride, size) -> int:
    counted = movinet.count_bottleneck(self.base, layer, before, width, stride, self.frames, size)
    return getattr(counted, self.cost)

  def head(self, width, project, size) -> int:
    given = width, project, self.num_classes, self.frames, size
    return getattr(movinet.count_head(self.base, *given), self.cost)


@dataclasses.dataclass(frozen=True)
class _Measured:
  """The measured times of parts."""

  times: Mapping[Part, int]

  def stem(self, width, size) -> int:
    return self.times[Part('stem', 3, width, tuple(size))]

  def layer(self, before, width, layer, stride, size) -> int:
    return self.times[Part('layer', before, width, tuple(size), layer, stride)]

  def head(self, width, project, size) -> int:
    return self.times[Part('head', width, project, tuple(size))]


class _Recorder(dict):
  """Notes what it is asked for."""

  def __missing__(self, part):
    self[part] = 0
    return 0


def list_parts(space: 'MovinetSpace') -> tuple[Part, ...]:
  """All parts that networks of a space could have, each once."""
  recorder = _Recorder()
  make_cost_table(space, 'latency_ns', times=recorder)
  return tuple(recorder)


def find_times(space: 'MovinetSpace', known: Mapping[str, int]) -> dict[Part, int]:
  """The times of a space's parts, out of those by name.

  Raises:
    ValueError: some are not there.
  """
  parts = list_parts(space)
  absent = [str(part) for part in parts if str(part) not in known]
  if absent:
    raise ValueError(
      f'{len(absent)} of the {len(parts)} parts of this space have no measured time, such '
      f'as {absent[0]!r}: measure them with `movinet latency`'
    )
  return {part: known[str(part)] for part in parts}
