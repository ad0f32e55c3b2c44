"""Programs that are prepared side by side and measured alone, each in a process of its own.

Tracing and compiling a network takes minutes of few cores, measuring it seconds of the whole
machine. So several processes prepare at the same time. When one is ready, the others are
stopped (SIGSTOP) until it has measured. A process that aborts or is killed ends only itself.

A process tells rows on its standard output, one JSON object a line: see `tell`.
"""

import collections
import contextlib
import ctypes
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

_LEAST_SECS = 10  # with less time left, no process is started
_DRAIN_SECS = 0.2  # what the others have queued on a device runs on for so long at most
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SAID = ('Check failed', 'Error', 'RESOURCE_EXHAUSTED')  # lines of a log that tell why it ended


def tell(kind: str, row: Mapping = {}):
  """In a child: says that it is `ready` to measure, or gives a `row`."""
  print(json.dumps({kind: row}), flush=True)


def end_with_parent():
  """In a child on Linux: has the system kill it with its parent, even while it is stopped."""
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def wait_for_turn() -> list[tuple[float, float]]:
  """In a child: says that it is prepared, and waits until it may measure.

  Returns:
    the times (time.perf_counter, start and end) in which the child was stopped.
  """
  tell('ready')
  line = sys.stdin.readline()
  if not line:
    raise SystemExit('the process that started this one has ended')
  return json.loads(line)['pauses']


def subtract_pauses(span: tuple[float, float], pauses: Sequence[tuple[float, float]]) -> float:
  """Seconds of a span (start, end) in which the process was not stopped."""
  start, end = span
  stopped = sum(max(0.0, min(end, b) - max(start, a)) for a, b in pauses)
  return end - start - stopped


def run_in_turns(
  commands: Mapping[str, Sequence[str]], *, secs: float, jobs: int
) -> Iterator[tuple[str, dict]]:
  """Runs commands whose processes prepare side by side and measure one at a time.

  Args:
    commands: by name, the most important first.
    secs: how long all of it may take.
    jobs: processes that prepare at the same time.

  Yields:
    (name, row) of each row that a process tells. A row with `failed` says why a process ended
    without success, one with `not_measured` what was not reached in time.
  """
  whole = _Turns(commands, time.perf_counter() + secs, jobs)
  try:
    yield from whole.run()
  finally:
    for child in whole.children.values():
      child.kill()
  for name in commands:
    if name not in whole.done:
      stage = whole.children[name].state if name in whole.children else 'not begun'
      yield name, {'not_measured': f'no time left ({stage})'}


class _Turns:
  def __init__(self, commands, end: float, jobs: int):
    self.waiting = collections.deque(commands.items())
    self.end, self.jobs = end, jobs
    self.news = queue.Queue()
    self.children: dict[str, _Child] = {}  # that run, the most important first
    self.done = set()

  @property
  def left(self) -> float:
    return self.end - time.perf_counter()

  def run(self):
    while (self.waiting or self.children) and self.left > 0:
      self._start_children()
      if not self.children:
        return
      ready = [child for child in self.children.values() if child.state == 'ready']
      if ready:
        yield from self._give_turn(ready[0])
      else:
        yield from self._hear()

  def _start_children(self):
    preparing = sum(child.state == 'preparing' for child in self.children.values())
    while self.waiting and preparing < self.jobs and self.left > _LEAST_SECS:
      name, command = self.waiting.popleft()
      self.children[name] = _Child(name, command, self.news)
      preparing += 1

  def _give_turn(self, child: '_Child'):
    """Lets a child measure until it ends, or prepares once more with a smaller batch."""
    others = [other for other in self.children.values() if other is not child]
    for other in others:
      other.pause()
    if others:
      time.sleep(_DRAIN_SECS)
    child.go()
    while child.state == 'measuring' and self.left > 0:
      yield from self._hear()
    for other in others:
      other.resume()

  def _hear(self):
    """Takes the next thing that a child says, if there is one within a second."""
    try:
      child, kind, row = self.news.get(timeout=max(0.01, min(1.0, self.left)))
    except queue.Empty:
      return
    if kind == 'row':
      yield child.name, row
    elif kind == 'ended':
      child.state = kind
      del self.children[child.name]
      self.done.add(child.name)
      if failed := child.explain_end():
        yield child.name, {'failed': failed}
    else:
      child.state = kind


@dataclasses.dataclass(eq=False)
class _Child:
  """A process, in a group of its own, which can be stopped and killed with all that it starts."""

  name: str
  command: Sequence[str]
  news: queue.Queue
  state: str = 'preparing'
  pauses: list = dataclasses.field(default_factory=list)

  def __post_init__(self):
    self._log = tempfile.TemporaryFile('w+', errors='replace')  # noqa: SIM115
    self._paused = None
    pipe = subprocess.PIPE
    self.process = subprocess.Popen(
      self.command, stdin=pipe, stdout=pipe, stderr=self._log, text=True, process_group=0
    )
    threading.Thread(target=self._listen, daemon=True).start()

  def _listen(self):
    for line in self.process.stdout:
      try:
        ((kind, row),) = json.loads(line).items()
      except (ValueError, AttributeError):
        print(line, end='', file=sys.stderr)  # some library's words
        continue
      self.news.put((self, kind, row))
    self.process.wait()
    self.news.put((self, 'ended', {}))

  def go(self):
    self.state = 'measuring'
    with contextlib.suppress(BrokenPipeError):  # it has ended, as will be heard
      print(json.dumps({'pauses': self.pauses}), file=self.process.stdin, flush=True)

  def pause(self):
    self._signal(signal.SIGSTOP)
    self._paused = time.perf_counter()

  def resume(self):
    self._signal(signal.SIGCONT)
    self.pauses.append((self._paused, time.perf_counter()))

  def kill(self):
    self._signal(signal.SIGKILL)
    self.process.wait()

  def _signal(self, number: int):
    if self.process.poll() is None:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self.process.pid, number)

  def explain_end(self) -> str:
    """Why it failed, in a line; '' if it did not. Its whole log goes to standard error."""
    self._log.seek(0)
    log = self._log.read()
    code = self.process.returncode
    if not code:
      return ''
    print(f'--- {self.name}\n{log}---', file=sys.stderr, flush=True)
    ended = f'signal {-code}' if code < 0 else f'exit code {code}'
    said = [line.strip() for line in log.splitlines() if any(word in line for word in _SAID)]
    # An abort says first what failed; an exception is the last line.
    return f'{ended}: {(said[0] if code < 0 else said[-1])[:300]}' if said else ended
