"""A trained network on a source: its steps, in a terminal or on a page."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator

from launch.runs.trained import Trained
from movinet_jax import data, serve
from movinet_jax.data.address import LiveSource
from movinet_jax.data.live import Feed, open_feed
from movinet_jax.data.ticks import Shown

AnySource = LiveSource | serve.BrowserCamera


@dataclasses.dataclass(frozen=True)
class Stream:
  """A network on a source, as a command line wants it.

  Attributes:
    source: what it is, and `reopen` opens it.
    trained: the network.
    live: its stream.
    fps: frames that it gets for a second of video.
    chunk: frames of a call.
    top: classes to show.
    resets: wishes that it forgets.
    cuts: whether it forgets at cuts.
    pictures: whether steps hold the source's whole pictures, for a recording.
  """

  source: AnySource
  reopen: Callable[[], contextlib.AbstractContextManager[Feed]]
  trained: Trained
  live: serve.Live
  fps: float
  chunk: int
  top: int
  resets: serve.Resets
  cuts: bool = False
  pictures: bool = False

  def take(self, frames: Iterable[Shown]) -> Iterator[serve.Step]:
    """The steps of frames of the source."""
    return serve.predict(
      self.live,
      frames,
      self.trained.clip,
      self.fps,
      self.chunk,
      pictures=self.pictures,
      cuts=self.cuts,
      asked=self.resets.watch(),
    )

  def find_top(self, step: serve.Step) -> list[tuple[str, float]]:
    return step.prediction.top(self.top, self.trained.labels)

  def play(
    self, feed: Feed, page: serve.Page | None, broadcast: serve.Broadcast
  ) -> tuple[Iterator[serve.Step], Callable[[], None]]:
    """The steps of the source, and what stops them; they are shown on a page if there is one."""
    if page is None:
      return self.take(feed.frames()), feed.stop
    if isinstance(self.source, serve.BrowserCamera):
      size, chunk = self.trained.clip.size, self.chunk
      viewers = serve.Viewers(self.live, size, chunk, self.resets, self._describe)
      page.show(viewers, self._tell_page(viewers.mode))
      return viewers.steps(feed), feed.stop
    page.show(broadcast, self._tell_page(broadcast.mode))
    # A recording holds one play.
    can_repeat = not (self.source.live or self.pictures)
    again = self._begin_again if can_repeat else None
    return broadcast.play(feed, self.take, self._describe, again), broadcast.stop

  def _describe(self, step: serve.Step) -> dict:
    return step.describe(self.find_top(step))

  def _begin_again(self) -> contextlib.AbstractContextManager[Feed]:
    self.live.reset()
    return self.reopen()

  def _tell_page(self, mode: str) -> dict:
    """What the page's script has to know."""
    return {
      'mode': mode,
      'network': self.trained.name,
      'source': self.source.name,
      'live': self.source.live,
      'fps': self.fps,
      'chunk': self.chunk,
      'size': self.trained.clip.size,
      'short_side': self.trained.clip.short_side,
    }


@contextlib.contextmanager
def open_source(
  source: AnySource, reconnect_secs: float, hear: Callable[[str], None]
) -> Iterator[Feed]:
  """Opens a source, and reports its losses to the terminal and to `hear`."""

  def say(line: str):
    tell(line)
    hear(line)

  if isinstance(source, serve.BrowserCamera):
    opened = source.open()
  else:
    opened = open_feed(source, reconnect_secs=reconnect_secs, say=say)
  with opened as feed:
    yield feed


def choose_memory(
  wanted: tuple[str, float | None] | None, source: AnySource, clip: data.EvalClip, fps: float
) -> serve.Memory:
  """The memory that a command line names.

  Args:
    wanted: its kind and its seconds; None for the kind that suits the source, or the seconds that
      suit the network: a window of two clips, in which the older state has seen one at least, or a
      half-life of one clip.
  """
  kind, secs = wanted or ('window' if source.live else 'exact', None)
  if secs is None:
    secs = clip.frames / fps * (2 if kind == 'window' else 1)
  if kind == 'window':
    tell(f'answers are of the last {secs / 2:.3g} to {secs:.3g} s (--memory=window:{secs:.3g})')
  elif kind == 'forget':
    tell(f'a frame weighs half after {secs:.3g} s (--memory=forget:{secs:.3g})')
  return serve.make_memory(kind, secs, fps)


def tell(line: str):
  """Says something beside the answers, which alone go to the standard output."""
  print(line, file=sys.stderr, flush=True)
