"""The processes of a run meet over plain sockets before JAX joins them.

JAX cannot report a failed start. With jaxlib 0.10.2, a process whose peers are missing is aborted
after JAX's time limit (SIGABRT, with a stack dump) and ignores Ctrl-C until then. A first process
whose port is taken crashes (SIGSEGV), unless another JAX holds the port: then both listen there
and share the connections. Here a process can say whom it waits for, give up, and be interrupted.

The first process listens where JAX will. Each process, also the first, connects to it, says
`movinet COUNT INDEX TOKEN`, and is told to wait. When all are there, the first process closes the
port and tells them to go.
"""

import asyncio
import dataclasses
import errno
import os
import secrets
import socket
import sys
import time

LIMIT = 'MOVINET_JOIN_SECS'
_QUIET_SECS = 10  # processes of one run may start so far apart, and nothing is wrong
_GRACE_SECS = 5  # for a name that is being made known, or a last run that is closing its port
_ANSWER_SECS = 5
_PAUSE_SECS = 0.1
_LONGEST = 128  # bytes of a line
_SHOWN = 8  # missing processes
_WAIT, _GO, _TWICE, _COUNT = 'movinet wait', 'movinet go', 'movinet twice', 'movinet count'


class NotJoined(RuntimeError):
  """The other processes of a run could not be reached: they may be, another time."""


@dataclasses.dataclass(frozen=True)
class Group:
  """This process and the others of its run.

  Attributes:
    address: HOST:PORT at which all reach the first process.
    bind: HOST:PORT at which the first process listens.
    count: how many processes there are.
    index: which of them this one is, from 0.
    setting: the environment variable that changes the port.
  """

  address: str
  bind: str
  count: int
  index: int
  setting: str

  def __str__(self):
    return f'process {self.index} of {self.count}'


class Patience:
  """A wait with a limit, which says after ten seconds what it waits for."""

  def __init__(self, secs: float, option: str = LIMIT):
    self._secs = secs
    self._limit = f'{secs:g} s' + (f' ({option})' if option else '')
    self._start = time.monotonic()
    self._is_quiet = True

  def count_waited_secs(self) -> float:
    return time.monotonic() - self._start

  def check(self, wait: str):
    """Returns while there is time left.

    Args:
      wait: who waits for what, as a clause.

    Raises:
      NotJoined: there is none.
    """
    waited = self.count_waited_secs()
    if waited >= self._secs:
      raise NotJoined(f'{wait}; it gave up after {self._limit}')
    if self._is_quiet and waited >= _QUIET_SECS:
      self._is_quiet = False
      print(f'movinet: {wait}; it gives up after {self._limit}', file=sys.stderr, flush=True)

  def choose_pause_secs(self) -> float:
    """Time between two attempts; it grows, for many may wait for one."""
    return min(1, _PAUSE_SECS * (1 + self.count_waited_secs()))

  def is_young(self) -> bool:
    """Whether what is wrong may still come right by itself."""
    return self.count_waited_secs() < min(_GRACE_SECS, self._secs)


def split_address(address: str, name: str) -> tuple[str, int]:
  """Host and port of HOST:PORT or [IPV6]:PORT.

  Raises:
    ValueError: it is neither; the message gives the name of the setting.
  """
  host, _, port = address.rpartition(':')
  if not (host and port.isdecimal() and 0 < int(port) < 1 << 16):
    raise ValueError(f'{name} is {address!r}; wanted HOST:PORT, with a port from 1 to 65535')
  return host.removeprefix('[').removesuffix(']'), int(port)


def meet(group: Group, patience: Patience):
  """Returns when all processes of a group have called this.

  Raises:
    NotJoined: some did not within the limit.
    ValueError: the address, its port or the number of processes is wrong.
  """
  asyncio.run(_Meeting(group, patience).run())
  if group.index:
    _await_jax(group)


