"""Quantiles and agreements are those of published tables and of their definitions."""

import itertools

import numpy as np
import pytest

from nas.algorithms import statistics


@pytest.mark.parametrize(
  ('groups', 'freedom', 'quantile', 'digits'),
  # The 5 % points of published tables of the studentized range, as printed.
  [
    (2, 10, 3.151, 3),
    (3, 2, 8.331, 3),
    (3, 10, 3.877, 3),
    (5, 20, 4.232, 3),
    (10, 30, 4.824, 3),
    (10, 20, 5.01, 2),
    (20, 40, 5.36, 2),
    (20, 120, 5.13, 2),
  ],
)
def test_quantiles_are_those_of_tables(groups, freedom, quantile, digits):
  found = statistics.find_quantile(groups, freedom)
  assert found == pytest.approx(quantile, abs=0.5 * 10**-digits + 1e-6)


def test_agreement_counts_pairs():
  """Kendall's τ: pairs in the same order less those in the other, of all pairs."""
  names, rng = list('abcdef'), np.random.default_rng(0)
  for _ in range(20):
    after = list(rng.permutation(names))
    signs = [
      1 if after.index(a) < after.index(b) else -1 for a, b in itertools.combinations(names, 2)
    ]
    assert statistics.measure_agreement(names, after) == pytest.approx(np.mean(signs))
  assert statistics.measure_agreement(names, names) == pytest.approx(1)
  assert statistics.measure_agreement(names, names[::-1]) == pytest.approx(-1)
  assert statistics.measure_agreement(['a'], ['a']) is None
