"""Tiny Video Networks: blocks of image and time operations, found by evolution.

Piergiovanni, Angelova and Ryoo, "Tiny Video Networks", 2019, arXiv 1910.06961. What a block
does and the networks found are those of the published code (google-research,
tiny_video_nets), which says more than the paper's figures. Whole clips only: operations
with strides in time, and gates that see all of a clip, do not stream.
"""

import dataclasses
import functools
import math
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp

from movinet_jax import layers, ops, schema
from movinet_jax.names import check_name
from movinet_jax.schema import SOME, Count, Limit, Natural, Positive, Share

NATIVE_FPS = 25
NUM_CLASSES = 339  # Moments in Time, where the paper compares all its networks
SPATIAL = ('conv', 'depthwise', 'average', 'max')
TEMPORAL = ('conv', 'average', 'max')


_KERNEL = Limit(lambda size: size >= 2, '2 or more: for no operation say None')


@dataclasses.dataclass(frozen=True)
class Op:
  """An operation on images (KxK) or on time (K frames): a convolution or a pooling.

  `kind` is one of SPATIAL or TEMPORAL. Each convolution is followed by a norm and
  `activation` (pooling by neither), and one on images has a 1x1 convolution, a norm and
  `activation` before. A kernel of 1, which the published code takes for no operation, is
  written None.
  """

  kind: str
  kernel: Annotated[int, _KERNEL]
  stride: Count = 1
  activation: ops.Activation = 'relu'

  def __post_init__(self):
    schema.verify(self)


@dataclasses.dataclass(frozen=True)
class Block:
  """`repeats` layers of an image operation, a time operation, and what follows them.

  Attributes:
    features: channels of convolutions; `expand` times as many come out of a layer, or
      are inside it if it is `inverted`, and `features` come out.
    spatial, temporal: operations; strides are of the first layer only, and of the others
      every second one has the temporal operation.
    squeeze: share of the channels inside a squeeze-excitation, 0 for none.
    non_local: channels inside a non-local block, 0 for none.
    gate: whether there is a context gate.
    residual: whether the input is added, by a projection.
    activation: of a layer's sum.
  """

  features: Count
  expand: Count = 1
  repeats: Count = 1
  spatial: Op | None = None
  temporal: Op | None = None
  squeeze: Share = 0.0
  non_local: Natural = 0
  gate: bool = False
  residual: bool = False
  inverted: bool = False
  activation: ops.Activation = 'relu'

  def __post_init__(self):
    schema.verify(self)
    if self.spatial:
      check_name(self.spatial.kind, SPATIAL, 'image operation')
    if self.temporal:
      check_name(self.temporal.kind, TEMPORAL, 'time operation')

  @property
  def inner(self) -> int:
    """The most channels of a layer, which gates see."""
    return self.features * self.expand


@dataclasses.dataclass(frozen=True)
class Spec:
  """An architecture.

  `frames`, `resolution` and `frame_stride` (of video at NATIVE_FPS) are the native input. Which
  layers have a time operation depends on `frames`: with a single frame left none has.
  Clips of another length run in the same layers.
  """

  blocks: Annotated[tuple[Block, ...], SOME]
  temporal_softmax: bool = False
  frames: Count = 2
  resolution: Count = 224
  frame_stride: Count = 4

  causal = False

  def __post_init__(self):
    schema.verify(self)


def list_layers(spec: Spec) -> list[tuple[str, Block]]:
  """All layers by name: blocks without repeats, with the operations that a layer has."""
  found, frames = [], spec.frames
  for i, block in enumerate(spec.blocks):
    for j in range(block.repeats):
      layer = _make_layer(block, j, frames)
      frames = _count_frames(layer, frames)
      found.append((f'block{i}_layer{j}', layer))
  return found


def _make_layer(block: Block, number: int, frames: int) -> Block:
  spatial, temporal = block.spatial, block.temporal
  if number % 2 or frames == 1:
    temporal = None
  if number:
    spatial, temporal = (op and dataclasses.replace(op, stride=1) for op in (spatial, temporal))
  # The published code adds what has as many frames.
  same = temporal is None or temporal.stride == 1
  return dataclasses.replace(
    block,
    repeats=1,
    spatial=spatial,
    temporal=temporal,
    residual=block.residual and same,
  )


def count_hidden(block: Block) -> int:
  """Channels inside its squeeze-excitation."""
  return max(8, int(block.inner * block.squeeze))


