"""X3D: a tiny image network expanded along six axes, as whole-clip and streaming networks.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020.
Numbers are those of the published code (PyTorchVideo; SlowFast where `shortcut_norm` says),
whose models have the paper's multiply-adds. Streaming variants are this project's own
extension: causal convolutions, and means over all frames so far.
"""

import dataclasses
import functools
import math
from typing import Annotated, Literal

from movinet_jax import layers, schema
from movinet_jax.schema import SOME, Count, Positive, Rate

NATIVE_FPS = 30
NUM_CLASSES = 400  # Kinetics-400, of the published weights and counts


@dataclasses.dataclass(frozen=True)
class Stage:
  """`depth` bottlenecks of `features` channels, `inner` inside; the first halves the size."""

  features: Count
  inner: Count
  depth: Count

  def __post_init__(self):
    schema.verify(self)


@dataclasses.dataclass(frozen=True)
class Spec:
  """An architecture.

  `frames`, `resolution` and `frame_stride` (of video at NATIVE_FPS) are the native input. Larger
  clips are classified at every place that the native one fits in (the paper's "fully
  convolutional" test), and `average` says what is averaged over places: `logits`
  (PyTorchVideo) or `probabilities` (SlowFast, whose logarithms are then the logits).
  `shortcut_norm` normalises shortcuts also where only the size changes (SlowFast).
  `mean` and `deviation` are taken out of pixels in [0, 1] first: 0.45 and 0.225 for
  published weights.
  """

  stem: Count
  stages: Annotated[tuple[Stage, ...], SOME]
  hidden: Count = 2048
  shortcut_norm: bool = False
  average: Literal['logits', 'probabilities'] = 'logits'
  causal: bool = False
  mean: float = 0.0
  deviation: Positive = 1.0
  frames: Count = 16
  resolution: Count = 224
  frame_stride: Positive = 5

  def __post_init__(self):
    schema.verify(self)


def make_spec(
  frames: int,
  resolution: int,
  frame_stride: float,
  *,
  width: float = 2.0,
  depth: float = 2.2,
  bottleneck: float = 2.25,
  **fields,
) -> Spec:
  """The architecture of expansion factors (sections 3.1 and 3.2, Table 1).

  Args:
    width: of 12, 12, 24, 48 and 96 channels, as the published code has it: the paper's
      gamma_w of 1 is 2 here.
    depth: of 1, 2, 5 and 3 bottlenecks.
    bottleneck: of a bottleneck's inner width.
    **fields: of the Spec.
  """
  base = (12, 24, 48, 96)
  widths = [layers.round_to_8(width * size) for size in base]
  return Spec(
    stem=layers.round_to_8(width * 12),
    stages=tuple(
      Stage(features, int(bottleneck * features), math.ceil(depth * count))
      for features, count in zip(widths, (1, 2, 5, 3), strict=True)
    ),
    frames=frames,
    resolution=resolution,
    frame_stride=frame_stride,
    **fields,
  )


_LARGE = {'width': 2.9, 'depth': 5.0}
_PUBLISHED: dict[str, Spec] = {
  'x2d': make_spec(1, 112, 1, depth=1.0, bottleneck=1.0),
  'xs': make_spec(4, 160, 12),
  's': make_spec(13, 160, 6),
  'm': make_spec(16, 224, 5),
  'l': make_spec(16, 312, 5, depth=5.0),
  'xl': make_spec(16, 312, 5, **_LARGE),
  # Factors and clip are derived: the only ones with the paper's multiply-adds of both the
  # native and the test crop. The stride makes 32 frames of XL's 80.
  'xxl': make_spec(32, 312, 2.5, **{**_LARGE, 'depth': 10.1}),
}
VARIANTS: dict[str, Spec] = {
  **_PUBLISHED,
  **{f'{name}-stream': dataclasses.replace(spec, causal=True) for name, spec in _PUBLISHED.items()},
}

