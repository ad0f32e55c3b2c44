"""A small web server on loopback: bounded requests, streams of events, an end within a second."""

import contextlib
import dataclasses
import functools
import http.server
import importlib.resources
import io
import json
import re
import select
import socket
import threading
import time
import traceback
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Protocol

from movinet_jax.serve.page.guard import HEADERS, find_intruder

HOST = '127.0.0.1'
MOST_CONNECTIONS = 64  # a tab has up to three at a time, and mostly one
# The next request's head must be there this long after the last answer, however it dribbles in. A
# reader must take a part of an answer in the same time.
IDLE_SECS = 10.0
BODY_SECS = 5.0  # in which a whole body has to come
_END_SECS = 0.4  # for open answers at the end
_DRAIN_SECS, _DRAIN_BYTES = 0.5, 2**22  # for the rest of a body that is refused
_POLL_SECS = 0.05
_FILES = {
  '/': ('index.html', 'text/html'),
  '/page.js': ('page.js', 'text/javascript'),
  '/page.css': ('page.css', 'text/css'),
}


@dataclasses.dataclass(frozen=True)
class Reply:
  """An answer. A body that is an iterator is sent as it comes; b'' is a moment without news."""

  body: bytes | Iterator[bytes] = b''
  kind: str = 'text/plain; charset=utf-8'
  status: int = HTTPStatus.OK
  headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @classmethod
  def of_json(cls, value) -> 'Reply':
    return cls(json.dumps(value).encode(), 'application/json')


class Rejected(Exception):
  """A request that is not answered as it wants."""

  def __init__(self, status: int, reason: str):
    super().__init__(reason)
    self.status = status


@dataclasses.dataclass(frozen=True)
class Route:
  """What answers a path.

  Attributes:
    answer: called with the values of the query and the body; may raise Rejected.
    most_bytes: length that a body may have.
  """

  answer: Callable[[Mapping[str, str], bytes], Reply]
  most_bytes: int = 0


class Display(Protocol):
  """What a page shows."""

  def routes(self) -> Mapping[tuple[str, str], Route]:
    """By method and path, beside those of the page's own files."""

  def close(self, note: str):
    """Ends the answers that are open; `note` says why, and is '' if somebody wanted that."""


class Page:
  """A page at an address of this machine alone; use as a context manager.

  with Page(8000) as page:
    page.show(broadcast, {'network': 'movinet/a0-stream'})
  """

  def __init__(self, port: int = 0):
    """Takes the port; 0 is any that is free. Nothing is answered before `show`.

    Raises:
      OSError: the port is taken, or is not for this user.
    """
    try:
      self._server = _Server((HOST, port), _Handler)
    except OSError as error:
      raise OSError(
        f'cannot serve a page at port {port}: {(error.strerror or str(error)).lower()}; take '
        'another port, or --serve without a number for one that is free'
      ) from error
    self.address = f'http://{HOST}:{self._server.server_port}/'
    self._shown = self._thread = None

  def show(self, shown: Display, about: Mapping):
    """Begins to answer. `about` is what the page's script has to know."""
    self._shown, told = shown, Reply.of_json(about)
    own = {**_list_files(), ('GET', '/about'): Route(lambda query, body: told)}
    self._server.routes = {**own, **shown.routes()}
    self._thread = threading.Thread(
      target=self._server.serve_forever, args=(_POLL_SECS,), name='page', daemon=True
    )
    self._thread.start()

  def __enter__(self):
    return self

  def __exit__(self, kind, error, _):
    if self._thread:
      is_wanted = error is None or isinstance(error, KeyboardInterrupt)
      self._shown.close('' if is_wanted else str(error))
      self._server.shutdown()
      self._server.end_all(_END_SECS)
    self._server.server_close()


@functools.cache
def _list_files() -> dict[tuple[str, str], Route]:
  folder = importlib.resources.files(__package__)
  replies = {
    path: Reply(folder.joinpath(name).read_bytes(), f'{kind}; charset=utf-8')
    for path, (name, kind) in _FILES.items()
  }
  return {
    ('GET', path): Route(lambda query, body, reply=reply: reply) for path, reply in replies.items()
  }


class _Server(http.server.ThreadingHTTPServer):
  """Knows its connections: there are never too many, and all can be ended."""

  daemon_threads = True
  request_queue_size = MOST_CONNECTIONS
  routes: Mapping[tuple[str, str], Route] = {}

  def __init__(self, *args):
    super().__init__(*args)
    self._changed = threading.Condition()
    self._open = {}  # connection -> whether an answer is being sent

  def process_request(self, request, client_address):
    with self._changed:
      has_room = len(self._open) < MOST_CONNECTIONS
      if has_room:
        self._open[request] = False
    if has_room:
      super().process_request(request, client_address)
    else:
      self.shutdown_request(request)

  def shutdown_request(self, request):
    super().shutdown_request(request)
    with self._changed:
      self._open.pop(request, None)
      self._changed.notify_all()

  @contextlib.contextmanager
  def answering(self, request: socket.socket) -> Iterator[None]:
    """Within, an answer is sent, which `end_all` waits for."""
    with self._changed:
      self._open[request] = True
    try:
      yield
    finally:
      with self._changed:
        self._open[request] = False
        self._changed.notify_all()

  def end_all(self, secs: float):
    """Ends all connections, and their threads with them; answers get so many seconds."""
    end = time.monotonic() + secs
    with self._changed:
      self._changed.wait_for(lambda: not any(self._open.values()), secs)
      for request in self._open:
        with contextlib.suppress(OSError):  # it has ended
          request.shutdown(socket.SHUT_RDWR)
      self._changed.wait_for(lambda: not self._open, max(0.1, end - time.monotonic()))


