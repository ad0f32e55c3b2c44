"""Auto-TSNet: a sparse stream of few frames and a dense one of many, fused on the way.

Gong et al., "Searching for Two-Stream Models in Multivariate Space for Video Recognition",
ICCV 2021. Blocks are X3D's, strides in time and fusions SlowFast's, where the paper leaves
them open; docs/networks.md says which these are. Streaming variants are this project's own
extension: causal convolutions, and means over all frames so far.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from movinet_jax import layers, ops, schema
from movinet_jax.layers import Costs, add_costs, count_conv, count_norm
from movinet_jax.schema import SOME, Count, Positive, Rate

NATIVE_FPS = 30
NUM_CLASSES = 400  # Kinetics-400, of the printed counts

Fusion = Literal['none', 'sample', 'stack', 'conv']


@dataclasses.dataclass(frozen=True)
class Group:
  """`depth` equal MBConv3D blocks, the first with the spatial `stride` (Table 1).

  Attributes:
    features: channels that come out.
    expansion: channels inside a block, in `features`.
    kernel: frames, rows and columns of the depthwise convolution.
    attention: whether a block of graph reasoning follows.
  """

  features: Count
  expansion: Positive
  kernel: tuple[Count, Count, Count]
  depth: Count = 1
  stride: Count = 1
  attention: bool = False

  def __post_init__(self):
    schema.verify(self)
    if not self.inner:
      raise ValueError(
        f'expansion is {self.expansion}, which leaves no channel inside a block of {self.features}'
      )

  @property
  def inner(self) -> int:
    """Channels inside a block, rounded as X3D's."""
    return int(self.expansion * self.features)


