"""Tiny Video Networks' space: resolution, clip, and up to eight blocks of many operations.

Piergiovanni, Angelova and Ryoo, "Tiny Video Networks", 2019, section 2 and appendix A.3.
The defaults are the paper's ranges, or ladders inside them where it names ends alone.
"""

import dataclasses
import functools
import itertools
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np

from movinet_jax import ops
from movinet_jax.models import tvn
from movinet_jax.schema import DISTINCT, Range, Share
from movinet_jax.spec import MOST, Size, read_fields
from nas.space import OneOf, Space

# What a block decides: the values of each, cheapest first, as far as one can tell.
BLOCK = {
  'features': (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048),
  'expand': tuple(range(1, 9)),
  'repeats': tuple(range(1, 9)),
  'inverted': (False,),
  'spatial': ('max', 'average', 'depthwise', 'conv', None),
  'temporal': (None, 'max', 'average', 'conv'),
  'kernels': tuple(range(2, 9)),  # the paper's 1 is no operation, None
  'strides': tuple(range(8, 0, -1)),
  'squeeze': (0.0, *(round(0.05 * i, 2) for i in range(1, 21))),
  'non_local': (0, *(2**i for i in range(2, 11))),
  'gate': (False, True),
  'residual': (False, True),
  'activations': ('identity', 'relu'),  # "optionally", appendix A.3
}
CLIP = {
  'resolution': tuple(range(32, 321, 32)),
  'frames': tuple(2**i for i in range(8)),
  'frame_stride': tuple(range(1, 26)),  # of 25 fps video
}
# What the search for mobile networks (section 3) adds.
MOBILE = {'inverted': (False, True), 'activations': ('identity', 'relu', 'hard_swish')}
NUMBER = 'number_of_blocks'


