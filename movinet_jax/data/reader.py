"""Video file -> frames, decoding only what is wanted.

Whatever can go wrong with a file is one exception, `DecodeError`. A file that decodes to
fewer frames than it states raises it too: FFmpeg itself says nothing about that.

How a clip is read, in one pass over the packets (nothing is decoded twice):

1. Demux. The time stamps of the packets say when each frame is shown, so the sampler can
   choose frames by time before anything is decoded.
2. Start decoding at the last key frame before the first wanted frame; jump to a later
   key frame where no frame in between is wanted.
3. Let the decoder drop the unwanted frames to which no other frame refers (`skip_frame`).
   The wanted frames stay bit-identical; a clip at stride 5 takes a quarter less time.
4. Crop, scale and convert each wanted frame to RGB in one FFmpeg filter graph.
"""

import bisect
import itertools
from collections.abc import Callable, Iterator
from typing import Protocol

import av
import numpy as np

from movinet_jax.data.filters import Painter, turn_size
from movinet_jax.data.timeline import Timeline
from movinet_jax.data.track import LEAST_SHARE, MAX_PIXELS, Track, open_live, open_track
from movinet_jax.data.video import Cut, VideoInfo


class VideoReader(Protocol):
  """Anything that decodes: `choose` sees the video and says what to cut out of it."""

  def __call__(
    self, video: str | bytes, choose: Callable[[VideoInfo], Cut], *, name: str = ''
  ) -> tuple[np.ndarray, Cut]:
    """Returns the frames, uint8 `[T, H, W, 3]`, and the cut. Raises DecodeError."""


def read_clip(
  video: str | bytes,
  choose: Callable[[VideoInfo], Cut],
  *,
  name: str = '',
  max_pixels: int = MAX_PIXELS,
  skip: bool = True,
) -> tuple[np.ndarray, Cut]:
  """Reads one cut of a video file with PyAV; see the top of this file.

  Args:
    video: a path, or the bytes of a whole file.
    choose: pure function of the counted VideoInfo; may be called twice.
    name: how errors call a video that is given as bytes.
    max_pixels: a larger picture is an error.
    skip: let the decoder drop unwanted frames. Changes the time taken, not the result.

  Returns:
    uint8 `[T, H, W, 3]` and the cut that `choose` made.

  Raises:
    DecodeError: not a video, damaged, or shorter than it states.
  """
  with open_track(video, name) as track:
    track.check_pixels(max_pixels)
    shown = track.scan()
    cut = choose(track.info(shown))
    try:
      return _read_cut(track, shown, cut, skip), cut
    except _WrongTimesError:
      # The time stamps lied (field pairs, packed B frames): count by decoding it all.
      shown = track.count()
      cut = choose(track.info(shown))
      return _read_cut(track, shown, cut, skip=False), cut