class _Reader(io.RawIOBase):
  """The bytes of a connection until `end`, a time of `time.monotonic`; then TimeoutError.

  A timeout of the socket alone would begin anew with every byte.
  """

  def __init__(self, connection: socket.socket):
    super().__init__()
    self._connection, self.end = connection, 0.0

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    left_secs = self.end - time.monotonic()
    if left_secs <= 0:
      raise TimeoutError
    self._connection.settimeout(left_secs)
    return self._connection.recv_into(buffer)


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  server_version, sys_version = 'movinet', ''
  timeout = IDLE_SECS
  # Otherwise the body of an answer waits until the reader acknowledges its head, 40 ms on Linux.
  disable_nagle_algorithm = True

  def setup(self):
    super().setup()
    self.rfile.close()
    self._reader = _Reader(self.connection)
    self.rfile = io.BufferedReader(self._reader)

  def handle_one_request(self):
    self._reader.end = time.monotonic() + self.timeout
    super().handle_one_request()

  def do_GET(self):
    self._answer()

  def do_POST(self):
    self._answer()

  def handle(self):
    with contextlib.suppress(OSError):  # the reader has left
      super().handle()

  def log_message(self, *_):
    pass

  def end_headers(self):
    for name, value in HEADERS.items():
      self.send_header(name, value)
    super().end_headers()

  def _answer(self):
    with self.server.answering(self.request):
      try:
        reply = self._find_reply()
      except Rejected as error:
        self.close_connection = True
        self._send(Reply(f'{error}\n'.encode(), status=error.status))
        self._drain()
        return
      except Exception:
        traceback.print_exc()
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        reply = Reply(b'a fault of the program; its terminal says more\n', status=status)
      self._send(reply)

  def _find_reply(self) -> Reply:
    try:
      url = urllib.parse.urlsplit(self.path)
    except ValueError as error:
      raise Rejected(HTTPStatus.BAD_REQUEST, f'{self.path!r} is no address: {error}') from error
    if reason := find_intruder(self.command, url.path, self.headers):
      raise Rejected(HTTPStatus.FORBIDDEN, reason)
    route = self.server.routes.get((self.command, url.path))
    if route is None:
      raise Rejected(HTTPStatus.NOT_FOUND, f'nothing answers {self.command} {url.path}')
    body = self._read_body(route.most_bytes)
    return route.answer(dict(urllib.parse.parse_qsl(url.query)), body)

  def _read_body(self, most_bytes: int) -> bytes:
    length = self.headers.get('Content-Length', '' if self.command == 'POST' else '0')
    if 'Transfer-Encoding' in self.headers or not re.fullmatch('[0-9]{1,15}', length):
      raise Rejected(HTTPStatus.LENGTH_REQUIRED, 'say the length of the body in Content-Length')
    length = int(length)
    if length > most_bytes:
      raise Rejected(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f'the body has {length} bytes; wanted {most_bytes} at most',
      )
    body, self._reader.end = bytearray(), time.monotonic() + BODY_SECS
    while len(body) < length:
      try:
        part = self.rfile.read1(length - len(body))
      except TimeoutError:
        raise Rejected(
          HTTPStatus.REQUEST_TIMEOUT, f'{len(body)} of {length} bytes came in {BODY_SECS:g} s'
        ) from None
      if not part:
        raise Rejected(HTTPStatus.BAD_REQUEST, f'{len(body)} of {length} bytes came')
      body += part
    return bytes(body)

  def _send(self, reply: Reply):
    self.connection.settimeout(self.timeout)  # `_Reader` has changed it
    is_whole = isinstance(reply.body, bytes)
    self.send_response(reply.status)
    for name, value in reply.headers.items():
      self.send_header(name, value)
    self.send_header('Content-Type', reply.kind)
    if is_whole and reply.status != HTTPStatus.NO_CONTENT:
      self.send_header('Content-Length', str(len(reply.body)))
    if not is_whole or self.close_connection:
      self.close_connection = True
      self.send_header('Connection', 'close')
    self.end_headers()
    for part in [reply.body] if is_whole else reply.body:
      if part:
        self.wfile.write(part)
      elif not is_whole and self._has_left():
        return

  def _has_left(self) -> bool:
    """Whether the reader has closed the connection."""
    if not select.select([self.connection], [], [], 0)[0]:
      return False
    return not self.connection.recv(1, socket.MSG_PEEK)

  def _drain(self):
    """Reads the rest of a refused body. If the server closed at once, the reason would be lost."""
    with contextlib.suppress(OSError):
      self.connection.shutdown(socket.SHUT_WR)
      self._reader.end, left = time.monotonic() + _DRAIN_SECS, _DRAIN_BYTES
      while left > 0 and (part := self.rfile.read1(65_536)):
        left -= len(part)
