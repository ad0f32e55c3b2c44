"""Architectures as data: a frozen dataclass to JSON and back."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated

from movinet_jax import schema
from movinet_jax.names import check_name

VERSION = 1
MOST = 1_000_000  # of anything that an architecture counts, or by which it scales
Size = Annotated[int, schema.Range(1, MOST)]


def to_json(spec) -> dict:
  """Makes plain JSON data of a family's Spec."""
  return {'version': VERSION, **dataclasses.asdict(spec)}


def from_json(cls, data: Mapping):
  """Makes a family's Spec of JSON data.

  Raises:
    ValueError: a field is unknown, missing or of the wrong type, or the version is.
  """
  data = dict(data)
  if (version := data.pop('version', VERSION)) != VERSION:
    raise ValueError(f'this spec has version {version}, this code reads {VERSION}')
  return build(cls, data, cls.__name__)


def build(kind, value, where: str):
  """A value of a type of plain data, as `schema.build`, with numbers of at most MOST."""
  return schema.build(kind, value, where, most=MOST)


def read_fields(cls, fields: Mapping, decided: Iterable[str], arguments: Iterable[str]) -> dict:
  """Some fields of a family's Spec, in its own types: a space has them in all its networks.

  Args:
    decided: names of fields that the space decides.
    arguments: names of the space's own arguments, for messages.

  Raises:
    ValueError: there is no such field, the space decides it, or a value does not fit.
  """
  kinds = typing.get_type_hints(cls, include_extras=True)
  known = (kinds.keys() - set(decided)) | set(arguments)
  for name in fields:
    check_name(name, known, 'argument of a space')
  return {name: build(kinds[name], value, name) for name, value in fields.items()}
