"""Which frame is shown at each tick of a steady clock, as frames come in.

One rule for clips and streams: a tick shows the frame that is nearest in time, the earlier
of two that are equally near, and the last frame is shown until its own time is over.
`Timeline.find_places` follows the rule where all times are known; `hold_frames` follows it
with a look-ahead of one frame.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator

import av

from movinet_jax.data.timeline import TIE_SECS
from movinet_jax.data.track import Track
from movinet_jax.data.video import DecodeError


@dataclasses.dataclass(frozen=True)
class Shown:
  """A decoded frame at its time.

  Attributes:
    secs: since the first frame of the source.
    frame: the picture, as it was decoded.
    track: what decoded it.
    part: how often the source was lost before. No frame is held into the next part.
    scene: how many cuts there were before, where somebody looks for them.
  """

  secs: float
  frame: av.VideoFrame
  track: Track
  part: int = 0
  scene: int = 0


def hold_frames(frames: Iterable[Shown], fps: float) -> Iterator[Shown]:
  """Shows frames at the ticks 0, 1 / fps, 2 / fps, …

  A tick is due as soon as the frame at or after it is there. Where a source was lost, there are
  no ticks until it is back.

  Yields:
    The frames with the seconds of the ticks; a frame may come at several ticks, or at none.

  Raises:
    DecodeError: the source's, after the ticks before it.
  """
  clock = _Clock(fps)
  try:
    for shown in frames:
      yield from clock.advance(shown)
  except DecodeError:
    yield from clock.finish()
    raise
  yield from clock.finish()


class _Clock:
  """Ticks that were shown so far, and the latest frame."""

  def __init__(self, fps: float):
    self.fps = fps
    self.tick = 0
    self.first = self.last = None  # frames of this part
    self.count = 0

  def advance(self, shown: Shown) -> Iterator[Shown]:
    """Ticks up to a frame that has come."""
    if self.last is None or shown.part != self.last.part:
      yield from self.finish()
      self.first, self.count = shown, 0
      self.tick = max(self.tick, math.ceil((shown.secs - TIE_SECS) * self.fps))
    else:
      yield from self._show(self.last, (self.last.secs + shown.secs) / 2)
    yield from self._show(shown, shown.secs)
    self.last, self.count = shown, self.count + 1

  def finish(self) -> Iterator[Shown]:
    """Ticks during the last frame."""
    if self.last is not None:
      yield from self._show(self.last, self._end_secs() - 2 * TIE_SECS)
    self.last = None

  def _end_secs(self) -> float:
    """When the last frame is over: as long as stated, else as long as the others."""
    secs = self.last.secs
    if self.count > 1:
      mean = (secs - self.first.secs) / (self.count - 1)
    else:
      mean = 1 / self.last.track.fps
    return secs + mean

  def _show(self, shown: Shown, until_secs: float) -> Iterator[Shown]:
    while self.tick / self.fps <= until_secs + TIE_SECS:
      yield dataclasses.replace(shown, secs=self.tick / self.fps)
      self.tick += 1
