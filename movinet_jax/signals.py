"""What asks a process to stop: SIGTERM, Ctrl-C, and a terminal that is closed."""

import contextlib
import errno
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator

_TELLS_SENDER = hasattr(signal, 'sigwaitinfo')  # not on a Mac


@contextlib.contextmanager
def listening(ask: Callable[[int], None]) -> Iterator[None]:
  """Within, each of these signals calls `ask` with its number, and does nothing else.

  SIGHUP does not if it was ignored before, as `nohup` has it. Handlers can be set in the
  main thread only; elsewhere signals keep their meaning.
  """

  def handle(number, _):
    if number == signal.SIGHUP:
      _leave_terminal()
    ask(number)

  before = {}
  if threading.current_thread() is threading.main_thread():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
      if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
        before[number] = signal.signal(number, handle)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def survive(error: OSError):
  """Goes on after a line could not be shown because the terminal is gone.

  Lines fail before the signal comes that says so, and would end a run unsaved.

  Raises:
    OSError: the error, if it is another.
  """
  if error.errno != errno.EIO:
    raise error
  _leave_terminal()


def _leave_terminal():
  nowhere = os.open(os.devnull, os.O_WRONLY)
  for output in (1, 2):
    with contextlib.suppress(OSError):  # one that is closed already
      # Once it has hung up, isatty says no.
      if stat.S_ISCHR(os.fstat(output).st_mode):
        os.dup2(nowhere, output)
  os.close(nowhere)


@contextlib.contextmanager
def starting_children() -> Iterator[None]:
  """Within, processes are started that will `leave_to_parent`.

  They are deaf to SIGTERM from the beginning, also in threads that begin before that.
  """
  if not _TELLS_SENDER:
    yield
    return
  before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent():
  """Of what a whole group of processes is sent, a child heeds only what its parent sends.

  A terminal sends SIGINT and SIGHUP to all of them, a batch system SIGTERM; the parent
  saves, and needs its children for that.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
  if _TELLS_SENDER:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent():
  while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
    pass
  os._exit(128 + signal.SIGTERM)
