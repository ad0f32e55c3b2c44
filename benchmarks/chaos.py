"""Commands that are killed at random, and started again, until all have done their work."""

import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence


def run_with_kills(
  commands: Sequence[Sequence[str]],
  *,
  every_secs: float,
  most: int | None = None,
  seed: int = 0,
  stopped_secs: float = 0.0,
  parents: float = 0.25,
  limit_secs: float = 600,
  cwd=None,
) -> dict[str, int]:
  """Runs commands beside each other until each has ended well.

  Args:
    every_secs: about how long until the next kill.
    most: kills and stops, after which all are left in peace; None is no limit.
    stopped_secs: how long a command is stopped instead (SIGSTOP), one time in three;
      0 is never.
    parents: share of the kills that hit a command, and not a process that it started.

  Returns:
    how many of each kind there were.

  Raises:
    RuntimeError: a command ended in another way, or the time was not enough.
  """
  rng, counts = random.Random(seed), {'parents': 0, 'children': 0, 'stops': 0}
  began, wakings = time.monotonic(), []
  with tempfile.TemporaryFile('w+') as log:

    def start(command):
      return subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)

    running = {tuple(command): start(command) for command in commands}
    try:
      while running:
        time.sleep(rng.uniform(0.5, 1.5) * every_secs)
        wakings = [w for w in wakings if not _wake(*w)]
        for command, process in list(running.items()):
          code, late = process.poll(), time.monotonic() - began > limit_secs
          if code == 0:
            del running[command]
          elif code == -signal.SIGKILL and not late:
            running[command] = start(command)
          elif code is not None or late:
            log.seek(0)
            what = 'runs' if code is None else f'ended with {code}'
            raise RuntimeError(f'{command} {what} after {counts}:\n{log.read()[-5000:]}')
        asleep = [process for process, _ in wakings]
        awake = [p for p in running.values() if p not in asleep]
        if awake and (most is None or sum(counts.values()) < most):
          rests = 0 if asleep else stopped_secs
          wakings += _strike(rng, rng.choice(awake), parents, rests, counts)
    finally:
      for process in running.values():
        process.kill()
        process.wait()
  return counts


def _strike(rng, process, parents, stopped_secs, counts) -> list:
  """Kills a command or one of its children, or stops it: (it, until when)."""
  children = _list_children(process.pid)
  if stopped_secs and rng.random() < 1 / 3:
    counts['stops'] += 1
    process.send_signal(signal.SIGSTOP)
    return [(process, time.monotonic() + stopped_secs)]
  if rng.random() < parents:
    counts['parents'] += 1
    process.kill()
  elif children:
    counts['children'] += 1
    os.kill(rng.choice(children), signal.SIGKILL)
  return []


def _wake(process, at) -> bool:
  if time.monotonic() < at:
    return False
  process.send_signal(signal.SIGCONT)
  return True


def _list_children(pid: int) -> list[int]:
  path = pathlib.Path(f'/proc/{pid}/task/{pid}/children')
  return [int(child) for child in path.read_text().split()] if path.exists() else []
