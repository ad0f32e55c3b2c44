"""A command of `movinet` in one process or several, watched from outside."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECS = 400  # of anything that is waited for
_LOOK_SECS = 0.005
_SHOWN = 3000  # letters of what a process said, in an error
# Takes from root what lets it write and read where permissions say no.
_OBEYING = ('setpriv', '--bounding-set=-dac_override,-dac_read_search')


class Job:
  """Processes of one run, that were started together.

  Attributes:
    processes: subprocess.Popen, by number.
    began: when they were started, in seconds of time.monotonic.
  """

  def __init__(
    self,
    words: Sequence[str],
    logs: Path,
    *,
    count: int = 1,
    environment: Mapping[str, str] | None = None,
  ):
    """Starts `movinet WORDS`.

    Args:
      logs: folder for what each process says; of an earlier job in it, it is lost.
      count: of processes; several join each other over loopback.
      environment: more variables.
    """
    logs.mkdir(parents=True, exist_ok=True)
    self._logs = [(logs / f'{i}.out', logs / f'{i}.err') for i in range(count)]
    self.began, port, self.processes = time.monotonic(), _find_port(), []
    for i in range(count):
      joins = _make_joining(port, count, i) if count > 1 else {}
      self.processes.append(_start(words, self._logs[i], {**joins, **(environment or {})}))

  def __enter__(self):
    return self

  def __exit__(self, *error):
    for process in self.processes:
      process.kill()  # those that are stopped as well
      process.wait()

  def await_until(self, ready: Callable[[], bool], limit_secs: float = LIMIT_SECS):
    """Waits; a RuntimeError if a process ends before, or the time is over."""
    until = time.monotonic() + limit_secs
    while not ready():
      late = time.monotonic() > until
      if late or any(code is not None for code in self.codes):
        what = f'{limit_secs:g} s were not enough' if late else 'a process has ended'
        raise RuntimeError(f'{what}: {self.codes}\n{self._read_all()}')
      time.sleep(_LOOK_SECS)

  def await_end(self, numbers: Sequence[int] = (), limit_secs: float = LIMIT_SECS) -> float:
    """Waits for some processes, or all; returns when (monotonic) the last had ended."""
    chosen = [self.processes[i] for i in numbers] or self.processes
    until = time.monotonic() + limit_secs
    while any(process.poll() is None for process in chosen):
      if time.monotonic() > until:
        raise RuntimeError(f'still running: {self.codes}\n{self._read_all()}')
      time.sleep(_LOOK_SECS)
    return time.monotonic()

  def expect(self, wanted: Collection[int], numbers: Sequence[int] = ()):
    """Raises RuntimeError unless some processes, or all, ended with one of these codes."""
    found = [self.codes[i] for i in numbers or range(len(self.processes))]
    if not set(found) <= set(wanted):
      raise RuntimeError(f'exit codes {found}, wanted {sorted(wanted)}\n{self._read_all()}')

  @property
  def codes(self) -> list[int | None]:
    """Exit codes, minus the signal of those that one has ended."""
    return [process.poll() for process in self.processes]

  def read_last_line(self, number: int = 0) -> str:
    """The last line of what a process wrote to stderr, as far as it says something.

    After the last words of a process that JAX aborts comes a stack of addresses; after
    those of `movinet`, now and then, a warning of Python's about what it has cleaned up.
    """
    lines = self.read_errors(number).strip().splitlines() or ['']
    own = [line for line in lines if line.startswith('movinet ')]
    aborted = [line for line in lines if 'Terminating process' in line]
    return (own or aborted or lines)[-1]

  def read_errors(self, number: int = 0) -> str:
    return self._logs[number][1].read_text(errors='replace')

  def _read_all(self) -> str:
    texts = [
      f'--- {path}\n{path.read_text(errors="replace")[-_SHOWN:]}'
      for pair in self._logs
      for path in pair
    ]
    return '\n'.join(texts)


def list_children(pid: int, word: str) -> list[int]:
  """Processes that any thread of a process has started, with a word in the command."""
  found = []
  for path in Path(f'/proc/{pid}/task').glob('*/children'):
    for child in path.read_text().split():
      with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if word in Path(f'/proc/{child}/cmdline').read_text():
          found.append(int(child))
  return found


def _start(words, logs, environment) -> subprocess.Popen:
  with logs[0].open('w') as stdout, logs[1].open('w') as stderr:
    return subprocess.Popen(
      [*_find_obeying(), sys.executable, '-m', 'launch.main', *words],
      cwd=ROOT,
      stdout=stdout,
      stderr=stderr,
      env={**os.environ, **_make_environment(), **environment},
    )


def _find_obeying() -> Sequence[str]:
  return _OBEYING if obeys_permissions() and os.getuid() == 0 else ()


def obeys_permissions() -> bool:
  """Whether jobs of this harness may do only what a folder's permissions allow."""
  return os.getuid() != 0 or shutil.which(_OBEYING[0]) is not None


def _make_environment() -> dict[str, str]:
  # With huge pages each process would hold a gigabyte more, and start twice.
  return {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': '1',
    'PYTHONPATH': str(ROOT),
    'GLIBC_TUNABLES': '',
  }


def _make_joining(port: int, count: int, number: int) -> dict[str, str]:
  return {
    'MOVINET_COORDINATOR': f'localhost:{port}',
    'MOVINET_PROCESSES': str(count),
    'MOVINET_PROCESS': str(number),
  }


def _find_port() -> int:
  with socket.socket() as free:
    free.bind(('localhost', 0))
    return free.getsockname()[1]


def stop(process: subprocess.Popen):
  """Lets a process hang: it is there, and does nothing any more."""
  process.send_signal(signal.SIGSTOP)