def _count_frames(layer: Block, frames: int) -> int:
  return -(-frames // layer.temporal.stride) if layer.temporal else frames


_NORM = {'momentum': 0.9, 'epsilon': 1e-5, 'unbiased': True}
# The published code's initialiser takes all channels for inputs of each output.
_depthwise_init = layers.variance_scaling(
  2.0, 'fan_in', 'truncated_normal', in_axis=-1, out_axis=-2
)


class Layer(nn.Module):
  """One layer of a block, as `list_layers` has it."""

  block: Block
  norm_group: int | None = None
  form: str = 'auto'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    thread, block, y = layers.Thread(state, train), self.block, x
    for part in self._branch():
      y = thread(part, y)
    if block.residual:
      stride = block.spatial.stride if block.spatial else 1
      x = ops.skip_pixels(x, stride)
      y = y + thread(self._project(y.shape[-1], 'identity', 'shortcut'), x)
    return ops.get_activation(block.activation)(y), thread.after

  def _branch(self):
    block = self.block
    if block.inverted:
      yield self._project(block.inner, 'relu', 'expand')
    width = block.inner if block.inverted else block.features
    if block.spatial:
      yield from self._spatial(block.spatial, width)
    if block.temporal:
      yield self._temporal(block.temporal, width)
    if not block.inverted:
      yield self._project(block.inner, 'identity', 'expand')
    yield from self._gates()
    if block.inverted:
      yield self._project(block.features, 'identity', 'project')

  def _spatial(self, op, width):
    window, stride = (op.kernel, op.kernel), (op.stride, op.stride)
    if op.kind == 'average':
      yield layers.AveragePool(window, stride, name='spatial')
    elif op.kind == 'max':
      yield layers.MaxPool(window, stride, name='spatial')
    else:
      yield self._project(width, op.activation, 'reduce')
      if op.kind == 'conv':
        how = {'dtype': self.dtype, 'parent': None}
        conv = layers.SpatialConv(width, window, stride, **how)
      else:
        how = {'form': self.form, 'dtype': self.dtype, 'parent': None}
        how |= {'kernel_init': _depthwise_init}
        conv = layers.DepthwiseConv((1, *window), stride, **how)
      yield self._conv_norm(conv, op.activation, 'spatial')

  def _temporal(self, op, width):
    window, stride = (op.kernel, 1), (op.stride, 1)
    if op.kind == 'average':
      pool = layers.AveragePool(window, stride, parent=None)
      return layers.OverTime(pool, name='temporal')
    if op.kind == 'max':
      pool = layers.MaxPool(window, stride, parent=None)
      return layers.OverTime(pool, name='temporal')
    conv = layers.SpatialConv(width, window, stride, dtype=self.dtype, parent=None)
    conv = layers.OverTime(conv, parent=None)
    return self._conv_norm(conv, op.activation, 'temporal')

  def _gates(self):
    block = self.block
    if block.squeeze:
      how = {'activation': 'relu', 'dtype': self.dtype}
      yield layers.SqueezeExcite(count_hidden(block), **how, name='se')
    if block.non_local:
      how = {'norm': self._norm, 'dtype': self.dtype}
      yield layers.NonLocal(block.non_local, **how, name='non_local')
    if block.gate:
      yield layers.ContextGate(dtype=self.dtype, name='gate')

  def _project(self, features, activation, name):
    conv = layers.PointwiseConv(features, dtype=self.dtype, parent=None)
    return self._conv_norm(conv, activation, name)

  def _conv_norm(self, conv, activation, name):
    return layers.ConvNorm(conv, activation, self._norm, name=name)

  @property
  def _norm(self):
    return {**_NORM, 'group_size': self.norm_group}


class Model(layers.Network):
  """A Tiny Video Network of any spec.

  Args (fields): those of layers.Network; the paper's dropout is 0.5.
  """

  recomputed = Layer

  def _parts(self):
    for name, layer in list_layers(self.spec):
      yield Layer(layer, self.norm_group, self.form, self.dtype, name=name)
    soft = self.spec.temporal_softmax
    yield (layers.SpatialPool if soft else layers.GlobalPool)(name='pool')
    yield layers.Dropout(self.dropout, name='dropout')
    yield layers.PointwiseConv(
      self.num_classes,
      use_bias=True,
      kernel_init=layers.normal(0.01),
      dtype=self.dtype,
      name='classifier',
    )
    if soft:
      yield layers.TemporalSoftmaxPool(self._frames_left, name='temporal_softmax')

  @property
  def _frames_left(self):
    found = (layer for _, layer in list_layers(self.spec))
    return functools.reduce(lambda n, layer: _count_frames(layer, n), found, self.spec.frames)


def count_costs(spec: Spec, num_classes: int) -> dict[str, int]:
  """What a native clip costs, without tracing it: `params` and `macs` of movinet_jax.cost.count.

  Most random networks are far too large, and tracing one takes a second or more. These
  numbers rule them out at once.
  """
  tally = _Tally(spec.frames, spec.resolution)
  for _, layer in list_layers(spec):
    tally.add_layer(layer)
  places = tally.frames if spec.temporal_softmax else 1
  tally.add_dense(tally.width, num_classes, places)
  return {'params': tally.params, 'macs': tally.macs}


@dataclasses.dataclass
class _Tally:
  """The size of a video on its way through a network, and the cost of the way so far."""

  frames: int
  side: int
  width: int = 3
  params: int = 0
  macs: int = 0

  @property
  def places(self) -> int:
    return self.frames * self.side**2

  def add_layer(self, layer: Block):
    before, inner = self.width, layer.inner
    if layer.inverted:
      self.add_conv(inner)
    width = inner if layer.inverted else layer.features
    if layer.spatial:
      self._add_spatial(layer.spatial, width)
    if layer.temporal:
      self.frames = -(-self.frames // layer.temporal.stride)
      if layer.temporal.kind == 'conv':
        self.add_conv(width, layer.temporal.kernel)
    if not layer.inverted:
      self.add_conv(inner)
    self._add_gates(layer)
    if layer.inverted:
      self.add_conv(layer.features)
    if layer.residual:
      after, self.width = self.width, before
      self.add_conv(after)

  def _add_spatial(self, op: Op, width: int):
    if op.kind in CONVOLUTIONS:
      self.add_conv(width)
    self.side = -(-self.side // op.stride)
    if op.kind == 'conv':
      self.add_conv(width, op.kernel**2)
    elif op.kind == 'depthwise':
      self.params += width * (op.kernel**2 + 2)
      self.macs += self.places * width * op.kernel**2

  def _add_gates(self, layer: Block):
    inner = self.width
    if layer.squeeze:
      hidden = count_hidden(layer)
      self.add_dense(inner, hidden)
      self.add_dense(hidden, inner)
    if layer.non_local:
      for _ in ('query', 'key', 'value'):
        self.add_dense(inner, layer.non_local, self.places)
      self.macs += 2 * self.places**2 * layer.non_local
      self.width = layer.non_local
      self.add_conv(inner)
    if layer.gate:
      self.add_dense(inner, inner)

  def add_conv(self, features: int, taps: int = 1):
    """With a norm's two parameters a channel."""
    self.params += (taps * self.width + 2) * features
    self.macs += self.places * taps * self.width * features
    self.width = features

  def add_dense(self, inputs: int, features: int, places: int = 1):
    self.params += (inputs + 1) * features
    self.macs += places * inputs * features


def scale(spec: Spec, *, resolution: float = 1, width: float = 1, depth: float = 1) -> Spec:
  """A network with its input, channels and repeats multiplied (appendix A.4.2).

  Products that are whole numbers stay as they are. Others are rounded as EfficientNet
  rounds: channels and the input's side to a multiple of 8, not below 90 %, and repeats up.
  """
  for name, factor in {'resolution': resolution, 'width': width, 'depth': depth}.items():
    schema.build(Positive, factor, name)
  blocks = tuple(
    dataclasses.replace(
      block,
      features=_multiply(block.features, width),
      non_local=block.non_local and _multiply(block.non_local, width),
      repeats=_round_up(block.repeats * depth),
    )
    for block in spec.blocks
  )
  side = _multiply(spec.resolution, resolution)
  return dataclasses.replace(spec, blocks=blocks, resolution=side)


def scale_compound(
  spec: Spec,
  phi: float,
  *,
  depth: float = 1.2,
  width: float = 1.1,
  resolution: float = 1.15,
) -> Spec:
  """A network scaled along all axes at once, each by its coefficient to the power φ.

  The coefficients are EfficientNet's (Tan and Le, 2019, section 3.3), which appendix A.4.2
  takes; with them a network costs about 1.92^φ times as much.
  """
  factors = {'depth': depth**phi, 'width': width**phi, 'resolution': resolution**phi}
  return scale(spec, **factors)


def _multiply(size: int, factor: float) -> int:
  wanted = size * factor
  if wanted == int(wanted) and wanted >= 1:
    return int(wanted)
  return layers.round_to_8(wanted)


def _round_up(value: float) -> int:
  # 1.2² * 25 is 36.00000000000001 here, and 36.
  return math.ceil(round(value, 9))


CONVOLUTIONS = ('conv', 'depthwise')


def _op(text: str, activation: str) -> Op | None:
  """'conv 4/2' is a convolution with kernel 4 and stride 2; '-' is none."""
  if text == '-':
    return None
  kind, _, sizes = text.partition(' ')
  kernel, _, stride = sizes.partition('/')
  op = Op(kind, int(kernel), int(stride))
  return _activate(op, activation) if kind in CONVOLUTIONS else op


def _activate(value: Op | Block, activation: str) -> Op | Block:
  return dataclasses.replace(value, activation=activation)


def _block(spatial: str, temporal: str, features: int, *, acts=('relu', 'relu'), **fields) -> Block:
  return Block(features, spatial=_op(spatial, acts[0]), temporal=_op(temporal, acts[1]), **fields)


def use_activation(spec: Spec, activation: str) -> Spec:
  """A network with another activation in place of all (Table 5, "TVN-1 + swish")."""

  def change(op):
    return _activate(op, activation) if op and op.kind in CONVOLUTIONS else op

  blocks = (
    dataclasses.replace(
      _activate(block, activation),
      spatial=change(block.spatial),
      temporal=change(block.temporal),
    )
    for block in spec.blocks
  )
  return dataclasses.replace(spec, blocks=tuple(blocks))


_1 = Spec(
  frames=2,
  resolution=224,
  frame_stride=4,
  blocks=(
    _block('conv 4/2', 'max 2/2', 64, expand=4, gate=True, repeats=2),
    _block('max 3/2', '-', 128, expand=4, squeeze=0.906760),
    _block('depthwise 5/3', '-', 128, expand=4, gate=True, residual=True, repeats=2),
    _block('conv 3/2', '-', 256, expand=8, squeeze=0.726553, gate=True, repeats=2),
  ),
)
_ALL = {'gate': True, 'residual': True}
_2 = Spec(
  frames=2,
  resolution=256,
  frame_stride=7,
  blocks=(
    _block('depthwise 5/3', 'conv 2/1', 64, expand=4, squeeze=0.066675, **_ALL, repeats=3),
    _block('conv 4/2', 'max 2/2', 128, expand=4, squeeze=0.693453, **_ALL, repeats=5),
    _block('depthwise 4/1', '-', 1024, repeats=6),
    _block('average 3/2', '-', 256, expand=4, gate=True),
    _block('average 4/3', '-', 512, expand=4, squeeze=0.947219, repeats=6),
    _block('depthwise 3/3', '-', 512, expand=4, repeats=4),
    _block('max 2/1', '-', 348, expand=6, gate=True),
  ),
)
_3 = Spec(
  frames=8,
  resolution=160,
  frame_stride=2,
  blocks=(
    _block('depthwise 3/2', 'conv 5/2', 64, expand=3, squeeze=0.645726, gate=True, repeats=2),
    _block('depthwise 3/2', '-', 256, expand=5, squeeze=0.906142, residual=True, repeats=4),
    _block('depthwise 5/4', 'max 3/2', 256, expand=2, residual=True, repeats=4),
    _block('conv 3/2', 'max 3/3', 512, expand=5, gate=True, repeats=4),
  ),
)
_4 = Spec(
  frames=8,
  resolution=128,
  frame_stride=4,
  blocks=(
    _block('conv 5/2', 'conv 3/2', 64, expand=4, squeeze=0.477590, residual=True, repeats=5),
    _block('depthwise 5/2', 'max 2/2', 256, expand=6, gate=True, repeats=4),
    _block('depthwise 5/3', '-', 256, expand=8, squeeze=0.253091, gate=True, repeats=4),
  ),
)


def _mobile(act: str, repeats: int) -> Spec:
  """Two blocks (Table 5, Figure 4), the second of inverted bottlenecks."""
  hard = {'acts': ('hard_swish', 'hard_swish')}
  return Spec(
    frames=2,
    resolution=224,
    frame_stride=1,
    blocks=(
      _block(
        *('depthwise 5/4', 'conv 2/1', 32),
        **{'acts': (act, 'relu'), 'expand': 3, 'squeeze': 0.004599, 'repeats': 4},
      ),
      _block(
        *('depthwise 5/4', 'max 2/1', 128),
        **hard,
        **{'expand': 6, 'squeeze': 0.858974, 'inverted': True, 'repeats': repeats},
      ),
    ),
  )


VARIANTS: dict[str, Spec] = {
  '1': _1,
  '2': _2,
  '3': _3,
  '4': _4,
  'm1': _mobile('relu', 4),
  'm2': _mobile('hard_swish', 3),
  '1-swish': use_activation(_1, 'hard_swish'),
  **{f'1-{n}x-res': scale(_1, resolution=n) for n in (2, 4)},
  **{f'1-{n}x-wide': scale(_1, width=n) for n in (2, 4)},
  **{f'1-{n}x-deep': scale(_1, depth=n) for n in (2, 4)},
}

SMALL: dict[str, Spec] = {
  'base': Spec(
    (
      Block(4, 2, 2, Op('conv', 3, 2), Op('conv', 3, 2), squeeze=0.5),
      Block(4, 1, 1, Op('depthwise', 2), non_local=4, gate=True),
    ),
    frames=6,
  )
}
