"""Exit codes of `movinet`, and what each error tells the person who reads it.

docs/reliability.md shows the codes as a table; a test holds the two together.
"""

import enum
import os

from launch import cluster
from movinet_jax import disks

_AGAIN = 'the same command goes on'


class ExitCode(enum.IntEnum):
  """The exit codes of `movinet`: each has a `meaning`, and a `remedy` for the reader.

  Codes from 64 to 78 are those of sysexits.h, and codes above 128 those of a shell.
  """

  DONE = 0, 'done', ''
  FAULT = 1, 'a fault of the program, with a traceback', 'report it'
  MISUSE = (
    2,
    "the command, a config, an input, an address or the workdir's permissions are wrong, the "
    'accelerator asked for is not there, or memory is too small',
    'fix what the last line names',
  )
  BAD_VIDEOS = (
    os.EX_DATAERR,
    'too many videos cannot be decoded',
    'run `movinet check-data`, and leave them out with `skip`',
  )
  WORKERS_DIED = (
    os.EX_UNAVAILABLE,
    'the workers of a sweep die as they start, or its trials fail and none was trained',
    'read the log that the last line names, mend the cause, then give the command again',
  )
  DIVERGED = (
    os.EX_SOFTWARE,
    'the loss is not finite; all processes name the step, its videos and the last good checkpoint',
    'lower the learning rate or fix the videos; start another workdir from the good checkpoint '
    'with `--config.init`',
  )
  DISK_FULL = (
    os.EX_IOERR,
    "the disk is full: the workdir's, a worker's or that of SQLite's file",
    'make room, then give the command again',
  )
  RETRY = (
    os.EX_TEMPFAIL,
    'the run was asked to stop and has saved; or another process of the run, or one that decodes '
    'videos, was lost; or a disk behind a network does not answer (`EIO`, `ESTALE`, `ETIMEDOUT` '
    'and similar); or a camera or an address does not answer, or no longer; or another run writes '
    'in the workdir',
    'give the command again',
  )
  INTERRUPTED = 130, 'interrupted before there was anything to save', 'give the command again'
  READER_LEFT = 141, 'the program that read the output has ended', 'give the command again'

  def __new__(cls, code: int, meaning: str, remedy: str):
    member = int.__new__(cls, code)
    member._value_ = code
    member.meaning, member.remedy = meaning, remedy
    return member


def is_retriable(code: int) -> bool:
  """Tells whether a scheduler may give the same command again after this exit code.

  A signal that nobody caught is retriable too: the machine or its memory went away.
  """
  return code == ExitCode.RETRY or code < 0 or code > 128


def find_exit_code(error: Exception) -> ExitCode | None:
  """The code of an error that a person can act on, None for a fault of the program."""
  for kind, code in _list_kinds():
    if isinstance(error, kind):
      return code
  if _is_of_a_lost_process(error):
    return ExitCode.RETRY
  if _is_of_device(error):
    return ExitCode.MISUSE if _is_out_of_memory(error) else None
  if disks.is_full(error):
    return ExitCode.DISK_FULL
  if disks.is_away(error):
    return ExitCode.RETRY
  return ExitCode.MISUSE if isinstance(error, (ValueError, OSError)) else None


def _list_kinds() -> list[tuple[type[Exception], ExitCode]]:
  # Imported late: a verb that fails on its arguments has not loaded them.
  from movinet_jax.data import (
    DecodeError,
    SharedMemoryFull,
    SourceError,
    TooManyFailures,
    WorkerDied,
  )
  from movinet_jax.data.address import SourceLost
  from movinet_jax.train.loop import NonFiniteLoss, Preempted
  from nas.trials.engine import AllFailed, Stopped
  from nas.trials.pool import WorkersDied

  return [
    *((kind, ExitCode.RETRY) for kind in (Preempted, Stopped, WorkerDied, cluster.NotJoined)),
    *((kind, ExitCode.RETRY) for kind in (BlockingIOError, SourceLost)),
    *((kind, ExitCode.WORKERS_DIED) for kind in (WorkersDied, AllFailed)),
    (NonFiniteLoss, ExitCode.DIVERGED),
    (TooManyFailures, ExitCode.BAD_VIDEOS),
    *((kind, ExitCode.MISUSE) for kind in (SourceError, DecodeError, SharedMemoryFull)),
    (MemoryError, ExitCode.MISUSE),
  ]


def explain(error: Exception) -> str:
  """Says to a person what was wrong, and what to do."""
  from movinet_jax.data import SharedMemoryFull

  first = (str(error).strip().splitlines() or [''])[0]
  if isinstance(error, SharedMemoryFull):
    return str(error)
  if _is_of_a_lost_process(error):
    return f'another process of this run was lost ({first}); {_AGAIN}'
  if isinstance(error, MemoryError):
    return (
      f'this machine has too little memory ({first or "it does not say for what"}): take a '
      'smaller batch_size or fewer loader.workers'
    )
  if _is_of_device(error):
    return (
      f'the device has too little memory ({first}): take a smaller batch_size, more '
      'train.accumulate, or model.remat=True; `movinet preflight` finds what fits'
    )
  for applies, advice in (
    (disks.is_full(error), 'make room, then'),
    (isinstance(error, BlockingIOError), 'when it has ended,'),
    (disks.is_away(error), 'when it answers again,'),
    (isinstance(error, PermissionError), 'see to its permissions, then'),
  ):
    if applies:
      return f'{error}: {advice} {_AGAIN}'
  return str(error)


def is_of_all(error: Exception) -> bool:
  """Tells whether all processes of a run raise it at the same step, and can end together."""
  from movinet_jax.train.loop import NonFiniteLoss, Preempted

  return isinstance(error, (NonFiniteLoss, Preempted))


def _is_of_a_lost_process(error: Exception) -> bool:
  from movinet_jax.train.checkpoint import is_of_a_lost_process

  return is_of_a_lost_process(error)


def _is_of_device(error: Exception) -> bool:
  from jax.errors import JaxRuntimeError

  return isinstance(error, JaxRuntimeError)


def _is_out_of_memory(error: Exception) -> bool:
  """Memory that is short now is as short the next time."""
  return 'RESOURCE_EXHAUSTED' in str(error)
