"""Keeps a function as one pass of its own in a program for a CPU.

XLA takes sums for cheap and would compute all terms again in every operation that reads them. It
removes optimization barriers before it merges loops, so a barrier would not stop that. What stops
it is a function that it may not put elsewhere.
"""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def apart(function: Callable, *arrays: jax.Array, **static) -> jax.Array:
  """Computes `function(*arrays, **static)` in one pass, whatever reads the result.

  Args:
    function: of the arrays. What it calls may not be a `jax.jit` of its own, which would be a pass
      of its own, too.
    arrays: what it reads.
    static: what else it needs, hashable.
  """
  with set_xla_metadata(inlineable='false'):
    return jax.jit(function, static_argnames=tuple(static))(*arrays, **static)
