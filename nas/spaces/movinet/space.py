"""MoViNet's search space, as a function of its size φ.

Kondratyuk et al., CVPR 2021, section 3.1 and supplement A.1: MobileNetV3 expanded to 3D.
Each of five blocks chooses its width and up to ten layers; each layer a kernel and an
expansion. φ scales depth, width, resolution and frame rate together; the space of φ = 0 is
that of MoViNet-A2. A block has d to 10 d layers: d is 1 at φ = 0, and rounds to 2 at φ = 2 and
to 3 at φ = 3. The stride of frames is rounded to a tenth, because whole strides would give
φ = 2 and φ = 3 the same frame rate. Widths and kernels are those that the paper prints. That
expansions are relative to a block's base width and not to the chosen one, and the width of
the last convolution, are read off the released networks: 25 of A2's 26 layers fit.
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np

from movinet_jax import ops, schema
from movinet_jax.models import movinet
from movinet_jax.spec import Size, read_fields
from nas.space import OneOf, Space
from nas.spaces.movinet import cost, latency
from nas.spaces.movinet.arguments import (
  MOST_LAYERS,
  Clip,
  Coefficient,
  Kernels,
  Multipliers,
  Phi,
  Sizes,
)

KERNELS = (
  (1, 3, 3),
  (1, 5, 5),
  (1, 7, 7),
  (3, 3, 3),
  (5, 3, 3),
  (5, 1, 1),
  (7, 1, 1),
)
EXPANSIONS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
MULTIPLIERS = (0.75, 1.0, 1.25)


class Coefficients(typing.NamedTuple):
  """What φ + 1 multiplies by."""

  depth: Coefficient
  width: Coefficient
  resolution: Coefficient
  rate: Coefficient


PUBLISHED = Coefficients(depth=1.36, width=1.18, resolution=1.16, rate=1.24)  # A.1


@dataclasses.dataclass(frozen=True)
class Block:
  """What may vary in a block: its width, and in each layer kernel and expansion.

  It has `least` to `depth` layers, the first with the spatial `stride`.
  """

  widths: tuple[int, ...]
  expands: tuple[int, ...]
  kernels: tuple[tuple[int, int, int], ...]
  depth: int
  stride: int
  least: int = 1


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a layer may stand.

  Attributes:
    block, layer: its numbers.
    stride: of space.
    numbers: decisions about it, by what they decide: `before`, the width that comes in,
      where another decision than its own `width` says it; `expand`, `kernel`, `se`, `skip`.
    choices: what each may be, also of those that are not decided.
  """

  block: int
  layer: int
  stride: int
  numbers: Mapping[str, int]
  choices: Mapping[str, tuple]


