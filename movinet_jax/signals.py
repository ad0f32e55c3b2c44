"""What asks a process to stop: SIGTERM, Ctrl-C, and a terminal that is closed."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def listening(ask: Callable[[int], None]) -> Iterator[None]:
  """Within, each of these signals calls `ask` with its number, and does nothing else.

  SIGHUP does not if it was ignored before, as `nohup` has it. Handlers can be set in the
  main thread only; elsewhere signals keep their meaning.
  """
  before = {}
  if threading.current_thread() is threading.main_thread():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
      if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
        before[number] = signal.signal(number, lambda number, _: ask(number))
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def leave_to_parent():
  """Ignores what a terminal sends to a process and its children at once."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
