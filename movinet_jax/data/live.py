"""Live sources: frames in order as they come, in constant memory.

A file is read where it is asked for. Everything else is read in a thread, so that whoever waits
for the next frame can be told to stop. A camera or an address that is lost is opened again.
"""

import contextlib
import errno
import queue
import threading
import time
from collections.abc import Callable, Iterator

import av
import av.error
import numpy as np

from movinet_jax.data.address import Camera, File, Folder, LiveSource, SourceLost
from movinet_jax.data.filters import Painter, shown_size
from movinet_jax.data.frames import FrameFolder, Frames
from movinet_jax.data.promise import LEAST_SHARE
from movinet_jax.data.ticks import Shown, hold_frames
from movinet_jax.data.track import MAX_PIXELS, Track
from movinet_jax.data.video import Cut, DecodeError, VideoInfo

RECONNECT_SECS = 60.0
# A picture of a camera or an address that nothing follows for so long is over.
STILL_SECS = 10.0
# Where stamps jump by more although nothing was waited for, the source has set its clock.
_CLOCK_SET_SECS = 600.0
# Seconds between tries to open a lost source: doubled each time, up to the second number.
_RETRY_SECS = (0.5, 8.0)
_WAITING = 16  # frames that a thread may be ahead
_POLL_SECS = 0.2  # after which a stop is noticed
# A camera that sends pictures without time stamps shows each when it comes.
_UNTIMED = {'mpjpeg'}
# Their size in bytes is not that of the video.
_PLAYLISTS = {'hls', 'applehttp', 'dash', 'sdp'}
# No camera has a rate such as 90000, which is a unit of time.
_MOST_FPS, USUAL_FPS = 240.0, 25.0
# Packets in a row that cannot be decoded, after which a source counts as lost.
_MOST_DAMAGED = 100
# Headers round the length of a video, and may leave out the last frames of another stream.
_ROUNDED_SECS = 0.25