@dataclasses.dataclass(frozen=True)
class MovinetSpace:
  """MoViNets to choose among.

  Attributes:
    stems, projects: widths of the first and the last convolution.
    blocks: what may vary in each.
    se: True or False for all layers, or 'search'.
    base: all else, as a movinet.Spec; its stem, blocks and project say nothing.
  """

  stems: tuple[int, ...]
  blocks: tuple[Block, ...]
  projects: tuple[int, ...]
  se: bool | str
  base: movinet.Spec

  family: typing.ClassVar[str] = 'movinet'
  supernet: typing.ClassVar[str] = 'movinet'

  list_parts = cost.list_parts
  find_times = cost.find_times
  make_cost_table = cost.make_cost_table

  def make_bench(
    self, num_classes: int, *, batch: int = 1, frames: int | None = None, dtype=jnp.float32
  ) -> latency.Bench:
    """Runs parts and networks alone, to measure them.

    Args:
      num_classes: N.
      batch: B, clips at a time.
      frames: T, of each call; default: one for networks that stream, else the native clip.
      dtype: what is computed in.
    """
    frames = frames or (1 if self.base.causal else self.base.frames)
    return latency.Bench(self, num_classes, batch, frames, dtype)

  @property
  def causal(self) -> bool:
    """Whether its networks are streams."""
    return self.base.causal

  @functools.cached_property
  def space(self) -> Space:
    """Its decisions: the stem's width, each block's width and layers, the last width."""
    return Space(
      {
        'stem': OneOf(self.stems, 'filters'),
        'blocks': [self._block(block) for block in self.blocks],
        'project': OneOf(self.projects, 'filters'),
      }
    )

  def _block(self, block: Block) -> dict:
    layer = {
      'kernel': OneOf(block.kernels),
      'expand': OneOf(block.expands, 'filters'),
      'se': OneOf((True, False)) if self.se == 'search' else self.se,
    }
    # A block's first layer changes its width and size, so it is no decision. Others that
    # are never left out are one: vectors are as long whatever the fewest layers are.
    rest = [OneOf((layer, None)[: 1 if j < block.least else 2]) for j in range(1, block.depth)]
    return {'features': OneOf(block.widths, 'filters'), 'layers': [layer, *rest]}

  @functools.cached_property
  def places(self) -> tuple[Place, ...]:
    """Where layers may stand, in the order in which they run."""
    places, before, last = [], self.stems, self.stem_number
    for i, block in enumerate(self.blocks):
      width = self.space.number(f'blocks/{i}/features')
      for j in range(block.depth):
        path = f'blocks/{i}/layers/{j}'
        numbers = {'before': last} if j == 0 else {'skip': self.space.number(path)}
        keys = ['expand', 'kernel', *(['se'] if self.se == 'search' else [])]
        inside = path if j == 0 else f'{path}:0'
        numbers |= {key: self.space.number(f'{inside}/{key}') for key in keys}
        choices = {
          'before': before,
          'width': block.widths,
          'expand': block.expands,
          'kernel': block.kernels,
          'se': (True, False) if self.se == 'search' else (self.se,),
          'skip': (False, True)[: 1 if j < block.least else 2],
        }
        stride = block.stride if j == 0 else 1
        places.append(Place(i, j, stride, {'width': width, **numbers}, choices))
        before, last = block.widths, width
    return tuple(places)

  @property
  def stem_number(self) -> int:
    return self.space.number('stem')

  @property
  def project_number(self) -> int:
    return self.space.number('project')

  def decode(self, choices) -> movinet.Spec:
    """The network that a vector of choices stands for."""
    tree = self.space.decode(choices)
    blocks = tuple(
      movinet.Block(
        chosen['features'],
        block.stride,
        tuple(movinet.Layer(**layer) for layer in chosen['layers'] if layer),
      )
      for block, chosen in zip(self.blocks, tree['blocks'], strict=True)
    )
    return dataclasses.replace(self.base, stem=tree['stem'], blocks=blocks, project=tree['project'])

  def encode(self, spec: movinet.Spec) -> np.ndarray:
    """The canonical choices of a network; its layers take the first places of a block.

    Raises:
      ValueError: the network does not lie in the space; says where not.
    """
    outside = self.find_outside(spec)
    if outside:
      raise ValueError('the network is not in this space:\n  ' + '\n  '.join(outside))
    chosen = {
      'stem': self.stems.index(spec.stem),
      'project': self.projects.index(spec.project),
    }
    for i, (block, given) in enumerate(zip(self.blocks, spec.blocks, strict=True)):
      chosen[f'blocks/{i}/features'] = block.widths.index(given.features)
      for j in range(block.depth):
        place = f'blocks/{i}/layers/{j}'
        if j >= len(given.layers):
          chosen[place] = 1  # left out
          continue
        inside, layer = place if j == 0 else f'{place}:0', given.layers[j]
        chosen[f'{inside}/kernel'] = block.kernels.index(layer.kernel)
        chosen[f'{inside}/expand'] = block.expands.index(layer.expand)
        if self.se == 'search':
          chosen[f'{inside}/se'] = 0 if layer.se else 1
    return self.space.encode(chosen)

  def project(self, spec: movinet.Spec) -> movinet.Spec:
    """The network of the space that a network is nearest to, part by part.

    Widths go to the nearest; a kernel that is not there becomes the first one, layers
    beyond a block's depth are left out, and the last layer is repeated where there are too
    few.
    """
    blocks = []
    for block, given in zip(self.blocks, spec.blocks, strict=True):
      layers = tuple(
        dataclasses.replace(
          layer,
          kernel=layer.kernel if layer.kernel in block.kernels else block.kernels[0],
          expand=_nearest(layer.expand, block.expands),
          se=layer.se if self.se == 'search' else self.se,
        )
        for layer in given.layers[: block.depth]
      )
      layers += layers[-1:] * (block.least - len(layers))
      width = _nearest(given.features, block.widths)
      blocks.append(movinet.Block(width, block.stride, layers))
    return dataclasses.replace(
      self.base,
      stem=_nearest(spec.stem, self.stems),
      blocks=tuple(blocks),
      project=_nearest(spec.project, self.projects),
    )

  def find_outside(self, spec: movinet.Spec) -> list[str]:
    """One line for each part of a network that this space does not have."""
    lines = []

    def check(where, value, known):
      if value not in known:
        lines.append(f'{where} is {value}, the space has {", ".join(map(str, known))}')

    check('stem', spec.stem, self.stems)
    check('project', spec.project, self.projects)
    for field in dataclasses.fields(spec):
      if field.name not in ('stem', 'blocks', 'project'):
        check(field.name, getattr(spec, field.name), [getattr(self.base, field.name)])
    if len(spec.blocks) != len(self.blocks):
      return [*lines, f'{len(spec.blocks)} blocks, the space has {len(self.blocks)}']
    for i, (block, given) in enumerate(zip(self.blocks, spec.blocks, strict=True)):
      check(f'block {i}: features', given.features, block.widths)
      check(f'block {i}: stride', given.stride, [block.stride])
      if len(given.layers) > block.depth:
        lines.append(f'block {i}: {len(given.layers)} layers, at most {block.depth}')
      if len(given.layers) < block.least:
        lines.append(f'block {i}: {len(given.layers)} layers, at least {block.least}')
      for j, layer in enumerate(given.layers):
        check(f'block {i} layer {j}: kernel', layer.kernel, block.kernels)
        check(f'block {i} layer {j}: expand', layer.expand, block.expands)
        known = (True, False) if self.se == 'search' else (self.se,)
        check(f'block {i} layer {j}: se', layer.se, known)
    return lines

  @staticmethod
  def describe_network(spec: movinet.Spec) -> list[str]:
    """Lines that show a network: its widths, and kernel and expansion of each layer."""
    lines = [f'stem      {spec.stem:4}']
    for i, block in enumerate(spec.blocks):
      layers = ' '.join(f'{"x".join(map(str, x.kernel))}:{x.expand}' for x in block.layers)
      lines.append(f'block {i}   {block.features:4}  {layers}')
    return [*lines, f'project   {spec.project:4}']

  def smallest(self, cost: str, num_classes: int) -> np.ndarray:
    """The choices of the network with the least of any cost: few layers, all narrow."""
    chosen = np.zeros(len(self.space), np.int32)
    for n, (decision, values) in enumerate(
      zip(self.space.decisions, self.space.values, strict=True)
    ):
      if decision.path.endswith('kernel'):
        chosen[n] = min(range(len(values)), key=lambda k, v=values: math.prod(v[k]))
      elif decision.tag != 'filters':  # a layer that is left out, its gate
        chosen[n] = decision.choices - 1
    return self.space.canonical(chosen)

  def largest(self) -> np.ndarray:
    """The choices of the network with most multiply-adds: all layers, all at the widest."""
    chosen = np.zeros(len(self.space), np.int32)
    for n, decision in enumerate(self.space.decisions):
      if decision.path.endswith('kernel'):
        block = self.blocks[int(decision.path.split('/')[1])]
        chosen[n] = max(range(len(block.kernels)), key=lambda k: math.prod(block.kernels[k]))
      elif decision.tag == 'filters':
        chosen[n] = decision.choices - 1
    return chosen


