"""The worker processes of a coordinator: they get jobs, they answer, they die."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nas.trials.outcome import make_failure

_STARTS = 5  # that may fail in a row before it is taken for more than bad luck
_LAST_WORDS_SECS = 1.0  # from the end of a worker's pipe to its own
_WORDS = 300  # letters of the last line in a log that an error shows


class Progress(NamedTuple):
  """A trial has reached a value."""

  number: int
  step: int
  value: float


class Finished(NamedTuple):
  """A trial is over; `outcome` is what nas.trials.outcome makes."""

  number: int
  outcome: dict


class Died(NamedTuple):
  """The worker of a trial is gone, and says no more."""

  number: int
  cause: str


class WorkersDied(RuntimeError):
  """Workers die as they start. Once that is mended, start the search again."""


class Pool:
  """Workers, each started when there is a job for it, and anew after its death.

  Attributes:
    folder: of the workers' logs.
  """

  def __init__(
    self,
    objective: str,
    arguments: Mapping,
    *,
    environments: Sequence[Mapping[str, str]],
    folder: Path,
    trial_secs: float | None = None,
  ):
    """See nas.trials.engine.coordinate. There is a worker for each environment.

    Raises:
      ValueError: the arguments are no JSON.
    """
    try:
      text = json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError) as error:
      raise ValueError(f"the objective's arguments must be JSON: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    self.folder = folder
    self._command = objective, text
    self._trial_secs = trial_secs
    self._workers = [
      _Worker(environment, folder / f'worker-{i}.log') for i, environment in enumerate(environments)
    ]
    self._failed_starts = 0

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def close(self):
    """Kills all workers."""
    for worker in self._workers:
      worker.kill()
      worker.job = None

  @property
  def numbers(self) -> set[int]:
    """Of the trials that workers have."""
    return {w.job['number'] for w in self._workers if w.job}

  @property
  def has_idle(self) -> bool:
    return any(w.job is None for w in self._workers)

  def give(self, job: Mapping):
    """Gives a job to an idle worker. Those that run already come first."""
    idle = [w for w in self._workers if w.job is None]
    worker = min(idle, key=lambda w: w.process is None)
    worker.job = dict(job)
    self._send(worker)

  def cancel(self, number: int):
    """Kills the worker that has a trial; nothing is said of it any more."""
    for worker in self._workers:
      if worker.job and worker.job['number'] == number:
        worker.kill()
        worker.job = None

  def wait(self, timeout_secs: float) -> Iterator[Progress | Finished | Died]:
    """What workers say within this time, as soon as one says something.

    Each is heard when its turn comes: what one has said before another makes this raise
    is not lost.

    Raises:
      ValueError: the objective cannot be made, or refuses what it finds for a trial.
      OSError: a worker found the disk full.
      WorkersDied: again and again, before they were ready.
    """
    with selectors.DefaultSelector() as selector:
      for worker in self._workers:
        if worker.process:
          selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
      if not selector.get_map():
        time.sleep(timeout_secs)
      else:
        selector.select(timeout_secs)
    for worker in self._workers:
      if worker.process:
        yield from self._hear(worker)

  def _send(self, worker):
    if worker.process is None:
      worker.start(*self._command)
    worker.deadline = None
    if worker.ready:
      self._begin(worker)
    worker.write(json.dumps(worker.job))

  def _begin(self, worker):
    if self._trial_secs:
      worker.deadline = time.monotonic() + self._trial_secs

  def _hear(self, worker) -> list:
    # Asked first: what it wrote before it went is then all there to be read.
    gone = worker.is_gone()
    lines, closed = worker.read()
    if closed and not gone:  # It is about to end, and will say how.
      worker.await_end()
    events = [event for line in lines for event in self._interpret(worker, line)]
    if gone or closed:
      return events + self._bury(worker)
    if worker.job and worker.deadline and time.monotonic() > worker.deadline:
      worker.kill()
      reason = f'it was not over after {self._trial_secs:g} seconds (trial_secs)'
      return [*events, worker.end(make_failure(reason))]
    return events

  def _interpret(self, worker, line) -> list:
    if 'broken' in line:
      raise ValueError(
        f'{self._command[0]} could not be made by a worker: {line["broken"]} (all of it '
        f'is in {worker.log})'
      )
    if 'refused' in line:
      raise ValueError(line['refused'])
    if 'full' in line:
      raise OSError(line['full'], f'{line["why"]} (of a worker, see {worker.log})')
    if 'ready' in line:
      worker.ready, self._failed_starts = True, 0
      self._begin(worker)
      return []
    if 'outcome' in line:
      return [worker.end(line['outcome'])]
    if worker.job is None:  # A thread of the objective's has spoken too late.
      return []
    return [Progress(worker.job['number'], line['step'], float(line['value']))]

  def _bury(self, worker) -> list:
    was_ready, cause = worker.ready, worker.kill()
    if was_ready:
      job, worker.job = worker.job, None
      return [Died(job['number'], cause)] if job else []
    # Whatever it was, the trial that it would have got has no part in it.
    self._failed_starts += 1
    if self._failed_starts == _STARTS:
      raise WorkersDied(
        f'workers died {_STARTS} times in a row before they were ready, the last by '
        f'{cause}, {worker.quote()} (its log is {worker.log}). Mend that, or give fewer '
        'workers if memory ran out: the same command goes on, and nothing is lost'
      )
    time.sleep(0.1 * self._failed_starts)
    if worker.job:
      self._send(worker)
    return []


class _Worker:
  """A place for a process: `process` is None before its first job and after a death."""

  def __init__(self, environment, log: Path):
    self.environment, self.log = dict(environment), log
    self.process = self.job = self.deadline = None
    self.ready, self._partial, self._log_start = False, b'', 0

  def start(self, objective: str, arguments: str):
    command = [sys.executable, '-m', 'nas.trials.worker', objective, str(os.getpid())]
    with self.log.open('ab') as log:
      self._log_start = log.tell()
      self.process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, **self.environment},
        # A group of its own: no Ctrl-C reaches it, and what it starts dies with it.
        start_new_session=True,
      )
    os.set_blocking(self.process.stdout.fileno(), False)
    self.ready, self._partial = False, b''
    self.write(arguments)

  def write(self, line: str):
    with contextlib.suppress(BrokenPipeError):  # It died, which will be noticed.
      self.process.stdin.write(line.encode() + b'\n')
      self.process.stdin.flush()

  def read(self) -> tuple[list[dict], bool]:
    """Whole lines that are there by now, and whether there will be no more."""
    data, closed = self._partial, False
    with contextlib.suppress(BlockingIOError):
      while more := os.read(self.process.stdout.fileno(), 1 << 16):
        data += more
      closed = True
    *lines, self._partial = data.split(b'\n')
    return [json.loads(line) for line in lines], closed

  def end(self, outcome) -> Finished:
    job, self.job, self.deadline = self.job, None, None
    return Finished(job['number'], outcome)

  def is_gone(self) -> bool:
    """Whether it has ended; not by its pipe, which processes of its own may hold open."""
    return self.process.poll() is not None

  def await_end(self):
    until = time.monotonic() + _LAST_WORDS_SECS
    while not self.is_gone() and time.monotonic() < until:
      time.sleep(0.01)

  def kill(self) -> str:
    """Ends the process and all that it started; returns how it had ended, if it had."""
    process, self.process, self.ready = self.process, None, False
    if process is None:
      return ''
    # What it started, if anything is left of that; and on macOS no such group is EPERM.
    with contextlib.suppress(ProcessLookupError, PermissionError):
      os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    with contextlib.suppress(BrokenPipeError):
      process.stdin.close()
    process.stdout.close()
    if code >= 0:
      return f'exit code {code}'
    hint = ', as the system does when memory runs out' if code == -signal.SIGKILL else ''
    return f'signal {-code} ({signal.strsignal(-code)}{hint})'

  def quote(self) -> str:
    """The last words of the latest process, for an error."""
    with self.log.open('rb') as log:
      log.seek(self._log_start)
      lines = log.read().decode(errors='replace').strip().splitlines()
    return f'after the words "{lines[-1][:_WORDS]}"' if lines else 'without a word'
