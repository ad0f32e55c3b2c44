"""Video file -> frames, decoding only what is wanted.

A file is never handed to FFmpeg by name: its bytes are, with every protocol closed. So
a playlist cannot open the network, a named pipe cannot hang the run, and a folder is an
error. Everything that can go wrong with a file is one exception, `DecodeError`, and a
file that decodes to fewer frames than it states is such an error too: FFmpeg itself says
nothing about it.

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
import contextlib
import dataclasses
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

import av
import av.error
import av.filter
import numpy as np

# 8K is 35 million pixels. A forged header may ask for far more memory than that.
MAX_PIXELS = 36_000_000
# Containers round durations, and the last frame's length is often left out of them.
LEAST_SHARE = 0.9
# FFmpeg's AVColorSpace, under the names that its scale filter knows.
_MATRICES = {1: 'bt709', 4: 'fcc', 5: 'bt601', 6: 'bt601', 7: 'smpte240m'}
_MATRICES |= {9: 'bt2020', 10: 'bt2020'}
_FULL_RANGE = 2
# Time stamps in AVI are guessed by FFmpeg from the packet order, wrongly for B frames.
_WITHOUT_TIMES = {'avi'}
_USUAL_FPS = 25.0


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

  From `probe` these are the container's words, where it has any. Given to a sampler they
  are counted: `frames` frames, shown over `duration_secs`.
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
  with _open_live(source) as track:
    track.check_pixels(MAX_PIXELS)
    tick, painter = 0, None
    for at_secs, frame in track.decode_live():
      if fps and at_secs * fps < tick - 1e-6:
        continue
      tick = int(at_secs * (fps or 0) + 1e-6) + 1
      if painter is None:
        size = turn_size(frame.rotation, frame.width, frame.height)
        painter = _Painter(_choose_live(track, size, choose), size, track.fail)
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


def fit_frame(frame: np.ndarray, cut: Cut) -> np.ndarray:
  """Crops and scales one uint8 `[H, W, 3]` RGB picture as a cut says."""
  picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')
  seen = (picture.width, picture.height)
  return _Painter(cut, seen, _raise_value_error).paint(picture)


def count_frames(video: str | bytes, *, name: str = '') -> int:
  """Decodes a whole file and returns how many frames came.

  Raises:
    DecodeError: whatever could make any clip of this file fail.
  """
  with open_track(video, name) as track:
    track.check_pixels(MAX_PIXELS)
    promised = len(track.scan().times_secs)
    frames = len(track.count().times_secs)
    if track.damaged:
      track.fail(f'{track.damaged} of {frames} frames are damaged')
    if frames < LEAST_SHARE * promised:
      track.fail(f'only {frames} of {promised} frames can be decoded')
    return frames


class _WrongTimesError(Exception):
  """The frames that came out do not carry the time stamps of the packets."""


@dataclasses.dataclass
class _Shown:
  """The frames of a file in the order shown."""

  times_secs: np.ndarray  # [frames], from 0
  pts: list[int] | None  # None: frames are told by their order only


class Track:
  """The first video stream of an open container."""

  def __init__(self, container, name: str):
    self.name = name
    self.container = container
    if not container.streams.video:
      self.fail('has no video stream')
    self.stream = container.streams.video[0]
    self.codec = self.stream.codec_context
    # One thread a reader: parallel reading is the pipeline's business, and frame threads
    # both spoil skip_frame and can deadlock when left before the end of the stream.
    self.codec.thread_count = 1
    self.packets = []
    self.damaged = 0  # frames, of those that `count` decoded
    self.size = None  # (width, height) as shown, once `shown_size` was asked

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
    """How long the file says the video track is, None if it does not."""
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
    """Makes FFmpeg's errors DecodeErrors."""
    try:
      yield
    except (av.error.FFmpegError, OSError) as error:
      raise DecodeError(self.name, f'cannot be {verb}: {say_error(error)}') from error

  @property
  def timeless(self) -> bool:
    return bool(set(self.container.format.name.split(',')) & _WITHOUT_TIMES)

  def scan(self) -> _Shown:
    """Demuxes everything and says when each frame is shown, without decoding."""
    self.packets = list(self.demux())
    while self.packets and not self.packets[0].is_keyframe:
      self.packets.pop(0)  # nothing before the first key frame can be decoded
    self.check_enough(len(self.packets), shown_secs=float('inf'))
    pts = [packet.pts for packet in self.packets]
    if self.timeless or None in pts or len(set(pts)) < len(pts):
      shown = _Shown(np.arange(len(pts)) / self.fps, None)
    else:
      # Frames that refer to before the first key frame (open GOP) do not come out.
      pts = sorted(stamp for stamp in pts if stamp >= pts[0])
      times = np.array([stamp - pts[0] for stamp in pts]) * float(self.stream.time_base)
      shown = _Shown(times, pts)
    last = self.packets[-1]
    if shown.pts is not None:
      last = max(self.packets, key=lambda packet: packet.pts)
    self.check_end(shown, last)
    return shown

  def count(self) -> _Shown:
    """Decodes everything to learn how many frames there are and when."""
    times, self.damaged, frame = [], 0, None
    for frame in self.decode(range(len(self.packets))):
      times.append(frame.time)
      self.damaged += frame.is_corrupt
    if None in times or any(a >= b for a, b in itertools.pairwise(times)):
      times = list(np.arange(len(times)) / self.fps)
    shown = _Shown(np.array(times) - (times[0] if times else 0), None)
    if not times:
      self.check_enough(0)
    self.check_end(shown, frame)
    return shown

  def check_end(self, shown: _Shown, last: av.Packet | av.VideoFrame):
    """Fails if the file states more than it shows up to the end of its last picture."""
    # Of a screen that stands still at the end there is one picture, shown for long.
    rest = max(_duration_secs(last), 1 / self.shown_fps(shown))
    self.check_enough(len(shown.times_secs), float(shown.times_secs[-1]) + rest)

  def info_secs(self, shown: _Shown) -> float:
    return float(shown.times_secs[-1]) + 1 / self.shown_fps(shown)

  def shown_fps(self, shown: _Shown) -> float:
    frames = len(shown.times_secs)
    return (frames - 1) / float(shown.times_secs[-1]) if frames > 1 else self.fps

  def info(self, shown: _Shown) -> VideoInfo:
    width, height = self.shown_size()
    return VideoInfo(
      duration_secs=self.info_secs(shown),
      fps=self.shown_fps(shown),
      width=width,
      height=height,
      codec=self.codec.name,
      frames=len(shown.times_secs),
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


def _duration_secs(shown: av.Packet | av.VideoFrame) -> float:
  return float((shown.duration or 0) * (shown.time_base or 0))


def _read_cut(track: Track, shown: _Shown, cut: Cut, skip: bool) -> np.ndarray:
  """Decodes the frames of a cut into one array, uint8 `[T, H, W, 3]`."""
  places = _places(shown, cut.times_secs)
  clip = np.empty((len(cut.times_secs), *cut.size, 3), np.uint8)
  painter = _Painter(cut, track.size, track.fail)
  wanted = sorted(places)
  if shown.pts is None:
    frames = _decode_by_order(track, wanted)
  else:
    frames = _decode_by_time(track, [shown.pts[i] for i in wanted], skip)
  for index, frame in zip(wanted, frames, strict=True):
    if frame.is_corrupt:
      track.fail(f'frame {index} of {len(shown.times_secs)} is damaged')
    first, *others = places[index]
    painter.paint(frame, out=clip[first])
    clip[others] = clip[first]
  return clip


def _places(shown: _Shown, times_secs) -> dict[int, list[int]]:
  """For each wanted frame of the file, where in the clip it goes."""
  middles = (shown.times_secs[1:] + shown.times_secs[:-1]) / 2
  places = {}
  for place, index in enumerate(np.searchsorted(middles, np.asarray(times_secs))):
    places.setdefault(int(index), []).append(place)
  return places


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


class _Painter:
  """Crop, scale and RGB conversion of frames through one FFmpeg filter graph."""

  def __init__(self, cut: Cut, seen: tuple[int, int], fail: Callable[[str], None]):
    self.cut, self.seen, self.fail = cut, seen, fail
    self.graph, self.kind = None, None

  def paint(self, frame: av.VideoFrame, out: np.ndarray | None = None) -> np.ndarray:
    kind = (frame.width, frame.height, frame.format.name, frame.rotation)
    kind = (*kind, int(frame.colorspace), int(frame.color_range))
    if kind != self.kind:  # the first frame, or a stream that changes on the way
      self.graph, self.kind = _make_graph(frame, self.cut, self.seen), kind
    try:
      self.graph.vpush(frame)
      plane = self.graph.vpull().planes[0]
    except av.error.FFmpegError as error:
      self.fail(f'cannot be cropped or scaled: {say_error(error)}')
    height, width = self.cut.size
    rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
    picture = rows[:, : 3 * width].reshape(height, width, 3)
    out = np.empty((height, width, 3), np.uint8) if out is None else out
    out[:] = picture
    return out


def _make_graph(frame: av.VideoFrame, cut: Cut, seen: tuple[int, int]):
  """The filters for frames like this one; the box is in pixels of `seen` (W, H)."""
  width, height = turn_size(frame.rotation, frame.width, frame.height)
  left, top, wide, high = _whole_pixels(cut.box, seen, (width, height))
  scale = {
    # Filters over the whole shrunken area, where fast_bilinear skips pixels; the others
    # make the result the same on every processor, and interpolate the colours too.
    'flags': 'bilinear+accurate_rnd+bitexact+full_chroma_int',
    'w': str(cut.size[1]),
    'h': str(cut.size[0]),
    'out_range': 'full',
  }
  return make_graph(
    frame,
    ('crop', f'{wide}:{high}:{left}:{top}:exact=1'),
    ('scale', scale),
    ('format', 'rgb24'),
    *([('hflip', '')] if cut.flip else []),  # numpy takes ten times longer
  )


def make_graph(frame: av.VideoFrame, *filters: tuple[str, str | dict]):
  """A graph that turns frames like this one upright and filters them.

  Args:
    frame: its size, format and colours are taken for those of all frames.
    *filters: (name, arguments as one text or by name). A `scale` is told the colours.
  """
  graph = av.filter.Graph()
  graph.threads = 1
  nodes = [
    graph.add_buffer(
      width=frame.width,
      height=frame.height,
      format=frame.format,
      time_base=frame.time_base or 1,
    )
  ]
  for name, args in (*_make_turns(frame.rotation), *filters):
    if isinstance(args, dict):
      colours = _name_colours(frame) if name == 'scale' else {}
      nodes.append(graph.add(name, **args, **colours))
    else:
      nodes.append(graph.add(name, args))
  graph.link_nodes(*nodes, graph.add('buffersink')).configure()
  return graph


def _name_colours(frame: av.VideoFrame) -> dict[str, str]:
  """The frame's YUV matrix and range for a scale filter, which else assumes BT.601."""
  if frame.format.is_rgb:
    return {}
  full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith('yuvj')
  matrix = _MATRICES.get(int(frame.colorspace), usual_matrix(frame.height))
  return {'in_color_matrix': matrix, 'in_range': 'full' if full else 'tv'}


def usual_matrix(height: int) -> str:
  """What a picture of this height is coded with if it does not say."""
  return 'bt709' if height >= 720 else 'bt601'


def turn_size(rotation: int, width: int, height: int) -> tuple[int, int]:
  return (height, width) if rotation % 180 else (width, height)


def _make_turns(rotation: int) -> list[tuple[str, str]]:
  """Filters that show a frame upright; rotation is counter-clockwise in degrees."""
  return {
    90: [('transpose', 'cclock')],
    180: [('hflip', ''), ('vflip', '')],
    270: [('transpose', 'clock')],
  }.get(rotation % 360, [])


def _whole_pixels(box, seen: tuple[int, int], size: tuple[int, int]):
  """Rounds a box to pixels inside a picture of `size`, at least one pixel large."""
  scale = (size[0] / seen[0], size[1] / seen[1])
  edges = []
  for axis in (0, 1):
    start = min(max(round(box[axis] * scale[axis]), 0), size[axis] - 1)
    stop = round((box[axis] + box[axis + 2]) * scale[axis])
    edges.append((start, min(max(stop, start + 1), size[axis]) - start))
  return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _choose_live(track: Track, size: tuple[int, int], choose) -> Cut:
  width, height = size
  if choose is None:
    return Cut((), (0, 0, width, height), (height, width))
  stated = track.stated_secs()
  return choose(VideoInfo(stated, track.fps, width, height, track.codec.name))


@contextlib.contextmanager
def open_track(video: str | bytes, name: str = '') -> Iterator[Track]:
  """Opens bytes or a regular file, never a name that FFmpeg could interpret."""
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


def _check_regular(path: str):
  # Before the file is opened: opening a named pipe waits for ever.
  if not os.path.exists(path):
    raise DecodeError(path, 'no such file')
  if os.path.isdir(path):
    raise DecodeError(path, 'is a folder, wanted a video file')
  if not os.path.isfile(path):
    raise DecodeError(path, 'is not a regular file (a pipe, socket or device?)')


@contextlib.contextmanager
def _open_live(source: str | int) -> Iterator[Track]:
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


def _parse_clock(text: str) -> float | None:
  """Seconds of Matroska's '00:00:05.000000000', None if it is none."""
  hours, minutes, seconds = ([*text.split(':'), '', ''])[:3]
  try:
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
  except ValueError:
    return None


def say_error(error: Exception) -> str:
  return getattr(error, 'strerror', None) or str(error) or type(error).__name__


def _raise_value_error(reason: str):
  raise ValueError(reason)