_TINY = Spec(stem=4, stages=(Stage(4, 6, 2), Stage(5, 6, 1)), hidden=8, frames=4, resolution=8)
SMALL: dict[str, Spec] = {
  'base': _TINY,
  'base-probabilities': dataclasses.replace(_TINY, average='probabilities', shortcut_norm=True),
  'stream': dataclasses.replace(_TINY, causal=True, frames=16),
}


class Model(layers.Network):
  """An X3D of any spec.

  Args (fields): those of layers.Network (the paper's dropout is 0.5), and
    stochastic_depth: rate R; bottlenecks of the first of four stages drop with 0.4 R, then
      0.6, 0.8 and 1 R, as the published code does.
  """

  stochastic_depth: Rate = 0.0

  recomputed = layers.Bottleneck

  def _parts(self):
    yield layers.Centre(self.spec.mean, self.spec.deviation, name='centre')
    yield from self._stem()
    yield from self._bottlenecks()
    yield from self._head()

  def _stem(self):
    """In space without a norm, then in time: one after the other, both at full width."""
    common = {'kernel_init': layers.kaiming_normal, 'padding': 'centred', 'dtype': self.dtype}
    yield layers.SpatialConv(self.spec.stem, (3, 3), (2, 2), **common, name='stem_space')
    conv = layers.DepthwiseConv(
      (5, 1, 1), causal=self.spec.causal, form=self.form, **common, parent=None
    )
    yield self._conv_norm(conv, 'stem')

  def _conv_norm(self, conv, name):
    norm = {**layers.PYTORCH_NORM, 'group_size': self.norm_group}
    return layers.ConvNorm(conv, 'relu', norm, name=name)

  def _bottlenecks(self):
    count = len(self.spec.stages)
    for i, stage in enumerate(self.spec.stages):
      for j in range(stage.depth):
        yield layers.Bottleneck(
          stage.features,
          stage.inner,
          stride=1 if j else 2,
          squeeze=j % 2 == 0,
          shortcut_norm=self.spec.shortcut_norm,
          causal=self.spec.causal,
          drop_rate=self.stochastic_depth * (i + 2) / (count + 1),
          norm_group=self.norm_group,
          form=self.form,
          dtype=self.dtype,
          name=f'stage{i}_layer{j}',
        )

  def _head(self):
    pointwise = functools.partial(layers.PointwiseConv, dtype=self.dtype)
    inner = self.spec.stages[-1].inner
    conv = pointwise(inner, kernel_init=layers.kaiming_normal, parent=None)
    yield self._conv_norm(conv, 'project')
    size = -(-self.spec.resolution // 2 ** (1 + len(self.spec.stages)))
    window = self.spec.frames, size, size
    yield layers.SlidingPool(window, self.spec.causal, name='pool')
    yield layers.Hidden(self.spec.hidden, self.dropout, self.dtype, name='hidden')
    yield pointwise(
      self.num_classes,
      use_bias=True,
      kernel_init=layers.normal(0.01),
      name='classifier',
    )
    yield layers.Average(self.spec.average, name='average')


def count_macs(spec: Spec, num_classes: int = 400) -> int:
  """Multiply-adds of a native clip, without tracing it: those of movinet_jax.cost.count."""
  frames, size = spec.frames, _halve(spec.resolution)
  # A clip is squeezed once, a stream with every frame.
  times = frames if spec.causal else 1
  total = frames * size**2 * spec.stem * (27 + 5)
  before = spec.stem
  for stage in spec.stages:
    inner, features, rest = stage.inner, stage.features, stage.depth - 1
    wide, size = frames * size**2, _halve(size)
    narrow = frames * size**2
    total += wide * before * inner + narrow * (before * features)
    total += narrow * rest * features * inner
    total += narrow * stage.depth * inner * (27 + features)
    hidden = layers.count_squeezed(inner)
    total += times * math.ceil(stage.depth / 2) * 2 * inner * hidden
    before = features
  inner = spec.stages[-1].inner
  total += frames * size**2 * before * inner
  return total + spec.hidden * (inner + num_classes)


def _halve(size: int) -> int:
  return -(-size // 2)
