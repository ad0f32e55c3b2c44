"""Plain data, as configs and JSON files hold it, as values of the types that code declares.

A config section is the keyword arguments of one callable. `call` checks the section by that
callable's signature, so a misspelt key, a missing one or a value of another type is an error
that names the key before anything slow begins. Callables need no checks of their own for it.

    Count = Annotated[int, Range(1)]

    def make_loader(workers: Count = 1): ...

    call(make_loader, {'workers': 0}, 'loader')
    # ValueError: loader.workers is 0; wanted a whole number, 1 or more
"""

import collections.abc
import dataclasses
import functools
import inspect
import math
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np

from movinet_jax.names import suggest
from movinet_jax.paths import find_local

_PLAIN = {
  bool: 'true or false',
  int: 'a whole number',
  float: 'a number',
  str: 'text',
}


_LARGEST = 2**31 - 1  # of whole numbers, as which JAX counts steps


@dataclasses.dataclass(frozen=True)
class Range:
  """The finite numbers that an annotated type takes.

  Attributes:
    least, most: the ends, which are taken.
    above, below: the ends, which are not taken.
  """

  least: float = -math.inf
  most: float = math.inf
  _: dataclasses.KW_ONLY
  above: float = -math.inf
  below: float = math.inf

  def takes(self, value: float) -> bool:
    return self.least <= value <= self.most and self.above < value < self.below

  def __str__(self):
    if -math.inf < self.least and self.most < math.inf:
      return f'from {self.least:,} to {self.most:,}'
    ends = {
      'or more': self.least,
      'more than': self.above,
      'or less': self.most,
      'less than': self.below,
    }
    finite = {words: f'{end:,}' for words, end in ends.items() if abs(end) < math.inf}
    said = (f'{n} {words}' if words[:2] == 'or' else f'{words} {n}' for words, n in finite.items())
    return ' and '.join(said) or 'finite'


class Limit(NamedTuple):
  """Any other limit of an annotated type.

  Attributes:
    takes: whether a value is within it.
    wanted: what it takes, in words.
  """

  takes: Callable[[Any], bool]
  wanted: str

  def __str__(self):
    return self.wanted


class Parse(NamedTuple):
  """Makes an annotated type's value of a plain one; raises a ValueError where it cannot."""

  make: Callable[[Any], Any]


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**31 - 1)]  # JAX makes a key of it
Share = Annotated[float, Range(0, 1)]
Part = Annotated[float, Range(above=0, below=1)]  # of what is divided in two
Rate = Annotated[float, Range(0, below=1)]  # of what is dropped, or of a moving average
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(0)]
LocalPath = Annotated[str, Parse(find_local)]  # of this machine, `~` expanded

# Of texts.
NAME = Limit(lambda text: text.strip() and '/' not in text, 'a name without /')
# Of lists.
SOME = Limit(bool, 'one value or more')
DISTINCT = Limit(lambda x: 0 < len(x) == len(set(x)), 'one value or more, each once')
ASCENDING = Limit(
  lambda x: len(x) > 0 and list(x) == sorted(set(x)), 'numbers that ascend, none of them twice'
)


def call(function: Callable, section: Mapping, name: str = '', /, **given):
  """Calls a function with a config section as its keyword arguments.

  Args:
    section: values by key.
    name: where the section stands in its config, for messages: 'clip.train'.
    **given: arguments that the program gives; the section must not have them.

  Raises:
    ValueError: a key is none of the arguments (names the nearest), one that is needed is
      missing, or a value is of another type than the argument.
  """
  return bind(function, section, name, **given)()


