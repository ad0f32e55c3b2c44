"""The video stream of an open file: its packets, its timeline, its decoder.

A file is never handed to FFmpeg by name: its bytes are, with every protocol closed. So a
playlist cannot open the network, a named pipe cannot hang the run, and a folder is an error.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

import av
import av.error

from movinet_jax.data import timeline
from movinet_jax.data.filters import turn_size
from movinet_jax.data.timeline import Timeline
from movinet_jax.data.video import DecodeError, VideoInfo, say_error

# 8K is 35 million pixels. A forged header may ask for far more memory than that.
MAX_PIXELS = 36_000_000
# Containers round durations, and the last frame's length is often left out of them.
LEAST_SHARE = 0.9
# Time stamps in AVI are guessed by FFmpeg from the packet order, wrongly for B frames.
_WITHOUT_TIMES = {'avi'}
_USUAL_FPS = 25.0


class Track:
  """The first video stream of an open container.

  Attributes:
    packets: compressed frames in the order of the file, once `scan` has read them.
    damaged: how many of the frames that `count` decoded are damaged.
    size: (width, height) as shown, once `shown_size` was asked.
  """

  def __init__(self, container, name: str):
    self.name = name
    self.container = container
    if not container.streams.video:
      self.fail('has no video stream')
    self.stream = container.streams.video[0]
    self.codec = self.stream.codec_context
    # One thread a reader, because the pipeline reads in parallel. Frame threads also spoil
    # skip_frame and can deadlock when a reader leaves before the end of the stream.
    self.codec.thread_count = 1
    self.packets = []
    self.damaged = 0
    self.size = None

  def fail(self, reason: str):
    raise DecodeError(self.name, reason)

  @property
  def fps(self) -> float:
    rate = self.stream.average_rate or self.stream.guessed_rate
    return float(rate) if rate else _USUAL_FPS

  def check_pixels(self, max_pixels: int):
    pixels = self.codec.width * self.codec.height
    if pixels > max_pixels:
      self.fail(
        f'a picture of {self.codec.width}x{self.codec.height} has {pixels:,} pixels, '
        f'more than the limit of {max_pixels:,}'
      )

  def stated_secs(self) -> float | None:
    """The length of the video track that the file states, None if it states none."""
    if self.stream.duration and self.stream.time_base:
      return float(self.stream.duration * self.stream.time_base)
    if stated := _parse_clock(self.stream.metadata.get('DURATION', '')):
      return stated
    # The container's length is that of its longest stream, which may be the sound.
    if self.container.duration and len(self.container.streams) == 1:
      return self.container.duration / 1_000_000
    return None

  def check_enough(self, frames: int, shown_secs: float | None = None):
    """Fails on no frames, or on fewer than the file states: FFmpeg stays silent."""
    if not frames:
      self.fail('has no frame that can be decoded')
    stated = self.stated_secs()
    shown = frames / self.fps if shown_secs is None else shown_secs
    if stated and shown < LEAST_SHARE * stated - 1 / self.fps:
      self.fail(f'states {stated:.2f} s but holds {shown:.2f} s ({frames} frames): truncated?')

  def demux(self):
    with self.failing('read'):
      for packet in self.container.demux(self.stream):
        if packet.size and not packet.is_discard:
          yield packet

  @contextlib.contextmanager
  def failing(self, verb: str):
    """Turns FFmpeg's and the system's errors into DecodeErrors."""
    try:
      yield
    except (av.error.FFmpegError, OSError) as error:
      raise DecodeError(self.name, f'cannot be {verb}: {say_error(error)}') from error

  @property
  def timeless(self) -> bool:
    return bool(set(self.container.format.name.split(',')) & _WITHOUT_TIMES)

  def scan(self) -> Timeline:
    """Demuxes everything and says when each frame is shown, without decoding."""
    self.packets = list(self.demux())
    while self.packets and not self.packets[0].is_keyframe:
      self.packets.pop(0)  # nothing before the first key frame can be decoded
    if not self.packets:
      self.check_enough(0)
    if self.timeless:
      shown = timeline.count_evenly(len(self.packets), self.fps)
    else:
      pts = [packet.pts for packet in self.packets]
      shown = timeline.read_stamps(pts, float(self.stream.time_base), self.fps)
    last = self.packets[-1]
    if shown.pts is not None:
      last = max(self.packets, key=lambda packet: packet.pts)
    self.check_end(shown, last)
    return shown

  def count(self) -> Timeline:
    """Decodes everything to learn how many frames there are and when they are shown."""
    times, self.damaged, frame = [], 0, None
    for frame in self.decode(range(len(self.packets))):
      times.append(frame.time)
      self.damaged += frame.is_corrupt
    if not times:
      self.check_enough(0)
    shown = timeline.read_times(times, self.fps)
    self.check_end(shown, frame)
    return shown

  def check_end(self, shown: Timeline, last: av.Packet | av.VideoFrame):
    """Fails if the file states more than it shows up to the end of its last picture."""
    # A screen that stands still at the end is one picture that is shown for long.
    rest = max(_duration_secs(last), 1 / shown.fps)
    self.check_enough(len(shown), shown.last_secs + rest)

  def info(self, shown: Timeline) -> VideoInfo:
    width, height = self.shown_size()
    return VideoInfo(
      duration_secs=shown.duration_secs,
      fps=shown.fps,
      width=width,
      height=height,
      codec=self.codec.name,
      frames=len(shown),
    )

  def shown_size(self) -> tuple[int, int]:
    """(width, height) after rotation, from the first frame that can be decoded."""
    frame = next(self.decode(range(len(self.packets))), None)
    self.codec.flush_buffers()
    if frame is None:
      self.fail('has no frame that can be decoded')
    self.size = turn_size(frame.rotation, frame.width, frame.height)
    return self.size

  def decode(self, positions) -> Iterator[av.VideoFrame]:
    """Decodes packets by position, then drains the decoder."""
    self.codec.skip_frame = 'DEFAULT'
    for position in positions:
      yield from self.decode_packet(self.packets[position])
    yield from self.decode_packet(None)
    self.codec.flush_buffers()

  def decode_packet(self, packet) -> list[av.VideoFrame]:
    with self.failing('decoded'):
      return self.codec.decode(packet)

  def decode_live(self) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds since the first frame, frame), in constant memory; times increase."""
    first, last, count, rest = None, -1.0, 0, 0.0
    frames = self.container.decode(self.stream)
    while True:
      with self.failing('decoded'):
        frame = next(frames, None)
      if frame is None:
        break
      stated = None if self.timeless else frame.time
      first = stated if first is None else first
      at_secs = count / self.fps if stated is None else stated - first
      last = at_secs if at_secs > last else last + 1 / self.fps
      count, rest = count + 1, _duration_secs(frame)
      yield last, frame
    self.check_enough(count, last + max(rest, 1 / self.fps))


