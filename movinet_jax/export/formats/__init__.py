"""File formats: a file here is a format, under its name.

A format has

  FILE: what is written, in an artifact's folder;
  WEIGHTS: the kinds of weights that it can hold, of `weights.Kind`;
  NEEDS, RUNS: modules that writing and running want, of the extra `export`;
  CONVERTERS: modules that are used if they are installed;
  FREE: whether it can take any number of videos;
  THREADS: whether its runtime can be told how many threads to use;
  GRAPH: whether it is written from a graph, and not from the network itself;
  write(source, path, weights): writes it; returns its interface;
  make_session(path, interface, batch, threads): the file in its own runtime, a `session.Session`.
"""

import importlib.util
from types import ModuleType

from movinet_jax import registry


def list_formats() -> list[str]:
  return registry.list_members(__name__)


def load(name: str) -> ModuleType:
  """A format.

  Raises:
    ValueError: there is no such format; names the nearest.
  """
  return registry.load_member(__name__, name, 'format')


def find_missing(modules) -> list[str]:
  """Those of some modules that are not installed."""
  return [name for name in modules if importlib.util.find_spec(name) is None]