def make_space(
  phi: Phi = 0.0,
  *,
  coefficients: Mapping[str, float] | Coefficients = PUBLISHED,
  kernels: Kernels = KERNELS,
  expansions: Multipliers = EXPANSIONS,
  multipliers: Multipliers = MULTIPLIERS,
  stem_multipliers: Multipliers = (1.0, 1.25),
  stem: Size = 16,
  widths: Sizes = (24, 48, 96, 96, 192),
  strides: Sizes = (2, 2, 2, 1, 2),
  project: Size = 512,
  depth: Size = 10,
  least: Size = 1,
  resolution: Size = 224,
  frames: Size = 50,
  frame_stride: Size = 5,
  whole_stride: bool = False,
  clip: Clip | None = None,
  se: bool | Literal['search'] = True,
  se_kind: Literal[ops.SE_KINDS] = '3d',
  merge_equal: bool = False,
  **fields,
) -> MovinetSpace:
  """The space of a size φ.

  Args:
    phi: φ; 0 is the space of A2, +1 makes its networks four times as large on average.
    coefficients: what φ + 1 multiplies depth, width, resolution and frame rate by.
    kernels: (KT, KH, KW) that a layer may have.
    expansions: of a layer's inner width, relative to its block's base width.
    multipliers: of a block's and the last convolution's base width.
    stem_multipliers: of the stem's. 0.75 would round to the same width as 1 at φ = 0.
    stem, widths, project: base widths at φ = 0.
    strides: of each block's first layer.
    depth, least: most and fewest layers of a block at φ = 0; φ multiplies both alike.
    resolution, frames, frame_stride: the native clip at φ = 0; the stride is of 25 fps
      video, and the duration of a clip stays as φ changes the frame rate.
    whole_stride: round the stride of φ to whole frames, for videos of other frame rates.
      Otherwise it goes to a tenth of a frame, and clips are taken by time (`fps`).
    clip: (frames, resolution, frame_stride) to have whatever φ is.
    se: squeeze-excitation in all layers (True), none (False), or 'search'. The paper's
      search always chose it, for it costs next to nothing.
    se_kind: what it squeezes, the `se` of movinet.Spec.
    merge_equal: let widths that round to one be one choice, instead of refusing them.
    **fields: of movinet.Spec: conv, causal, activation, …

  Raises:
    ValueError: an argument does not fit, or φ rounds two choices into one.
  """
  own = {*inspect.signature(make_space).parameters} - {'fields'}
  fields = read_fields(movinet.Spec, fields, {'blocks'}, own)
  grown = _grow(coefficients, phi)
  make = functools.partial(_make_widths, phi=phi, merge_equal=merge_equal)
  if len(widths) != len(strides):
    raise ValueError(f'{len(widths)} widths and {len(strides)} strides: one per block')
  least, depth = _scale_depths(grown.depth, least, depth, len(widths), phi)
  scale = functools.partial(_scale_size, grown.width, phi)
  blocks = []
  for i, (width, stride) in enumerate(zip(widths, strides, strict=True)):
    base = scale('widths', width)
    expands = make(f'expansions of block {i}', base, expansions)
    features = make(f'block {i}', base, multipliers)
    blocks.append(Block(features, expands, kernels, depth, stride, least))
  scaled = _scale_clip(grown, phi, frames, resolution, frame_stride, whole_stride)
  frames, resolution, frame_stride = scaled if clip is None else clip
  base = movinet.Spec(
    stem=scale('stem', stem),
    blocks=tuple(
      movinet.Block(b.widths[0], b.stride, (movinet.Layer(b.kernels[0], b.expands[0]),))
      for b in blocks
    ),
    project=scale('project', project),
    frames=frames,
    resolution=resolution,
    frame_stride=frame_stride,
    se=se_kind,
    **fields,
  )
  return MovinetSpace(
    make('stem', base.stem, stem_multipliers),
    tuple(blocks),
    make('project', base.project, multipliers),
    se,
    base,
  )


