"""A process that runs trials for a coordinator: python -m nas.trials.worker, by pipes.

It is told, a line of JSON each, the objective's arguments and then jobs, and answers with
lines: that it is ready, what a trial has reached, what became of it. It never sees the
database. What libraries print goes to its log, with the traceback of a trial that failed.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable

from movinet_jax import disks
from nas.trials.outcome import Refused, make_failure, make_outcome

_REASON = 500  # letters of an error that are kept; XLA's may be pages
_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
  """Serves a coordinator until it closes the pipe: `worker.py OBJECTIVE COORDINATOR`.

  Args:
    argv: MODULE:FUNCTION that makes the objective, and the process that started this.
  """
  name, parent = argv
  _die_with(int(parent))
  jobs, answers = _take_pipes()

  def answer(**line):
    answers.write(json.dumps(line, allow_nan=False) + '\n')
    answers.flush()

  try:
    run = find_function(name)(**json.loads(jobs.readline()))
  except Exception as error:
    traceback.print_exc()
    answer(broken=_describe(error))
    return 1
  answer(ready=True)
  for line in jobs:
    try:
      answer(outcome=_run(run, json.loads(line), answer))
    except Refused as error:
      answer(refused=str(error))
      return 1
    except OSError as error:
      answer(full=error.errno, why=_describe(error))
      return 1
  return 0


def find_function(name: str) -> Callable:
  """The function that 'package.module:function' names."""
  module, _, function = name.partition(':')
  return getattr(importlib.import_module(module), function)


def _run(run, job, answer) -> dict:
  def report(step, value):
    answer(step=int(step), value=repr(float(value)))

  try:
    print(f'trial {job["number"]}, attempt {job["attempt"]}', flush=True)
    return make_outcome(run(job, report))
  except SystemExit as error:
    _leave(error.code)
  except Refused:
    raise
  except Exception as error:
    if disks.is_full(error):
      raise  # The trial has no part in it.
    traceback.print_exc()
    if disks.is_away(error):
      _leave(os.EX_TEMPFAIL)  # Nor in this: the coordinator sees a worker die.
    return make_failure(_describe(error))
  finally:
    sys.stdout.flush()
    gc.collect()  # What held the arrays of this trial must not make the next one fail.


def _leave(code: int):
  """At once, or the coordinator would end it, and not know the code."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _describe(error: Exception) -> str:
  text = f'{type(error).__name__}: {error}'
  return text if len(text) <= _REASON else text[: _REASON - 1] + '…'


def _die_with(parent: int):
  """No worker outlives its coordinator, not even one that is busy and reads no pipe.

  Linux does it; elsewhere a worker ends when its trial does, for its pipe is closed.
  """
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It was gone before the line above.
      os._exit(1)


def _take_pipes():
  """Keeps both pipes to itself: what else is read is empty, what is printed is logged."""
  jobs, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), 'w')
  with open(os.devnull) as nothing:
    os.dup2(nothing.fileno(), 0)
  os.dup2(2, 1)
  return jobs, answers


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
