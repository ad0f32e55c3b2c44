"""How long the devices compute, how long they wait for input, and when a person should know.

The loop asks for a batch while the devices compute the step before. So what it waits itself says
little: only what is left of that wait after the devices have ended is lost.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator

import jax

# A tenth of the devices' time pays for a look at the input. Below, the wait comes and goes with the
# load of the machine and the disk, and more workers win little.
_SHARE = 0.1
# So much more than was told is told again.
_MUCH_MORE = 0.2
# Shorter windows hold a few batches, of which those that were ready before it are a large part.
_WINDOW_SECS, _WINDOW_STEPS = 10.0, 20


class DeviceClock:
  """Notes when the devices end each step, in a thread that waits for them.

  Attributes:
    busy_secs: how long the devices have computed so far: of each step, from its call or the end
      of the step before, whichever was later, to its end.
  """

  def __init__(self):
    self.busy_secs = 0.0
    self._steps = queue.SimpleQueue()
    self._running, self._ended = 0, time.perf_counter()
    self._lock = threading.Lock()
    self._thread = threading.Thread(target=self._follow, daemon=True, name='device clock')

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *error):
    self._steps.put(None)
    # Of a run that has lost one of its processes, a step may never end.
    self._thread.join(timeout=1.0 if any(error) else None)

  def follow(self, output, began: float):
    """Takes note of a step: an array that it gives, and the time.perf_counter() of its call."""
    with self._lock:
      self._running += 1
    self._steps.put((output, began))

  def count_idle_secs(self, since: float) -> float:
    """How long no step has run, of the time from time.perf_counter() = `since` until now."""
    with self._lock:
      return 0.0 if self._running else time.perf_counter() - max(since, self._ended)

  def _follow(self):
    while (given := self._steps.get()) is not None:
      output, began = given
      with contextlib.suppress(Exception):  # the loop reads the same array, and raises it
        jax.block_until_ready(output)
      now = time.perf_counter()
      with self._lock:
        self.busy_secs += now - max(began, self._ended)
        self._running, self._ended = self._running - 1, now


class InputWatch:
  """Says what to do where the devices wait for input; once, and again if it gets much worse.

  The first line of a log is passed over: the compiler and the start of workers are in it.
  """

  def __init__(self, batches):
    """`batches.advise(step_secs)`, if there is one, tells what would make the input keep up."""
    self._advise = getattr(batches, 'advise', None)
    self._told, self._is_first = 0.0, True
    self._reset()

  def _reset(self):
    self._steps, self._secs, self._idle_secs, self._busy_secs = 0, 0.0, 0.0, 0.0

  def add(self, steps: int, secs: float, idle_secs: float, busy_secs: float) -> str:
    """Takes what went by since the line before; returns what a person should read, '' for nothing.

    Args:
      steps: how many were made.
      secs: the time they took.
      idle_secs: of it, in which the devices waited for input.
      busy_secs: of it, in which they computed.
    """
    if self._is_first or self._advise is None:
      self._is_first = False
      return ''
    self._steps, self._secs = self._steps + steps, self._secs + secs
    self._idle_secs, self._busy_secs = self._idle_secs + idle_secs, self._busy_secs + busy_secs
    if self._secs < _WINDOW_SECS or self._steps < _WINDOW_STEPS:
      return ''
    share, step_secs = self._idle_secs / self._secs, self._busy_secs / self._steps
    said = f'the devices waited for input in {share:.0%} of the last {self._secs:.0f} s'
    self._reset()
    if share < _SHARE or (self._told and share < self._told + _MUCH_MORE):
      return ''
    self._told = share
    shared = '. The network computes on the same cores' if jax.default_backend() == 'cpu' else ''
    return f'{said}. {self._advise(step_secs)}{shared}'


def run_ahead(step, batches) -> Iterator[tuple]:
  """Yields (batch, step(batch)) of each batch, once the step of the next one is dispatched too.

  So the devices compute while the host waits for the next batch, copies it to them, and reads
  what the step before has given.
  """
  earlier = []
  for batch in batches:
    earlier.append((batch, step(batch)))
    if len(earlier) > 1:
      yield earlier.pop(0)
  yield from earlier
