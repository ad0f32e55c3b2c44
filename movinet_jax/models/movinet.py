"""MoViNets: mobile video networks for efficient video recognition.

Kondratyuk et al., CVPR 2021, https://arxiv.org/abs/2103.11511. A network is a stem, five
blocks of inverted bottlenecks with depthwise 3D convolutions and squeeze-excitation, and
a head. Made causal, it runs on a stream: what it keeps between sub-clips are the last
frames of each temporal convolution and running sums of each pooling.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import flax.linen as nn
import jax.numpy as jnp

from movinet_jax import layers, ops, schema
from movinet_jax.layers import Costs
from movinet_jax.schema import Count, Limit, Range, Rate

NATIVE_FPS = 25
NUM_CLASSES = 600  # Kinetics-600, of the released checkpoints


@dataclasses.dataclass(frozen=True)
class Layer:
  """One bottleneck: `kernel` (KT, KH, KW), `expand` channels inside, squeeze-excite or not."""

  kernel: tuple[Count, Count, Count]
  expand: Count
  se: bool = True

  def __post_init__(self):
    schema.verify(self)


@dataclasses.dataclass(frozen=True)
class Block:
  """Bottlenecks of `features` channels; the first has the spatial `stride`."""

  features: Count
  stride: Count
  layers: tuple[Layer, ...]

  def __post_init__(self):
    schema.verify(self)


_WITH_LAYERS = Limit(
  lambda blocks: len(blocks) > 0 and all(block.layers for block in blocks),
  'one block or more, each with a layer',
)


@dataclasses.dataclass(frozen=True)
class Spec:
  """An architecture.

  `conv` `3d` is one depthwise kernel; `2plus1d` a spatial one, then a temporal one, each
  with its own norm and activation. `3d_2plus1d` is the reference's name for the latter
  written with 3D kernels: the same network here, with the same parameters.

  `frames`, `resolution` and `frame_stride` (of video at NATIVE_FPS) are the native input; any
  other works.

  A stride that is not whole is a frame rate: clips are then taken by time.
  """

  stem: Count
  blocks: Annotated[tuple[Block, ...], _WITH_LAYERS]
  project: Count
  head: Count = 2048
  conv: Literal['3d', '2plus1d', '3d_2plus1d'] = '3d'
  se: Literal[ops.SE_KINDS] = '3d'
  causal: bool = False
  positions: bool = False
  activation: ops.Activation = 'swish'
  gate: ops.Activation = 'sigmoid'
  head_activation: ops.Activation = 'swish'
  temporal_softmax: bool = False
  frames: Count = 50
  resolution: Count = 224
  frame_stride: Annotated[float, Range(1)] = 5

  def __post_init__(self):
    schema.verify(self)
    if self.frame_stride == int(self.frame_stride):  # a file has 5 as it has always had
      object.__setattr__(self, 'frame_stride', int(self.frame_stride))
    if self.positions and (not self.causal or self.se == '2d'):
      raise ValueError(
        "positions are of a stream's past: they need causal=True, and se '3d' or '2plus3d'"
      )


def _blocks(*rows: tuple[int, str]) -> tuple[Block, ...]:
  """Rows (features, 'KTxKS:expand …'); the fourth block keeps its size, others halve it."""
  strides = (2, 2, 2, 1, 2)
  return tuple(
    Block(features, stride, tuple(map(_layer, row.split())))
    for stride, (features, row) in zip(strides, rows, strict=True)
  )


def _layer(text: str) -> Layer:
  kernel, expand = text.split(':')
  time, space = map(int, kernel.split('x'))
  return Layer((time, space, space), int(expand))


# The released networks, layer by layer as in the published code (TensorFlow Model Garden,
# official/projects/movinet): these, not the tables printed in the supplement, have the
# parameters of the released checkpoints and the multiply-adds of the paper.
_RELEASED = {
  'a0': Spec(
    stem=8,
    blocks=_blocks(
      (8, '1x5:24'),
      (32, '3x3:80 3x3:80 3x3:80'),
      (56, '5x3:184 3x3:112 3x3:184'),
      (56, '5x3:184 3x3:184 3x3:184 3x3:184'),
      (104, '5x3:384 1x5:280 1x5:280 1x5:344'),
    ),
    project=480,
    frames=50,
    resolution=172,
  ),
  'a1': Spec(
    stem=16,
    blocks=_blocks(
      (16, '1x5:40 3x3:40'),
      (40, '3x3:96 3x3:120 3x3:96 3x3:96'),
      (64, '5x3:216 3x3:128 3x3:216 3x3:168 3x3:216'),
      (64, '5x3:216 3x3:216 3x3:216 3x3:128 1x5:128 3x3:216'),
      (136, '5x3:456 1x5:360 1x5:360 1x5:360 1x5:456 3x3:456 1x3:544'),
    ),
    project=600,
    frames=50,
    resolution=172,
  ),
  'a2': Spec(
    stem=16,
    blocks=_blocks(
      (16, '1x5:40 3x3:40 3x3:64'),
      (40, '3x3:96 3x3:120 3x3:96 3x3:96 3x3:120'),
      (72, '5x3:240 3x3:160 3x3:240 3x3:192 3x3:240'),
      (72, '5x3:240 3x3:240 3x3:240 3x3:240 1x5:144 3x3:240'),
      (144, '5x3:480 1x5:384 1x5:384 1x5:480 1x5:480 3x3:480 1x3:576'),
    ),
    project=640,
    frames=50,
    resolution=224,
  ),
  'a3': Spec(
    stem=16,
    blocks=_blocks(
      (16, '1x5:40 3x3:40 3x3:64 3x3:40'),
      (48, '3x3:112 3x3:144 3x3:112 1x5:112 3x3:144 3x3:144'),
      (80, '5x3:240 3x3:152 3x3:240 3x3:192 3x3:240'),
      (88, '5x3:264 3x3:264 3x3:264 3x3:264 1x5:160 3x3:264 3x3:264 3x3:264'),
      (
        168,
        '5x3:560 1x5:448 1x5:448 1x5:560 1x5:560 3x3:560 1x5:448 1x5:448 3x3:560 1x3:672',
      ),
    ),
    project=744,
    frames=120,
    resolution=256,
    frame_stride=2,
  ),
  'a4': Spec(
    stem=24,
    blocks=_blocks(
      (24, '1x5:64 3x3:64 3x3:96 3x3:64 3x3:96 3x3:64'),
      (
        56,
        '3x3:168 3x3:168 3x3:136 3x3:136 3x3:168 3x3:168 3x3:168 1x5:136 3x3:136',
      ),
      (
        96,
        '5x3:320 3x3:160 3x3:320 3x3:192 3x3:320 3x3:160 3x3:320 3x3:256 3x3:320',
      ),
      (
        96,
        '5x3:320 3x3:320 3x3:320 3x3:320 1x5:192 3x3:320 3x3:320 3x3:192 3x3:320 3x3:320',
      ),
      (
        192,
        '5x3:640 1x5:512 1x5:512 1x5:640 1x5:640 3x3:640 1x5:512 1x5:512 1x5:640 1x5:768 '
        '1x5:640 3x3:640 3x3:768',
      ),
    ),
    project=856,
    frames=80,
    resolution=290,
    frame_stride=3,
  ),
  'a5': Spec(
    stem=24,
    blocks=_blocks(
      (24, '1x5:64 1x5:64 3x3:96 3x3:64 3x3:96 3x3:64'),
      (
        64,
        '5x3:192 3x3:152 3x3:152 3x3:152 3x3:192 3x3:192 3x3:192 3x3:152 3x3:152 3x3:192 3x3:192',
      ),
      (
        112,
        '5x3:376 3x3:224 3x3:376 3x3:376 3x3:296 3x3:376 3x3:224 3x3:376 3x3:376 3x3:296 '
        '3x3:376 3x3:376 3x3:376',
      ),
      (
        120,
        '5x3:376 3x3:376 3x3:376 3x3:376 1x5:224 3x3:376 3x3:376 3x3:224 3x3:376 3x3:376 3x3:376',
      ),
      (
        224,
        '5x3:744 3x3:744 1x5:600 1x5:600 1x5:744 1x5:744 3x3:744 1x5:896 1x5:600 1x5:600 '
        '1x5:896 1x5:744 3x3:744 1x5:896 1x5:600 1x5:600 1x5:744 3x3:744',
      ),
    ),
    project=992,
    frames=120,
    resolution=320,
    frame_stride=2,
  ),
  't0': Spec(
    stem=8,
    blocks=_blocks(
      (8, '1x5:16'),
      (32, '3x3:72 1x5:72'),
      (56, '5x3:112 1x5:112 3x3:112'),
      (56, '5x3:184 1x5:184 3x3:184 3x3:184'),
      (104, '5x3:344 1x5:344 1x5:344 3x3:344'),
    ),
    project=240,
    head=1024,
    frames=25,
    resolution=160,
    frame_stride=10,
  ),
}


def _edit(spec: Spec, block: int, change) -> Spec:
  blocks = list(spec.blocks)
  row = change(list(blocks[block].layers))
  blocks[block] = dataclasses.replace(blocks[block], layers=tuple(row))
  return dataclasses.replace(spec, blocks=tuple(blocks))


# The supplement, B.1, adopts hard swish; the released base networks have swish. It says
# nothing of the gates of squeeze-excitation, which stay those of the paper that it cites.
_PAPER = {'activation': 'hard_swish', 'head_activation': 'hard_swish'}


def _printed(name: str, *edits) -> Spec:
  spec = functools.reduce(lambda spec, e: _edit(spec, *e), edits, _RELEASED[name])
  return dataclasses.replace(spec, **_PAPER)


# Where the supplement's tables 11, 14, 15 and 16 print something else and are legible.
# Block 0 here is their block 2.
_PRINTED = {
  'a0-printed': _printed(
    'a0',
    (0, lambda row: [_layer('1x5:40')]),
    (1, lambda row: [_layer('5x3:80'), *row[1:]]),
    (4, lambda row: [_layer('5x3:344'), *row[1:]]),
  ),
  'a3-printed': _printed('a3', (3, lambda row: row[:6])),
  'a4-printed': _printed(
    'a4',
    (1, lambda row: [_layer('5x3:168'), *row[1:]]),
    (2, lambda row: [*row[:5], _layer('3x3:152'), *row[6:]]),
  ),
  'a5-printed': _printed(
    'a5',
    (1, lambda row: row[:10]),
    (2, lambda row: row[:10]),
    (3, lambda row: row[:10]),
  ),
}


def _stream(name: str, spec: Spec) -> Spec:
  """The streaming form as released: (2+1)D, both squeezes, hard activations."""
  # As each network's published training config has it; others leave the default.
  hard_head = name in ('a1', 'a4', 't0') or name.endswith('-printed')
  return dataclasses.replace(
    spec,
    conv='2plus1d',
    se='2plus3d',
    causal=True,
    positions=name[:2] in ('a3', 'a4', 'a5'),
    activation='hard_swish',
    gate='hard_sigmoid',
    head_activation='hard_swish' if hard_head else 'swish',
  )


VARIANTS: dict[str, Spec] = {**_RELEASED, **_PRINTED}
VARIANTS |= {f'{name}-stream': _stream(name, spec) for name, spec in VARIANTS.items()}

_TINY = Spec(
  stem=4,
  blocks=(
    Block(4, 2, (Layer((3, 3, 3), 8),)),
    Block(6, 1, (Layer((5, 3, 3), 8),)),
  ),
  project=8,
  head=8,
)
_TINY_STREAM = dataclasses.replace(_TINY, causal=True, conv='2plus1d', se='2plus3d', positions=True)
SMALL: dict[str, Spec] = {
  'base': _TINY,
  'base-softmax': dataclasses.replace(_TINY, temporal_softmax=True),
  'stream-2plus1d': _TINY_STREAM,
  'stream-3d': dataclasses.replace(_TINY, causal=True),
  'stream-softmax': dataclasses.replace(
    _TINY_STREAM, blocks=_TINY.blocks[:1], temporal_softmax=True
  ),
}


class Bottleneck(nn.Module):
  """Expands, convolves per channel, squeezes and excites, projects, and adds the input."""

  spec: Spec
  layer: Layer
  features: int
  stride: int = 1
  drop_rate: float = 0.0
  norm_group: int | None = None
  form: str = 'auto'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    thread = layers.Thread(state, train)
    conv_norm = functools.partial(layers.ConvNorm, norm={'group_size': self.norm_group})
    # Without a parent of its own yet, a convolution becomes part of its ConvNorm.
    pointwise = functools.partial(layers.PointwiseConv, dtype=self.dtype, parent=None)
    active = self.spec.activation

    y = thread(conv_norm(pointwise(self.layer.expand), active, name='expand'), x)
    for name, conv in self._depthwise():
      y = thread(conv_norm(conv, active, name=name), y)
    if self.layer.se:
      y = thread(self._squeeze_excite(), y)
    y = thread(conv_norm(pointwise(self.features), name='project'), y)
    y = thread(layers.ReZero(name='rezero'), y)
    y = thread(layers.StochasticDepth(self.drop_rate, name='drop'), y)

    if self.stride > 1:  # ResNet-D: pool, then project, rather than skip pixels.
      pool = layers.AveragePool((3, 3), (self.stride, self.stride), name='skip_pool')
      x = thread(pool, x)
    if self.stride > 1 or x.shape[-1] != self.features:
      x = thread(conv_norm(pointwise(self.features), name='skip'), x)
    return x + y, thread.after

  def _depthwise(self):
    """The depthwise convolutions by name: one, or a spatial and a temporal one."""
    conv = functools.partial(
      layers.DepthwiseConv,
      causal=self.spec.causal,
      form=self.form,
      dtype=self.dtype,
      parent=None,
    )
    kernels = list_kernels(self.spec.conv, self.layer.kernel)
    strides = (self.stride, self.stride), (1, 1)
    named = zip(('depthwise', 'temporal'), kernels, strides, strict=False)
    return [(name, conv(kernel, stride)) for name, kernel, stride in named]

  def _squeeze_excite(self):
    return layers.SqueezeExcite(
      hidden=count_hidden(self.spec.se, self.layer.expand),
      kind=self.spec.se,
      causal=self.spec.causal,
      positions=self.spec.positions,
      activation=self.spec.activation,
      gate=self.spec.gate,
      dtype=self.dtype,
      name='se',
    )


def count_bottleneck(
  spec: Spec,
  layer: Layer,
  before: int,
  features: int,
  stride: int,
  frames: int,
  size: Sequence[int],
) -> Costs:
  """What a Bottleneck costs, without tracing it.

  Args:
    before: channels that come in.
    features, stride: of the bottleneck.
    frames: T.
    size: (H, W) that come in.
  """
  (time, *_), expand = layer.kernel, layer.expand
  small = [-(-n // stride) for n in size]
  inside, outside = frames * math.prod(size), frames * math.prod(small)
  # The temporal kernel of a (2+1)D layer reads what its spatial one has made smaller.
  read = size if spec.conv == '3d' else small
  buffer = 4 * (time - 1) * math.prod(read) * expand if spec.causal else 0
  counted = [
    _count_conv_norm(inside, before * expand, expand),
    *(
      _count_conv_norm(outside, math.prod(kernel) * expand, expand)
      for kernel in list_kernels(spec.conv, layer.kernel)
    ),
    _count_conv_norm(outside, expand * features, features),
    Costs(0, 1, buffer),  # ReZero's scale
  ]
  if layer.se:
    counted.append(_count_squeeze_excite(spec, expand, frames))
  if stride > 1 or before != features:
    counted.append(_count_conv_norm(outside, before * features, features))
  return layers.add_costs(counted)


def _count_conv_norm(places: int, weights: int, features: int) -> Costs:
  """A kernel of so many weights, each used at every place of the output, and its norm."""
  return Costs(places * weights, weights + 2 * features, 0)


def _count_squeeze_excite(spec: Spec, expand: int, frames: int) -> Costs:
  inputs, hidden = expand * (2 if spec.se == '2plus3d' else 1), count_hidden(spec.se, expand)
  # A clip is squeezed once, a stream's past and single frames with every frame.
  times = 1 if spec.se == '3d' and not spec.causal else frames
  weights = hidden * (inputs + expand)
  sums = 4 * (expand + 1) if spec.causal and spec.se != '2d' else 0
  return Costs(times * weights, weights + hidden + expand + spec.positions, sums)


class Model(layers.Network):
  """A MoViNet of any spec.

  Args (fields): those of layers.Network, and
    stochastic_depth: rate of the last bottleneck; the others' grow up to it linearly.
  """

  stochastic_depth: Rate = 0.0

  recomputed = Bottleneck

  def _parts(self):
    yield self._stem()
    yield from self._bottlenecks()
    yield from self._head()

  def _stem(self):
    conv = layers.SpatialConv(self.spec.stem, (3, 3), (2, 2), dtype=self.dtype, parent=None)
    return self._conv_norm(conv, 'stem')

  def _conv_norm(self, conv, name):
    norm = {'group_size': self.norm_group}
    return layers.ConvNorm(conv, self.spec.activation, norm, name=name)

  def _bottlenecks(self):
    rows = [
      (f'block{i}_layer{j}', block, layer, block.stride if j == 0 else 1)
      for i, block in enumerate(self.spec.blocks)
      for j, layer in enumerate(block.layers)
    ]
    for depth, (name, block, layer, stride) in enumerate(rows, 1):
      yield Bottleneck(
        self.spec,
        layer,
        block.features,
        stride,
        drop_rate=self.stochastic_depth * depth / len(rows),
        norm_group=self.norm_group,
        form=self.form,
        dtype=self.dtype,
        name=name,
      )

  def _head(self):
    pointwise = functools.partial(layers.PointwiseConv, dtype=self.dtype)
    yield self._conv_norm(pointwise(self.spec.project, parent=None), 'project')
    if self.spec.temporal_softmax:
      yield layers.SpatialPool(name='pool')
    else:
      yield layers.GlobalPool(self.spec.causal, name='pool')
    yield Hidden(self.spec, self.dropout, self.dtype, name='hidden')
    yield pointwise(
      self.num_classes,
      use_bias=True,
      kernel_init=layers.normal(0.01),
      name='classifier',
    )
    if self.spec.temporal_softmax:
      yield layers.TemporalSoftmaxPool(self.spec.frames, name='temporal_softmax')


class Hidden(nn.Module):
  """The wide layer before the classifier, with its own activation and the only dropout."""

  spec: Spec
  dropout: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    conv = layers.PointwiseConv(self.spec.head, use_bias=True, dtype=self.dtype, name='conv')
    x, _ = conv(x)
    x = ops.get_activation(self.spec.head_activation)(x)
    return nn.Dropout(self.dropout, deterministic=not train)(x), {}


def count_hidden(se: str, expand: int) -> int:
  """Channels inside a squeeze-excitation of so many; twice as many where it sees both."""
  return layers.round_to_8((0.5 if se == '2plus3d' else 0.25) * expand)


def list_kernels(conv: str, kernel: tuple[int, int, int]) -> list[tuple[int, int, int]]:
  """The depthwise kernels that a layer's kernel stands for: one, or space and then time."""
  time, height, width = kernel
  if conv == '3d':
    return [kernel]
  return [(1, height, width), *([(time, 1, 1)] if time > 1 else [])]


def count_stem(width: int, frames: int, size: Sequence[int]) -> Costs:
  """What the stem costs, without tracing it; `size` is the (H, W) that come out."""
  return _count_conv_norm(frames * math.prod(size), 27 * width, width)


def count_head(
  spec: Spec, before: int, project: int, num_classes: int, frames: int, size: Sequence[int]
) -> Costs:
  """What follows the last bottleneck, without tracing it; `size` is the (H, W) that come in."""
  convolution = _count_conv_norm(frames * math.prod(size), before * project, project)
  dense = spec.head * (project + num_classes)
  rows = frames if spec.temporal_softmax else 1
  kept = 3 * num_classes + 1 if spec.temporal_softmax else project + 1
  return Costs(
    convolution.macs + rows * dense,
    convolution.params + dense + spec.head + num_classes,
    4 * kept if spec.causal else 0,
  )
