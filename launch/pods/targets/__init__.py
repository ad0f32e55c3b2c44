"""Where a job may run: each file of this folder is a kind of machine.

A target has `render(job) -> Rendered`, TOOL (the program that it needs, '' for none) and
TAKES (the fields of a Job that it knows, of those that are not for every target).
"""

from types import ModuleType

from movinet_jax.names import find
from movinet_jax.registry import list_members, load_member


def list_targets() -> dict[str, str]:
  """Target -> the name of its file, found by listing this folder."""
  return {name.replace('_', '-'): name for name in list_members(__name__)}


def find_target(name: str) -> ModuleType:
  """The module of a target.

  Raises:
    ValueError: there is none; names the nearest.
  """
  return load_member(__name__, find(list_targets(), name, 'target'), 'target')
