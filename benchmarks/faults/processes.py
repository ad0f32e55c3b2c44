"""Processes of `movinet train` that die, hang, or are asked to stop."""

import os
import signal
import time
from collections.abc import Sequence

from benchmarks.faults.job import Job, list_children
from benchmarks.faults.report import Report
from benchmarks.faults.run import STRUCK, Lost, Place, Run

RETRY = os.EX_TEMPFAIL
# JAX ends a process so, and not by an error, once its first process, or a heartbeat, is
# missed by what the processes are joined by.
ABORTED = -signal.SIGABRT
_HEARTBEAT_SECS = 100  # JAX's, after which a process that hangs is taken for dead
_WORKER = 'spawn_main'  # in the command of a process that decodes videos


def kill_a_process(place: Place) -> Report:
  """one of four processes is killed (`kill -9`) in the middle of a step"""
  return _strike(place, 'kill_a_process', victim=2, number=signal.SIGKILL)


def kill_the_coordinator(place: Place) -> Report:
  """of four processes the first is killed, which the others are joined by"""
  return _strike(place, 'kill_the_coordinator', victim=0, number=signal.SIGKILL)


def stop_a_process(place: Place) -> Report:
  """one of four processes hangs (`SIGSTOP`) and does not die"""
  return _strike(place, 'stop_a_process', victim=2, number=signal.SIGSTOP)


def kill_a_writing_process(place: Place) -> Report:
  """of four processes the one that writes is killed in the middle of a checkpoint"""
  return _strike(place, 'kill_a_writing_process', victim=0, number=signal.SIGKILL, writing=True)


def kill_another_while_writing(place: Place) -> Report:
  """of four processes another one is killed in the middle of a checkpoint"""
  return _strike(place, 'kill_another_while_writing', victim=3, number=signal.SIGKILL, writing=True)


def kill_while_writing(place: Place) -> Report:
  """a single process is killed at four moments of writing a checkpoint, one by one"""
  run, repeated = Run(place, 'kill_while_writing', count=1), []
  for pause_secs in (0.0, 0.01, 0.03, 0.1):
    with run.start() as job:
      saved = run.read_saved()
      job.await_until(lambda n=saved: run.is_writing() and run.is_at(n + 1)())
      time.sleep(pause_secs)
      run.remember()
      job.processes[0].kill()
      job.await_end()
    run.remember()
    repeated.append(run.count_repeated())
  resumed_secs = run.go_on()
  note = f'at most {max(repeated)} steps made again'
  return Report('nothing', 0.0, resumed_secs, [-signal.SIGKILL], '', note)


def ask_one_of_four_to_stop(place: Place) -> Report:
  """one of four processes gets `SIGTERM`"""
  return _ask(place, 'ask_one_of_four_to_stop', count=4)


def ask_to_stop(place: Place) -> Report:
  """a single process gets `SIGTERM`"""
  return _ask(place, 'ask_to_stop', count=1)


def kill_a_data_worker(place: Place) -> Report:
  """one of two processes that decode videos (`loader.workers=2`) is killed"""
  run = Run(place, 'kill_a_data_worker', **{'loader.workers': 2})
  with run.start() as job:
    job.await_until(run.is_at(STRUCK))
    run.remember()
    began = time.monotonic()
    os.kill(list_children(job.processes[0].pid, _WORKER)[0], signal.SIGKILL)
    secs = job.await_end() - began
    job.expect({RETRY})
    return _conclude(run, job, secs)


def feed_nan(place: Place) -> Report:
  """the loss of four processes becomes NaN (`optimizer.learning_rate=1e30`)"""
  changes = {'optimizer.learning_rate': 1e30, 'loop.save_every': 1}
  run = Run(place, 'feed_nan', count=4, **changes)
  with run.start() as job:
    job.await_until(lambda: run.read_saved() > 0)
    began = time.monotonic()
    secs = job.await_end() - began
    job.expect({os.EX_SOFTWARE})
    says = [job.read_last_line(i) for i in range(4)]
    good = f'{run.workdir}/checkpoints/{run.read_saved()}'
    if any(f'is {good}. ' not in line for line in says):
      raise RuntimeError(f'the processes do not all name {good}: {says}')
    return Report('nothing', secs, None, job.codes, says[0])


def _strike(
  place: Place,
  name: str,
  *,
  victim: int,
  number: signal.Signals,
  writing: bool = False,
) -> Report:
  """Sends one of four processes a signal; the others must end, and all go on."""
  run = Run(place, name, count=4)
  others = [i for i in range(4) if i != victim]
  with run.start() as job:
    job.await_until(run.is_at(STRUCK))
    if writing:
      job.await_until(run.is_writing)
    run.remember()
    began = time.monotonic()
    job.processes[victim].send_signal(number)
    secs = job.await_end(others, limit_secs=3 * _HEARTBEAT_SECS) - began
    job.expect({RETRY, ABORTED}, others)
    return _conclude(run, job, secs, others)


def _ask(place: Place, name: str, count: int) -> Report:
  run = Run(place, name, count=count)
  with run.start() as job:
    job.await_until(run.is_at(STRUCK))
    began = time.monotonic()
    job.processes[-1].send_signal(signal.SIGTERM)
    secs = job.await_end() - began
    job.expect({RETRY})
    if 'was saved' not in job.read_last_line():
      raise RuntimeError(f'it does not say when it saved: {job.read_last_line()!r}')
    run.remember()
    if run.count_repeated():
      raise Lost(f'{run.workdir} had made {run.count_repeated()} steps more than it saved')
    return _conclude(run, job, secs)


def _conclude(run: Run, job: Job, secs: float, seen: Sequence[int] = (0,)) -> Report:
  codes, says = [job.codes[i] for i in seen], job.read_last_line(seen[0])
  job.__exit__()
  resumed_secs = run.go_on()
  note = f'{run.count_repeated()} steps made again'
  return Report('nothing', secs, resumed_secs, codes, says, note)