def bind(function: Callable, section: Mapping, name: str = '', /, **given) -> functools.partial:
  """As `call`, but leaves the call itself for later: checked now, run when it is due."""
  parameters = inspect.signature(function).parameters
  takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  named = [p for p in parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
  known = [p.name for p in named if p.name not in given]
  for key in section:
    if key in given or (key not in known and not takes_any):
      raise ValueError(f'{_say(name)} has no key {key!r}{suggest(key, known)}')
  for parameter in named:
    needed = parameter.default is parameter.empty and parameter.name in known
    if needed and parameter.name not in section:
      raise ValueError(f'the config lacks {_join(name, parameter.name)}')
  kinds = _find_types(function)
  values = {
    key: build(kinds.get(key, Any), value, _join(name, key)) for key, value in section.items()
  }
  return functools.partial(function, **values, **given)


def build(kind, value, where: str, *, most: float = math.inf):
  """A value of a type, such as `int | None` or a dataclass, of plain data.

  Whole numbers serve as floats, and lists as tuples. Types that plain data cannot express
  (arrays, callables) take any value.

  Args:
    kind: an annotation.
    where: the name of the value, for messages.
    most: the largest magnitude of any number.

  Raises:
    ValueError: the value is of another type, or out of its range.
  """
  if kind in _PLAIN:
    return _check_largest(_build_plain(kind, value, where, most), where)
  again = functools.partial(build, most=most)
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if origin is Annotated and arguments[0] in _PLAIN:
    value = _build_plain(arguments[0], value, where, most)
    _hold(arguments[1:], arguments[0], value, where)
    return _parse(arguments[1:], _check_largest(value, where), where)
  if origin is Annotated:
    value = again(arguments[0], value, where)
    _hold(arguments[1:], arguments[0], value, where)
    return _parse(arguments[1:], value, where)
  if dataclasses.is_dataclass(kind):
    return _build_dataclass(kind, value, where, again)
  if tuple in (origin, kind):
    return _build_tuple(arguments, value, where, again)
  if origin in (typing.Union, types.UnionType):
    return _build_union(arguments, value, where, again)
  if origin is typing.Literal:
    if not any(type(value) is type(one) and value == one for one in arguments):
      raise ValueError(f'{where} is {value!r}{suggest(value, arguments)}')
    return value
  if origin in (dict, collections.abc.Mapping) or kind in (dict, Mapping):
    if not isinstance(value, Mapping):
      raise ValueError(f'{where} should be a table, got {value!r}')
    kind = arguments[1] if arguments else Any
    return {key: again(kind, one, _join(where, key)) for key, one in value.items()}
  return value


def verify(instance, but: type | tuple[type, ...] = ()):
  """Checks the fields of a dataclass's instance whose annotations have limits or choices.

  A dataclass that is also made in code calls it from `__post_init__`. `call` and `build`
  check what comes from a config in any case.

  Args:
    but: types of values that pass, such as traced arrays.

  Raises:
    ValueError: a field is of another type than its annotation, or out of its range.
  """
  for name, kind, fits in _list_tests(type(instance)):
    value = getattr(instance, name)
    if not fits(value) and not isinstance(value, but):
      build(kind, value, name)


@functools.cache
def _list_tests(cls: type) -> list[tuple[str, object, Callable]]:
  """The fields to verify: (name, annotation, quick test)."""
  return [(name, kind, _make_test(kind)) for name, kind in _find_limited(cls).items()]


def _make_test(kind) -> Callable[[object], bool]:
  """A quick test of what is common; where it fails, `build` has the last word.

  Counting the costs of spaces makes 150,000 layers of networks, each with four sizes:
  `build` alone took two thirds of that time.
  """
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if origin is Annotated and arguments[0] in _PLAIN:
    own, *limits = arguments
    takes = [limit.takes for limit in limits if isinstance(limit, Range | Limit)]
    if len(takes) == 1:
      (only,) = takes
      return lambda value: type(value) is own and only(value)
    return lambda value: type(value) is own and all(one(value) for one in takes)
  if origin is tuple and Ellipsis not in arguments:
    tests = [_make_test(one) for one in arguments]
    size = len(tests)
    return lambda value: (
      type(value) is tuple
      and len(value) == size
      and all(fits(one) for fits, one in zip(tests, value, strict=True))
    )
  return lambda value: False


def checked(function: Callable) -> Callable:
  """A function that checks its arguments whose annotations have limits or choices.

  For functions that are also called in code, where a wrong value would give nonsense.

  Raises:
    ValueError: from the function, as `verify`.
  """
  signature, kinds = inspect.signature(function), _find_limited(function)

  @functools.wraps(function)
  def run(*args, **kwargs):
    for name, value in signature.bind(*args, **kwargs).arguments.items():
      if name in kinds:
        build(kinds[name], value, name)
    return function(*args, **kwargs)

  return run


@functools.cache
def _find_limited(target: Callable) -> dict[str, object]:
  kinds = _find_types(target).items()
  return {name: kind for name, kind in kinds if list_limits(kind) or _has_choices(kind)}


def _has_choices(kind) -> bool:
  parts = typing.get_args(kind)
  return typing.get_origin(kind) is typing.Literal or any(map(_has_choices, parts))


def list_limits(kind) -> list[Range | Limit]:
  """The limits of an annotation, those of its parts too."""
  notes = getattr(kind, '__metadata__', ())
  inside = [limit for part in typing.get_args(kind) for limit in list_limits(part)]
  return [*(note for note in notes if isinstance(note, Range | Limit)), *inside]


def _build_plain(kind, value, where, most):
  value = value.item() if isinstance(value, np.generic) else value
  whole = kind is float and type(value) is int
  if type(value) is not kind and not whole:
    raise ValueError(f'{where} should be {kind.__name__}, got {value!r}')
  # JSON can say NaN, Infinity and numbers of any length.
  most = min(most, sys.float_info.max) if whole else most
  if kind in (int, float) and most < math.inf and not -most <= value <= most:
    raise ValueError(f'{where} is {reprlib.repr(value)}, wanted at most {most:,}')
  return kind(value) if whole else value


def _check_largest(value, where: str):
  if type(value) is int and not -_LARGEST <= value <= _LARGEST:
    raise _OutOfRange(f'{where} is {reprlib.repr(value)}, wanted at most {_LARGEST:,}')
  return value


def _build_tuple(arguments, value, where, again):
  if isinstance(value, str) or not isinstance(value, (list, tuple)):
    raise ValueError(f'{where} should be a list, got {value!r}')
  if not arguments:
    return tuple(value)
  if arguments[-1] is Ellipsis:
    arguments = arguments[:1] * len(value)
  if len(arguments) != len(value):
    raise ValueError(f'{where} wants {len(arguments)} values, got {value!r}')
  parts = enumerate(zip(arguments, value, strict=True))
  return tuple(again(a, v, f'{where}[{i}]') for i, (a, v) in parts)


def _build_union(arguments, value, where, again):
  kinds = [kind for kind in arguments if kind is not types.NoneType]
  if value is None and len(kinds) < len(arguments):
    return None
  errors = []
  for kind in kinds:
    try:
      return again(kind, value, where)
    except ValueError as error:
      errors.append(error)
  # A value of the right type that is out of its range says more than a list of types.
  telling = [error for error in errors if isinstance(error, _OutOfRange)] or errors
  if len(telling) == 1:
    raise telling[0]
  raise ValueError(f'{where} should be {" or ".join(map(_name_type, kinds))}, got {value!r}')


def _build_dataclass(cls, value, where, again):
  if isinstance(value, cls):
    return value
  kinds = _find_types(cls)
  if not isinstance(value, Mapping):
    keys = ', '.join(_join(where, name) for name in kinds)
    raise ValueError(f'{where} should be a table, got {value!r}; its keys are {keys}')
  for name in value:
    if name not in kinds:
      raise ValueError(f'{_say(where)} has no field {name!r}{suggest(name, kinds)}')
  for field in dataclasses.fields(cls):
    needed = field.default is field.default_factory is dataclasses.MISSING
    if needed and field.name not in value:
      raise ValueError(f'{_say(where)} lacks the field {field.name!r}')
  return cls(**{n: again(kinds[n], v, _join(where, n)) for n, v in value.items()})


class _OutOfRange(ValueError):
  """A value of the right type."""


def _hold(limits, kind, value, where):
  for limit in limits:
    if isinstance(limit, Range | Limit) and not limit.takes(value):
      wanted = f'{_PLAIN.get(kind, "a number")}, {limit}' if isinstance(limit, Range) else limit
      raise _OutOfRange(f'{where} is {value!r}; wanted {wanted}')


def _parse(notes, value, where):
  for note in notes:
    if isinstance(note, Parse):
      try:
        value = note.make(value)
      except ValueError as error:
        raise _OutOfRange(f'{where}: {error}') from error
  return value


def _find_types(function) -> dict[str, object]:
  if dataclasses.is_dataclass(function):
    names = {field.name for field in dataclasses.fields(function)}
    hints = typing.get_type_hints(function, include_extras=True)
    return {name: hints[name] for name in hints if name in names}
  if inspect.isclass(function) and function.__init__ is not object.__init__:
    function = function.__init__
  return typing.get_type_hints(inspect.unwrap(function), include_extras=True)


def _name_type(kind) -> str:
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if origin is Annotated:
    return _name_type(arguments[0])
  if origin is typing.Literal:
    return ' or '.join(map(repr, arguments))
  if origin in (tuple, dict, collections.abc.Mapping):
    return 'a list' if origin is tuple else 'a table'
  return getattr(kind, '__name__', None) if isinstance(kind, type) else str(kind)


def _say(where: str) -> str:
  return where or 'the config'


def _join(where: str, name: str) -> str:
  return f'{where}.{name}' if where else name
