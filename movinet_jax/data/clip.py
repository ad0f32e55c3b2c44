"""Which frames and which part of the picture: the decisions, without the pixels.

`TrainClip` and `EvalClip` are what a config says; their `plan(info, rng)` looks at one
video and returns a `Cut`: times, one box, one size, flip, distortions. A reader crops and
scales each frame once, so "short side to 192, then crop 172" is never two resizes.

Time. With `stride` a clip takes every stride-th frame at the file's own rate, which is
what papers print (MoViNet: 50 frames at stride 5 of 25 fps Kinetics). With `fps` it takes
so many frames a second whatever the file's rate: right where rates are mixed, and what a
stream from a camera can follow. Exactly one of the two is given.

With `fps` each time shows the frame nearest to it, the earlier of two that are equally near
(`ticks`). So a file slower than `fps` shows each frame for as long as it lasts, and a live
stream of the file shows the same frames.

A video shorter than the clip is repeated from its beginning (MoViNet supplement, caption
of Table 9).
"""

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np

from movinet_jax import schema
from movinet_jax.data import augment
from movinet_jax.data.timeline import TIE_SECS
from movinet_jax.data.video import Cut, VideoInfo
from movinet_jax.schema import Count, Limit, Natural, Positive, Range, Share

# Random boxes are drawn until one fits, as TensorFlow and torchvision do.
_BOX_TRIES = 10
# By number of crops: where on the longer side they lie, from 0 to 1.
_PLACES = {1: (0.5,), 3: (0.0, 0.5, 1.0)}

_Area = Annotated[float, Range(above=0, most=1)]
_ORDERED = Limit(lambda pair: pair[0] <= pair[1], '(least, greatest)')


@dataclasses.dataclass(frozen=True)
class TrainClip:
  """A random clip: random time, random resized crop, flip, colour.

  A crop is drawn in one of two ways: by `area` and `aspect`, as images are (Inception,
  MoViNet); or, where `short_side` is given, without distortion, as SlowFast and X3D do.

  Attributes:
    frames: T, frames of a clip.
    size: height and width of a frame, in pixels.
    stride: source frames from one frame of the clip to the next; or
    fps: frames of the clip per second of video.
    stride_jitter: j draws the stride from s-j … s+j-1. The upper end is missing because
      it is in the TensorFlow reference (random_stride_range with an exclusive bound).
    area: least and greatest share of the picture's area in the box; default: (0.08, 1).
    aspect: least and greatest width / height of the box, drawn evenly in its logarithm;
      default: (0.5, 2).
    short_side: least and greatest of what the picture's shorter side is scaled to, both
      included, before a `size` square is cut out anywhere (X3D, section 4).
    flip: mirror half of the clips. Switch it off where left and right are classes.
    colour: strength of brightness, contrast, saturation and hue jitter; 0 is none.
    autoaugment: AutoAugment v0.
  """

  frames: Count
  size: Count
  stride: Count | None = None
  fps: Positive | None = None
  stride_jitter: Natural = 0
  area: Annotated[tuple[_Area, _Area], _ORDERED] | None = None
  aspect: Annotated[tuple[Positive, Positive], _ORDERED] | None = None
  short_side: Annotated[tuple[Count, Count], _ORDERED] | None = None
  flip: bool = True
  colour: Share = 0.0
  autoaugment: bool = False

  views = 1  # clips taken of one video

  @property
  def least_side(self) -> int:
    """Pixels of a picture's shorter side below which it is enlarged.

    With `area`, a small box is enlarged in any case; below this side the whole picture is too.
    """
    return self.size if self.short_side is None else self.short_side[1]

  def __post_init__(self):
    _verify(self)
    self._settle_crop()
    if self.stride_jitter and self.stride is None:
      raise ValueError(
        f'stride_jitter={self.stride_jitter} needs stride; this clip has fps={self.fps}'
      )

  def _settle_crop(self):
    if self.short_side is None:
      crop = {
        'area': (0.08, 1.0) if self.area is None else self.area,
        'aspect': (0.5, 2.0) if self.aspect is None else self.aspect,
      }
    elif self.area is None and self.aspect is None:
      crop = {'short_side': self.short_side}
      if self.short_side[0] < self.size:
        raise ValueError(f'short_side is {self.short_side}; wanted at least size={self.size}')
    else:
      raise ValueError(
        f'short_side={self.short_side} is another way to crop than area={self.area} and '
        f'aspect={self.aspect}; leave these two out, or short_side'
      )
    # Lists come from configs; a plan must compare and hash.
    for name, pair in crop.items():
      object.__setattr__(self, name, tuple(pair))

  def plan(self, info: VideoInfo, rng: np.random.Generator) -> Cut:
    """Draws one clip of a video whose frames were counted."""
    stride = self._draw_stride(rng)
    room = _room_frames(self, stride, info)
    start = int(rng.integers(room + 1))
    flip = self.flip and bool(rng.integers(2))
    box = self._draw_box(info, rng)
    distortions = augment.choose_policy(rng) if self.autoaugment else ()
    if self.colour:
      distortions += augment.choose_colour(rng, self.colour)
    times_secs = _times_secs(self, [start], stride, info)
    return Cut(times_secs, box, (self.size, self.size), flip, distortions)

  def _draw_stride(self, rng: np.random.Generator) -> int | None:
    if not self.stride_jitter:
      return self.stride
    low = max(self.stride - self.stride_jitter, 1)
    return int(rng.integers(low, max(self.stride + self.stride_jitter, low + 1)))

  def _draw_box(self, info: VideoInfo, rng: np.random.Generator):
    if self.short_side is None:
      return _random_box(info.width, info.height, self.area, self.aspect, rng)
    least, greatest = self.short_side
    side = _crop_side(info, self.size, int(rng.integers(least, greatest + 1)))
    left, top = rng.uniform(0, info.width - side), rng.uniform(0, info.height - side)
    return float(left), float(top), side, side