class _Meeting:
  """What one process does until all are there; the first one also serves the others."""

  def __init__(self, group: Group, patience: Patience):
    self._group, self._patience = group, patience
    self._where = split_address(group.address, group.setting)
    # The first process tells itself from another one that also has the index 0.
    self._token = secrets.token_hex(8)
    self._servers = []
    self._joined = {}  # by index, the connections of the processes that are there
    self._trouble = 'not tried yet'  # why this process is not there itself
    self._is_wrong = False  # whether that is the fault of the address

  async def run(self):
    try:
      if self._group.index == 0:
        for listener in _listen(self._group, self._patience):
          server = await asyncio.start_server(self._serve, sock=listener, limit=_LONGEST)
          self._servers.append(server)
      coming = asyncio.create_task(self._come())
      while not (await asyncio.wait({coming}, timeout=_PAUSE_SECS))[0]:
        self._check()
      coming.result()
    finally:
      self._close_port()

  def _check(self):
    """Returns while it may still come right."""
    if self._is_wrong and not self._patience.is_young():
      raise ValueError(
        f'{self._group} cannot reach process 0 at {self._group.address} ({self._trouble}): set '
        f'{self._group.setting} to an address of the machine of process 0'
      )
    self._patience.check(self._describe())

  async def _come(self):
    """Connects to the first process until one connection lasts to the end."""
    while True:
      is_unknown = False
      try:
        async with asyncio.timeout(_ANSWER_SECS):
          reader, writer = await asyncio.open_connection(*self._where, limit=_LONGEST)
        try:
          self._trouble = await self._wait_with(reader, writer)
        finally:
          writer.close()
      except (socket.gaierror, UnicodeError) as error:  # UnicodeError: a part is empty or too long
        is_unknown = getattr(error, 'errno', None) != socket.EAI_AGAIN
        self._trouble = 'the name is unknown' if is_unknown else 'no name server answers'
      except OSError as error:
        self._trouble = _describe(error)
      if not self._trouble:
        return
      self._is_wrong = is_unknown or self._group.index == 0
      # In Kubernetes, a name is unknown, or still the last pod's, until the new pod is up.
      self._is_wrong &= 'KUBERNETES_SERVICE_HOST' not in os.environ
      await asyncio.sleep(self._patience.choose_pause_secs())

  async def _wait_with(self, reader, writer) -> str:
    """Empty when all are there, or else why this connection is of no use.

    Raises:
      ValueError: the first process was told of another number of processes.
    """
    group = self._group
    writer.write(f'movinet {group.count} {group.index} {self._token}\n'.encode())
    async with asyncio.timeout(_ANSWER_SECS):
      answer = await _read_line(reader)
    if answer == _WAIT:
      self._trouble, self._is_wrong = '', False
      return '' if await _read_line(reader) == _GO else 'process 0 has left'
    if answer.startswith(_COUNT):
      raise ValueError(
        f'process {group.index} was told of {group.count} processes, and process 0 at '
        f'{group.address} of {answer.split()[-1]}: tell all the same number'
      )
    if answer == _TWICE:
      return f'another process {group.index} is there'
    return 'something else listens there'

  async def _serve(self, reader, writer):
    """Keeps one connection to the first process: of another process, or of a stranger."""
    index = None
    try:
      async with asyncio.timeout(_ANSWER_SECS):
        index, answer = self._admit((await _read_line(reader)).split())
      writer.write(f'{answer}\n'.encode())
      if index is not None:
        self._joined[index] = writer
        if len(self._joined) == self._group.count:
          self._release()
        await reader.read(1)  # nothing comes: it has left
    except (OSError, asyncio.CancelledError):
      pass  # it has left too, or said nothing in time; or this process gives up
    finally:
      if self._servers and index is not None:
        del self._joined[index]
      writer.close()

  def _admit(self, words: list[str]) -> tuple[int | None, str]:
    """The index of the process that said these words, None for a stranger; and the answer."""
    group = self._group
    if len(words) != 4 or words[0] != 'movinet':
      return None, ''
    if words[1] != str(group.count):
      return None, f'{_COUNT} {group.count}'
    index = next((i for i in range(group.count) if words[2] == str(i)), None)
    if index is None or (index == 0 and words[3] != self._token):
      return None, ''
    return (None, _TWICE) if index in self._joined else (index, _WAIT)

  def _release(self):
    """Frees the port for JAX, then lets all go."""
    self._close_port()
    for writer in self._joined.values():
      writer.write(f'{_GO}\n'.encode())

  def _close_port(self):
    for server in self._servers:
      server.close()
    self._servers = []

  def _describe(self) -> str:
    """Who waits for whom, where."""
    group = self._group
    if self._trouble:
      first = 'process 0' if group.index else 'itself to answer'
      return f'{group} waits for {first} at {group.address} ({self._trouble})'
    if group.index:
      return f'{group} waits with process 0 at {group.address} for the others'
    missing = [i for i in range(group.count) if i not in self._joined]
    names = ', '.join(map(str, missing[:_SHOWN]))
    more = f' and {len(missing) - _SHOWN} more' if len(missing) > _SHOWN else ''
    noun = 'process' if len(missing) == 1 else 'processes'
    return f'{group} waits for {noun} {names}{more} at {group.address}'


async def _read_line(reader) -> str:
  """One line; empty if the connection ends before, or if the line is too long."""
  try:
    return (await reader.readuntil()).decode(errors='replace').strip()
  except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
    return ''


def _await_jax(group: Group):
  """Waits until JAX listens: its client tries again only after a second."""
  where = split_address(group.address, group.setting)
  for _ in range(100):
    try:
      socket.create_connection(where, timeout=_PAUSE_SECS).close()
      return
    except OSError:
      time.sleep(_PAUSE_SECS / 5)


def _listen(group: Group, patience: Patience) -> list[socket.socket]:
  """Sockets that listen where JAX will, and share their port with nobody.

  Raises:
    ValueError: the port is taken, or the address is not of this machine.
  """
  host, port = split_address(group.bind, 'JAX_COORDINATOR_BIND_ADDRESS')
  while True:
    try:
      return _open(host, port, max(128, group.count))
    except (OSError, UnicodeError) as error:
      if getattr(error, 'errno', None) != errno.EADDRINUSE:
        raise ValueError(
          f'process 0 cannot listen at {group.bind} ({_describe(error)}): set {group.setting} to '
          'an address and a port of its machine'
        ) from error
      if not patience.is_young():
        raise ValueError(
          f'port {port} is taken: another run or program listens at {group.bind}. End it, or '
          f'choose another port by {group.setting}'
        ) from error
    time.sleep(patience.choose_pause_secs())


def _open(host: str, port: int, backlog: int) -> list[socket.socket]:
  if host == '::':  # all addresses of this machine
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    both = family == socket.AF_INET6
    return [socket.create_server(('', port), family=family, backlog=backlog, dualstack_ipv6=both)]
  listeners, missing = [], None
  for family, *_, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
    try:
      listeners.append(socket.create_server(where, family=family, backlog=backlog))
    except OSError as error:
      if error.errno != errno.EADDRNOTAVAIL:
        for listener in listeners:
          listener.close()
        raise
      missing = error  # localhost has an IPv6 address by name where IPv6 is switched off
  if not listeners:
    raise missing
  return listeners


def _describe(error: Exception) -> str:
  if isinstance(error, UnicodeError):
    return 'it is no name'
  if isinstance(error, TimeoutError):
    return 'no answer'
  return os.strerror(error.errno) if (error.errno or 0) > 0 else str(error)