def read_frames(
  source: str | int,
  *,
  choose: Callable[[VideoInfo], Cut] | None = None,
  fps: float | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
  """Reads every frame in order, in constant memory, for live use.

  Args:
    source: path of a video file, or the number of a camera.
    choose: crop and size of the frames; its times are ignored. Default: as they are.
    fps: at most this many frames a second, the first at or after each tick.

  Yields:
    (seconds since the first frame, uint8 `[H, W, 3]`).

  Raises:
    DecodeError: not a video or damaged; the frames before the damage are yielded first.
  """
  with open_live(source) as track:
    track.check_pixels(MAX_PIXELS)
    tick, painter = 0, None
    for at_secs, frame in track.decode_live():
      if fps and at_secs * fps < tick - 1e-6:
        continue
      tick = int(at_secs * (fps or 0) + 1e-6) + 1
      if painter is None:
        size = turn_size(frame.rotation, frame.width, frame.height)
        painter = Painter(_choose_live(track, size, choose), size, track.fail)
      yield at_secs, painter.paint(frame)


def probe(video: str | bytes, *, name: str = '') -> VideoInfo:
  """Reads what a file says of itself; decodes one frame to learn the shown size."""
  with open_track(video, name) as track:
    track.packets = list(itertools.islice(track.demux(), 64))
    width, height = track.shown_size()
    return VideoInfo(
      duration_secs=track.stated_secs(),
      fps=track.fps,
      width=width,
      height=height,
      codec=track.codec.name,
      frames=track.stream.frames or None,
    )


def count_frames(video: str | bytes, *, name: str = '') -> int:
  """Decodes a whole file and returns how many frames came.

  Raises:
    DecodeError: whatever could make any clip of this file fail.
  """
  with open_track(video, name) as track:
    track.check_pixels(MAX_PIXELS)
    promised = len(track.scan())
    frames = len(track.count())
    if track.damaged:
      track.fail(f'{track.damaged} of {frames} frames are damaged')
    if frames < LEAST_SHARE * promised:
      track.fail(f'only {frames} of {promised} frames can be decoded')
    return frames


class _WrongTimesError(Exception):
  """The frames that came out do not carry the time stamps of the packets."""


def _read_cut(track: Track, shown: Timeline, cut: Cut, skip: bool) -> np.ndarray:
  """Decodes the frames of a cut into one array, uint8 `[T, H, W, 3]`."""
  places = shown.find_places(cut.times_secs)
  clip = np.empty((len(cut.times_secs), *cut.size, 3), np.uint8)
  painter = Painter(cut, track.size, track.fail)
  wanted = sorted(places)
  if shown.pts is None:
    frames = _decode_by_order(track, wanted)
  else:
    frames = _decode_by_time(track, [shown.pts[i] for i in wanted], skip)
  for index, frame in zip(wanted, frames, strict=True):
    if frame.is_corrupt:
      track.fail(f'frame {index} of {len(shown)} is damaged')
    first, *others = places[index]
    painter.paint(frame, out=clip[first])
    clip[others] = clip[first]
  return clip


def _decode_by_order(track: Track, wanted: list[int]) -> Iterator[av.VideoFrame]:
  """Decodes from the start and yields the wanted ordinals."""
  remaining = iter(wanted)
  target = next(remaining, None)
  for ordinal, frame in enumerate(track.decode(range(len(track.packets)))):
    if ordinal == target:
      yield frame
      target = next(remaining, None)
    if target is None:
      return
  raise _WrongTimesError


def _decode_by_time(track: Track, wanted: list[int], skip: bool):
  """Yields the frames with the wanted time stamps, decoding as little as possible."""
  keys = [i for i, packet in enumerate(track.packets) if packet.is_keyframe]
  key_pts = [track.packets[i].pts for i in keys]
  needed, targets = set(wanted), iter(wanted)
  target, last = next(targets, None), None
  position = 0
  while target is not None:
    key = keys[bisect.bisect_right(key_pts, target) - 1]
    if key > position:
      track.codec.flush_buffers()  # a jump: what is still in the decoder is not wanted
      position, last = key, None
    ended = position >= len(track.packets)
    packet = None if ended else track.packets[position]
    wants = packet is None or packet.pts in needed
    track.codec.skip_frame = 'DEFAULT' if wants or not skip else 'NONREF'
    for frame in track.decode_packet(packet):
      if frame.pts is None or (last is not None and frame.pts <= last):
        raise _WrongTimesError
      last = frame.pts
      if frame.pts == target:
        yield frame
        target = next(targets, None)
      elif target is not None and frame.pts > target:
        raise _WrongTimesError  # it should have come before this one
    if ended and target is not None:
      raise _WrongTimesError
    position += 1


def _choose_live(track: Track, size: tuple[int, int], choose) -> Cut:
  width, height = size
  if choose is None:
    return Cut((), (0, 0, width, height), (height, width))
  stated = track.stated_secs()
  return choose(VideoInfo(stated, track.fps, width, height, track.codec.name))