@dataclasses.dataclass(frozen=True)
class Spec:
  """An architecture.

  Attributes:
    sparse, dense: groups of the two streams; without dense ones the sparse stream is alone.
    fusions: behind each group, how features of the dense stream join the sparse one: not at
      all, those of each sparse frame (`sample`), those of all its frames as channels
      (`stack`), or by a convolution in time to twice the channels (`conv`); SlowFast,
      section 3.4.
    join: whether fused features are further channels, or are added.
    stems: channels of the sparse and of the dense stem.
    attention_width: nodes of a block of graph reasoning.
    hidden: channels before the classifier.
    ratio: dense frames per sparse one.
    fusion_kernel: frames that the fusion `conv` sees.
    average, mean, deviation: as those of x3d.Spec.
    causal: whether it is a stream.
    frames, resolution, frame_stride: the native input, dense frames of video at NATIVE_FPS.
  """

  sparse: Annotated[tuple[Group, ...], SOME]
  dense: tuple[Group, ...] = ()
  fusions: tuple[Fusion, ...] = ()
  join: Literal['concat', 'sum'] = 'concat'
  stems: tuple[Count, Count] = (24, 8)
  attention_width: Count = 216
  hidden: Count = 2048
  ratio: Count = 8
  fusion_kernel: Count = 5
  average: Literal['logits', 'probabilities'] = 'logits'
  mean: float = 0.0
  deviation: Positive = 1.0
  causal: bool = False
  frames: Count = 32
  resolution: Count = 160
  frame_stride: Positive = 2

  def __post_init__(self):
    schema.verify(self)
    if self.dense and len(self.dense) != len(self.sparse):
      raise ValueError(
        f'there are {len(self.dense)} dense groups beside {len(self.sparse)} sparse ones: give '
        'as many, or none'
      )
    if len(self.fusions) != len(self.dense):
      raise ValueError(
        f'there are {len(self.fusions)} fusions for {len(self.dense)} dense groups: give one '
        "behind each, 'none' where there is none"
      )
    for i, (sparse, dense) in enumerate(zip(self.sparse, self.dense, strict=False)):
      if sparse.stride != dense.stride:
        raise ValueError(
          f'group {i} has stride {sparse.stride} in the sparse stream and {dense.stride} in the '
          'dense one: give both the same'
        )

  @property
  def streams(self) -> dict[str, tuple[Group, ...]]:
    """The groups of each stream by its name."""
    return {'sparse': self.sparse, 'dense': self.dense} if self.dense else {'sparse': self.sparse}

  @property
  def places(self) -> int:
    """Rows, and columns, of a native clip's last map."""
    return -(-self.resolution // (2 * math.prod(group.stride for group in self.sparse)))


def list_stages(groups: tuple[Group, ...]) -> list[tuple[int, int]]:
  """For each group its stage, and how many blocks of the stage are before it.

  A stage begins with a group that has a stride. X3D counts blocks within a stage: the even
  ones have squeeze-and-excitation.
  """
  found, stage, blocks = [], 0, 0
  for i, group in enumerate(groups):
    if i and group.stride > 1:
      stage, blocks = stage + 1, 0
    found.append((stage, blocks))
    blocks += group.depth
  return found


def count_frames(spec: Spec, fusion: str) -> int:
  """Dense frames that a fusion sees for each sparse one."""
  return {'none': 0, 'sample': 1, 'stack': spec.ratio, 'conv': spec.fusion_kernel}[fusion]


def count_fused(spec: Spec, i: int) -> int:
  """Channels that the fusion behind group i gives."""
  fusion = spec.fusions[i] if spec.dense else 'none'
  if fusion == 'none':
    return 0
  if spec.join == 'sum':
    return spec.sparse[i].features
  return count_concatenated(spec, fusion, spec.dense[i].features)


def count_concatenated(spec: Spec, fusion: str, width: int) -> int:
  """Channels that a fusion lays beside those of the sparse stream, of so many dense ones."""
  return {'none': 0, 'sample': 1, 'stack': spec.ratio, 'conv': 2}[fusion] * width


def count_beside(spec: Spec, stream: str, i: int) -> int:
  """Channels that a fusion lays beside those of a stream before group i."""
  if stream != 'sparse' or spec.join == 'sum' or not i:
    return 0
  return count_fused(spec, i - 1)


class TimeConv(nn.Module):
  """A convolution in time of frames that lie side by side as channels, frame by frame.

  Its kernel is [frames, C, features] for x [..., frames * C].
  """

  features: int
  frames: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    shape = (self.frames, x.shape[-1] // self.frames, self.features)
    kernel = self.param('kernel', layers.kaiming_normal, shape).astype(self.dtype)
    return ops.pointwise_conv(x, kernel.reshape(-1, self.features)), {}


class Streams(nn.Module):
  """Both streams, from centred video to means over the frames of each, side by side.

  [B, T, H, W, 3] -> [B, 1, H', W', C] at each place that a native clip's last map fits in.

  The sparse stream takes every `ratio`-th frame of a video. A stream's state counts the frames
  of each video, so videos of one batch may be at different ones. A chunk has one sparse frame more
  for some videos than for others. This last one is computed only if a video of the batch has it.

  Args (fields): those of Model.
  """

  spec: Spec
  stochastic_depth: float = 0.0
  norm_group: int | None = None
  remat: bool = False
  form: str = 'auto'
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    for stream in self.spec.streams:
      for name, part in self._make_stream(stream):
        setattr(self, name, part)
    for i in range(len(self.spec.dense)):
      if self._has_weights(i):
        setattr(self, f'fusion{i}', self._make_fusion(i))

  def __call__(self, x, state=None, *, train=False):
    spec, thread = self.spec, layers.Thread(state, train)
    sources = {'video': x, **self._run_dense(thread, x)} if spec.dense else {'video': x}
    memory = {key: value for key, value in thread.before.items() if key.startswith('sparse_')}
    if state:
      memory = self._run_due(sources, memory, -state['count'] % spec.ratio, train)
    else:
      pick = functools.partial(pick_regular, ratio=spec.ratio, count=-(-x.shape[1] // spec.ratio))
      memory = self._run_sparse(sources, memory, pick, train)
    after = {**thread.after, **memory}
    sums = [after[f'{stream}_pool'] for stream in spec.streams]
    means = [ops.read_mean(one) for one in sums]
    after['count'] = thread.before.get('count', 0) + jnp.full(x.shape[:1], x.shape[1])
    return jnp.concatenate(means, -1).astype(self.dtype), after if spec.causal else {}

  def _run_dense(self, thread, x):
    """Runs the dense stream; returns what each fusion may choose frames from."""
    x, sources = self._run_stem(thread, 'dense', x), {}
    for i, fusion in enumerate(self.spec.fusions):
      x = self._run_group(thread, 'dense', i, x)
      if fusion != 'none':
        sources[i] = self._surround(thread, i, x)
    self._sum(thread, 'dense', x)
    return sources

  def _run_sparse(self, sources, memory, pick, train):
    """Runs the sparse stream on the frames that `pick` chooses; returns its new memory."""
    spec, thread = self.spec, layers.Thread(memory, train)
    x = self._run_stem(thread, 'sparse', pick(sources['video'], 1))
    for i in range(len(spec.sparse)):
      x = self._run_group(thread, 'sparse', i, x)
      if i in sources:
        fused = pick(sources[i], count_frames(spec, spec.fusions[i]))
        if self._has_weights(i):
          fused = thread(getattr(self, f'fusion{i}'), fused)
        x = x + fused if spec.join == 'sum' else jnp.concatenate([x, fused], -1)
    self._sum(thread, 'sparse', x)
    return thread.after

  def _run_due(self, sources, memory, first, train):
    """Runs the sparse stream on the frames of a chunk that are due.

    Args:
      first: [B], the number of each video's first due frame; it may lie behind the chunk.
    """
    ratio, frames = self.spec.ratio, sources['video'].shape[1]
    certain = -(-frames // ratio) - 1  # due frames that a chunk has at any phase
    if certain:
      pick = functools.partial(pick_from, numbers=first[:, None] + ratio * jnp.arange(certain))
      memory = self._run_sparse(sources, memory, pick, train)
    last = first + ratio * certain
    due = last < frames

    def run(streams, memory):
      pick = functools.partial(pick_from, numbers=last[:, None])
      after = streams._run_sparse(sources, memory, pick, train)
      return jax.tree.map(lambda new, old: _where(due, new, old), after, memory)

    return nn.cond(due.any(), run, lambda streams, memory: memory, self, memory)

  def _run_stem(self, thread, stream, x):
    x = thread(getattr(self, f'{stream}_stem_space'), x)
    return thread(getattr(self, f'{stream}_stem'), x)

  def _run_group(self, thread, stream, i, x):
    group = self.spec.streams[stream][i]
    again = layers.rematerialise(thread.train) if self.remat else None
    for j in range(group.depth):
      x = thread(getattr(self, f'{stream}_group{i}_block{j}'), x, again)
    return thread(getattr(self, f'{stream}_attention{i}'), x) if group.attention else x

  def _surround(self, thread, i, x):
    """Puts around dense frames those that the fusion sees for the first and the last one."""
    if not self.spec.causal:
      return pad_frames(x, self.spec, self.spec.fusions[i])
    seen = count_frames(self.spec, self.spec.fusions[i])
    if seen == 1:
      return x
    kept = thread.before.get(f'fusion{i}')
    buffer = (
      kept['buffer'] if kept else jnp.zeros_like(x, shape=(x.shape[0], seen - 1, *x.shape[2:]))
    )
    x, buffer = ops.prepend(buffer, x)
    thread.after[f'fusion{i}'] = {'buffer': buffer}
    return x

  def _sum(self, thread, stream, x):
    """Adds the means of windows to those of earlier frames."""
    x = thread(getattr(self, f'{stream}_project'), x)
    means = ops.sliding_mean(x, (1, self.spec.places, self.spec.places))
    name = f'{stream}_pool'
    _, thread.after[name] = ops.total_mean(means, thread.before.get(name))

  def _make_stream(self, stream):
    """Names and modules of one stream."""
    spec, groups = self.spec, self.spec.streams[stream]
    common = {'kernel_init': layers.kaiming_normal, 'padding': 'centred', 'dtype': self.dtype}
    width = spec.stems[list(spec.streams).index(stream)]
    yield f'{stream}_stem_space', layers.SpatialConv(width, (3, 3), (2, 2), **common)
    # The kernel of Table 1, where X3D's published code has one of 5 frames.
    conv = layers.DepthwiseConv(
      (3, 1, 1), causal=spec.causal, form=self.form, **common, parent=None
    )
    yield f'{stream}_stem', self._conv_norm(conv, 'relu')
    for i, (group, (stage, blocks)) in enumerate(zip(groups, list_stages(groups), strict=True)):
      fused = count_beside(spec, stream, i) > 0
      for j in range(group.depth):
        block = self._make_block(group, stage, blocks + j, j, projects=fused and j == 0)
        yield f'{stream}_group{i}_block{j}', block
      if group.attention:
        yield (
          f'{stream}_attention{i}',
          layers.GlobalReasoning(
            spec.attention_width, spec.causal, {'group_size': self.norm_group}, self.dtype
          ),
        )
    yield f'{stream}_project', self._conv_norm(self._pointwise(groups[-1].inner), 'relu')

  def _make_block(self, group, stage, number, j, *, projects):
    stages = 1 + list_stages(self.spec.sparse)[-1][0]
    return layers.Bottleneck(
      group.features,
      group.inner,
      group.kernel,
      stride=1 if j else group.stride,
      squeeze=number % 2 == 0,
      shortcut_norm=True,
      projects=projects,
      causal=self.spec.causal,
      drop_rate=self.stochastic_depth * (stage + 2) / (stages + 1),
      norm_group=self.norm_group,
      form=self.form,
      dtype=self.dtype,
    )

  def _has_weights(self, i):
    fusion = self.spec.fusions[i]
    return fusion == 'conv' or (fusion != 'none' and self.spec.join == 'sum')

  def _make_fusion(self, i):
    features = count_fused(self.spec, i)
    if self.spec.fusions[i] != 'conv':
      return self._conv_norm(self._pointwise(features), 'identity')
    conv = TimeConv(features, self.spec.fusion_kernel, self.dtype, parent=None)
    return self._conv_norm(conv, 'relu' if self.spec.join == 'concat' else 'identity')

  def _pointwise(self, features):
    how = {'kernel_init': layers.kaiming_normal, 'dtype': self.dtype, 'parent': None}
    return layers.PointwiseConv(features, **how)

  def _conv_norm(self, conv, activation):
    norm = {**layers.PYTORCH_NORM, 'group_size': self.norm_group}
    return layers.ConvNorm(conv, activation, norm)


def pad_frames(x: jax.Array, spec: Spec, fusion: str) -> jax.Array:
  """Puts zeros before and behind a clip's dense frames, where a fusion sees beyond them.

  Each sparse frame then sees those from its own number on, see `pick_regular`.
  """
  seen, frames = count_frames(spec, fusion), x.shape[1]
  before = 0 if fusion == 'stack' else seen // 2
  needed = (-(-frames // spec.ratio) - 1) * spec.ratio + seen
  after = max(needed - before - frames, 0)
  return jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))


def pick_regular(x: jax.Array, seen: int, *, ratio: int, count: int) -> jax.Array:
  """Frames for each sparse one of a video's beginning, side by side as channels.

  Args:
    x: [B, T, H, W, C].
    seen: how many frames there are for each sparse one, from every `ratio`-th on.
    count: of sparse frames.

  Returns:
    [B, count, H, W, seen * C], frame by frame.
  """
  last = (count - 1) * ratio + 1
  return jnp.concatenate([x[:, i : i + last : ratio] for i in range(seen)], -1)


def pick_from(x: jax.Array, seen: int, *, numbers: jax.Array) -> jax.Array:
  """As `pick_regular`, from the frames of `numbers` [B, count] on; the last is repeated."""
  numbers = numbers[..., None] + jnp.arange(seen)
  x = jax.vmap(lambda one, at: jnp.take(one, at, 0, mode='clip'))(x, numbers)
  x = jnp.moveaxis(x, 2, -2)
  return x.reshape(*x.shape[:-2], -1)


def _where(due, new, old):
  return jnp.where(due.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


class Model(layers.Network):
  """An Auto-TSNet of any spec.

  Args (fields): those of layers.Network, and
    stochastic_depth: rate R; blocks of the first of S stages drop with 2 / (S + 1) R, the
      others' rates grow up to R, as X3D's.
  """

  stochastic_depth: Rate = 0.0

  def _parts(self) -> Iterator[nn.Module]:
    spec = self.spec
    yield layers.Centre(spec.mean, spec.deviation, name='centre')
    yield Streams(
      spec,
      self.stochastic_depth,
      self.norm_group,
      self.remat,
      self.form,
      self.dtype,
      name='streams',
    )
    yield layers.Hidden(spec.hidden, self.dropout, self.dtype, name='hidden')
    yield layers.PointwiseConv(
      self.num_classes,
      use_bias=True,
      kernel_init=layers.normal(0.01),
      dtype=self.dtype,
      name='classifier',
    )
    yield layers.Average(spec.average, name='average')


@dataclasses.dataclass(frozen=True)
class Extent:
  """What a part is counted for: `frames` maps of (rows, columns) `size`, of a stream or a clip."""

  frames: int
  size: tuple[int, int]
  causal: bool = False

  @property
  def area(self) -> int:
    return math.prod(self.size)

  @property
  def places(self) -> int:
    return self.frames * self.area

  def shrink(self, stride: int) -> 'Extent':
    """What a convolution with a stride makes of it."""
    return dataclasses.replace(self, size=tuple(-(-n // stride) for n in self.size))

  def buffer(self, time: int, width: int) -> Costs:
    """Frames that a stream keeps before a convolution in time."""
    return Costs(0, 0, 4 * (time - 1) * self.area * width * self.causal)

  def sums(self, width: int) -> Costs:
    """What a stream keeps for a mean over all frames so far: a sum and a count."""
    return Costs(0, 0, 4 * (width + 1) * self.causal)


def count_stem(width: int, video: Extent) -> Costs:
  """What a stream's stem costs."""
  half = video.shrink(2)
  weights = count_conv(half.places, (27 + 3) * width)
  return add_costs([weights, count_norm(width), half.buffer(3, width)])


def count_reads(
  before: int, features: int, inner: int, stride: int, maps: Extent, *, projects: bool
) -> Costs:
  """What a block costs for each channel that comes in: its expand and shortcut kernels.

  Those of concatenated channels add up.

  Args:
    before: channels that come in.
    maps: what comes in.
    projects: whether the shortcut is a convolution: of a block with a stride, behind a
      fusion, or other channels than `features`.
  """
  expand = count_conv(maps.places, before * inner)
  if not projects:
    return expand
  return add_costs([expand, count_conv(maps.shrink(stride).places, before * features)])


def count_block(
  features: int,
  inner: int,
  kernel: tuple[int, int, int],
  stride: int,
  maps: Extent,
  *,
  squeeze: bool,
  projects: bool,
) -> Costs:
  """What a block costs beside `count_reads`."""
  after = maps.shrink(stride)
  parts = [
    count_norm(inner),
    count_conv(after.places, math.prod(kernel) * inner),
    maps.buffer(kernel[0], inner),
    count_norm(inner),
    count_conv(after.places, inner * features),
    count_norm(features),
  ]
  if squeeze:
    hidden = layers.count_squeezed(inner)
    # A clip is squeezed once, a stream with every frame.
    weights = count_conv(maps.frames if maps.causal else 1, 2 * inner * hidden)
    parts += [weights, Costs(0, inner + hidden, 0), after.sums(inner)]
  if projects:
    parts.append(count_norm(features))
  return add_costs(parts)


def count_attention(features: int, width: int, maps: Extent) -> Costs:
  """What a block of graph reasoning costs."""
  states = 2 * width
  graph = width**2 + states**2
  times = maps.frames if maps.causal else 1
  return add_costs(
    [
      count_conv(maps.places, features * (2 * states + width)),
      Costs(0, states + 2 * width, 0),  # biases
      Costs(maps.places * 2 * states * width, 0, 0),  # into nodes and back
      Costs(times * states * width * (width + states), graph, 0),
      maps.sums(states * width),
      count_norm(features),
    ]
  )


def count_fusion(spec: Spec, fusion: str, dense: int, sparse: int, maps: Extent) -> Costs:
  """What a fusion costs.

  Args:
    fusion: which one.
    dense, sparse: channels of the two streams.
    maps: of the sparse stream.
  """
  seen = count_frames(spec, fusion)
  kept = maps.buffer(max(seen, 1), dense)
  features = sparse if spec.join == 'sum' else 2 * dense
  if fusion == 'none' or (fusion != 'conv' and spec.join == 'concat'):
    return kept
  return add_costs([count_conv(maps.places, seen * dense * features), count_norm(features), kept])


def count_project(before: int, inner: int, maps: Extent) -> Costs:
  """What each channel before a stream's last convolution costs; see `count_reads`."""
  return count_conv(maps.places, before * inner)


def count_head(spec: Spec, inners: tuple[int, ...], num_classes: int, maps: Extent) -> Costs:
  """What follows the last convolution of each stream, and its norm.

  Args:
    inners: channels of the one or two streams.
    maps: of either stream.
  """
  windows = math.prod(max(n - spec.places, 0) + 1 for n in maps.size)
  dense = spec.hidden * (sum(inners) + num_classes)
  return add_costs(
    [
      *(count_norm(inner) for inner in inners),
      *(maps.sums(windows * inner) for inner in inners),
      count_conv(windows, dense),
      Costs(0, num_classes, 4 * maps.causal),  # biases, and the number of frames seen
    ]
  )


def count_stream(spec: Spec, stream: str, video: Extent) -> Costs:
  """What one stream costs without its fusions, but with what it reads of them."""
  groups = spec.streams[stream]
  before = spec.stems[list(spec.streams).index(stream)]
  parts, maps = [count_stem(before, video)], video.shrink(2)
  for i, (group, (_, blocks)) in enumerate(zip(groups, list_stages(groups), strict=True)):
    fused = count_beside(spec, stream, i)
    before += fused
    for j in range(group.depth):
      stride = 1 if j else group.stride
      projects = stride > 1 or before != group.features or (j == 0 and fused > 0)
      sizes = group.features, group.inner
      parts += [
        count_reads(before, *sizes, stride, maps, projects=projects),
        count_block(
          *sizes,
          group.kernel,
          stride,
          maps,
          squeeze=(blocks + j) % 2 == 0,
          projects=projects,
        ),
      ]
      before, maps = group.features, maps.shrink(stride)
    if group.attention:
      parts.append(count_attention(before, spec.attention_width, maps))
  before += count_beside(spec, stream, len(groups))
  return add_costs([*parts, count_project(before, groups[-1].inner, maps)])


def count(
  spec: Spec,
  num_classes: int = NUM_CLASSES,
  frames: int | None = None,
  size: tuple[int, int] | None = None,
) -> Costs:
  """Costs of a clip without tracing it: those of movinet_jax.cost.count.

  Args:
    frames: T of the dense stream, by default the native ones.
    size: (H, W), by default the native resolution.
  """
  frames, size = frames or spec.frames, size or (spec.resolution, spec.resolution)
  dense = Extent(frames, size, spec.causal)
  sparse = dataclasses.replace(dense, frames=-(-frames // spec.ratio))
  parts, maps = [count_stream(spec, 'sparse', sparse)], sparse.shrink(2)
  if spec.dense:
    parts.append(count_stream(spec, 'dense', dense))
  for i, group in enumerate(spec.sparse):
    maps = maps.shrink(group.stride)
    if spec.dense:
      widths = spec.dense[i].features, group.features
      parts.append(count_fusion(spec, spec.fusions[i], *widths, maps))
  inners = tuple(groups[-1].inner for groups in spec.streams.values())
  return add_costs([*parts, count_head(spec, inners, num_classes, maps)])


# Table 1: blocks of each group, by stage; a stage's first group has a stride of 2. Its
# stages are those of X3D-S, 3, 5, 11 and 7 blocks deep.
DEPTHS = ((1, 2), (1, 4), (1, 3, 3, 4), (1, 3, 3))
# Groups that attention is placed behind: six, spread over stages 2 to 4 (section 5.5.3, which
# does not say which).
PLACES = (2, 3, 5, 7, 8, 9)


def make_groups(rows: Iterable[tuple[int, float, int, int]]) -> tuple[Group, ...]:
  """The groups of a stream of Table 1.

  Args:
    rows: of each group, its channels, expansion, and kernel in time and in space.
  """
  sizes = [(depth, 1 if k else 2) for depths in DEPTHS for k, depth in enumerate(depths)]
  return tuple(
    Group(features, expansion, (time, space, space), depth, stride)
    for (features, expansion, time, space), (depth, stride) in zip(rows, sizes, strict=True)
  )


def make_manual(sparse: float, dense: float, fused: tuple[int, ...] = (1, 3, 5, 7, 10)) -> Spec:
  """A Manual-TSNet (section 5.4): X3D-S's blocks in both streams.

  Args:
    sparse, dense: width factors, as that of x3d.make_spec, which is 2 for X3D-S.
    fused: groups that a convolution in time follows, which fuses.
  """
  groups = [
    make_groups(
      (layers.round_to_8(width * factor), 2.25, 3, 3)
      for width, depths in zip((12, 24, 48, 96), DEPTHS, strict=True)
      for _ in depths
    )
    for factor in (sparse, dense)
  ]
  return Spec(
    *groups,
    fusions=tuple('conv' if i in fused else 'none' for i in range(len(groups[0]))),
    stems=(layers.round_to_8(12 * sparse), layers.round_to_8(12 * dense)),
  )


def place_attention(spec: Spec, places: tuple[int, ...], width: int) -> Spec:
  """Attention behind these groups of the sparse stream, and nowhere else.

  Raises:
    ValueError: there is no such group.
  """
  if not set(places) <= set(range(len(spec.sparse))):
    raise ValueError(f'places are {places}; wanted groups from 0 to {len(spec.sparse) - 1}')
  groups = enumerate(spec.sparse)
  sparse = tuple(dataclasses.replace(group, attention=i in places) for i, group in groups)
  dense = tuple(dataclasses.replace(group, attention=False) for group in spec.dense)
  return dataclasses.replace(spec, sparse=sparse, dense=dense, attention_width=width)


def keep_sparse(spec: Spec) -> Spec:
  """The sparse stream alone, without attention (Tables 5 and 6)."""
  alone = dataclasses.replace(spec, dense=(), fusions=())
  return place_attention(alone, (), spec.attention_width)


def deepen(spec: Spec, times: int) -> Spec:
  """All groups `times` as deep; attention stays where it is (section 5.3, Auto-TSNet-L)."""
  streams = [
    tuple(dataclasses.replace(group, depth=times * group.depth) for group in groups)
    for groups in (spec.sparse, spec.dense)
  ]
  return dataclasses.replace(spec, sparse=streams[0], dense=streams[1])


# Of all pairs of factors whose networks have 1.95 to 2.05 GMACs, those whose sparse stream alone
# has nearest to 85, 70 and 55 % of them.
_MANUAL = {
  name: make_manual(*pair)
  for name, pair in {
    'manual-85': (3.46, 0.05),
    'manual-70': (3.085, 0.375),
    'manual-55': (2.795, 0.71),
  }.items()
}


def _make_fusions(sparse: float = 3.085, dense: float = 0.375) -> dict[str, Spec]:
  """Manual-TSNet-70 % with other fusions (Table 7)."""
  return {
    'manual-70-fusion0': make_manual(sparse, dense, ()),
    'manual-70-fusion5': make_manual(sparse, dense),
    'manual-70-fusion10': make_manual(sparse, dense, (0, 1, 2, 3, 4, 5, 6, 7, 9, 10)),
    'manual-70-fusion-searched': make_manual(sparse, dense, (1, 3, 5, 7)),
  }


# Table 8. The width is that which comes nearest to its numbers, which no single one has.
_ATTENTION = {
  f'manual-70-attention{name}': place_attention(_MANUAL['manual-70'], places, 108)
  for name, places in {
    '2': PLACES[:2],
    '4': PLACES[:4],
    '6': PLACES,
    '-searched': (3, 5),
  }.items()
}

# Auto-TSNet-S, reconstructed: the paper draws its layout (Figure 3) and does not print it. This
# one is of its space, as its text has it: kernels of 5 in space and of 1 in time are widely
# used, and attention is behind two groups of the third sparse stage. Within that its numbers
# are those which come nearest to all printed costs. Columns: channels, expansion, and kernel
# in time and in space; of the sparse stream, of the dense one, and the fusion behind them.
_AUTO = (
  ((32, 5.25, 5, 3), (8, 3.0, 1, 5), 'none'),
  ((32, 1.5, 1, 3), (8, 3.75, 1, 3), 'conv'),
  ((64, 1.5, 1, 3), (24, 1.5, 1, 5), 'sample'),
  ((64, 1.5, 1, 3), (8, 1.5, 1, 5), 'conv'),
  ((128, 4.5, 1, 5), (24, 3.0, 1, 5), 'none'),
  ((160, 4.5, 3, 5), (16, 3.0, 1, 5), 'stack'),
  ((128, 3.0, 1, 5), (16, 1.5, 3, 5), 'none'),
  ((160, 1.5, 1, 3), (16, 3.75, 1, 3), 'conv'),
  ((344, 2.25, 5, 5), (40, 3.75, 1, 3), 'none'),
  ((272, 2.25, 1, 5), (40, 3.75, 5, 3), 'none'),
  ((296, 1.5, 1, 5), (56, 5.25, 1, 3), 'none'),
)
_AUTO_PLAIN = Spec(
  make_groups(row[0] for row in _AUTO),
  make_groups(row[1] for row in _AUTO),
  tuple(row[2] for row in _AUTO),
)


def _make_auto() -> dict[str, Spec]:
  """Auto-TSNets (Tables 3 and 5); their sizes in training are X3D's of the same letter."""
  sizes = {
    's': _AUTO_PLAIN,
    'm': dataclasses.replace(_AUTO_PLAIN, resolution=224),
    'l': dataclasses.replace(deepen(_AUTO_PLAIN, 2), resolution=312),
  }
  found = {'auto-s-sparse': keep_sparse(_AUTO_PLAIN)}
  for name, spec in sizes.items():
    found[f'auto-{name}'] = place_attention(spec, (5, 7), 216)
    found[f'auto-{name}-plain'] = spec
  return found


_NAMED: dict[str, Spec] = {
  **_MANUAL,
  'manual-70-sparse': keep_sparse(_MANUAL['manual-70']),
  **_make_fusions(),
  **_ATTENTION,
  **_make_auto(),
}
VARIANTS: dict[str, Spec] = {
  **_NAMED,
  **{f'{name}-stream': dataclasses.replace(spec, causal=True) for name, spec in _NAMED.items()},
}


def _make_small() -> dict[str, Spec]:
  sparse = (
    Group(4, 1.5, (3, 3, 3), stride=2),
    Group(4, 1.5, (1, 5, 5)),
    Group(5, 1.2, (3, 3, 3), depth=2, stride=2),
    Group(5, 1.2, (1, 3, 3), attention=True),
  )
  dense = (
    Group(2, 1.5, (3, 3, 3), stride=2),
    Group(2, 2.0, (5, 3, 3)),
    Group(3, 1.0, (1, 3, 3), stride=2),
    Group(3, 1.0, (3, 3, 3), attention=True),
  )
  base = Spec(
    sparse,
    dense,
    ('sample', 'stack', 'none', 'conv'),
    **{'stems': (4, 2), 'attention_width': 3, 'hidden': 8, 'ratio': 2, 'fusion_kernel': 3},
    frames=6,
    resolution=8,
  )
  added = dataclasses.replace(base, join='sum', average='probabilities')
  # As a stream each further block takes seconds to compile, and those here are in `stream`.
  short = dataclasses.replace(
    added, sparse=sparse[:2], dense=dense[:2], fusions=('stack', 'conv'), causal=True
  )
  return {
    'base': base,
    'sum-probabilities': dataclasses.replace(added, mean=0.45, deviation=0.225),
    'sparse': dataclasses.replace(base, dense=(), fusions=()),
    'stream': dataclasses.replace(base, causal=True),
    'stream-sum': dataclasses.replace(short, ratio=3, deviation=4.0),
    'stream-sparse': dataclasses.replace(base, dense=(), fusions=(), causal=True),
  }


SMALL: dict[str, Spec] = _make_small()
