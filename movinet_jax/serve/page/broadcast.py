"""One stream that all viewers of a page share: the source's picture and the network's answers.

Viewers get what is latest. One that is slow skips pictures and answers; the stream waits for none.
"""

import contextlib
import io
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus

import av
from PIL import Image

from movinet_jax.data.filters import Painter, shown_size
from movinet_jax.data.live import Feed
from movinet_jax.data.ticks import Shown
from movinet_jax.data.video import Cut, DecodeError
from movinet_jax.serve.page.server import Reply, Route
from movinet_jax.serve.steps import Rate, Step

_MOST_PIXELS = 960  # the longer side of a picture on the page
_QUALITY = 80  # JPEG
_WAIT_SECS = 1.0  # without a new picture, after which the page asks again
_NEWS_SECS = 0.5  # without news, after which the server looks whether the reader has left
_POLL_SECS = 0.02
_LATE_SECS = 1.0  # a file that is later than this goes on at its speed instead of catching up


class Broadcast:
  """Plays a source, and shows it to the viewers of a page (`page.show(broadcast, …)`)."""

  mode = 'watch'

  def __init__(self, ask_reset: Callable[[], None]):
    """Begins without a source; viewers who want the stream to forget call `ask_reset`."""
    self._ask_reset = ask_reset
    self._changed = threading.Condition()
    self._picture = _Picture()
    # Tells a page that the server behind its address is another one.
    self._news = {'run': secrets.token_hex(8), 'status': 'waiting', 'note': '', 'again': False}
    self._feed = None
    self._asked_again = self._stopped = self._closed = False

  def play(
    self,
    feed: Feed,
    take: Callable[[Iterable[Shown]], Iterator[Step]],
    describe: Callable[[Step], Mapping],
    reopen: Callable[[], AbstractContextManager[Feed]] | None = None,
  ) -> Iterator[Step]:
    """Yields the steps of a source at its own pace, and tells viewers each of them.

    When a source has ended, its last answer stays until somebody wants to see it again, or until
    `stop`. One that ended before its first step ends at once. If it cannot be opened again, viewers
    are told why, and may try once more.

    Args:
      take: makes steps of frames.
      describe: returns what viewers are told about a step.
      reopen: begins the source anew; None where that is not possible.
    """
    played = False
    for step in self._play_once(feed, take, describe):
      played = True
      yield step
    note = ''
    while played and self._is_wanted_again(bool(reopen), note):
      with contextlib.ExitStack() as stack:
        try:
          again = stack.enter_context(reopen())
        except (OSError, ValueError) as error:  # such as a file that was removed meanwhile
          note = f'The source cannot be played again: {error}'
          continue
        note = ''
        yield from self._play_once(again, take, describe)

  def stop(self):
    """Ends `play`, also while it waits. A signal handler may call it."""
    self._stopped = True
    if self._feed:
      self._feed.stop()

  def hear(self, line: str):
    """Takes what `open_feed` says when a source is lost, or is back."""
    # Before the first frame, while there is no feed to ask, a source can only be lost.
    is_lost = self._feed is None or self._feed.is_lost
    self._tell(status='lost' if is_lost else 'playing', note=line)

  def routes(self):
    return {
      ('GET', '/events'): Route(lambda query, body: Reply(self._send_news(), 'text/event-stream')),
      ('GET', '/picture'): Route(self._send_picture),
      ('POST', '/reset'): Route(lambda query, body: self._take_wish(self._ask_reset)),
      ('POST', '/again'): Route(lambda query, body: self._take_wish(self._ask_again)),
    }

  def close(self, note: str):
    with self._changed:
      self._closed = True
      self._tell(status='failed' if note else 'stopped', note=note, again=False)

  def _play_once(self, feed, take, describe) -> Iterator[Step]:
    self._feed, rate = feed, Rate()
    if self._stopped:  # between two sources
      feed.stop()
    # What was heard of a source that is lost already stays until it is back.
    status = {} if feed.is_lost else {'status': 'playing', 'note': ''}
    self._tell(**status, again=False, since_secs=None)
    frames = keep_pace(feed) if feed.is_finite else feed.frames()
    for step in take(self._show_frames(frames)):
      news = {'fps': rate.add(len(step.times_secs)), **describe(step)}
      if step.reset:
        news['since_secs'] = step.times_secs[0]
      if not feed.is_lost:
        news |= {'status': 'playing', 'note': ''}
      self._tell(**news)
      yield step

  def _show_frames(self, frames: Iterable[Shown]) -> Iterator[Shown]:
    for shown in frames:
      with self._changed:
        self._picture = _Picture(shown.frame, self._picture)
        self._changed.notify_all()
      yield shown

  def _is_wanted_again(self, can_be: bool, note: str) -> bool:
    """Waits until somebody wants to see an ended source again; False when `stop` was called."""
    self._asked_again = False
    self._tell(status='ended', note=note, again=can_be)
    # Polls, because `stop` is called from a signal handler, which must not wait for a lock.
    while not (self._stopped or self._asked_again):
      time.sleep(_POLL_SECS)
    return not self._stopped

  def _tell(self, **news):
    with self._changed:
      self._news = {**self._news, **news}
      self._changed.notify_all()

  def _send_news(self) -> Iterator[bytes]:
    """Yields server-sent events: the latest news whenever there are any."""
    seen, closed = None, False
    while not closed:
      news, closed = self._await_news(seen)
      yield b'' if news is seen else f'data: {json.dumps(news)}\n\n'.encode()
      seen = news

  def _await_news(self, seen: Mapping | None) -> tuple[Mapping, bool]:
    """Waits for news other than those seen, but not for long; also tells whether it is over."""
    with self._changed:
      self._changed.wait_for(lambda: self._news is not seen, _NEWS_SECS)
      return self._news, self._closed

  def _send_picture(self, query: Mapping[str, str], _: bytes) -> Reply:
    """Answers with the latest picture as JPEG, once it differs from the one the reader has."""
    with self._changed:
      self._changed.wait_for(lambda: self._closed or self._picture.is_after(query), _WAIT_SECS)
      picture = self._picture
    if not picture.is_after(query):
      return Reply(status=HTTPStatus.NO_CONTENT)
    return Reply(picture.encode(), 'image/jpeg', headers={'X-Picture': str(picture.number)})

  def _take_wish(self, ask: Callable[[], None]) -> Reply:
    ask()
    return Reply(status=HTTPStatus.NO_CONTENT)

  def _ask_again(self):
    self._asked_again = True


