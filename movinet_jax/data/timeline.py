"""When each frame of a file is shown, from the time stamps of its packets or frames."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Timeline:
  """The frames of a file in the order shown; there is at least one.

  Attributes:
    times_secs: [frames], increasing from 0.
    pts: [frames] time stamps, or None: frames are told apart by their order only.
    stated_fps: the rate that the file states, for a file of one frame.
  """

  times_secs: np.ndarray
  pts: list[int] | None
  stated_fps: float

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
    """For each frame nearest to one of T times, which of the T it is nearest to."""
    middles = (self.times_secs[1:] + self.times_secs[:-1]) / 2
    places = {}
    for place, index in enumerate(np.searchsorted(middles, np.asarray(times_secs))):
      places.setdefault(int(index), []).append(place)
    return places


def count_evenly(frames: int, fps: float) -> Timeline:
  """The timeline of a file without time stamps to trust."""
  return Timeline(np.arange(frames) / fps, None, fps)


def read_stamps(pts: Sequence[int | None], time_base: float, fps: float) -> Timeline:
  """The timeline that packets state, in the order of the file.

  Args:
    pts: time stamps; the first is of a key frame.
    time_base: seconds of one unit.
    fps: the rate stated, which is used where stamps are missing or occur twice.
  """
  if None in pts or len(set(pts)) < len(pts):
    return count_evenly(len(pts), fps)
  # Frames that refer to before the first key frame (open GOP) do not come out.
  shown = sorted(stamp for stamp in pts if stamp >= pts[0])
  return Timeline(np.array([stamp - shown[0] for stamp in shown]) * time_base, shown, fps)


def read_times(times_secs: Sequence[float | None], fps: float) -> Timeline:
  """The timeline of decoded frames; by the rate stated if they have no increasing times."""
  if None in times_secs or any(a >= b for a, b in itertools.pairwise(times_secs)):
    return count_evenly(len(times_secs), fps)
  return Timeline(np.array(times_secs) - times_secs[0], None, fps)
