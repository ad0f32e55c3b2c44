"""The video stream of an open file: its packets, its timeline, its decoder.

A file is never handed to FFmpeg by name: its bytes are, with every protocol closed. So a
playlist cannot open the network, a named pipe cannot hang the run, and a folder is an error.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

import av
import av.error
import numpy as np

from movinet_jax.data import timeline
from movinet_jax.data.filters import shown_size
from movinet_jax.data.packets import NONE, Packets
from movinet_jax.data.promise import Promise, count_missing
from movinet_jax.data.scans import Scan, Scans, identify
from movinet_jax.data.timeline import Clock, DelayedClock, Timeline
from movinet_jax.data.video import DecodeError, VideoInfo, say_error

# 8K is 35 million pixels. A forged header may ask for far more memory than that.
MAX_PIXELS = 36_000_000
# AVI and ASF say when a packet is decoded. FFmpeg guesses when its picture is shown, and is wrong
# where there are B frames.
_WITHOUT_TIMES = frozenset(['avi', 'asf'])
# AVI files pack two pictures of MPEG-4 into one packet, of which the next one then holds none. A
# copy of such a file keeps the wrong guesses as its stamps.
_PICTURE_OF_MPEG4 = b'\x00\x00\x01\xb6'
_PACKETS_TO_SEE = 64
# Frames after the first that show whether each packet brings out one.
_FRAMES_TO_SEE = 8
_USUAL_FPS = 25.0
# Titles and other tags may be in any encoding, and nobody reads them.
TAGS = {'metadata_errors': 'replace'}

_SCANS = Scans()


class Track:
  """The first video stream of an open container.

  Attributes:
    format: the names of the container's format.
    timeless: whether it has no time stamps to trust.
    time_base: seconds of a unit of its stamps.
    fps: the rate that the file states; in AVI that of its chunks, of which some may be empty.
    packets: the compressed frames in the order of the file, once `scan` has read them.
    damaged: how many of the frames that `count` decoded are damaged.
    size: (width, height) as shown, once `scan` has found it.
  """

  def __init__(
    self,
    container,
    name: str,
    *,
    reopen: Callable | None = None,
    missing_bytes: int | None = None,
    key: tuple | None = None,
  ):
    """A stream that cannot be opened again, as live ones, has none of the options.

    Args:
      container: of PyAV.
      name: how errors call it.
      reopen: opens the same file again, at its start.
      missing_bytes: what the file promises behind its end; see `count_missing`.
      key: of the file, if another of its clips may be read.
    """
    self.name = name
    self.container = container
    self.stream = self._choose_stream()
    # Read now: a stream is gone with its container, and frames of a live source may be shown later.
    self.format = frozenset(container.format.name.split(','))
    self.timeless = bool(self.format & _WITHOUT_TIMES)
    self.time_base = float(self.stream.time_base or 1)
    self.fps = self._find_fps()
    self._promise = Promise(container, self.stream, missing_bytes)
    self._key = key
    self.codec = self.stream.codec_context
    if self.codec is None:
      self.fail('is coded in a way that FFmpeg does not know')
    # One thread a reader, because the pipeline reads in parallel. Frame threads also spoil
    # skip_frame and can deadlock when a reader leaves before the end of the stream.
    self.codec.thread_count = 1
    with self.failing('decoded'):
      # Opened before `skip_frame` is set: dav1d would drop those frames for ever.
      self.codec.open(strict=False)
    self.packets = Packets(container, self.stream, reopen)
    self.damaged = 0
    self.size = None

  def _choose_stream(self):
    streams = self.container.streams.video
    moving = [s for s in streams if not s.disposition & s.disposition.attached_pic]
    if not moving:
      self.fail(f'has no video stream{", only a cover picture" if streams else ""}')
    return moving[0]

  def fail(self, reason: str):
    raise DecodeError(self.name, reason)

  def _find_fps(self) -> float:
    # A rate of 60000, as FFmpeg finds in DV, is a unit of time.
    rates = [rate for rate in (self.stream.average_rate, self.stream.guessed_rate) if rate]
    return float(min(rates)) if rates else _USUAL_FPS

  def check_pixels(self, max_pixels: int):
    pixels = self.codec.width * self.codec.height
    if pixels > max_pixels:
      self.fail(
        f'a picture of {self.codec.width}x{self.codec.height} has {pixels:,} pixels, '
        f'more than the limit of {max_pixels:,}'
      )

  def stated_secs(self, first_secs: float = 0.0) -> float | None:
    """The length of the video that the file states; see `Promise.find_secs`."""
    return self._promise.find_secs(first_secs)

  def scan(self, on_packet: Callable[[], None] | None = None) -> Timeline:
    """Reads the whole file and says when each frame is shown; decodes the first one only.

    A large file that this process has read before is not read again. `on_packet` is called with
    each packet, so that somebody may see that it goes on.

    Raises:
      DecodeError: nothing can be decoded, or the file states more than it holds.
    """
    if self._key and (known := _SCANS.get(self._key)):
      self.packets.adopt(known.columns)
      self.size = known.size
      return known.shown
    return self._remember(self._scan(on_packet))

  def recount(self) -> Timeline:
    """Decodes everything because the stamps of the packets have turned out wrong."""
    self.codec.flush_buffers()
    return self._remember(self.count())

  def _remember(self, shown: Timeline) -> Timeline:
    if self._key and not self.packets.is_kept:
      _SCANS.put(self._key, Scan(self.packets.columns, shown, self.size))
    return shown

  def _scan(self, on_packet: Callable[[], None] | None) -> Timeline:
    with self.failing('read'):
      packets = _notice(self.packets.scan(), on_packet)
      first, delay = self._decode_first(packets)
      for _ in packets:
        pass
    self.codec.flush_buffers()
    if first is None:
      self.check_end(0, 0.0, 0.0, 0.0)
    self.size = shown_size(first)
    shown = self._find_times(first, delay)
    if shown is None:
      return self.count()
    last = -1 if shown.positions is None else shown.positions[-1]
    rest_secs = float(self.packets.durations[last]) * self.time_base
    self.check_end(len(shown), shown.last_secs, rest_secs, first.time or 0.0)
    return shown

  def _decode_first(self, packets: Iterator[av.Packet]) -> tuple[av.VideoFrame | None, int | None]:
    """Decodes the first frame of packets that are scanned.

    Returns:
      The frame, None without any; and how many packets the decoder is behind, as far as the file
      has to be counted by that. None if each packet does not bring out a frame.
    """
    frames = self.decode(packets)
    first, fed = next(frames, None), len(self.packets)
    if not self.timeless or fed == 1:
      return first, fed - 1
    following = list(itertools.islice(frames, _FRAMES_TO_SEE))
    if len(following) < _FRAMES_TO_SEE:  # the file is over
      return first, None
    steady = len(self.packets) - fed == len(following) and fed <= 1 + self.codec.reorder_depth
    return first, fed - 1 if steady else None

  def _is_packed(self) -> bool:
    if self.codec.name != 'mpeg4':
      return False
    packets = itertools.islice(self.packets.read(), _PACKETS_TO_SEE)
    return any(bytes(packet).count(_PICTURE_OF_MPEG4) > 1 for packet in packets)

  def _find_times(self, first: av.VideoFrame, delay: int | None) -> Timeline | None:
    """The timeline by the packets' stamps; None if only decoding tells it.

    Args:
      first: the first frame that can be decoded.
      delay: see `_decode_first`.
    """
    pts = self.packets.pts
    if (pts == NONE).all():
      return timeline.count_evenly(int((~self.packets.is_hidden).sum()), self.fps)
    if self.timeless and (pts != self.packets.dts).any():
      return self._find_delayed_times(delay)
    if (pts == NONE).any() or first.pts is None or self._is_packed():
      return None
    return self._find_stated_times(first.pts)

  def _find_delayed_times(self, delay: int | None) -> Timeline | None:
    dts = self.packets.dts
    if delay is None or (dts == NONE).any() or (np.diff(dts) <= 0).any():
      return None
    return timeline.delay_stamps(dts, delay, self.time_base, self.fps)

  def _find_stated_times(self, first_pts: int) -> Timeline | None:
    packets = self.packets
    positions = np.flatnonzero(~packets.is_hidden)
    if packets.is_hidden[positions[0] : positions[-1]].any():
      return None  # an edit list of several parts, each of which may begin with lost frames
    # What would be shown before the first frame that comes out refers to frames before the file
    # begins. It cannot be decoded, and no player shows it.
    positions = positions[packets.pts[positions] >= first_pts]
    keys = packets.pts[packets.is_key & ~packets.is_hidden]
    shown = timeline.sort_stamps(packets.pts[positions], positions, self.time_base, self.fps)
    if shown is None or shown.pts[0] != first_pts or (np.diff(keys) <= 0).any():
      return None
    return shown

  def count(self, on_frame: Callable[[], None] | None = None) -> Timeline:
    """Decodes everything to learn how many frames there are and when they are shown."""
    times, self.damaged = [], 0
    for at_secs, frame in self._show(self.packets.read()):
      times.append(at_secs)
      self.damaged += frame.is_corrupt
      if on_frame is not None:
        on_frame()
    return Timeline(np.array(times), self.fps)

  def check_end(self, frames: int, last_secs: float, rest_secs: float, first_secs: float):
    """Fails if the file states more than it holds: FFmpeg stays silent.

    Args:
      frames: how many were shown.
      last_secs: when the last one was, since the first.
      rest_secs: how long it is shown, as far as its packet says. A screen that stands still at
        the end is one picture that is shown for long.
      first_secs: when the first one was shown, on the clock of the file.
    """
    if not frames:
      self.fail('has no frame that can be decoded')
    usual_secs = last_secs / (frames - 1) if frames > 1 else 1 / self.fps
    shown_secs = last_secs + max(rest_secs, usual_secs)
    lack = self._promise.find_lack(shown_secs, first_secs, 1 / self.fps, self.packets.span_secs)
    if lack:
      self.fail(f'{lack} ({frames} frames): truncated?')

  def info(self, shown: Timeline) -> VideoInfo:
    width, height = self.size
    return VideoInfo(
      duration_secs=shown.duration_secs,
      fps=shown.fps,
      width=width,
      height=height,
      codec=self.codec.name,
      frames=len(shown),
    )

  def decode(self, packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
    """Decodes packets, then drains the decoder.

    What comes before the first key frame may be useless to the decoder: a recording that begins
    in the middle is whole all the same.
    """
    self.codec.skip_frame = 'DEFAULT'
    began = False
    for packet in packets:
      began = began or packet.is_keyframe
      try:
        frames = self.decode_packet(packet)
      except DecodeError:
        if began:
          raise
        continue
      began = began or bool(frames)
      yield from frames
    yield from self.decode_packet(None)
    self.codec.flush_buffers()

  def decode_packet(self, packet: av.Packet | None) -> list[av.VideoFrame]:
    """Decodes one packet; None drains the decoder."""
    with self.failing('decoded'):
      frames = self.codec.decode(packet)
    if packet is None:
      for frame in frames:
        frame.time_base = self.stream.time_base  # PyAV takes it from the packet
    return frames

  def decode_live(self) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds since the first frame, frame), in constant memory; times increase."""
    return self._show(self._demux_live())

  def _demux_live(self) -> Iterator[av.Packet]:
    with self.failing('read'):
      yield from self.packets.demux()

  def _show(self, packets: Iterable[av.Packet]) -> Iterator[tuple[float, av.VideoFrame]]:
    """Every frame with its time, up to the end of the file, which is checked."""
    clock = DelayedClock(self.fps, self.time_base) if self.timeless else Clock(self.fps)
    count, at_secs, rest_secs, first_secs = 0, 0.0, 0.0, 0.0
    for frame in self.decode(_feed(clock, packets)):
      first_secs = first_secs if count else frame.time or 0.0
      count, at_secs, rest_secs = count + 1, clock.show(frame.time), _duration_secs(frame)
      yield at_secs, frame
    self.check_end(count, at_secs, rest_secs, first_secs)

  @contextlib.contextmanager
  def failing(self, verb: str):
    """Turns FFmpeg's and the system's errors into DecodeErrors."""
    try:
      yield
    except (av.error.FFmpegError, OSError) as error:
      raise DecodeError(self.name, f'cannot be {verb}: {say_error(error)}') from error


