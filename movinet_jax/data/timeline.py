"""When each frame of a file is shown, from the stamps of its packets or frames."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

# Two frames are equally near to a time within this: sums of seconds round differently. Time stamps
# are no finer than 10 µs, and middles between them than 5 µs.
TIE_SECS = 1e-7
# Stamps that are only out of order go back by less.
_SET_ANEW_SECS = 1.0


@dataclasses.dataclass(frozen=True)
class Timeline:
  """The frames of a file in the order shown; there is at least one.

  Attributes:
    times_secs: [frames], increasing from 0.
    pts: int64 [frames], the time stamp of each, or None: their order alone tells them apart.
    positions: int [frames], where the packet of each is in the file; None where pts is.
    stated_fps: the rate that the file states, for a file of one frame.
  """

  times_secs: np.ndarray
  stated_fps: float
  pts: np.ndarray | None = None
  positions: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.times_secs)

  @property
  def fps(self) -> float:
    frames = len(self)
    return (frames - 1) / self.last_secs if frames > 1 else self.stated_fps

  @property
  def last_secs(self) -> float:
    """When the last frame begins to be shown."""
    return float(self.times_secs[-1])

  @property
  def duration_secs(self) -> float:
    """How long the frames are shown; the last is taken to be as long as the others."""
    return self.last_secs + 1 / self.fps

  def find_places(self, times_secs: Sequence[float]) -> dict[int, list[int]]:
    """For each frame nearest to one of T times, which of the T it is nearest to.

    Of two frames that are equally near it is the earlier.
    """
    middles = (self.times_secs[1:] + self.times_secs[:-1]) / 2
    places = {}
    for place, index in enumerate(np.searchsorted(middles, np.asarray(times_secs) - TIE_SECS)):
      places.setdefault(int(index), []).append(place)
    return places


def count_evenly(frames: int, fps: float) -> Timeline:
  """The timeline of a file without stamps."""
  return Timeline(np.arange(frames) / fps, fps)


def sort_stamps(
  pts: np.ndarray, positions: np.ndarray, time_base: float, fps: float
) -> Timeline | None:
  """The timeline that the packets of a file state; None if they contradict themselves.

  Args:
    pts: int64 [frames] in the order of the file.
    positions: int [frames], where each is in the file.
    time_base: seconds of one unit.
    fps: the rate stated.
  """
  order = np.argsort(pts, kind='stable')
  stamps = pts[order]
  if (np.diff(stamps) <= 0).any():
    return None
  return Timeline((stamps - stamps[0]) * time_base, fps, stamps, positions[order])


def delay_stamps(dts: np.ndarray, delay: int, time_base: float, fps: float) -> Timeline:
  """The timeline of a file that says only when packets are decoded.

  Frame k comes out of the decoder with packet k + delay, so it is shown when that one is decoded.
  The last frames come out after the last packet: the step before them goes on.

  Args:
    dts: int64 [frames], increasing.
    delay: packets that the decoder takes before its first frame comes out.
    time_base, fps: as in sort_stamps.
  """
  shown = dts[delay:]
  step = shown[-1] - shown[-2] if len(shown) > 1 else 1 / (fps * time_base)
  rest = shown[-1] + step * np.arange(1, delay + 1)
  return Timeline((np.concatenate([shown, rest]) - shown[0]) * time_base, fps)


class Clock:
  """Says when each frame is shown, as frames come out of the decoder; times increase."""

  def __init__(self, fps: float):
    self._step = 1 / fps
    self._began = self._last = None

  def feed(self, dts: int | None):
    """Takes note of a packet that goes into the decoder."""

  def drain(self):
    """Takes note that there are no more packets."""

  def show(self, stamp_secs: float | None) -> float:
    """Seconds since the first frame, of the frame with this stamp.

    A frame without a stamp, or with one that does not increase, is shown at the rate stated. Where
    stamps go back by much, the clock was set anew: time goes on from the frame before.
    """
    due = 0.0 if self._last is None else self._last + self._step
    if stamp_secs is None:
      at_secs = due
    elif self._began is None:
      self._began, at_secs = stamp_secs - due, due
    else:
      at_secs = stamp_secs - self._began
    if self._last is not None and at_secs <= self._last + TIE_SECS:
      if at_secs < self._last - _SET_ANEW_SECS:
        self._began = stamp_secs - due
      at_secs = due
    self._last = at_secs
    return at_secs


class DelayedClock(Clock):
  """Says when each frame of a file without time stamps is shown, as `delay_stamps` does."""

  def __init__(self, fps: float, time_base: float):
    super().__init__(fps * time_base)  # its steps are in units of the time base
    self._base = time_base
    self._waiting = collections.deque()
    self._drained, self._fed = False, None

  def feed(self, dts: int | None):
    if dts != self._fed:  # else it is a part of the packet before
      self._waiting.append(dts)
      self._fed = dts

  def drain(self):
    self._drained = True

  def show(self, stamp_secs: float | None) -> float:
    del stamp_secs
    if self._began is None:
      # The packets before the one that brings the first frame out are the decoder's delay.
      while not self._drained and len(self._waiting) > 1:
        self._waiting.popleft()
      self._began = self._waiting[0]
    if self._waiting:
      stamp = self._waiting.popleft()
      self._step = self._step if self._last is None else stamp - self._last
    else:
      stamp = self._last + self._step
    self._last = stamp
    return (stamp - self._began) * self._base
