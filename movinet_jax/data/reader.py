"""Video file -> frames, decoding only what is wanted.

Whatever can go wrong with a file is one exception, `DecodeError`. A file that decodes to
fewer frames than it states raises it too: FFmpeg itself says nothing about that.

How a clip is read (no frame is decoded twice but the first):

1. Demux. The stamps of the packets say when each frame is shown, so the sampler can choose
   frames by time before anything else is decoded.
2. Start decoding at the last key frame before the first wanted frame; jump to a later
   key frame where no frame in between is wanted.
3. Let the decoder drop the unwanted frames to which no other frame refers (`skip_frame`).
   The wanted frames stay bit-identical; a clip at stride 5 takes a quarter less time.
4. Crop, scale and convert each wanted frame to RGB in one FFmpeg filter graph.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import av
import numpy as np

from movinet_jax.data import frames as pictures
from movinet_jax.data.filters import Painter, shown_size
from movinet_jax.data.frames import FrameFolder
from movinet_jax.data.live import read_frames as read_frames
from movinet_jax.data.packets import Packets
from movinet_jax.data.promise import LEAST_SHARE
from movinet_jax.data.timeline import Timeline
from movinet_jax.data.track import MAX_PIXELS, Track, open_track
from movinet_jax.data.video import Cut, VideoInfo
from movinet_jax.data.video import DecodeError as DecodeError


class VideoReader(Protocol):
  """Anything that decodes: `choose` sees the video and says what to cut out of it."""

  def __call__(
    self, video: str | bytes | FrameFolder, choose: Callable[[VideoInfo], Cut], *, name: str = ''
  ) -> tuple[np.ndarray, Cut]:
    """Returns the frames, uint8 `[T, H, W, 3]`, and the cut. Raises DecodeError."""


def read_clip(
  video: str | bytes | FrameFolder,
  choose: Callable[[VideoInfo], Cut],
  *,
  name: str = '',
  max_pixels: int = MAX_PIXELS,
  skip: bool = True,
) -> tuple[np.ndarray, Cut]:
  """Reads one cut of a video file with PyAV; see the top of this file.

  Args:
    video: a path, the bytes of a whole file, or a folder of pictures.
    choose: pure function of the counted VideoInfo; may be called twice.
    name: how errors call a video that is given as bytes.
    max_pixels: a larger picture is an error.
    skip: let the decoder drop unwanted frames. Changes the time taken, not the result.

  Returns:
    uint8 `[T, H, W, 3]` and the cut that `choose` made.

  Raises:
    DecodeError: not a video, damaged, or shorter than it states.
  """
  if isinstance(video, FrameFolder):
    return pictures.read_clip(video, choose, name=name, max_pixels=max_pixels)
  with open_track(video, name) as track:
    track.check_pixels(max_pixels)
    shown = track.scan()
    cut = choose(track.info(shown))
    try:
      return _read_cut(track, shown, cut, skip), cut
    except _WrongTimesError:
      # The stamps lied (field pairs, packed B frames): count by decoding it all.
      shown = track.recount()
      cut = choose(track.info(shown))
      return _read_cut(track, shown, cut, skip=False), cut


def probe(video: str | bytes | FrameFolder, *, name: str = '') -> VideoInfo:
  """Reads what a file says of itself; decodes one frame to learn the shown size."""
  if isinstance(video, FrameFolder):
    return pictures.probe(video, name=name)
  with open_track(video, name) as track:
    if track.timeless:  # its header counts empty chunks, too
      return track.info(track.scan())
    _, frame = next(track.decode_live(), (None, None))
    if frame is None:
      track.fail('has no frame that can be decoded')
    width, height = shown_size(frame)
    return VideoInfo(
      duration_secs=track.stated_secs(frame.time or 0.0),
      fps=track.fps,
      width=width,
      height=height,
      codec=track.codec.name,
      frames=track.stream.frames or None,
    )


def count_frames(
  video: str | bytes | FrameFolder, *, name: str = '', on_frame: Callable[[], None] | None = None
) -> int:
  """Decodes a whole file and returns how many frames came.

  Args:
    video, name: as for `read_clip`.
    on_frame: called with each packet and frame, so that somebody may see that it goes on.

  Raises:
    DecodeError: whatever could make any clip of this file fail.
  """
  if isinstance(video, FrameFolder):
    return pictures.count_frames(video, name=name, on_frame=on_frame)
  with open_track(video, name) as track:
    track.check_pixels(MAX_PIXELS)
    promised = len(track.scan(on_frame))
    frames = len(track.count(on_frame))
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
    frames = _decode_by_time(track, shown, wanted, skip)
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
  for ordinal, frame in enumerate(track.decode(track.packets.read())):
    if ordinal == target:
      yield frame
      target = next(remaining, None)
    if target is None:
      return
  raise _WrongTimesError


def _decode_by_time(
  track: Track, shown: Timeline, wanted: list[int], skip: bool
) -> Iterator[av.VideoFrame]:
  """Yields the wanted frames by their stamps, decoding as little as possible."""
  packets, keys = track.packets, _find_keys(track.packets, shown, wanted)
  stamps = shown.pts[wanted].tolist()
  needed, targets = set(stamps), iter(zip(keys, stamps, strict=True))
  key, target = next(targets, (0, None))
  position, started, reading, last = key, key, packets.read(key), None
  while target is not None:
    if key > position:
      track.codec.flush_buffers()  # a jump: what is still in the decoder is not wanted
      reading = packets.skip(reading, key - position, key)
      position, started, last = key, key, None
    with track.failing('read'):
      packet = next(reading, None)
    wants = packet is None or packet.pts in needed
    track.codec.skip_frame = 'DEFAULT' if wants or not skip else 'NONREF'
    for frame in track.decode_packet(packet):
      if frame.pts is None or (last is not None and frame.pts <= last):
        raise _WrongTimesError
      if frame.pts == packets.pts[started] and started and not frame.key_frame:
        raise _WrongTimesError  # the file marks a key frame that is none
      last = frame.pts
      if frame.pts == target:
        yield frame
        key, target = next(targets, (key, None))
      elif target is not None and frame.pts > target:
        raise _WrongTimesError  # it should have come before this one
    if packet is None and target is not None:
      raise _WrongTimesError
    position += 1


def _find_keys(packets: Packets, shown: Timeline, wanted: list[int]) -> list[int]:
  """For each wanted frame, the position of the packet at which its decoding may start."""
  keys = np.flatnonzero(packets.is_key)
  places = np.searchsorted(keys, shown.positions[wanted], side='right') - 1
  starts = []
  for place, pts in zip(places.tolist(), shown.pts[wanted].tolist(), strict=True):
    # What is shown before a key frame and stored behind it refers to the one before, too.
    while place > 0 and packets.pts[keys[place]] > pts:
      place -= 1
    # A recording may begin in the middle, and some formats mark no key frames.
    starts.append(int(keys[place]) if place > 0 else 0)
  return starts