def read_frames(
  source: str | int | FrameFolder | LiveSource,
  *,
  choose: Callable[[VideoInfo], Cut] | None = None,
  fps: float | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
  """Reads frames in order, in constant memory, for live use.

  Args:
    source: path of a video file, a folder of pictures, the number of a camera, or what
      `parse_source` made of a text.
    choose: crop and size of the frames; its times are ignored. Default: as they are.
    fps: frames a second: at each tick the nearest frame, as in a clip with this `fps`. A frame
      may come several times, as one and the same array. Default: every frame once.

  Yields:
    (seconds since the first frame, uint8 `[H, W, 3]`).

  Raises:
    DecodeError: not a video or damaged; the frames before the damage are yielded first.
  """
  if isinstance(source, str):
    source = File(source)
  elif isinstance(source, FrameFolder):
    source = Folder(source)
  elif isinstance(source, int):
    source = Camera(f'/dev/video{source}')
  with open_feed(source) as feed:
    painting = Painting(choose)
    for shown in hold_frames(feed.frames(), fps) if fps else feed.frames():
      yield shown.secs, painting.paint(shown)


class Painting:
  """Makes pictures of frames; a frame that is shown again is not painted again."""

  def __init__(self, choose: Callable[[VideoInfo], Cut] | None = None):
    self.choose = choose
    self._track = self._painter = self._frame = self._picture = None

  def paint(self, shown: Shown) -> np.ndarray:
    """The picture, uint8 `[H, W, 3]`."""
    if shown.frame is not self._frame:
      if shown.track is not self._track:
        self._track, self._painter = shown.track, self._make_painter(shown)
      self._frame, self._picture = shown.frame, self._painter.paint(shown.frame)
    return self._picture

  def _make_painter(self, shown: Shown) -> Painter:
    track = shown.track
    width, height = shown_size(shown.frame)
    if self.choose is None:
      cut = Cut((), (0, 0, width, height), (height, width))
    else:
      cut = self.choose(VideoInfo(None, find_rate(track), width, height, track.codec.name))
    return Painter(cut, (width, height), track.fail)


class Feed:
  """An open source, whose `frames` can be read once.

  Attributes:
    fps: the rate that the source states; 25 where it states none.
    damaged: how many frames so far were damaged or could not be decoded.
    is_finite: whether it is a file, whose frames come as fast as they are read.
    is_lost: whether it was lost and is not back yet.
  """

  def __init__(self, fps: float):
    self.fps = fps
    self.damaged = 0
    self.is_finite = self.is_lost = False
    self._stopped = threading.Event()

  def find_mean_fps(self) -> float:
    """Frames a second over the whole source, as clips count them; reads a file through for it."""
    return self.fps

  def stop(self):
    """Ends `frames` as the last frame does, also while they wait. A signal handler may call it."""
    self._stopped.set()

  @property
  def stopped(self) -> bool:
    return self._stopped.is_set()

  def frames(self) -> Iterator[Shown]:
    """The frames up to the end of the source, or to `stop`.

    Raises:
      DecodeError: damage in a file.
      SourceLost: the source did not come back.
    """
    for shown in self._read():
      if self._stopped.is_set():
        return
      self.damaged += shown.frame.is_corrupt
      yield shown

  def _read(self) -> Iterator[Shown]:
    raise NotImplementedError


@contextlib.contextmanager
def open_feed(
  source: LiveSource,
  *,
  reconnect_secs: float = RECONNECT_SECS,
  say: Callable[[str], None] = lambda line: None,
) -> Iterator[Feed]:
  """Opens a source, once.

  Args:
    source: see `parse_source`.
    reconnect_secs: how long a camera or an address may be lost.
    say: is told in a line when a source is lost, and when it is back.

  Raises:
    DecodeError: not a video, or not there. SourceLost is a DecodeError of what may pass.
  """
  if isinstance(source, File | Folder):
    with source.open() as track:
      track.check_pixels(MAX_PIXELS)
      yield _Direct(track, source)
    return
  feed = _Threaded(source, reconnect_secs, say)
  try:
    feed.open()
    yield feed
  finally:
    feed.stop()


def find_rate(track: Track) -> float:
  """Frames a second that a source states, or the usual rate of cameras."""
  return track.fps if 0 < track.fps <= _MOST_FPS else USUAL_FPS


class _Direct(Feed):
  """A file, read by whoever wants its frames."""

  def __init__(self, track: Track | Frames, source: File | Folder):
    super().__init__(find_rate(track))
    self._track, self._source = track, source
    self.is_finite = True

  def find_mean_fps(self):
    if isinstance(self._source, Folder):
      return self.fps
    with contextlib.suppress(DecodeError), self._source.open() as track:
      return track.scan().fps
    return self.fps  # the frames before the damage are shown, and then it is told

  def _read(self):
    for secs, frame in self._track.decode_live():
      yield Shown(secs, frame, self._track)


class _Threaded(Feed):
  """A source that is read, and opened again, by a thread.

  The thread puts into a queue: once the rate of the source, then what is shown, and at the end
  the error that ended it, or None.
  """

  def __init__(self, source: LiveSource, reconnect_secs: float, say):
    super().__init__(USUAL_FPS)
    self._source, self._reconnect_secs, self._say = source, reconnect_secs, say
    self._queue = queue.Queue(_WAITING)
    self._wanted = threading.Event()

  def open(self):
    """Waits for the source's first answer."""
    # A thread that waits for a camera must not keep the process alive.
    threading.Thread(target=self._run, name='live source', daemon=True).start()
    self.fps = self._get()

  def _read(self):
    self._wanted.set()
    while not self._stopped.is_set():
      shown = self._get()
      if shown is None:
        return
      yield shown

  def _get(self):
    """What the thread has put next; None once the feed was stopped."""
    while not self._stopped.is_set():
      with contextlib.suppress(queue.Empty):
        item = self._queue.get(timeout=_POLL_SECS)
        if isinstance(item, BaseException):
          raise item
        return item
    return None

  def _run(self):
    try:
      self._follow()
      self._put(None)
    except _Stopped:
      pass
    except BaseException as error:  # whatever it is, it is raised where the frames are wanted
      with contextlib.suppress(_Stopped):
        self._put(error)

  def _put(self, item):
    while True:
      if self._stopped.is_set():
        raise _Stopped
      with contextlib.suppress(queue.Full):
        self._queue.put(item, timeout=_POLL_SECS)
        return

  def _follow(self):
    """Shows the source until it ends; opens it again where it is lost."""
    line = _Line(self.fps, self._source.comes_back)
    while True:
      line.finite = None
      try:
        with self._source.open() as track:
          self._show_all(track, line)
        if line.finite or not self._source.comes_back:
          return
        reason = 'the stream has ended'
      except DecodeError as error:
        reason = _say_loss(error)
        if not self._source.comes_back or line.is_stuck:
          raise
        if not line.count:
          raise _classify(error, line) from error
      self._wait(line, reason)

  def _show_all(self, track: Track, line: '_Line'):
    """Shows one connection."""
    track.check_pixels(MAX_PIXELS)
    line.connect(track)
    if not line.count:
      self.is_finite = line.finite
      self._put(find_rate(track))
      self._await(self._wanted)
    # The last frame of a file whose connection is lost may be half there. It comes again.
    doubtful = None
    for secs, frame in self._decode(track, line):
      self._show(doubtful, line)
      shown = line.place(secs, frame, track)
      doubtful = shown if line.finite and frame.is_corrupt else None
      if doubtful is None:
        self._show(shown, line)
    self._show(doubtful, line)

  def _show(self, shown: Shown | None, line: '_Line'):
    if shown is None:
      return
    if line.tries:
      self.is_lost = False
      self._say(f'{self._source.name}: is back after {line.lost_secs:.1f} s')
    self._put(shown)
    line.pass_by(shown)  # now, because the time that a slow network takes is no pause

  def _decode(self, track: Track, line: '_Line'):
    """Frames with their seconds; what cannot be decoded of a live source is counted and left."""
    held, failed = _Held(track), 0
    while True:
      offset = held.secs
      try:
        for at_secs, frame in track.decode_live():
          failed = 0
          yield held.note(offset + at_secs, frame)
        return
      except DecodeError as error:
        damage = isinstance(error.__cause__, av.error.InvalidDataError)
        if error.__cause__ is not None and not damage:
          yield from held.drain()
          if line.finite and held.is_over(error, again=line.is_stuck):
            return
        if line.finite:
          raise
        if error.__cause__ is None:  # the end, and perhaps not one frame before it
          return
        failed += 1
        if not damage or failed > _MOST_DAMAGED:
          raise
        self.damaged += 1
        held.secs += 1 / find_rate(track)

  def _wait(self, line: '_Line', reason: str):
    """Waits until a lost source is worth another try.

    Raises:
      SourceLost: it was lost for too long.
    """
    left = self._reconnect_secs - line.lost_secs
    if left <= 0:
      raise SourceLost(
        self._source.name,
        f'{reason}, and it did not come back within {self._reconnect_secs:g} s',
      )
    first, most = _RETRY_SECS
    wait = min(first * 2**line.tries, most, left)
    self.is_lost = True
    self._say(f'{self._source.name}: {reason}; opens it again in {wait:.1f} s')
    line.tries += 1
    if self._stopped.wait(wait):
      raise _Stopped

  def _await(self, event: threading.Event):
    while not event.wait(_POLL_SECS):
      if self._stopped.is_set():
        raise _Stopped


class _Stopped(Exception):
  """Nobody wants the frames any more."""


class _Held:
  """What one connection has held so far.

  Attributes:
    secs: when the last frame was shown, since the first.
  """

  def __init__(self, track: Track):
    self.secs = 0.0
    self._track, self._count = track, 0
    self._first = self._last = None

  def note(self, secs: float, frame: av.VideoFrame) -> tuple[float, av.VideoFrame]:
    """Takes note of a frame, and returns it with its seconds."""
    self._first = self._first or frame
    self.secs, self._last, self._count = secs, frame, self._count + 1
    return secs, frame

  def drain(self) -> Iterator[tuple[float, av.VideoFrame]]:
    """The frames that the decoder still held back when the connection was lost."""
    with contextlib.suppress(DecodeError):
      for frame in self._track.decode_packet(None):
        yield self.note(self.secs + self._find_step(frame), frame)

  def _find_step(self, frame: av.VideoFrame) -> float:
    """Seconds from the last frame to this one."""
    if self._last is None:
      return 0.0
    times = (self._last.time, frame.time)
    if self._track.timeless or None in times or times[0] >= times[1]:
      return 1 / find_rate(self._track)
    return times[1] - times[0]

  def is_over(self, error: DecodeError, *, again: bool) -> bool:
    """Whether a file whose length in bytes nobody knows is over where a server hangs up.

    Args:
      error: what FFmpeg says of that: it cannot tell the end from a loss.
      again: whether the server has hung up here before. Then lengths may differ as much as those
        of any file may.
    """
    container = self._track.container
    hung_up = getattr(error.__cause__, 'errno', None) == errno.EIO
    if not hung_up or container.size > 0 or self._last is None:
      return False
    rest_secs = float((self._last.duration or 0) * (self._last.time_base or 0))
    first_secs = self._first.time or 0.0
    try:
      self._track.check_end(self._count, self.secs, rest_secs, first_secs)
    except DecodeError:
      return False
    step_secs, stated_secs = 1 / find_rate(self._track), self._track.stated_secs(first_secs)
    held_secs = self.secs + max(rest_secs, step_secs)
    if stated_secs is None:
      begin_secs, end_secs = self._track.packets.span_secs
      held_secs = max(held_secs, end_secs - begin_secs)
      stated_secs = (container.duration or 0) / av.time_base
    least_secs = LEAST_SHARE * stated_secs if again else stated_secs - _ROUNDED_SECS
    return stated_secs > 0 and held_secs > least_secs - step_secs


class _Line:
  """The time line of a source through all its connections.

  Seconds are those that its stamps say. After a loss they go on with the clock on the wall.

  Attributes:
    count: frames that were shown.
    finite: whether the connection is of a file, which ends; None before it is open.
    tries: to open the source since it was lost.
  """

  def __init__(self, fps: float, comes_back: bool):
    self.count, self.tries, self.finite = 0, 0, None
    self._comes_back = comes_back
    self._step = 1 / fps  # of the source, in seconds
    self._untimed = False  # whether its pictures have no stamps
    self._fresh = False  # whether the next frame is the first after a loss
    self._part, self._base = 0, 0.0  # the seconds of the part's stamp 0
    self._began = self._seen = 0.0  # first frame, last frame; on the clock on the wall
    self._last_secs = 0.0  # of the last frame, on this time line
    self._late_secs = 0.0  # how much later than its stamp says the last frame came

  @property
  def lost_secs(self) -> float:
    """How long ago the last frame came."""
    return time.monotonic() - self._seen

  @property
  def is_stuck(self) -> bool:
    """Whether a file was opened again and had not one new frame: it ends there."""
    return bool(self.finite) and self.tries > 0

  def connect(self, track: Track):
    """Begins another connection."""
    self.finite = bool(track.stream.duration or track.container.duration) or (
      not track.format & _PLAYLISTS and track.container.size > 0
    )
    self._step = 1 / find_rate(track)
    self._untimed = bool(track.format & _UNTIMED)
    self._fresh = self.count > 0

  def place(self, secs: float, frame: av.VideoFrame, track: Track) -> Shown | None:
    """Puts a frame in its place; None for one of a file that was shown before it was lost."""
    now = time.monotonic()
    if not self.count:
      self._began = self._seen = now
    wall_secs = max(now - self._began, self._last_secs + self._step if self.count else 0.0)
    if self.finite:
      if self.count and secs <= self._last_secs:
        return None
    elif self._untimed:
      self._part += self._fresh
      secs = wall_secs
    elif self._fresh or self._is_over(self._base + secs - self._last_secs, now - self._seen):
      self._part += 1
      self._base, self._late_secs = wall_secs - secs, 0.0
    self._fresh = False
    return Shown(secs if self.finite else self._base + secs, frame, track, part=self._part)

  def _is_over(self, step_secs: float, waited_secs: float) -> bool:
    """Whether what was shown is over although the connection is not lost.

    A long step of the stamps alone is a slide that is shown for long, which comes fast. A decoder
    holds frames back, so the frame after a pause may not be the first that comes after it.

    Args:
      step_secs: from the last frame to this one, by their stamps.
      waited_secs: by the clock on the wall.
    """
    late_secs = self._late_secs + waited_secs
    self._late_secs = max(0.0, late_secs - step_secs)
    if not self._comes_back or step_secs <= STILL_SECS:
      return False
    return late_secs > STILL_SECS / 2 or step_secs > _CLOCK_SET_SECS

  def pass_by(self, shown: Shown):
    """Takes note of a frame that was shown."""
    self._last_secs, self._seen = shown.secs, time.monotonic()
    self.count, self.tries = self.count + 1, 0


def _classify(error: DecodeError, line: _Line) -> DecodeError:
  """The error of a source that was never seen: a connection that was lost may be back later."""
  was_open = line.finite is not None
  if was_open and isinstance(error.__cause__, (OSError, av.error.ExitError)):
    return SourceLost(error.path, _say_loss(error))
  return error


def _say_loss(error: DecodeError) -> str:
  if isinstance(error.__cause__, av.error.ExitError):
    return 'nothing comes any more'
  return error.reason
