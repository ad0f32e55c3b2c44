"""This machine: the processes of a run over loopback, started again when they stop."""

import contextlib
import ctypes
import datetime
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch import devices
from launch.errors import ExitCode, is_retriable
from launch.pods import job as jobs
from launch.pods.job import Job, Rendered
from movinet_jax import signals

TOOL = ''
TAKES = ('processes', 'environment')
FILE = 'job.json'
_POLL_SECS = 0.1
_PAUSE_SECS = 5  # between a stop and the next start
_SHOWN_LINES = 5  # of the log of a process that failed
_PR_SET_PDEATHSIG = 1


def render(job: Job) -> Rendered:
  """What the supervisor is told, and the command that starts it."""
  bin_folder = f'{job.environment}/bin/' if job.environment else ''
  logs = f'{job.workdir}/logs'
  plan = {
    'command': [f'{bin_folder}movinet', *job.words],
    'processes': job.processes,
    'env': dict(job.env),
    'secrets': list(job.secrets),
    'directory': job.directory,
    'logs': logs,
    'restarts': job.restarts,
    'pause_secs': _PAUSE_SECS,
    'peer_secs': jobs.PEER_SECS,
    'save_secs': jobs.SAVE_SECS,
  }
  return Rendered(
    files={FILE: json.dumps(plan, indent=2) + '\n'},
    commands=((f'{bin_folder}python', '-m', 'launch.pods.targets.local', FILE),),
    follow_ups=(
      ('logs', f'tail -F {shlex.quote(logs)}/process-*.log'),
      *jobs.list_boards(job),
      ('stop', 'Ctrl-C here: it saves, and the same command goes on'),
    ),
    foreground=True,
  )


def main(argv: Sequence[str]) -> int:
  """The supervisor: `python -m launch.pods.targets.local job.json`."""
  try:
    plan = json.loads(Path(argv[0]).read_text())
    os.environ.update(plan['env'])  # which devices there are may depend on it
    return supervise(plan)
  except (ValueError, OSError) as error:
    print(f'movinet submit: {error}', file=sys.stderr)
    return ExitCode.MISUSE


def supervise(plan: Mapping) -> int:
  """Runs all processes of a plan until the run is done, or a person must act.

  Args:
    plan: as `render` writes it.

  Returns:
    0; the code of the first process that must not be started again; or 75: the restarts
    are used up, or this process was told to stop and the run is saved.
  """
  shares = _share_devices(plan['processes'])
  missing = [name for name in plan['secrets'] if name not in os.environ]
  if missing:
    raise ValueError(f'{", ".join(missing)} must be in the environment; export it')
  logs = Path(plan['logs'])
  logs.mkdir(parents=True, exist_ok=True)
  stop = _Stop()
  with signals.listening(stop.ask):
    for start in range(1, plan['restarts'] + 2):
      code = _run_once(plan, shares, logs, start, stop)
      if code != ExitCode.RETRY or stop.asked:
        return code
      if start <= plan['restarts']:
        _say(f'stopped before its end; start {start + 1} of {plan["restarts"] + 1}')
        stop.sleep(plan['pause_secs'])
      if stop.asked:
        return code
  _say(f'not started again: --restarts={plan["restarts"]} are used up')
  return code


class _Stop:
  """Turns signals into a question; the second one means at once."""

  def __init__(self):
    self.asked = 0

  def ask(self, number):
    self.asked += 1

  def sleep(self, secs: float):
    deadline = time.monotonic() + secs
    while not self.asked and time.monotonic() < deadline:
      time.sleep(_POLL_SECS)


def _run_once(plan, shares, logs: Path, start: int, stop: _Stop) -> int:
  """One start of all processes, to the end of the last."""
  paths = [logs / f'process-{i}.log' for i in range(plan['processes'])]
  processes = []
  with contextlib.ExitStack() as closing:
    closing.callback(_end, processes)
    joins = _make_joins(plan['processes'])
    paths[0].touch()
    # Before the process starts, or its first lines would be missing.
    shown = closing.enter_context(paths[0].open('rb'))
    shown.seek(0, os.SEEK_END)
    for path, share, join in zip(paths, shares, joins, strict=True):
      log = closing.enter_context(path.open('ab'))
      now = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
      log.write(f'--- start {start}, {now}\n'.encode())
      log.flush()
      env = {**os.environ, **share, **join}
      cores = env.pop(devices.CORES, '')
      processes.append(_start(plan, env, cores, log))
    return _watch(plan, processes, paths, shown, stop)


