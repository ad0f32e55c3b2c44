"""Architectures as data: a frozen dataclass to JSON and back."""

import dataclasses
import reprlib
import types
import typing
from collections.abc import Mapping

from movinet_jax.names import suggest

VERSION = 1
MOST = 1_000_000  # of anything that an architecture counts, or by which it scales


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


def check_at_least_1(**sizes: int):
  """Raises a ValueError unless all sizes of an architecture are 1 or more."""
  for name, value in sizes.items():
    if value < 1:
      raise ValueError(f'{name} is at least 1, got {value}')


def build(kind, value, where: str):
  """A value of a type, such as `int | None` or a dataclass, of JSON data.

  Raises:
    ValueError: it is of another type; `where` says which value.
  """
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if dataclasses.is_dataclass(kind):
    return _build_dataclass(kind, value, where)
  if origin is tuple:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
      raise ValueError(f'{where} should be a list, got {value!r}')
    if arguments[-1] is Ellipsis:
      arguments = arguments[:1] * len(value)
    if len(arguments) != len(value):
      raise ValueError(f'{where} wants {len(arguments)} values, got {value!r}')
    parts = enumerate(zip(arguments, value, strict=True))
    return tuple(build(a, v, f'{where}[{i}]') for i, (a, v) in parts)
  if origin in (typing.Union, types.UnionType):
    return None if value is None else build(arguments[0], value, where)
  whole = kind is float and type(value) is int
  if type(value) is not kind and not whole:
    raise ValueError(f'{where} should be {kind.__name__}, got {value!r}')
  # JSON can say NaN, Infinity and numbers of any length.
  if kind in (int, float) and not -MOST <= value <= MOST:
    raise ValueError(f'{where} is {reprlib.repr(value)}, wanted at most {MOST:,}')
  return kind(value) if whole else value


def _build_dataclass(cls, value, where):
  if isinstance(value, cls):
    return value
  if not isinstance(value, Mapping):
    raise ValueError(f'{where} should be a table, got {value!r}')
  hints = typing.get_type_hints(cls)
  for name in value:
    if name not in hints:
      raise ValueError(f'{where} has no field {name!r}{suggest(name, hints)}')
  for field in dataclasses.fields(cls):
    if field.name not in value and field.default is dataclasses.MISSING:
      raise ValueError(f'{where} lacks the field {field.name!r}')
  return cls(**{n: build(hints[n], v, f'{where}.{n}') for n, v in value.items()})


def check_rates(**rates: float) -> None:
  """Raises a ValueError for what is no share of things to drop."""
  for name, value in rates.items():
    if not 0 <= value < 1:
      raise ValueError(f'{name} is a rate in [0, 1), got {value}')
