"""Work on untrusted files in processes that are killed when they stand still.

A hanging or crashing decoder cannot be stopped from within: a thread cannot be killed and
an exception cannot be raised in C code. So each file is worked on in a process, and the
process is what the time limit ends. Work that calls `go_on` at each step may take as long as
it needs: a long video is no bad one.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pebble
from pebble.pool.process import WORKERS_NAME

from movinet_jax import signals
from movinet_jax.data.video import DecodeError

_LOOK_SECS = 1.0  # between two looks at whether work stands still

# In a process of the pool: what it shares with its parent, and the place of its job in it.
_steps, _place = None, 0


def go_on():
  """Says that the work of this process has made a step; the limit begins anew."""
  if _steps is not None:
    _steps[_place] += 1


def run_limited(
  work: Callable[[Any], None],
  jobs: Iterable[Any],
  *,
  workers: int = 1,
  limit_secs: float = 60.0,
) -> Iterator[tuple[Any, str]]:
  """Does `work(job)` for each job, several at once, and says how each one ended.

  Args:
    work: a function of a module; raises DecodeError or OSError for a bad file. Any other
      exception is a fault of the program and ends everything.
    jobs: picklable.
    workers: processes at once.
    limit_secs: a job's process is killed when it has not called `go_on` for this long.

  Yields:
    (job, reason) as the jobs end; the reason is '' where all went well.

  Raises:
    RuntimeError: a fault of the program, or processes that end before their first job.
  """
  waiting, running = collections.deque(jobs), {}
  if not waiting:
    return
  if workers < 1 or not limit_secs > 0:
    raise ValueError(
      f'workers={workers} and limit_secs={limit_secs}; wanted 1 worker or more, and more than 0 s'
    )
  workers = min(workers, len(waiting))
  # Spawned, not forked: JAX and FFmpeg have threads, which a fork would cut off.
  spawn = multiprocessing.get_context('spawn')
  steps, places = spawn.RawArray('Q', workers), list(range(workers))
  watch = _Watch(steps, limit_secs)
  with _processes(workers, spawn, work, steps) as pool:
    while waiting or running:
      # At most one job a process: one that is killed while it takes another job loses both.
      while waiting and len(running) < workers:
        job, place = waiting.popleft(), places.pop()
        watch.begin(place)
        running[pool.schedule(_do, (work, job, place))] = job, place
      ended, _ = concurrent.futures.wait(
        running, timeout=watch.look_secs, return_when='FIRST_COMPLETED'
      )
      for future in ended:
        job, place = running.pop(future)
        places.append(place)
        yield job, _take_reason(future, job, limit_secs)
      standing = watch.look()
      for future, (_, place) in running.items():
        if place in standing:
          future.cancel()  # kills its process; the future ends a little later


class _Watch:
  """Finds the jobs that stand still, by how many steps the job at each place has made.

  Time in which this process could not look does not count: a job that was stopped together
  with it (Ctrl-Z) does not stand still.
  """

  def __init__(self, steps, limit_secs: float):
    self.look_secs = min(_LOOK_SECS, limit_secs / 4)
    self._steps, self._limit_secs = steps, limit_secs
    self._seen, self._idle_secs = [0] * len(steps), [0.0] * len(steps)
    self._looked = time.monotonic()

  def begin(self, place: int):
    """A job without steps is one that no process has taken yet."""
    self._steps[place] = self._seen[place] = 0

  def look(self) -> set[int]:
    """The places of jobs that have made no step for the limit."""
    now = time.monotonic()
    passed, self._looked = min(now - self._looked, 2 * self.look_secs), now
    for place, steps in enumerate(self._steps):
      idle = steps > 0 and steps == self._seen[place]
      self._idle_secs[place] = self._idle_secs[place] + passed if idle else 0.0
      self._seen[place] = steps
    return {place for place, idle in enumerate(self._idle_secs) if idle > self._limit_secs}


@contextlib.contextmanager
def _processes(workers: int, context, work: Callable, steps) -> Iterator[pebble.ProcessPool]:
  pool = pebble.ProcessPool(
    workers,
    # `work` is given here too, so that processes import its module side by side: they take
    # jobs, and import what these need, one after another.
    initializer=_begin,
    initargs=(work, steps),
    context=context,
  )
  try:
    with signals.starting_children():
      # The pool starts with its first job. Its threads, which replace processes that died,
      # inherit the mask of signals.
      pool.schedule(_do_nothing)
    yield pool
  finally:
    pool.stop()
    # Pebble replaces a process even if it is the last one that was killed. When the pool is
    # joined the replacement has not begun: it would not hear that it should stop, for 3 s, and
    # print a traceback because its locks are gone. So no more are made, and all are killed.
    pool._pool_manager_loop.join()
    for process in multiprocessing.active_children():
      if process.name == WORKERS_NAME:
        process.kill()
    pool.join()


def _begin(work, steps):
  global _steps
  del work
  _steps = steps
  signals.leave_to_parent()


def _do_nothing(): ...


def _do(work: Callable, job, place: int) -> str:
  """Runs in a process of the pool; returns the reason."""
  global _place
  _place = place
  go_on()
  try:
    work(job)
  except DecodeError as error:
    return error.reason
  except OSError as error:
    return f'cannot be read or written: {error}'
  return ''


def _take_reason(future, job, limit_secs: float) -> str:
  try:
    return future.result()
  except pebble.ProcessExpired as error:
    return f'decoder crashed with exit code {error.exitcode}'
  except concurrent.futures.CancelledError:
    return f'stood still for {limit_secs:g} s (--limit-secs)'
  except BrokenProcessPool as error:
    raise RuntimeError(
      f'the worker processes ended before they began {job!r}; a script that starts workers '
      "needs `if __name__ == '__main__':`"
    ) from error
  except Exception as error:
    raise RuntimeError(f'{type(error).__name__} at {job!r}: {error}') from error
