"""Where live frames come from: a file, a camera, an address of the network, a pipe.

Only what a user names as a stream is opened so. Files of a dataset are read by `track`, with all
of FFmpeg's protocols closed. An address opens the protocols that it needs and no others, so a
playlist from far away cannot read a file of this machine.
"""

import contextlib
import dataclasses
import io
import os
import re
import socket
import stat
import sys
import time
import urllib.parse
from collections.abc import Iterator
from typing import BinaryIO

import av
import av.error

from movinet_jax.data.frames import FrameFolder, Frames
from movinet_jax.data.track import TAGS, Track, open_track
from movinet_jax.data.video import DecodeError, say_error

# Seconds that a source may take to answer, and to send the next picture. A live playlist names a
# new piece every few seconds.
OPEN_SECS, READ_SECS, PLAYLIST_SECS = 10.0, 10.0, 30.0

_HTTP = 'http,https,httpproxy,tcp,tls,crypto'
# By scheme: what FFmpeg may open for it, and its options.
_SCHEMES = {
  'rtsp': ('rtsp,rtp,tcp,udp', {'rtsp_transport': 'tcp'}),
  'rtsps': ('rtsp,rtsps,rtp,tcp,tls,udp', {'rtsp_transport': 'tcp'}),
  'rtmp': ('rtmp,tcp', {}),
  'rtmps': ('rtmps,rtmp,tcp,tls', {}),
  'http': (_HTTP, {}),
  'https': (_HTTP, {}),
  'srt': ('srt', {}),
  'udp': ('udp', {}),
}
SCHEMES = tuple(_SCHEMES)
_SCHEME = re.compile('([A-Za-z][A-Za-z0-9+.-]*)://')
# What may begin a value in a URL, such as ?key, ;key=, #key and user=, escaped or not.
_VALUE = re.compile('[?#;&=]|%(?:3[BDFbdf]|2[36])')


class SourceLost(DecodeError):
  """A source that does not answer, or no longer. It may be back later."""


@dataclasses.dataclass(frozen=True)
class File:
  """A video file, read from its first to its last frame.

  `live` says whether a source shows what happens now, and `comes_back` whether it is worth opening
  again when it was lost.
  """

  path: str
  live = comes_back = False

  @property
  def name(self) -> str:
    return self.path

  @contextlib.contextmanager
  def open(self) -> Iterator[Track]:
    with open_track(self.path) as track:
      yield track


@dataclasses.dataclass(frozen=True)
class Folder:
  """A folder of numbered pictures, which are shown at a rate that is given."""

  pictures: FrameFolder
  live = comes_back = False

  @property
  def name(self) -> str:
    return self.pictures.path

  @contextlib.contextmanager
  def open(self) -> Iterator[Frames]:
    yield Frames(self.pictures)


@dataclasses.dataclass(frozen=True)
class Camera:
  """A device of Video4Linux."""

  name: str
  live = comes_back = True

  @contextlib.contextmanager
  def open(self) -> Iterator[Track]:
    if not sys.platform.startswith('linux'):
      raise DecodeError(self.name, 'cameras are read through Video4Linux, so on Linux only')
    if not os.path.exists(self.name):
      number = self.name.removeprefix('/dev/video')
      raise DecodeError(self.name, f'there is no camera {number} on this machine')
    try:
      container = av.open(self.name, format='v4l2', timeout=(OPEN_SECS, READ_SECS), **TAGS)
    except (av.error.FFmpegError, OSError, ValueError) as error:
      raise DecodeError(self.name, f'camera cannot be opened: {say_error(error)}') from error
    with container:
      yield Track(container, self.name)


@dataclasses.dataclass(frozen=True)
class Pipe:
  """A named pipe, or the standard input: what another program writes."""

  path: str  # '-' is the standard input
  live = True
  comes_back = False

  @property
  def name(self) -> str:
    return 'the standard input' if self.path == '-' else self.path

  @contextlib.contextmanager
  def open(self) -> Iterator[Track]:
    with contextlib.ExitStack() as stack:
      try:
        # Unbuffered: a buffer's lock, held by a thread that waits, ends Python with an abort.
        file = io.FileIO(0 if self.path == '-' else self.path, closefd=self.path != '-')
        file = stack.enter_context(file)
        options = {'protocol_whitelist': 'none'}
        container = stack.enter_context(av.open(_Forwards(file), container_options=options, **TAGS))
      except (av.error.FFmpegError, OSError) as error:
        raise DecodeError(self.name, f'cannot be opened: {say_error(error)}') from error
      yield Track(container, self.name)


