"""The `movinet` command: finds the verb's file and turns errors into exit codes.

0   done
2   the command, a config or an input is wrong: mend it first
65  too many videos cannot be decoded
70  the loss is not finite
75  stopped by a signal after saving: the same command goes on (retry it)
"""

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

import launch

_NOT_VERBS = {'main', 'arguments', 'config', 'parts'}


def list_verbs() -> dict[str, str]:
  """Verb -> module name: every file of this folder that is not machinery."""
  files = (m.name for m in pkgutil.iter_modules(launch.__path__) if not m.ispkg)
  return {name.replace('_', '-'): name for name in files if name not in _NOT_VERBS}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs `movinet VERB ...` and returns its exit code."""
  _set_environment()
  argv = list(sys.argv[1:] if argv is None else argv)
  verbs = list_verbs()
  if not argv or argv[0] in ('-h', '--help', 'help'):
    print(_make_help(verbs))
    return 0
  verb, *rest = argv
  if verb not in verbs:
    from movinet_jax.names import suggest

    print(f'movinet: no verb {verb!r}{suggest(verb, verbs)}', file=sys.stderr)
    return 2
  module = importlib.import_module(f'launch.{verbs[verb]}')
  try:
    return module.main(rest)
  except BrokenPipeError:  # `movinet ... | head`
    return 0
  except Exception as error:
    code = find_exit_code(error)
    if code is None:
      raise
    print(f'movinet {verb}: {error}', file=sys.stderr)
    return code


def _set_environment():
  """Keeps compiled programs, so that a second run need not compile them again.

  JAX and TensorFlow read these when they are imported, so nothing here imports them first.
  """
  cache = os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache'))
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{cache}/movinet-jax')
  # TensorFlow, behind the TensorBoard writer, greets with lines that say nothing here.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')


def find_exit_code(error: Exception) -> int | None:
  """The code for an error that a person can act on; None for a fault of ours."""
  # Imported late: a verb that fails on its arguments need not have loaded them.
  from movinet_jax.data import DecodeError, SourceError, TooManyFailures
  from movinet_jax.train.loop import NonFiniteLoss, Preempted

  codes = {
    Preempted: os.EX_TEMPFAIL,
    NonFiniteLoss: os.EX_SOFTWARE,
    TooManyFailures: os.EX_DATAERR,
    (ValueError, OSError, SourceError, DecodeError): 2,
  }
  found = (code for kinds, code in codes.items() if isinstance(error, kinds))
  return next(found, None)


def _make_help(verbs: dict[str, str]) -> str:
  lines = ['usage: movinet VERB [--help] [options]', '', 'verbs:']
  for verb, name in sorted(verbs.items()):
    doc = importlib.import_module(f'launch.{name}').__doc__.strip().splitlines()[0]
    lines.append(f'  {verb:12} {doc}')
  return '\n'.join(lines)


if __name__ == '__main__':
  sys.exit(main())
