"""What is known of a video, what to take of it, and what is wrong with it."""

import dataclasses


class DecodeError(ValueError):
  """A video that cannot be decoded as it states; `path` and `reason` say why."""

  def __init__(self, path: str, reason: str):
    super().__init__(path, reason)
    self.path, self.reason = path, reason

  def __str__(self):
    return f'{self.path}: {self.reason}'


@dataclasses.dataclass(frozen=True)
class VideoInfo:
  """What is known of a video; width and height are as shown, after rotation.

  `probe` fills in what the container states. A sampler gets counted values: `frames` frames,
  shown over `duration_secs`.
  """

  duration_secs: float | None
  fps: float
  width: int
  height: int
  codec: str
  frames: int | None = None


@dataclasses.dataclass(frozen=True)
class Cut:
  """What to take out of a video: the frames nearest to some times, one box, one size.

  Attributes:
    times_secs: T times since the first frame, in any order; repeats are allowed.
    box: (left, top, width, height) in pixels of the picture as shown.
    size: (height, width) of the frames to return.
    flip: whether to mirror left and right.
    distortions: (name, magnitude) pairs for `augment.distort`; readers ignore them.
  """

  times_secs: tuple[float, ...]
  box: tuple[float, float, float, float]
  size: tuple[int, int]
  flip: bool = False
  distortions: tuple[tuple[str, float], ...] = ()


def say_error(error: Exception) -> str:
  """What FFmpeg or the system says of an error, without its number."""
  return getattr(error, 'strerror', None) or str(error) or type(error).__name__
