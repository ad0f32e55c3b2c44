"""What a space of MoViNets may be asked for: every argument is checked, and named if wrong.

Values come from config files and command lines, so whatever Python has may be among them.
"""

import dataclasses
import numbers
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from movinet_jax.models import movinet
from movinet_jax.names import check_name
from movinet_jax.spec import build

# A0 to A5 are φ = -2 to 3. Depth grows by 1.36**φ: at 8 blocks have up to 117 layers and
# networks cost 65,000 times A2, at -5 a thousandth; building a space of 100 does not end.
PHIS = (-5, 8)
MOST_LAYERS = 1000  # of a network; A5 has 59
MOST = 10**6  # of any size: far above all networks, far below where φ makes it overflow
MULTIPLES = (0.01, 100)
COEFFICIENTS = (1, 16)  # of φ + 1; 1 leaves an axis as it is


def check_fields(fields: Mapping, own: Iterable[str]) -> dict:
  """What was given for fields of movinet.Spec, in Spec's own types.

  Args:
    own: names of arguments that say what the space decides.
  """
  known = {*own, *typing.get_type_hints(movinet.Spec)} - {'fields', 'blocks'}
  for name in fields:
    if name == 'blocks':
      raise ValueError(
        'blocks is what the space decides: say widths, strides, depth, kernels and '
        'expansions instead, which make it up'
      )
    check_name(name, known, 'argument of a space')
  return {name: check_field(name, value, name) for name, value in fields.items()}


def check_field(name: str, value, key: str):
  """A value of a field of movinet.Spec, given as `key`, that Spec itself accepts."""
  value = value.item() if isinstance(value, np.generic) else value
  value = build(typing.get_type_hints(movinet.Spec)[name], value, key)
  try:
    dataclasses.replace(movinet.VARIANTS['a2-stream'], **{name: value})
  except ValueError as error:
    raise ValueError(f'{key} is {value!r}: {error}') from error
  return value


def check_phi(phi) -> float:
  if not is_between(phi, *PHIS):
    raise ValueError(
      'phi is {!r}; wanted a number from {} to {}: A0 to A5 are -2 to 3, and each 1 more '
      'makes networks four times as large'.format(phi, *PHIS)
    )
  return float(phi)


def check_coefficients(value, names: Sequence[str]) -> tuple[float, ...]:
  """One number for each name, in their order."""
  if isinstance(value, tuple) and hasattr(value, '_asdict'):
    value = value._asdict()
  if not isinstance(value, Mapping) or set(value) != set(names):
    raise ValueError(f'coefficients is {value!r}; wanted a number for each of {", ".join(names)}')
  for name in names:
    if not is_between(value[name], *COEFFICIENTS):
      least, most = COEFFICIENTS
      raise ValueError(
        f'the coefficient of {name} is {value[name]!r}; wanted a number from {least} to {most}'
      )
  return tuple(float(value[name]) for name in names)


def check_whole(key: str, value) -> int:
  if not _is_whole(value):
    raise ValueError(f'{key} is {value!r}; wanted a whole number from 1 to {MOST:,}')
  return int(value)


def _is_whole(value) -> bool:
  return isinstance(value, numbers.Integral) and is_between(value, 1, MOST)


def is_between(value, least, most) -> bool:
  """Whether it is a number in the range; NaN is not, nor are True and False."""
  real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return real and bool(least <= value <= most)


def _check_list(key: str, value, check: Callable, example) -> tuple:
  if not isinstance(value, (list, tuple)) or not value:
    raise ValueError(f'{key} is {value!r}; wanted a list such as {example}')
  return tuple(check(f'{key}[{i}]', one) for i, one in enumerate(value))


def check_widths(widths, strides) -> tuple[tuple[int, ...], tuple[int, ...]]:
  widths = _check_list('widths', widths, check_whole, '(24, 48, 96)')
  strides = _check_list('strides', strides, check_whole, '(2, 2, 1)')
  if len(widths) != len(strides):
    raise ValueError(f'{len(widths)} widths and {len(strides)} strides: one per block')
  return widths, strides


def check_multipliers(key: str, value) -> tuple[float, ...]:
  found = _check_list(key, value, _check_multiple, '(0.75, 1.0, 1.25)')
  if list(found) != sorted(set(found)):
    raise ValueError(f'{key} is {value!r}; wanted numbers that ascend, none of them twice')
  return found


def _check_multiple(key: str, value) -> float:
  if not is_between(value, *MULTIPLES):
    least, most = MULTIPLES
    raise ValueError(f'{key} is {value!r}; wanted a number from {least} to {most}')
  return float(value)


def check_kernels(value) -> tuple[tuple[int, int, int], ...]:
  found = _check_list('kernels', value, _check_kernel, '((1, 3, 3), (3, 3, 3))')
  for kernel in found:
    if found.count(kernel) > 1:
      raise ValueError(f'kernels has {kernel} twice; wanted each once')
  return found


def _check_kernel(key: str, value) -> tuple[int, int, int]:
  three = isinstance(value, (list, tuple)) and len(value) == 3
  if three and all(_is_whole(size) and size % 2 for size in value):
    return tuple(map(int, value))
  raise ValueError(
    f'{key} is {value!r}; wanted three odd whole numbers (frames, height, width) such as '
    '(3, 3, 3): a kernel of an even size has no centre'
  )


def check_clip(clip) -> tuple[int, int, int]:
  found = _check_list('clip', clip, check_whole, '(50, 224, 5), or None')
  if len(found) != 3:
    raise ValueError(
      f'clip is {clip!r}; wanted three whole numbers (frames, resolution, frame_stride), '
      'or None for those of φ'
    )
  return found
