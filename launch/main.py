"""The `movinet` command: finds the verb's file and turns errors into exit codes.

0   done
2   the command, a config or an input is wrong: mend it first
65  too many videos cannot be decoded
69  the workers of a search die as they start: mend that, then the same command goes on
70  the loss is not finite
74  the disk is full: make room, then the same command goes on
75  stopped by a signal after saving, or another process of the run was lost, or one that
    decodes, or a disk does not answer, or another run is in the workdir: the same
    command goes on (retry it)
130 interrupted before there was anything to save
141 whoever read the output has gone
"""

import importlib
import importlib.metadata
import os
import pkgutil
import sys
import threading
import traceback
from collections.abc import Sequence

import launch
from launch import cluster, devices
from movinet_jax import disks

_NOT_VERBS = {
  *('main', 'arguments', 'config', 'parts', 'plan', 'outcome'),
  *('cluster', 'devices', 'program', 'trial', 'harvest', 'precise_norm'),
}


def list_verbs() -> dict[str, str]:
  """Verb -> module name: every file of this folder that is not machinery."""
  files = (m.name for m in pkgutil.iter_modules(launch.__path__) if not m.ispkg)
  return {name.replace('_', '-'): name for name in files if name not in _NOT_VERBS}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs `movinet VERB ...` and returns its exit code."""
  is_command = argv is None
  if is_command:
    use_huge_pages()
  _set_environment()
  argv = list(sys.argv[1:] if argv is None else argv)
  verbs = list_verbs()
  if not argv or argv[0] in ('-h', '--help', 'help'):
    print(_make_help(verbs))
    return 0
  if argv[0] == '--version':
    print(f'movinet {importlib.metadata.version("movinet-jax")}')
    return 0
  verb, *rest = argv
  if verb not in verbs:
    from movinet_jax.names import suggest

    print(f'movinet: no verb {verb!r}{suggest(verb, verbs)}', file=sys.stderr)
    return 2
  try:
    code = importlib.import_module(f'launch.{verbs[verb]}').main(rest)
    sys.stdout.flush()
    return code
  except BrokenPipeError:  # `movinet ... | head`
    # Or Python complains once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    cluster.abandon(141)
    return 141
  except KeyboardInterrupt:
    print(f'movinet {verb}: interrupted', file=sys.stderr)
    cluster.abandon(130)
    return 130
  except Exception as error:
    code = find_exit_code(error)
    if code is None:
      if not (is_command or cluster.is_joined()):
        raise
      traceback.print_exc()
      code = 1
    else:
      print(f'movinet {verb}: {explain(error)}', file=sys.stderr)
    if not is_of_all(error):
      cluster.abandon(code)
      if is_command:
        _leave_threads(code)
    return code


def use_huge_pages():
  """Starts this process again with huge pages for its memory, where Linux offers them.

  XLA gets its temporaries anew for every call on a CPU, and with small pages their first
  touch is a quarter of a training step. glibc reads its settings when a process begins.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _leave_threads(code: int):
  """Ends this process if it would wait for threads.

  Of a save that has failed, those that write arrays wait for minutes for the folder that
  could not be made.
  """
  others = set(threading.enumerate()) - {threading.main_thread()}
  if any(not thread.daemon for thread in others):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _set_environment():
  """Keeps compiled programs, so that a second run need not compile them again.

  JAX and TensorFlow read these when they are imported, so nothing here imports them first.
  """
  cache = os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache'))
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{cache}/movinet-jax')
  # TensorFlow, behind the TensorBoard writer, greets with lines that say nothing here.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  devices.quiet_libtpu()


def find_exit_code(error: Exception) -> int | None:
  """The code for an error that a person can act on; None for a fault of ours."""
  # Imported late: a verb that fails on its arguments need not have loaded them.
  from jax.errors import JaxRuntimeError

  from movinet_jax.data import DecodeError, SourceError, TooManyFailures, WorkerDied
  from movinet_jax.train.checkpoint import is_of_a_lost_process
  from movinet_jax.train.loop import NonFiniteLoss, Preempted
  from nas.trials.engine import Stopped
  from nas.trials.pool import WorkersDied

  codes = {
    Preempted: os.EX_TEMPFAIL,
    Stopped: os.EX_TEMPFAIL,
    WorkerDied: os.EX_TEMPFAIL,
    cluster.NotJoined: os.EX_TEMPFAIL,
    BlockingIOError: os.EX_TEMPFAIL,
    WorkersDied: os.EX_UNAVAILABLE,
    NonFiniteLoss: os.EX_SOFTWARE,
    TooManyFailures: os.EX_DATAERR,
  }
  for kind, code in codes.items():
    if isinstance(error, kind):
      return code
  if is_of_a_lost_process(error):
    return os.EX_TEMPFAIL
  if isinstance(error, JaxRuntimeError):
    # Memory that is short is as short the next time.
    return 2 if 'RESOURCE_EXHAUSTED' in str(error) else None
  if disks.is_full(error):
    return os.EX_IOERR
  if disks.is_away(error):
    return os.EX_TEMPFAIL
  known = (ValueError, OSError, SourceError, DecodeError)
  return 2 if isinstance(error, known) else None


def explain(error: Exception) -> str:
  """What an error says to a person."""
  from jax.errors import JaxRuntimeError

  from movinet_jax.train.checkpoint import is_of_a_lost_process

  said = (str(error).strip().splitlines() or [''])[0]
  if is_of_a_lost_process(error):
    return f'another process of this run was lost ({said}); the same command goes on'
  if isinstance(error, JaxRuntimeError):
    return (
      f'the device has too little memory ({said}): take a smaller batch_size, more '
      'train.accumulate, or model.remat=True; `movinet preflight` finds what fits'
    )
  if disks.is_full(error):
    return f'{error}: make room, then the same command goes on'
  if isinstance(error, BlockingIOError):
    return f'{error}: when it has ended, the same command goes on'
  if disks.is_away(error):
    return f'{error}: when it answers again, the same command goes on'
  if isinstance(error, PermissionError):
    return f'{error}: see to its permissions, then the same command goes on'
  return str(error)


def is_of_all(error: Exception) -> bool:
  """Whether all processes of a run raise it, at the same step, and can end together."""
  from movinet_jax.train.loop import NonFiniteLoss, Preempted

  return isinstance(error, (NonFiniteLoss, Preempted))


def _make_help(verbs: dict[str, str]) -> str:
  lines = ['usage: movinet VERB [--help] [options]', '', 'verbs:']
  for verb, name in sorted(verbs.items()):
    doc = importlib.import_module(f'launch.{name}').__doc__.strip().splitlines()[0]
    lines.append(f'  {verb:12} {doc}')
  return '\n'.join(lines)


if __name__ == '__main__':
  sys.exit(main())
