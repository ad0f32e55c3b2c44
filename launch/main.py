"""The `movinet` command: finds the verb's file and turns errors into exit codes."""

import contextlib
import importlib.metadata
import io
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from launch import cluster, devices, verbs
from launch.errors import ExitCode, explain, find_exit_code, is_of_all


def main(argv: Sequence[str] | None = None) -> int:
  """Runs `movinet VERB ...` and returns its exit code."""
  is_command = argv is None
  if is_command:
    use_huge_pages()
    _open_streams()
  _print_anything()
  _set_environment()
  argv = list(sys.argv[1:] if argv is None else argv)
  verb, *rest = argv or ['--help']
  try:
    code = _run(verb, rest)
    sys.stdout.flush()
    return code
  except BrokenPipeError:  # `movinet ... | head`
    # Or Python complains once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    cluster.abandon(ExitCode.READER_LEFT)
    return ExitCode.READER_LEFT
  except KeyboardInterrupt:
    _tell(f'movinet {verb}: interrupted')
    cluster.abandon(ExitCode.INTERRUPTED)
    return ExitCode.INTERRUPTED
  except Exception as error:
    return _fail(verb, error, is_command)


def _run(verb: str, rest: Sequence[str]) -> int:
  if verb in ('-h', '--help', 'help'):
    print(_make_help())
    return ExitCode.DONE
  if verb == '--version':
    print(f'movinet {importlib.metadata.version("movinet-jax")}')
    return ExitCode.DONE
  try:
    module = verbs.find_verb(verb)
  except ValueError as error:
    _tell(f'movinet: {error}')
    return ExitCode.MISUSE
  return module.main(rest)


def _tell(line: str):
  with contextlib.suppress(OSError):  # where it goes may be full
    print(line, file=sys.stderr, flush=True)


def _fail(verb: str, error: Exception, is_command: bool) -> int:
  """Tells an error and returns its code; a fault of the program is raised to a caller in Python."""
  code = find_exit_code(error)
  if code is None:
    if not (is_command or cluster.is_joined()):
      raise error
    traceback.print_exc()
    code = ExitCode.FAULT
  else:
    _tell(f'movinet {verb}: {explain(error)}')
  if not is_of_all(error):
    cluster.abandon(code)
    if is_command:
      _leave_threads(code)
  return code


def use_huge_pages():
  """Starts this process again with huge pages for its memory, where Linux offers them.

  On a CPU, XLA gets its temporaries anew for every call. With small pages, touching them
  first takes a quarter of a training step. glibc reads its settings when a process begins.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _open_streams():
  """Opens nothing in place of a closed stdin, stdout or stderr, as some daemons have them.

  The next files that are opened would get their numbers, and with them what is printed.
  """
  for number, name in enumerate(('stdin', 'stdout', 'stderr')):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, and so this one
      setattr(sys, name, os.fdopen(number, 'w' if number else 'r'))


def _print_anything():
  """Lets names be printed that the terminal's encoding does not have: with escapes."""
  for stream in (sys.stdout, sys.stderr):
    # A person may have chosen another way, as PYTHONIOENCODING=ascii:replace does.
    own = isinstance(stream, io.TextIOWrapper)
    if own and stream.errors in ('strict', 'surrogateescape', 'surrogatepass'):
      stream.reconfigure(errors='backslashreplace')


def _leave_threads(code: int):
  """Ends this process at once if threads would keep it alive.

  After a failed save, the threads that write arrays wait minutes for a folder that could
  not be made.
  """
  others = set(threading.enumerate()) - {threading.main_thread()}
  if any(not thread.daemon for thread in others):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _set_environment():
  """Keeps compiled programs on disk, so that a second run does not compile them again.

  JAX and TensorFlow read these variables when they are imported, so nothing here imports
  them first.
  """
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{cache}/movinet-jax')
  # TensorFlow, behind the TensorBoard writer, greets with lines that say nothing here.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  devices.quiet_libtpu()
  # Python begins processes with the current folder before its own modules: a queue.py or nas/
  # there would end them. They find this package where this process has found it.
  os.environ.setdefault('PYTHONSAFEPATH', '1')
  root = str(Path(__file__).resolve().parents[1])
  known = os.environ.get('PYTHONPATH', '').split(os.pathsep)
  if not root.endswith('-packages') and root not in known:  # where Python looks anyway
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [*known, root]))


def _make_help() -> str:
  lines = ['usage: movinet VERB [--help] [options]', '', 'verbs:']
  for verb in sorted(verbs.list_verbs()):
    doc = verbs.find_verb(verb).__doc__ or ''  # python -OO keeps none
    lines.append(f'  {verb:12} {doc.strip().partition(chr(10))[0]}'.rstrip())
  return '\n'.join(lines)


if __name__ == '__main__':
  sys.exit(main())