def _grow(coefficients, phi) -> Coefficients:
  """What φ multiplies by."""
  return Coefficients(*(factor**phi for factor in read_coefficients(coefficients)))


def read_coefficients(given: Mapping | Coefficients, where: str = 'coefficients') -> Coefficients:
  """One number for each axis, checked."""
  given = given._asdict() if isinstance(given, Coefficients) else given
  return schema.call(Coefficients, schema.build(Mapping, given, where), where)


def _scale_clip(
  grown, phi, frames, resolution, frame_stride, whole_stride
) -> tuple[int, int, float]:
  """A clip of the same duration, at φ's frame rate and resolution."""
  resolution = _scale_size(grown.resolution, phi, 'resolution', resolution)
  scaled = max(1, round(frame_stride / grown.rate, 0 if whole_stride else 1))
  scaled = int(scaled) if scaled == int(scaled) else scaled
  count = max(1, round(frames * frame_stride / scaled))
  return count, resolution, scaled


def _scale_depths(factor, least, depth, blocks: int, phi) -> tuple[int, int]:
  """The fewest and most layers of a block."""
  if least > depth:
    raise ValueError(f'least is {least}, more than depth, which is {depth}')
  fewest, most = (max(1, round(value * factor)) for value in (least, depth))
  if most * blocks > MOST_LAYERS:
    raise ValueError(
      f'depth is {depth}: with φ = {phi:g} that is {most:,} layers in each of {blocks} '
      f'blocks; wanted at most {MOST_LAYERS:,} in all'
    )
  return fewest, most


def _scale_size(factor, phi, key: str, size) -> int:
  """A width or an image side, to a multiple of 8."""
  return schema.build(Size, round_half_up_to_8(size * factor), f'{key} at φ = {phi:g}')


def _nearest(value: int, known: tuple[int, ...]) -> int:
  return min(known, key=lambda width: (abs(width - value), width))


def round_half_up_to_8(value: float) -> int:
  """The nearest multiple of 8, halves up, at least 8."""
  return max(8, math.floor(value / 8 + 0.5) * 8)


def _make_widths(name, base, multipliers, *, phi, merge_equal) -> tuple[int, ...]:
  found = [round_half_up_to_8(base * multiplier) for multiplier in multipliers]
  if len(set(found)) < len(found) and not merge_equal:
    raise ValueError(
      f'φ = {phi:g} rounds two choices into one: {name} has base width {base}, whose '
      f'multiples {", ".join(map(str, multipliers))} are {", ".join(map(str, found))} '
      'channels. Take a larger φ or base width, fewer multipliers, or merge_equal=True'
    )
  return tuple(sorted(set(found)))
