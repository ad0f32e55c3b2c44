"""Search spaces by name. The folder is the registry: a file with make_space is one."""

import importlib
import inspect
import pkgutil
import types

from movinet_jax.names import find, suggest


def list_spaces() -> dict[str, types.ModuleType]:
  """All spaces by name, found by listing this folder."""
  names = [module.name for module in pkgutil.iter_modules(__path__)]
  return {name: importlib.import_module(f'{__name__}.{name}') for name in names}


def create(name: str, **arguments):
  """Makes a space of networks.

  Raises:
    ValueError: no such space or argument, or one that does not fit.
  """
  make = find(list_spaces(), name, 'space').make_space
  known = inspect.signature(make).parameters
  takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
  for key in arguments:
    if key not in known and not takes_any:
      raise ValueError(f'the space {name!r} takes no {key!r}{suggest(key, known)}')
  return make(**arguments)