def keep_pace(feed: Feed) -> Iterator[Shown]:
  """Yields the frames of a file, each when its time has come, as a player shows them."""
  began_secs = None
  for shown in feed.frames():
    now = time.monotonic()
    if began_secs is None or now > began_secs + shown.secs + _LATE_SECS:
      began_secs = now - shown.secs
    while not feed.stopped and (wait := began_secs + shown.secs - time.monotonic()) > 0:
      time.sleep(min(wait, _POLL_SECS))
    yield shown


class _Picture:
  """A frame of the source, which becomes a JPEG when the first viewer wants it."""

  def __init__(self, frame: av.VideoFrame | None = None, before: '_Picture | None' = None):
    self.number = before.number + 1 if before else 0
    self._frame, self._jpeg = frame, b''
    self._lock = before._lock if before else threading.Lock()

  def is_after(self, query: Mapping[str, str]) -> bool:
    return self._frame is not None and query.get('after') != str(self.number)

  def encode(self) -> bytes:
    # One at a time: pictures are made in the time that the network leaves.
    with self._lock:
      if not self._jpeg:
        self._jpeg = encode_jpeg(self._frame)
      return self._jpeg


def encode_jpeg(frame: av.VideoFrame) -> bytes:
  """A frame as JPEG, made smaller if it is large."""
  width, height = shown_size(frame)
  scale = min(1.0, _MOST_PIXELS / max(width, height))
  size = (max(1, round(height * scale)), max(1, round(width * scale)))
  cut = Cut((), (0, 0, width, height), size)
  picture = Painter(cut, (width, height), _fail).paint(frame)
  file = io.BytesIO()
  Image.fromarray(picture).save(file, 'JPEG', quality=_QUALITY)
  return file.getvalue()


def _fail(reason: str):
  raise DecodeError('a picture of the source', reason)