def _watch(plan, processes, paths, shown, stop: _Stop) -> int:
  """Waits for all processes, and sees to it that the wait has an end."""
  ended, deadline, told = {}, None, False  # ended: in the order in which they did
  while len(ended) < len(processes):
    time.sleep(_POLL_SECS)
    _show(shown)
    for i, process in enumerate(processes):
      if i not in ended and process.poll() is not None:
        ended[i] = process.returncode
        if ended[i]:
          _describe(i, ended[i], paths[i], shown=i == 0)
    if stop.asked and not told:
      told, deadline = True, time.monotonic() + plan['save_secs']
      _say('stopping: the run saves itself; once more ends it at once')
      _signal(processes, signal.SIGTERM)
    if any(ended.values()) and deadline is None and len(ended) < len(processes):
      deadline = time.monotonic() + plan['peer_secs']
    if stop.asked > 1 or (deadline is not None and time.monotonic() > deadline):
      _say(f'{len(processes) - len(ended)} processes did not end, and are killed')
      _signal(processes, signal.SIGKILL)
      break
  for process in processes:
    process.wait()
  _show(shown)
  permanent = [c for c in ended.values() if c and not is_retriable(c)]
  if permanent:
    return permanent[0]
  done = len(ended) == len(processes) and not any(ended.values())
  return 0 if done else ExitCode.RETRY


def _start(plan, env, cores: str, log) -> subprocess.Popen:
  """Starts a process in its own session: a terminal's Ctrl-C is for us to pass on."""
  parent = os.getpid()
  # Found before the fork, after which little may be called safely.
  prctl = ctypes.CDLL(None).prctl if sys.platform == 'linux' else None

  def prepare():
    if cores:
      os.sched_setaffinity(0, [int(core) for core in cores.split(',')])
    if prctl is not None:  # If the supervisor is killed, the run saves and ends.
      prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
      if os.getppid() != parent:
        os._exit(ExitCode.RETRY)

  return subprocess.Popen(
    plan['command'],
    env=env,
    cwd=plan['directory'] or None,
    stdin=subprocess.DEVNULL,
    stdout=log,
    stderr=subprocess.STDOUT,
    start_new_session=True,
    preexec_fn=prepare,
  )


def _make_joins(processes: int) -> list[dict[str, str]]:
  """What tells each process of the others, as launch.cluster reads it."""
  if processes == 1:
    return [{}]
  with socket.create_server(('127.0.0.1', 0)) as free:
    address = f'127.0.0.1:{free.getsockname()[1]}'
  common = {'MOVINET_COORDINATOR': address, 'MOVINET_PROCESSES': str(processes)}
  return [{**common, 'MOVINET_PROCESS': str(i)} for i in range(processes)]


def _share_devices(processes: int) -> list[dict[str, str]]:
  """A GPU for each process, or a share of the cores; one process has everything.

  Raises:
    ValueError: more processes than GPUs; or a TPU, all of which one process drives.
  """
  if processes == 1:
    return [{}]
  shares = devices.make_environments(processes)
  if any('TPU_VISIBLE_CHIPS' in share for share in shares):
    raise ValueError(
      f'{processes} processes for the TPU of this machine: one process drives all of '
      'its chips; leave --processes out'
    )
  count = devices.count_accelerators()
  if count and processes > count:
    raise ValueError(f'{processes} processes for {count} GPUs; wanted one each at most')
  return shares


def _end(processes):
  """For a way out that nobody planned: nothing is left running."""
  left = [process for process in processes if process.poll() is None]
  _signal(left, signal.SIGKILL)
  for process in left:
    process.wait()


def _signal(processes, number):
  """To a process and what it has started, for a killed one cannot end its children."""
  for process in processes:
    if process.poll() is None:
      if number == signal.SIGKILL:
        os.killpg(process.pid, number)
      else:
        process.send_signal(number)


def _show(log):
  try:
    sys.stdout.buffer.write(log.read())
    sys.stdout.flush()
  except OSError as error:
    signals.survive(error)


def _describe(i: int, code: int, path: Path, *, shown: bool):
  meaning = 'may be started again' if is_retriable(code) else 'must be mended'
  _say(f'process {i} ended with code {code} ({meaning}); its log: {path}')
  if not shown:
    lines = path.read_text(errors='replace').splitlines()[-_SHOWN_LINES:]
    print(*(f'  {line}' for line in lines), sep='\n', file=sys.stderr)


def _say(text: str):
  try:
    print(f'movinet submit: {text}', file=sys.stderr, flush=True)
  except OSError as error:
    signals.survive(error)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
