"""Work on untrusted files in processes that are killed when they take too long.

A hanging or crashing decoder cannot be stopped from within: a thread cannot be killed and
an exception cannot be raised in C code. So each file is worked on in a process, and the
process is what the time limit ends.
"""

import collections
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from movinet_jax import signals
from movinet_jax.data.reader import DecodeError


def run_limited(
  work: Callable[[Any], None],
  jobs: Iterable[Any],
  *,
  workers: int = 1,
  limit_secs: float = 60.0,
) -> Iterator[tuple[Any, str]]:
  """Does `work(job)` for each job, several at once, and says how each one ended.

  Args:
    work: a function of a module; raises DecodeError or OSError for a bad file. Other
      exceptions are faults of the program and end everything.
    jobs: picklable.
    workers: processes at once.
    limit_secs: after this long a job's process is killed.

  Yields:
    (job, reason) as the jobs end; the reason is '' where all went well.
  """
  waiting = collections.deque(jobs)
  crew = [_Worker(work) for _ in range(min(workers, len(waiting)))]
  try:
    while waiting or any(worker.job is not None for worker in crew):
      for worker in crew:
        if worker.ready and worker.job is None and waiting:
          worker.give(waiting.popleft(), limit_secs)
      for worker in _wait(crew):
        job, reason = worker.take(limit_secs)
        if job is not None:
          yield job, reason
  finally:
    for worker in crew:
      worker.kill()


class _Worker:
  """One process and the job that it has."""

  def __init__(self, work):
    self.work = work
    self.start()

  def start(self):
    # Spawned, not forked: JAX and FFmpeg have threads, which a fork would cut off.
    context = multiprocessing.get_context('spawn')
    self.pipe, theirs = context.Pipe()
    self.process = context.Process(target=_serve, args=(theirs, self.work), daemon=True)
    self.process.start()
    theirs.close()
    self.ready, self.job, self.deadline = False, None, None

  def give(self, job, limit_secs: float):
    self.job, self.deadline = job, time.monotonic() + limit_secs
    self.pipe.send(job)

  def take(self, limit_secs: float) -> tuple[Any, str]:
    """The job that has ended and why, (None, '') if none has."""
    if not self.pipe.poll():
      if self.deadline is None or time.monotonic() < self.deadline:
        return None, ''
      return self.replace(f'took more than {limit_secs:g} s')
    try:
      answer = self.pipe.recv()
    except EOFError:
      self.process.join()
      if self.job is None:
        raise RuntimeError(
          f'a worker process ended with exit code {self.process.exitcode} before its first '
          "job; a script that starts workers needs `if __name__ == '__main__':`"
        ) from None
      return self.replace(f'decoder crashed with exit code {self.process.exitcode}')
    if isinstance(answer, Exception):
      raise answer
    job, self.job, self.deadline = self.job, None, None
    if not self.ready:
      self.ready = True
      return None, ''
    return job, answer

  def replace(self, reason: str) -> tuple[Any, str]:
    job = self.job
    self.kill()
    self.start()
    return job, reason

  def kill(self):
    self.process.kill()
    self.process.join()
    self.pipe.close()


def _wait(crew: list[_Worker]) -> list[_Worker]:
  """Waits until a worker answers, dies or is out of time."""
  deadlines = [w.deadline for w in crew if w.deadline is not None]
  left = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
  multiprocessing.connection.wait([worker.pipe for worker in crew], left)
  return crew


def _serve(pipe, work):
  """A worker's life: say ready, then job after job until the pipe closes."""
  signals.leave_to_parent()
  pipe.send('ready')
  while True:
    try:
      job = pipe.recv()
    except EOFError:
      return
    try:
      work(job)
      answer = ''
    except DecodeError as error:
      answer = error.reason
    except OSError as error:
      answer = f'cannot be read or written: {error}'
    except Exception as error:
      answer = RuntimeError(f'{type(error).__name__} at {job!r}: {error}')
    pipe.send(answer)
