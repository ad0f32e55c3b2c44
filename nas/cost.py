"""The cost of every network of a space, as sums of table entries.

A cost that a layer has by itself (multiply-adds, parameters, bytes, measured time) depends
on the few decisions that touch the layer. So the cost of a network is one entry of each of
a few tables: exact integers, and inside a compiled step a single gather.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

# JAX has no int64 by default, and a clip's multiply-adds overflow int32: two limbs.
LIMB = 1 << 20

# Costs by the names that configs and files have for them, and as people say them.
TITLES = {
  'macs': 'multiply-adds',
  'params': 'parameters',
  'state_bytes': 'stream state',
  'latency_ns': 'latency',
}


@dataclasses.dataclass(frozen=True)
class Term:
  """A part of the cost: `table` has an axis for each of the decisions `numbers`, int64."""

  numbers: tuple[int, ...]
  table: np.ndarray

  def __post_init__(self):
    if self.table.ndim != len(self.numbers) or self.table.dtype != np.int64:
      raise ValueError(
        f'a term of {len(self.numbers)} decisions needs an int64 table with as many axes, '
        f'got {self.table.dtype}{list(self.table.shape)}'
      )
    if self.table.size and self.table.min() < 0:
      raise ValueError(f'costs are 0 or more, got {self.table.min()}')


class CostTable:
  """The sum of its terms, for any vector of choices [D]."""

  def __init__(self, terms: Sequence[Term]):
    self.terms = tuple(terms)

  def count(self, choices) -> np.ndarray:
    """The exact costs [...] int64 of networks [..., D], on the host."""
    chosen = np.moveaxis(np.asarray(choices), -1, 0)
    return sum(t.table[tuple(chosen[n] for n in t.numbers)] for t in self.terms)

  def limbs(self, choices):
    """The exact cost inside a compiled step: (high, low), high * LIMB + low, both int32.

    Args:
      choices: [D] int32.
    """
    high, low, numbers, strides = self._packed
    padded = jnp.append(choices, 0)  # what terms with fewer decisions point to
    index = jnp.sum(padded[numbers] * strides, axis=1)
    rows = jnp.arange(len(index))
    high, low = (
      jnp.sum(jnp.asarray(high)[rows, index]),
      jnp.sum(jnp.asarray(low)[rows, index]),
    )
    return high + low // LIMB, low % LIMB

  def value(self, choices):
    """The cost as float32, inside a compiled step: within 1e-7 of the exact one."""
    high, low = self.limbs(choices)
    return high.astype(jnp.float32) * LIMB + low

  def hold(self, held: np.ndarray | None) -> 'CostTable':
    """The table of the networks with some choices, [D], -1 for those that are open; None: all."""
    if held is None:
      return self
    terms = []
    for term in self.terms:
      index = tuple(slice(None) if held[n] < 0 else int(held[n]) for n in term.numbers)
      numbers = tuple(n for n in term.numbers if held[n] < 0)
      terms.append(Term(numbers, np.asarray(term.table[index], np.int64)))
    return CostTable(terms)

  @functools.cached_property
  def bounds(self) -> tuple[int, int]:
    """The least and the greatest cost that the space has, exactly."""
    return self._eliminate(np.min), self._eliminate(np.max)

  @functools.cached_property
  def _packed(self):
    sizes = [t.table.size for t in self.terms]
    flat = np.zeros((len(sizes), max(sizes)), np.int64)
    width = max(len(t.numbers) for t in self.terms)
    numbers = np.full((len(sizes), width), -1, np.int32)
    strides = np.zeros((len(sizes), width), np.int32)
    for row, term in enumerate(self.terms):
      flat[row, : term.table.size] = term.table.reshape(-1)
      numbers[row, : len(term.numbers)] = term.numbers
      for axis in range(len(term.numbers)):
        strides[row, axis] = math.prod(term.table.shape[axis + 1 :])
    high, low = (flat // LIMB).astype(np.int32), (flat % LIMB).astype(np.int32)
    return high, low, numbers, strides

  def _eliminate(self, pick) -> int:
    """Decides one decision after the other, each time the one that touches fewest."""
    factors = [(t.numbers, t.table) for t in self.terms]
    left = {n for numbers, _ in factors for n in numbers}
    while left:
      number = min(left, key=lambda n: _neighbourhood(factors, n))
      touched = [f for f in factors if number in f[0]]
      factors = [f for f in factors if number not in f[0]]
      numbers = tuple(sorted({n for f in touched for n in f[0]}))
      total = sum(_spread(f, numbers) for f in touched)
      rest = tuple(n for n in numbers if n != number)
      factors.append((rest, pick(total, axis=numbers.index(number))))
      left.remove(number)
    return int(sum(table for _, table in factors))


def _neighbourhood(factors, number) -> int:
  sizes = {
    n: size
    for numbers, table in factors
    if number in numbers
    for n, size in zip(numbers, table.shape, strict=True)
  }
  return math.prod(sizes.values())


def _spread(factor, numbers):
  """A factor's table with an axis for each of `numbers`, in that order."""
  mine, table = factor
  order = sorted(range(len(mine)), key=lambda axis: mine[axis])
  table = table.transpose(order)
  shape = iter(table.shape)
  return table.reshape([next(shape) if n in mine else 1 for n in numbers])
