"""What networks of MoViNet's space cost: every layer that one could have, beforehand.

Counted costs are those of movinet_jax.cost.count on the network alone. Latency is the sum
of its parts' measured times, see latency.py.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from movinet_jax.models import movinet
from movinet_jax.names import find
from nas.cost import CostTable, Term
from nas.spaces.movinet.space import MovinetSpace, Place


def make_cost_table(
  space: MovinetSpace,
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
  kind = find(_COUNTS, cost, 'cost')
  if kind is _Latency and times is None:
    raise ValueError('latency_ns needs measured times: see `movinet latency`')
  count = kind(base, frames, num_classes, times)
  size = _halve(size, 2)
  stems = [count.stem(width, size) for width in space.stems]
  terms = [Term((space.stem_number,), np.array(stems, np.int64))]
  for place in space.places:
    terms.append(_count_place(count, place, size))
    size = _halve(size, place.stride)
  ends = [
    [count.end(width, project, size) for project in space.projects]
    for width in space.blocks[-1].widths
  ]
  numbers = space.places[-1].numbers['width'], space.project_number
  return CostTable([*terms, Term(numbers, np.array(ends, np.int64))])


def _count_place(count, place: Place, size) -> Term:
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


@dataclasses.dataclass(frozen=True)
class _Count:
  """A cost by parts; `size` is (height, width) of what a part reads, the stem's output."""

  base: movinet.Spec
  frames: int
  num_classes: int
  times: Mapping['Part', int] | None

  def depthwise(self, kernel) -> list[tuple[int, int, int]]:
    """The kernels that one choice stands for."""
    time, height, width = kernel
    if self.base.conv == '3d':
      return [kernel]
    return [(1, height, width), *([(time, 1, 1)] if time > 1 else [])]

  def squeeze(self, expand: int) -> tuple[int, int]:
    """(inputs, hidden width) of a squeeze-excitation."""
    inputs = expand * (2 if self.base.se == '2plus3d' else 1)
    return inputs, movinet.count_hidden(self.base.se, expand)


class _Macs(_Count):
  def stem(self, width, size):
    return self.frames * math.prod(size) * 27 * width

  def layer(self, before, width, layer, stride, size):
    inside = self.frames * math.prod(size)
    outside = self.frames * math.prod(_halve(size, stride))
    total = inside * before * layer.expand + outside * layer.expand * width
    total += outside * layer.expand * sum(map(math.prod, self.depthwise(layer.kernel)))
    if layer.se:
      inputs, hidden = self.squeeze(layer.expand)
      # A clip is squeezed once, a stream's past and single frames with every frame.
      once = self.base.se == '3d' and not self.base.causal
      total += (1 if once else self.frames) * hidden * (inputs + layer.expand)
    if stride > 1 or before != width:
      total += outside * before * width
    return total

  def end(self, width, project, size):
    rows = self.frames if self.base.temporal_softmax else 1
    head = self.base.head * (project + self.num_classes)
    return self.frames * math.prod(size) * width * project + rows * head


class _Params(_Count):
  def stem(self, width, size):
    return 27 * width + 2 * width

  def layer(self, before, width, layer, stride, size):
    expand, kernels = layer.expand, self.depthwise(layer.kernel)
    total = before * expand + 2 * expand + expand * width + 2 * width + 1
    total += expand * sum(math.prod(kernel) + 2 for kernel in kernels)
    if layer.se:
      inputs, hidden = self.squeeze(expand)
      total += inputs * hidden + hidden + hidden * expand + expand + self.base.positions
    if stride > 1 or before != width:
      total += before * width + 2 * width
    return total

  def end(self, width, project, size):
    head = self.base.head
    convolution = width * project + 2 * project
    return convolution + (project + 1) * head + (head + 1) * self.num_classes


class _StateBytes(_Count):
  def stem(self, width, size):
    return 0

  def layer(self, before, width, layer, stride, size):
    if not self.base.causal:
      return 0
    expand, time = layer.expand, layer.kernel[0]
    # A (2+1)D layer's temporal kernel reads what its spatial one has made smaller.
    size = size if self.base.conv == '3d' else _halve(size, stride)
    total = 4 * (time - 1) * math.prod(size) * expand
    if layer.se and self.base.se != '2d':
      total += 4 * (expand + 1)
    return total

  def end(self, width, project, size):
    if not self.base.causal:
      return 0
    if self.base.temporal_softmax:
      return 4 * (3 * self.num_classes + 1)
    return 4 * (project + 1)


class Part(NamedTuple):
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


class _Latency(_Count):
  def stem(self, width, size):
    return self.times[Part('stem', 3, width, tuple(size))]

  def layer(self, before, width, layer, stride, size):
    return self.times[Part('layer', before, width, tuple(size), layer, stride)]

  def end(self, width, project, size):
    return self.times[Part('head', width, project, tuple(size))]


_COUNTS = {
  'macs': _Macs,
  'params': _Params,
  'state_bytes': _StateBytes,
  'latency_ns': _Latency,
}


class _Recorder(dict):
  """Notes what it is asked for."""

  def __missing__(self, part):
    self[part] = 0
    return 0


def list_parts(space: MovinetSpace) -> tuple[Part, ...]:
  """All parts that networks of a space could have, each once."""
  recorder = _Recorder()
  make_cost_table(space, 'latency_ns', times=recorder)
  return tuple(recorder)


def find_times(space: MovinetSpace, known: Mapping[str, int]) -> dict[Part, int]:
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