class _Forwards:
  """A file that can be read and nothing else: FFmpeg would try to seek in a pipe."""

  def __init__(self, file: BinaryIO):
    self.read = file.read


@dataclasses.dataclass(frozen=True)
class Address:
  """A URL of one of SCHEMES. Its `name` shows no password."""

  url: str = dataclasses.field(repr=False)
  live = comes_back = True

  @property
  def name(self) -> str:
    return hide_secrets(self.url)

  @contextlib.contextmanager
  def open(self) -> Iterator[Track]:
    scheme, _, rest = self.url.partition(':')
    scheme = scheme.lower()  # FFmpeg knows no other spelling
    protocols, options = _SCHEMES[scheme]
    read_secs = PLAYLIST_SECS if scheme in ('http', 'https') else READ_SECS
    began = time.monotonic()
    try:
      container = av.open(
        f'{scheme}:{rest}',
        container_options={'protocol_whitelist': protocols, **options},
        timeout=(OPEN_SECS, read_secs),
        **TAGS,
      )
    except (av.error.FFmpegError, OSError) as error:
      # Of an interruption, some protocols say that the data are invalid.
      timed_out = time.monotonic() - began >= OPEN_SECS
      raise explain(self, error, timed_out=timed_out) from error
    with container:
      yield Track(container, self.name)


LiveSource = File | Folder | Camera | Pipe | Address


def parse_source(text: str) -> LiveSource:
  """What a text names.

  Args:
    text: a path of a file, a named pipe or a camera; a camera's number; a URL; or '-' for the
      standard input.

  Raises:
    ValueError: a URL of a scheme that is not known.
  """
  if text == '-':
    return Pipe('-')
  if text.isdecimal():
    return Camera(f'/dev/video{int(text)}')
  if match := _SCHEME.match(text):
    scheme = match[1].lower()
    if scheme not in _SCHEMES:
      raise ValueError(
        f'{hide_secrets(text)!r} begins with {scheme}://; a source can be a file, a camera, or '
        f'an address that begins with {", ".join(f"{known}://" for known in SCHEMES)}'
      )
    return Address(text)
  with contextlib.suppress(OSError):
    mode = os.stat(text).st_mode
    if stat.S_ISFIFO(mode):
      return Pipe(text)
    if stat.S_ISCHR(mode):
      return Camera(text)
  return Camera(text) if text.startswith('/dev/video') else File(text)


def hide_secrets(url: str) -> str:
  """Hides whatever in a URL may be a password, a token or a stream key.

  It rather hides too much. All before the last @ may be a password, which may hold unescaped
  slashes and question marks. Everything from the first value behind the host on is hidden, because
  cameras take passwords there in many forms. The key of an RTMP stream ends its path.
  """
  scheme, separator, rest = url.partition('://')
  user, at, place = rest.rpartition('@')
  name, _, password = user.partition(':')
  # Of any other form, the name may be a token, or not be where it seems to be.
  is_plain = name and password and not re.search('[/?#]', user)
  user = f'{name}:***@' if is_plain else f'***{at}' * bool(at)
  value = _VALUE.search(place)
  place, value = (place[: value.start()], f'{value[0]}***') if value else (place, '')
  if scheme.lower().startswith('rtmp'):
    place = re.sub('/([^/]+/)?[^/].*', r'/\1***', place, count=1)
  return f'{scheme}{separator}{user}{place}{value}'


def explain(source: LiveSource, error: Exception, *, timed_out: bool) -> DecodeError:
  """What is wrong with a source that FFmpeg could not open, and whether it may pass."""
  if timed_out or isinstance(error, av.error.ExitError):
    return SourceLost(source.name, 'does not answer: timed out')
  if isinstance(error, av.error.ProtocolNotFoundError):
    return DecodeError(source.name, 'cannot be opened: this build of FFmpeg lacks its protocol')
  if isinstance(error, av.error.HTTPClientError):
    return DecodeError(source.name, f'cannot be opened: {say_error(error)}')
  if isinstance(error, (av.error.HTTPServerError, OSError)):
    if _is_unknown(source):
      return DecodeError(source.name, 'cannot be opened: no such host')
    return SourceLost(source.name, f'cannot be opened: {say_error(error)}')
  return DecodeError(source.name, f'cannot be opened: {say_error(error)}')


def _is_unknown(source: LiveSource) -> bool:
  """Whether the host of an address has no address of its own: FFmpeg says Input/output error."""
  try:
    host = urllib.parse.urlsplit(source.url).hostname if isinstance(source, Address) else None
    if host:
      socket.getaddrinfo(host, None)
  except (OSError, ValueError):
    return True
  return False
