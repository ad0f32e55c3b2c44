"""What a trial algorithm takes: values that the space gives it, and settings of a config.

An algorithm annotates the fields of its dataclass that the space of networks fills in:

    space: Annotated[Space, FromSpace('space')]
    cost: Annotated[Callable, FromSpace('macs')]
    fits: Annotated[Callable | None, FromSpace('fits')] = None

A field without a default is needed. So a new algorithm needs no change where searches are
built.
"""

import dataclasses
import typing
from collections.abc import Callable

from nas.space import Space


class FromSpace(typing.NamedTuple):
  """Says that the space of networks fills in a field, with what it offers under a name."""

  name: str


def list_sources(algorithm: type) -> dict[str, str]:
  """What an algorithm takes from the space, by the name of its field."""
  hints = typing.get_type_hints(algorithm, include_extras=True)
  return {
    field.name: note.name
    for field in dataclasses.fields(algorithm)
    for note in getattr(hints[field.name], '__metadata__', ())
    if isinstance(note, FromSpace)
  }


def take(algorithm: type, find: Callable[[str], object | None]) -> dict[str, object]:
  """The arguments that the space of networks fills in.

  Args:
    find: gives what the space offers under a name, None if it does not.

  Raises:
    ValueError: the space does not offer something that is needed.
  """
  sources = list_sources(algorithm)
  taken = {name: find(source) for name, source in sources.items()}
  for field in dataclasses.fields(algorithm):
    needed = field.default is field.default_factory is dataclasses.MISSING
    if needed and field.name in taken and taken[field.name] is None:
      raise ValueError(f'needs a space that has {sources[field.name]}')
  return {name: value for name, value in taken.items() if value is not None}


def check_space(space: Space):
  """Raises a ValueError unless there is something to decide."""
  if space.count() < 2:
    raise ValueError('the space has a single architecture: there is nothing to search')