@dataclasses.dataclass(frozen=True)
class TvnSpace:
  """Tiny Video Networks to choose among.

  Attributes:
    values: of each decision, by the names of BLOCK and CLIP.
    most_blocks: how many blocks there may be. Each number from one is as likely.
    longest_frames: of the video that a clip spans, at most: strides depend on frames.
    fields: the rest of tvn.Spec.
  """

  values: Mapping[str, tuple]
  most_blocks: int = 8
  longest_frames: int = 256
  fields: Mapping = dataclasses.field(default_factory=dict)

  family: typing.ClassVar[str] = 'tvn'
  supernet: typing.ClassVar[None] = None

  @functools.cached_property
  def space(self) -> 'BlockSpace':
    clips = [
      {'frames': n, 'frame_stride': OneOf(self.list_strides(n))} for n in self.values['frames']
    ]
    return BlockSpace(
      {
        'resolution': OneOf(self.values['resolution']),
        'clip': OneOf(clips),
        NUMBER: OneOf(self._numbers),
        'blocks': [self._block] * self.most_blocks,
      }
    )

  @property
  def _numbers(self) -> tuple[int, ...]:
    return tuple(range(1, self.most_blocks + 1))

  @staticmethod
  def describe_network(spec: tvn.Spec) -> list[str]:
    """Lines that show a network: its clip, and what each block consists of."""
    lines = [
      f'clip      {spec.frames} frames of {spec.resolution} x {spec.resolution}, one in '
      f'{spec.frame_stride} of the video'
    ]
    for i, block in enumerate(spec.blocks):
      layer = ', '.join(_list_operations(block))
      lines.append(f'block {i}   {block.features:4}  {block.repeats} x ({layer})')
    return lines

  def count_costs(self, choices, num_classes: int) -> dict[str, int]:
    """What a network of the space costs, without tracing it: see tvn.count_costs."""
    return tvn.count_costs(self.decode(choices), num_classes)

  def smallest(self, cost: str, num_classes: int) -> np.ndarray:
    """The choices of a network with the least of a cost, 'macs' or 'params'.

    It has one block with the least of all that only adds to either. Frames and operations
    are tried, for those that take many frames may leave one.
    """
    values = self.values
    adding = 'features', 'expand', 'repeats', 'squeeze', 'non_local', 'gate', 'residual'
    block = tvn.Block(
      **{name: min(values[name]) for name in adding},
      activation=values['activations'][0],
    )
    specs = [
      tvn.Spec(
        (dataclasses.replace(block, inverted=inverted, spatial=image, temporal=time),),
        resolution=min(values['resolution']),
        frames=frames,
        frame_stride=self.list_strides(frames)[0],
        **self.fields,
      )
      for frames, inverted, image, time in itertools.product(
        values['frames'], values['inverted'], *self._list_smallest_ops()
      )
    ]
    # As it is: without its idle operation it may lie outside the space.
    return self._encode(min(specs, key=lambda spec: tvn.count_costs(spec, num_classes)[cost]))

  def _list_smallest_ops(self) -> Iterator[list]:
    """Operations on images, and those on time: one of each kind."""
    sizes = min(self.values['kernels']), max(self.values['strides'])
    act = self.values['activations'][0]
    for name in ('spatial', 'temporal'):
      yield [kind and tvn.Op(kind, *sizes, act) for kind in self.values[name]]

  def list_strides(self, frames: int) -> tuple[int, ...]:
    """Strides with which so many frames span no more video than there may be."""
    strides = self.values['frame_stride']
    # Of a single frame, all strides make the same clip.
    return tuple(s for s in strides if frames * s <= self.longest_frames)[
      : 1 if frames == 1 else None
    ]

  @functools.cached_property
  def _block(self) -> dict:
    values = self.values
    return {
      'features': OneOf(values['features'], 'filters'),
      **{name: OneOf(values[name]) for name in ('expand', 'repeats', 'inverted')},
      **{name: OneOf(tuple(map(self._make_op, values[name]))) for name in ('spatial', 'temporal')},
      **{name: _make_optional(values[name]) for name in ('squeeze', 'non_local')},
      **{name: OneOf(values[name]) for name in ('gate', 'residual')},
      'activation': OneOf(values['activations']),
    }

  def _make_op(self, kind):
    if kind is None:
      return None
    sizes = {
      'kernel': OneOf(self.values['kernels']),
      'stride': OneOf(self.values['strides']),
    }
    if kind in tvn.CONVOLUTIONS:
      sizes['activation'] = OneOf(self.values['activations'])
    return {'kind': kind, **sizes}

  def decode(self, choices) -> tvn.Spec:
    """The network that a vector of choices stands for, with its native clip."""
    tree = self.space.decode(choices)
    blocks = tuple(map(_make_block, tree['blocks'][: tree[NUMBER]]))
    spec = tvn.Spec(blocks, resolution=tree['resolution'], **tree['clip'], **self.fields)
    return drop_idle(spec)

  def encode(self, spec: tvn.Spec) -> np.ndarray:
    """The canonical choices of a network.

    Raises:
      ValueError: the network does not lie in the space; says where not.
    """
    return self._encode(drop_idle(spec))

  def _encode(self, spec):
    finder = _Finder()
    finder.choose('resolution', spec.resolution, self.values['resolution'])
    clip = finder.choose('clip', spec.frames, self.values['frames'], 'frames')
    if clip is not None:
      strides = self.list_strides(spec.frames)
      finder.choose(f'clip:{clip}/frame_stride', spec.frame_stride, strides)
    for name, value in self.fields.items():
      finder.check(name, getattr(spec, name), value)
    finder.choose(NUMBER, len(spec.blocks), self._numbers)
    for i, block in enumerate(spec.blocks[: self.most_blocks]):
      self._encode_block(finder, f'blocks/{i}', block)
    if finder.outside:
      raise ValueError('the network is not in this space:\n  ' + '\n  '.join(finder.outside))
    return self.space.encode(finder.chosen)

  def _encode_block(self, finder, path, block):
    values = self.values
    for name in ('features', 'expand', 'repeats', 'inverted', 'gate', 'residual'):
      finder.choose(f'{path}/{name}', getattr(block, name), values[name])
    finder.choose(f'{path}/activation', block.activation, values['activations'])
    for name in ('squeeze', 'non_local'):
      none, *some = values[name]
      value = getattr(block, name)
      if value == none or not some:
        finder.check(f'{path}/{name}', value, none)
        continue
      finder.chosen[f'{path}/{name}'] = 1
      finder.choose(f'{path}/{name}:1', value, some)
    for name in ('spatial', 'temporal'):
      op = getattr(block, name)
      kind = finder.choose(f'{path}/{name}', op and op.kind, values[name])
      if op and kind is not None:
        inside = f'{path}/{name}:{kind}'
        finder.choose(f'{inside}/kernel', op.kernel, values['kernels'])
        finder.choose(f'{inside}/stride', op.stride, values['strides'])
        if op.kind in tvn.CONVOLUTIONS:
          finder.choose(f'{inside}/activation', op.activation, values['activations'])


class BlockSpace(Space):
  """A space in which the decisions about blocks beyond the number chosen are closed.

  A tree cannot say so. In one, each block is left out by itself, and numbers in the middle
  are the likeliest; or each number has blocks of its own, and another number means other
  blocks.
  """

  @functools.cached_property
  def _blocks(self) -> np.ndarray:
    """[D], the block that each decision is about; 0 for those about none."""
    paths = [decision.path.split('/') for decision in self.decisions]
    return np.array([int(path[1]) if path[0] == 'blocks' else 0 for path in paths])

  def is_open(self, choices) -> np.ndarray:
    last = np.asarray(choices)[..., self.number(NUMBER), np.newaxis]
    return super().is_open(choices) & (self._blocks <= last)

  def count(self) -> int:
    """How many networks there are.

    Some of them are the same: those with time operations where one frame is left.
    """
    rest, blocks = dict(self.tree), self.tree['blocks']
    del rest['blocks'], rest[NUMBER]
    each = Space(blocks[0]).count()
    return Space(rest).count() * sum(each ** (n + 1) for n in range(len(blocks)))

  def enumerate(self) -> Iterator[np.ndarray]:
    for choices in super().enumerate():
      if np.array_equal(choices, self.canonical(choices)):
        yield choices