@contextlib.contextmanager
def open_track(video: str | bytes, name: str = '') -> Iterator[Track]:
  """Opens bytes or a regular file, never a name that FFmpeg could interpret.

  Raises:
    DecodeError: not a regular file, or not a video.
  """
  name = name or (video if isinstance(video, str) else f'<{len(video)} bytes>')
  missing_bytes = None
  with contextlib.ExitStack() as stack:

    def open_container():
      # Even from bytes FFmpeg follows a playlist (ffconcat) unless protocols are closed.
      options = {'protocol_whitelist': 'none'}
      return stack.enter_context(av.open(open_file(), container_options=options, **TAGS))

    def open_file():
      return stack.enter_context(
        io.BytesIO(video) if isinstance(video, bytes) else open(video, 'rb', buffering=0)
      )

    try:
      if isinstance(video, str):
        _check_regular(video)
      if not (os.path.getsize(video) if isinstance(video, str) else len(video)):
        raise DecodeError(name, 'is empty (0 bytes)')
      missing_bytes = count_missing(open_file())
      key = identify(video) if isinstance(video, str) else None
      container = open_container()
    except (av.error.FFmpegError, OSError) as error:
      cut = (
        f' (states {missing_bytes:,} bytes more than it has: truncated?)' if missing_bytes else ''
      )
      raise DecodeError(name, f'cannot be opened: {say_error(error)}{cut}') from error
    yield Track(container, name, reopen=open_container, missing_bytes=missing_bytes, key=key)


def _check_regular(path: str):
  # Before the file is opened: opening a named pipe waits for ever.
  if not os.path.exists(path):
    raise DecodeError(path, 'no such file')
  if os.path.isdir(path):
    raise DecodeError(path, 'is a folder, wanted a video file')
  if not os.path.isfile(path):
    raise DecodeError(path, 'is not a regular file (a pipe, socket or device?)')


def _notice(packets: Iterator[av.Packet], on_packet: Callable[[], None] | None):
  for packet in packets:
    if on_packet is not None:
      on_packet()
    yield packet


def _feed(clock: Clock | DelayedClock, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
  for packet in packets:
    clock.feed(packet.dts)
    yield packet
  clock.drain()


def _duration_secs(frame: av.VideoFrame) -> float:
  return float((frame.duration or 0) * (frame.time_base or 0))