@dataclasses.dataclass(frozen=True)
class EvalClip:
  """Fixed views of a video; if nothing else is said, one: its middle, cut out centrally.

  Papers print "10-center" for clips=10, and "10-LeftCenterRight" or 30 views for clips=10
  with crops=3, squares of the whole short side (X3D, section 4).

  Attributes:
    frames: T, frames of a clip.
    size: height and width of a frame, in pixels.
    short_side: what the picture's shorter side is scaled to before `size` squares are
      cut out; default: size.
    stride, fps: as in TrainClip.
    clips: K clips, evenly spaced from the first to the last that fits; 1 is the middle.
    crops: squares of each clip: 1, the central one; or 3, at both ends of the picture's
      longer side and in between.
  """

  frames: Count
  size: Count
  short_side: Count | None = None
  stride: Count | None = None
  fps: Positive | None = None
  clips: Count = 1
  crops: Literal[tuple(_PLACES)] = 1

  def __post_init__(self):
    _verify(self)
    if self.short_side is None:
      object.__setattr__(self, 'short_side', self.size)
    if self.short_side < self.size:
      raise ValueError(
        f'a crop of size={self.size} does not fit in short_side={self.short_side}; '
        'make short_side at least size'
      )

  @property
  def views(self) -> int:
    return self.clips * self.crops

  def take(self, clips: int = 1, crops: int = 1) -> 'EvalClip':
    """The same with so many views of a video."""
    # Three squares cover the longer side only if each takes the whole of the shorter one.
    size = self.short_side if crops > 1 else self.size
    return dataclasses.replace(self, size=size, clips=clips, crops=crops)

  @property
  def least_side(self) -> int:
    """Pixels of a picture's shorter side below which it is enlarged."""
    return self.short_side

  def plan(self, info: VideoInfo, rng: np.random.Generator | None = None) -> Cut:
    """The clips of a video whose frames were counted, one after another; no chance.

    With several crops the frames are strips that hold them all; `split` takes them apart.
    """
    del rng
    room = _room_frames(self, self.stride, info)
    if self.clips == 1:
      starts = [room // 2]
    else:
      starts = [round(room * k / (self.clips - 1)) for k in range(self.clips)]
    times_secs = _times_secs(self, starts, self.stride, info)
    cut = self.frame(info) if self.crops == 1 else self._strip(info)
    return dataclasses.replace(cut, times_secs=times_secs)

  def frame(self, info: VideoInfo) -> Cut:
    """The central box and size alone, for one frame of a stream."""
    side = _crop_side(info, self.size, self.short_side)
    left, top = (info.width - side) / 2, (info.height - side) / 2
    return Cut((), (left, top, side, side), (self.size, self.size))

  def _strip(self, info: VideoInfo) -> Cut:
    """The central box, made as long as the picture."""
    left, top, side, _ = self.frame(info).box
    long = round(max(info.width, info.height) * self.size / side)
    if info.width >= info.height:
      return Cut((), (0.0, top, float(info.width), side), (self.size, long))
    return Cut((), (left, 0.0, side, float(info.height)), (long, self.size))

  def split(self, frames: np.ndarray) -> np.ndarray:
    """Takes the views out of the frames of a cut.

    Args:
      frames: `[K T, H, W, 3]`, K clips one after another, as `plan` has them read.

    Returns:
      `[views, T, size, size, 3]`: the crops of the first clip from left to right or from
      top to bottom, then those of the second.
    """
    clips = frames.reshape(self.clips, self.frames, *frames.shape[1:])
    high, wide = frames.shape[1] - self.size, frames.shape[2] - self.size
    corners = [(math.ceil(high * p), math.ceil(wide * p)) for p in _PLACES[self.crops]]
    crops = [clips[:, :, y : y + self.size, x : x + self.size] for y, x in corners]
    return np.stack(crops, axis=1).reshape(self.views, *crops[0].shape[1:])


Clip = TrainClip | EvalClip


def _room_frames(clip: Clip, stride: int | None, info: VideoInfo) -> int:
  """By how many frames a clip can be moved within the video; 0 if it does not fit."""
  if clip.fps is None:
    return max(0, info.frames - 1 - (clip.frames - 1) * stride)
  # Each frame of the clip lasts for a tick. A thousandth of a frame forgives rates such as
  # 29.97002997.
  rest_secs = info.duration_secs - clip.frames / clip.fps
  return max(0, math.floor(rest_secs * info.fps + 1e-3))


def _times_secs(clip: Clip, starts, stride: int | None, info: VideoInfo) -> tuple[float, ...]:
  """Times of the frames of clips that begin at these frames, one clip after another."""
  if clip.fps is not None:
    return _tick_secs(clip, np.array(starts) / info.fps, info.duration_secs)
  ordinals = np.concatenate([start + stride * np.arange(clip.frames) for start in starts])
  return tuple((ordinals % info.frames / info.fps).tolist())


def _tick_secs(clip: Clip, starts_secs, duration_secs: float) -> tuple[float, ...]:
  """Ticks of the clip's own rate, which go round where the last frame is over."""
  secs = np.concatenate([start + np.arange(clip.frames) / clip.fps for start in starts_secs])
  secs %= duration_secs
  secs[duration_secs - secs < TIE_SECS] = 0
  return tuple(secs.tolist())


def _crop_side(info: VideoInfo, size: int, short_side: int) -> float:
  """Pixels of the picture that are `size` ones once its shorter side is short_side."""
  return min(info.width, info.height) * size / short_side


def _random_box(width: int, height: int, area, aspect, rng: np.random.Generator):
  """(left, top, width, height) in pixels; the largest central box if none fits."""
  for _ in range(_BOX_TRIES):
    pixels = width * height * rng.uniform(*area)
    ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
    wide, high = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
    if wide <= width and high <= height:
      left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
      return float(left), float(top), wide, high
  ratio = min(max(width / height, aspect[0]), aspect[1])
  wide, high = min(width, height * ratio), min(height, width / ratio)
  return (width - wide) / 2, (height - high) / 2, float(wide), float(high)


def _verify(clip: Clip):
  schema.verify(clip)
  if (clip.stride is None) == (clip.fps is None):
    raise ValueError(
      f'give exactly one of stride and fps, got stride={clip.stride}, fps={clip.fps}'
    )