_Sizes = Annotated[tuple[Size, ...], DISTINCT]
_Flags = Annotated[tuple[bool, ...], DISTINCT]


def make_space(
  *,
  resolution: _Sizes = CLIP['resolution'],
  frames: _Sizes = CLIP['frames'],
  frame_stride: _Sizes = CLIP['frame_stride'],
  longest_frames: Size = 256,
  most_blocks: Size = 8,
  features: _Sizes = BLOCK['features'],
  expand: _Sizes = BLOCK['expand'],
  repeats: _Sizes = BLOCK['repeats'],
  inverted: _Flags = BLOCK['inverted'],
  spatial: Annotated[tuple[Literal[tvn.SPATIAL] | None, ...], DISTINCT] = BLOCK['spatial'],
  temporal: Annotated[tuple[Literal[tvn.TEMPORAL] | None, ...], DISTINCT] = BLOCK['temporal'],
  kernels: Annotated[tuple[Annotated[int, Range(2, MOST)], ...], DISTINCT] = BLOCK['kernels'],
  strides: _Sizes = BLOCK['strides'],
  squeeze: Annotated[tuple[Share, ...], DISTINCT] = BLOCK['squeeze'],
  non_local: Annotated[tuple[Annotated[int, Range(0, MOST)], ...], DISTINCT] = BLOCK['non_local'],
  gate: _Flags = BLOCK['gate'],
  residual: _Flags = BLOCK['residual'],
  activations: Annotated[tuple[ops.Activation, ...], DISTINCT] = BLOCK['activations'],
  **fields,
) -> TvnSpace:
  """The space of Tiny Video Networks with these values, each a list, the cheapest first.

  `make_space(**MOBILE)` is that of the mobile networks.

  Args:
    resolution, frames, frame_stride: of the native clip, strides of 25 fps video.
    longest_frames: of that video, which a clip may span.
    most_blocks: of a network.
    features, expand, repeats, inverted, squeeze, non_local, gate, residual: see tvn.Block.
      Of squeeze and non_local the first, none, is as likely as all the others.
    spatial, temporal: kinds of operations, see tvn.Op; None for none.
    kernels, strides: of operations.
    activations: of operations and blocks.
    **fields: of tvn.Spec: temporal_softmax.

  Raises:
    ValueError: an argument does not fit.
  """
  given = locals()
  values = {name: given[name] for name in (*CLIP, *BLOCK)}
  decided = {'blocks', *CLIP}
  fields = read_fields(tvn.Spec, fields, decided, given.keys() - {'fields'})
  if max(values['frames']) * min(values['frame_stride']) > longest_frames:
    raise ValueError(
      f'{max(values["frames"])} frames, every {min(values["frame_stride"])}, span more '
      f'than longest_frames, which is {longest_frames}: raise it, or take fewer frames'
    )
  made = TvnSpace(values, most_blocks, longest_frames, fields)
  made.decode(np.zeros(len(made.space), np.int32))  # the cheapest is a network
  return made


class _Finder:
  """Collects a network's choices by path, and what of it the space does not have."""

  def __init__(self):
    self.chosen, self.outside = {}, []

  def choose(self, path, value, known, name=None) -> int | None:
    known = tuple(known)
    if value not in known:
      listed = ', '.join(map(str, known))
      self.outside.append(f'{name or path} is {value}, the space has {listed}')
      return None
    self.chosen[path] = known.index(value)
    return self.chosen[path]

  def check(self, path, value, wanted):
    if value != wanted:
      self.outside.append(f'{path} is {value}, the space has {wanted}')


def _make_optional(values: Sequence):
  """The first value, or a choice among the others: so that each is as likely."""
  none, *some = values
  return OneOf((none, OneOf(tuple(some)))) if some else none


def _list_operations(block: tvn.Block) -> Iterator[str]:
  """What a layer of a block consists of, in words."""
  for name in ('spatial', 'temporal'):
    if op := getattr(block, name):
      yield f'{name} {op.kind} {op.kernel}/{op.stride}'
  yield f'{"inverted, " if block.inverted else ""}expand {block.expand}'
  if block.squeeze:
    yield f'squeeze {block.squeeze:g}'
  if block.non_local:
    yield f'non-local {block.non_local}'
  yield from (name for name in ('gate', 'residual') if getattr(block, name))


def _make_block(chosen: Mapping) -> tvn.Block:
  ops = {name: chosen[name] and tvn.Op(**chosen[name]) for name in ('spatial', 'temporal')}
  return tvn.Block(**{**chosen, **ops})


def drop_idle(spec: tvn.Spec) -> tvn.Spec:
  """The same network without time operations that no layer has: one frame is left there."""
  layers = dict(tvn.list_layers(spec))
  blocks = tuple(
    block if layers[f'block{i}_layer0'].temporal else dataclasses.replace(block, temporal=None)
    for i, block in enumerate(spec.blocks)
  )
  return dataclasses.replace(spec, blocks=blocks)
