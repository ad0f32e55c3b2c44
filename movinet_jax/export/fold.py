"""Computes equations whose operands are all constants, at export.

NumPy does it where it has the same operation. JAX would compile a program for every new shape,
which once took most of an export's time.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def fold(equation, operands: Sequence) -> list[np.ndarray]:
  """Returns the results of an equation of constants."""
  name, params = equation.primitive.name, equation.params
  if name in _NUMPY:
    dtype = equation.outvars[0].aval.dtype
    return [np.asarray(_NUMPY[name](*map(np.asarray, operands), **params), dtype)]
  with jax.ensure_compile_time_eval():
    found = equation.primitive.bind(*map(jnp.asarray, operands), **params)
  many = found if equation.primitive.multiple_results else [found]
  return [np.asarray(one) for one in many]


def _broadcast(x, *, shape, broadcast_dimensions, **_):
  sizes = [1] * len(shape)
  for axis, size in zip(broadcast_dimensions, x.shape, strict=True):
    sizes[axis] = size
  return np.broadcast_to(x.reshape(sizes), shape)


def _divide(a, b, **_):
  if np.issubdtype(a.dtype, np.integer):
    return np.trunc(a / b)  # of XLA, which rounds towards zero
  return a / b


_NUMPY = {
  'add': lambda a, b, **_: a + b,
  'sub': lambda a, b, **_: a - b,
  'mul': lambda a, b, **_: a * b,
  'div': _divide,
  'neg': lambda a, **_: -a,
  'rsqrt': lambda a, **_: 1 / np.sqrt(a),
  'broadcast_in_dim': _broadcast,
  'reshape': lambda a, *, new_sizes, **_: a.reshape(new_sizes),
  'squeeze': lambda a, *, dimensions, **_: a.squeeze(dimensions),
  'transpose': lambda a, *, permutation, **_: a.transpose(permutation),
  'convert_element_type': lambda a, *, new_dtype, **_: a.astype(new_dtype),
  'copy': lambda a, **_: a,
  'stop_gradient': lambda a, **_: a,
}
