"""Search algorithms by name. The folder is the registry, and a protocol decides who is in.

A file is an algorithm if it defines a class with the methods of a protocol. Other files hold
what algorithms share.
"""

import inspect
from collections.abc import Sequence

from movinet_jax.registry import load_members

TRIALS = ('propose', 'conclude')  # trains networks one by one
ONE_SHOT = ('init', 'propose', 'weigh', 'update')  # runs inside a compiled step


def list_algorithms(protocol: Sequence[str] = TRIALS) -> dict[str, type]:
  """All algorithms of a protocol by the name of their file."""
  found = {}
  for name, module in load_members(__name__).items():
    for member in vars(module).values():
      own = inspect.isclass(member) and member.__module__ == module.__name__
      if own and all(hasattr(member, method) for method in protocol):
        found[name] = member
  return found
