"""Work on untrusted files in processes that are killed when they take too long.

A hanging or crashing decoder cannot be stopped from within: a thread cannot be killed and
an exception cannot be raised in C code. So each file is worked on in a process, and the
process is what the time limit ends.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pebble
from pebble.pool.process import WORKERS_NAME

from movinet_jax import signals
from movinet_jax.data.video import DecodeError


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
    limit_secs: after this long a job's process is killed.

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
  with _processes(workers, work) as pool:
    while waiting or running:
      # At most one job a process: one that is killed while it takes another job loses both.
      while waiting and len(running) < workers:
        job = waiting.popleft()
        running[pool.schedule(_do, (work, job), timeout=limit_secs)] = job
      ended, _ = concurrent.futures.wait(running, return_when='FIRST_COMPLETED')
      for future in ended:
        job = running.pop(future)
        yield job, _take_reason(future, job, limit_secs)


@contextlib.contextmanager
def _processes(workers: int, work: Callable) -> Iterator[pebble.ProcessPool]:
  pool = pebble.ProcessPool(
    workers,
    # `work` is given here too, so that processes import its module side by side: they take
    # jobs, and import what these need, one after another.
    initializer=_begin,
    initargs=(work,),
    # Spawned, not forked: JAX and FFmpeg have threads, which a fork would cut off.
    context=multiprocessing.get_context('spawn'),
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


def _begin(work):
  del work
  signals.leave_to_parent()


def _do_nothing(): ...


def _do(work: Callable, job) -> str:
  """Runs in a process of the pool; returns the reason."""
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
  except TimeoutError:
    return f'took more than {limit_secs:g} s'
  except BrokenProcessPool as error:
    raise RuntimeError(
      f'the worker processes ended before they began {job!r}; a script that starts workers '
      "needs `if __name__ == '__main__':`"
    ) from error
  except Exception as error:
    raise RuntimeError(f'{type(error).__name__} at {job!r}: {error}') from error
