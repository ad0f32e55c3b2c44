"""Sums of table entries are the costs, outside a compiled step and inside, and their ends."""

import itertools

import jax
import numpy as np
import pytest

from nas.cost import LIMB, CostTable, Term

RNG = np.random.default_rng(0)
SIZES = (2, 3, 2, 4)


def _table(numbers, scale):
  shape = [SIZES[n] for n in numbers]
  return Term(numbers, RNG.integers(0, scale, shape))


TERMS = [
  _table((0,), 10**3),
  _table((1, 0), 10**12),
  _table((3, 1), 5 * LIMB),
  _table((2,), 10**9),
  Term((), np.array(7)),
]
ALL = np.array(list(itertools.product(*map(range, SIZES))), np.int32)


def test_counts_are_the_sums_of_entries():
  table = CostTable(TERMS)
  for choices, found in zip(ALL, table.count(ALL), strict=True):
    wanted = sum(t.table[tuple(choices[n] for n in t.numbers)] for t in TERMS)
    assert table.count(choices) == found == wanted


def test_compiled_counts_are_exact():
  table = CostTable(TERMS)
  high, low = jax.jit(jax.vmap(table.limbs))(ALL)
  exact = np.asarray(high, np.int64) * LIMB + np.asarray(low)
  np.testing.assert_array_equal(exact, table.count(ALL))
  assert exact.max() > 2**31  # what int32 could not hold
  assert np.asarray(low).max() < LIMB
  values = jax.jit(jax.vmap(table.value))(ALL)
  np.testing.assert_allclose(values, exact, rtol=1e-6)


def test_bounds_are_those_of_all():
  table = CostTable(TERMS)
  found = table.count(ALL)
  assert table.bounds == (found.min(), found.max())


@pytest.mark.parametrize(
  ('numbers', 'table', 'message'),
  [
    ((0, 1), np.zeros(3, np.int64), 'a term of 2 decisions needs an int64 table'),
    ((0,), np.zeros(3), r'got float64\[3\]'),
    ((0,), np.array([1, -2]), 'costs are 0 or more, got -2'),
  ],
)
def test_terms_that_make_no_sense(numbers, table, message):
  with pytest.raises(ValueError, match=message):
    Term(numbers, table)
