"""The verbs of `movinet`: each file of this folder is one, and there is nothing else in it.

A verb has `main(argv) -> exit code`, `make_arguments()`, its argument parser, and a docstring
that `movinet VERB --help` shows; its first line is the verb's line in `movinet --help`. It may
say DISTRIBUTED, that several processes of it are one run, and LOOKS_AT_JOBS, that it is no job.
"""

from types import ModuleType

from movinet_jax.names import find
from movinet_jax.registry import list_members, load_member


def list_verbs() -> dict[str, str]:
  """Verb -> the name of its file, found by listing this folder."""
  return {name.replace('_', '-'): name for name in list_members(__name__)}


def find_verb(name: str) -> ModuleType:
  """The module of a verb.

  Raises:
    ValueError: there is none; names the nearest.
  """
  return load_member(__name__, find(list_verbs(), name, 'verb'), 'verb')


def is_distributed(name: str) -> bool:
  """Tells whether several processes of a verb are one run."""
  return getattr(find_verb(name), 'DISTRIBUTED', False)