@contextlib.contextmanager
def open_track(video: str | bytes, name: str = '') -> Iterator[Track]:
  """Opens bytes or a regular file, never a name that FFmpeg could interpret.

  Raises:
    DecodeError: not a regular file, or not a video.
  """
  name = name or (video if isinstance(video, str) else f'<{len(video)} bytes>')
  with contextlib.ExitStack() as stack:
    try:
      if isinstance(video, bytes):
        file = io.BytesIO(video)
      else:
        _check_regular(video)
        file = stack.enter_context(open(video, 'rb'))
      # Even from bytes FFmpeg follows a playlist (ffconcat) unless protocols are closed.
      options = {'protocol_whitelist': 'none'}
      container = stack.enter_context(av.open(file, container_options=options))
    except (av.error.FFmpegError, OSError) as error:
      raise DecodeError(name, f'cannot be opened: {say_error(error)}') from error
    yield Track(container, name)


@contextlib.contextmanager
def open_live(source: str | int) -> Iterator[Track]:
  """Opens a file, or the camera of this number.

  Raises:
    DecodeError: no such file or camera, or not a video.
  """
  if isinstance(source, str):
    with open_track(source) as track:
      yield track
    return
  device = f'/dev/video{source}'
  if not sys.platform.startswith('linux'):
    raise DecodeError(device, 'cameras are read through Video4Linux, so on Linux only')
  if not os.path.exists(device):
    raise DecodeError(device, f'there is no camera {source} on this machine')
  try:
    container = av.open(device, format='v4l2')
  except (av.error.FFmpegError, OSError) as error:
    raise DecodeError(device, f'camera cannot be opened: {say_error(error)}') from error
  with container:
    yield Track(container, device)


def _check_regular(path: str):
  # Before the file is opened: opening a named pipe waits for ever.
  if not os.path.exists(path):
    raise DecodeError(path, 'no such file')
  if os.path.isdir(path):
    raise DecodeError(path, 'is a folder, wanted a video file')
  if not os.path.isfile(path):
    raise DecodeError(path, 'is not a regular file (a pipe, socket or device?)')


def _duration_secs(shown: av.Packet | av.VideoFrame) -> float:
  return float((shown.duration or 0) * (shown.time_base or 0))


def _parse_clock(text: str) -> float | None:
  """Seconds of Matroska's '00:00:05.000000000', None if it is none."""
  hours, minutes, seconds = ([*text.split(':'), '', ''])[:3]
  try:
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
  except ValueError:
    return None
