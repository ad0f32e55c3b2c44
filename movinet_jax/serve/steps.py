"""A stream step by step: frames of a source in, an answer for each call of the network out."""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from movinet_jax.data import EvalClip
from movinet_jax.data.live import Feed, Painting
from movinet_jax.data.ticks import Shown, hold_frames
from movinet_jax.serve.cuts import mark_scenes
from movinet_jax.serve.live import Live, Prediction

_RATE_SECS = 3.0  # over which frames a second are counted


@dataclasses.dataclass(frozen=True)
class Step:
  """One call of a stream.

  Attributes:
    prediction: after it.
    times_secs: time of each of its frames, since the first one of the source.
    pictures: the frames as they came, [H, W, 3]; () unless they were asked for.
    reset: why the stream forgot what was before these frames; '' if it did not.
    viewer: number of the viewer whose stream it is; None where there is one stream.
  """

  prediction: Prediction
  times_secs: tuple[float, ...]
  pictures: tuple[np.ndarray, ...] = ()
  reset: str = ''
  viewer: int | None = None

  def describe(self, top: Sequence[tuple[str, float]]) -> dict:
    """The step as JSON has it, with the classes of `Prediction.top`."""
    named = {} if self.viewer is None else {'viewer': self.viewer}
    described = {
      **named,
      'frame': self.prediction.frame,
      'secs': round(self.times_secs[-1], 3),
      'latency_ms': round(self.prediction.latency_ms, 3),
      'top': [{'label': label, 'probability': round(p, 5)} for label, p in top],
    }
    return {**described, 'reset': self.reset} if self.reset else described


class Resets:
  """Wishes that streams forget. Signal handlers and other threads may ask."""

  def __init__(self):
    self._count = 0

  def ask(self, *_):
    self._count += 1

  def watch(self) -> Callable[[], bool]:
    """Returns a function that is true once after each wish from now on."""
    seen = self._count

    def take() -> bool:
      nonlocal seen
      before, seen = seen, self._count
      return before != seen

    return take


class Rate:
  """Frames a second over the last seconds."""

  def __init__(self):
    self._calls = collections.deque()

  def add(self, frames: int) -> float | None:
    """Counts the frames of a call, and returns the rate; None at the first call."""
    now = time.monotonic()
    self._calls.append((now, frames))
    while len(self._calls) > 2 and now - self._calls[0][0] > _RATE_SECS:
      self._calls.popleft()
    (first, _), *later = self._calls
    return sum(count for _, count in later) / (now - first) if later and now > first else None


def predict(
  live: Live,
  frames: Iterable[Shown],
  clip: EvalClip,
  fps: float,
  chunk: int = 1,
  *,
  pictures: bool = False,
  cuts: bool = False,
  asked: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
  """Streams a source, a step for each chunk of frames.

  The network sees the frames and the crop of an evaluation. Frames that do not fill a last chunk
  are left out. A reset takes effect at the first frame of a chunk.

  Args:
    frames: of the source, at its own rate.
    pictures: whether steps hold the source's whole pictures.
    cuts: whether to forget at cuts.
    asked: says whether somebody asks to forget.
  """
  frames = mark_scenes(frames) if cuts else frames
  crop, whole = Painting(clip.frame), Painting()
  last, taken, reset = None, [], ''
  for shown in hold_frames(frames, fps):
    if last is not None:
      reset = _find_reset(last, shown) or ('asked' if asked() else reset)
    last = shown
    taken.append((shown.secs, crop.paint(shown), whole.paint(shown) if pictures else None))
    if len(taken) == chunk:
      times_secs, crops, wholes = zip(*taken, strict=True)
      if reset:
        live.forget()
      yield Step(live(np.stack(crops)), times_secs, wholes if pictures else (), reset)
      taken, reset = [], ''


def _find_reset(before: Shown, shown: Shown) -> str:
  """Why what was before this frame is over; '' if it is not."""
  if shown.part != before.part:
    return 'lost'
  return 'cut' if shown.scene != before.scene else ''


def find_fps(clip: EvalClip, feed: Feed) -> float:
  """Frames per second that a clip of this source has."""
  return clip.fps or feed.find_mean_fps() / clip.stride
