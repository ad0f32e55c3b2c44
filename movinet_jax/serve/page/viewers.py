"""The cameras of browsers: each viewer of a page sends its own frames, and has its own stream."""

import contextlib
import dataclasses
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

import numpy as np

from movinet_jax.data.live import USUAL_FPS, Feed
from movinet_jax.serve.live import Live
from movinet_jax.serve.page.server import Rejected, Reply, Route
from movinet_jax.serve.steps import Rate, Resets, Step

MOST_VIEWERS = 8
SILENT_SECS = 60.0  # after which a stream ends
# A silent viewer leaves its place to a new one after this: a tab that was reloaded is a new one.
_SPARE_SECS = 5.0
_WAITING = 1000  # steps that may wait for `Viewers.steps`
_POLL_SECS = 0.1


@dataclasses.dataclass(frozen=True)
class BrowserCamera:
  """The source that a page itself is: the camera of whoever looks at it."""

  name: str = 'browser'
  live = comes_back = True

  @contextlib.contextmanager
  def open(self) -> Iterator[Feed]:
    """A feed without frames, which says the rate of usual cameras and when to stop."""
    yield Feed(USUAL_FPS)


@dataclasses.dataclass
class Viewer:
  """A stream of one browser.

  Attributes:
    number: of viewers before it.
    resets: whether somebody wants its stream to forget.
  """

  number: int
  live: Live
  resets: Callable[[], bool]
  rate: Rate = dataclasses.field(default_factory=Rate)
  asked: bool = False
  began: float = dataclasses.field(default_factory=time.monotonic)
  heard: float = dataclasses.field(default_factory=time.monotonic)


class Viewers:
  """Streams for the viewers of a page (`page.show(viewers, …)`), one network for all."""

  mode = 'film'

  def __init__(
    self,
    live: Live,
    size: int,
    frames: int,
    resets: Resets,
    describe: Callable[[Step], Mapping],
  ):
    """Makes room for viewers.

    Args:
      live: a stream whose forks the viewers get.
      size: height and width of a frame.
      frames: frames of a call.
      resets: wishes that all streams forget.
      describe: returns what a viewer is told about a step.
    """
    self._live, self._shape = live, (frames, size, size, 3)
    self._resets, self._describe = resets, describe
    # One call at a time: the network uses all cores.
    self._lock = threading.Lock()
    self._viewers, self._count = {}, 0
    self._steps = queue.Queue(_WAITING)
    self._ended = False

  def steps(self, feed: Feed) -> Iterator[Step]:
    """Yields the steps of all viewers as they come, up to those of before `feed.stop`.

    If nobody takes steps for long, later ones are left out, because no viewer waits for that.
    """
    while not feed.stopped:
      try:
        # Without the lock: where viewers keep the network busy, it is hardly ever free.
        yield self._steps.get(timeout=_POLL_SECS)
      except queue.Empty:
        with self._lock:
          self._end_silent(SILENT_SECS)
    self._ended = True  # who waits for the lock is refused, and so it is free soon
    with self._lock:
      left = [self._steps.get() for _ in range(self._steps.qsize())]
    yield from left

  def routes(self):
    return {
      ('POST', '/frames'): Route(self._take_frames, math.prod(self._shape)),
      ('POST', '/reset'): Route(self._take_reset),
    }

  def close(self, note: str):
    del note  # the page notices that nothing answers

  def _take_frames(self, query: Mapping[str, str], body: bytes) -> Reply:
    """Frames uint8 RGB, one after another: the answer to them."""
    wanted = math.prod(self._shape)
    if len(body) != wanted:
      count, size, *_ = self._shape
      raise Rejected(
        HTTPStatus.BAD_REQUEST,
        f'the body has {len(body)} bytes; wanted {wanted}: {count} frames of {size} x {size} x 3',
      )
    frames = np.frombuffer(body, np.uint8).reshape(self._shape)
    with self._lock:
      if self._ended:
        raise Rejected(HTTPStatus.GONE, 'the stream has ended')
      viewer = self._find(query)
      step, fps = self._call(viewer, frames), viewer.rate.add(len(frames))
      with contextlib.suppress(queue.Full):
        self._steps.put_nowait(step)
    return Reply.of_json({'fps': fps, **self._describe(step)})

  def _take_reset(self, query: Mapping[str, str], _: bytes) -> Reply:
    with self._lock:
      self._find(query).asked = True
    return Reply(status=HTTPStatus.NO_CONTENT)

  def _call(self, viewer: Viewer, frames: np.ndarray) -> Step:
    wished = viewer.resets()
    reset = 'asked' if (wished or viewer.asked) and viewer.live.frames else ''
    viewer.asked = False
    if reset:
      viewer.live.forget()
    prediction = viewer.live(frames)
    times_secs = (time.monotonic() - viewer.began,) * len(frames)
    return Step(prediction, times_secs, reset=reset, viewer=viewer.number)

  def _find(self, query: Mapping[str, str]) -> Viewer:
    """The viewer that a request names, who may be new.

    Raises:
      Rejected: it names none, or there are too many.
    """
    name = query.get('viewer', '')
    if not re.fullmatch('[0-9a-f-]{16,36}', name):
      raise Rejected(
        HTTPStatus.BAD_REQUEST, 'wanted /…?viewer=ID, with an ID of 16 to 36 hex digits'
      )
    self._end_silent(SILENT_SECS)
    if name not in self._viewers:
      if len(self._viewers) >= MOST_VIEWERS:
        self._end_silent(_SPARE_SECS, most=1)
      if len(self._viewers) >= MOST_VIEWERS:
        raise Rejected(
          HTTPStatus.SERVICE_UNAVAILABLE,
          f'there are {MOST_VIEWERS} cameras already, the most there may be: stop one',
        )
      self._viewers[name] = Viewer(self._count, self._live.fork(), self._resets.watch())
      self._count += 1
    viewer = self._viewers[name]
    viewer.heard = time.monotonic()
    return viewer

  def _end_silent(self, secs: float, most: int = MOST_VIEWERS):
    """Ends streams that are silent for longer, those that are silent longest first."""
    now = time.monotonic()
    by_silence = sorted(self._viewers, key=lambda name: self._viewers[name].heard)
    for name in by_silence[:most]:
      if now - self._viewers[name].heard > secs:
        del self._viewers[name]
