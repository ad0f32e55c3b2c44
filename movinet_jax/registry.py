"""Registries: a package whose files are its members, each under the name of its file."""

import importlib
import pkgutil
from types import ModuleType

from movinet_jax.names import check_name


def list_members(package: str) -> list[str]:
  """The names of a package's members, sorted."""
  folder = importlib.import_module(package).__path__
  return sorted(module.name for module in pkgutil.iter_modules(folder))


def load_member(package: str, name: str, kind: str) -> ModuleType:
  """Imports one member.

  Args:
    kind: what members are called in the message of an error.

  Raises:
    ValueError: there is no such member; names the nearest.
  """
  check_name(name, list_members(package), kind)
  return importlib.import_module(f'{package}.{name}')


def load_members(package: str) -> dict[str, ModuleType]:
  """Imports all members: name -> module."""
  return {name: importlib.import_module(f'{package}.{name}') for name in list_members(package)}
