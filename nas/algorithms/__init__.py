"""Search algorithms by name. The folder is the registry, and a protocol decides who is in.

A file is an algorithm if it defines a class with the methods of a protocol. Other files hold
what algorithms share.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Sequence

TRIALS = ('propose', 'conclude')  # trains networks one by one
ONE_SHOT = ('init', 'propose', 'weigh', 'update')  # runs inside a compiled step


def list_algorithms(protocol: Sequence[str] = TRIALS) -> dict[str, type]:
  """All algorithms of a protocol by the name of their file."""
  found = {}
  for module in pkgutil.iter_modules(__path__):
    name = f'{__name__}.{module.name}'
    for member in vars(importlib.import_module(name)).values():
      own = inspect.isclass(member) and member.__module__ == name
      if own and all(hasattr(member, method) for method in protocol):
        found[module.name] = member
  return found
