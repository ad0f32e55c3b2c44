"""The Pareto front has all that no other point beats, and nothing else."""

import numpy as np
import pytest

from nas import report


def test_front_is_that_of_brute_force():
  rng = np.random.default_rng(0)
  for trial in range(50):
    cost = rng.integers(0, 8 + trial, 60)  # small ranges have ties
    accuracy = rng.integers(0, 12, 60) / 12
    points = set(zip(cost.tolist(), accuracy.tolist(), strict=True))
    wanted = {
      (c, a)
      for c, a in points
      if not any((d, b) != (c, a) and d <= c and b >= a for d, b in points)
    }
    front = report.pareto_front(cost, accuracy)
    found = list(zip(cost[front].tolist(), accuracy[front].tolist(), strict=True))
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert found == sorted(found)


def test_front_of_nothing_and_of_what_is_not_finite():
  assert report.pareto_front([], []).tolist() == []
  front = report.pareto_front([3, 1, 2, 4], [0.5, np.nan, np.inf, 0.6])
  assert front.tolist() == [0, 3]
  with pytest.raises(ValueError, match='as many costs as accuracies'):
    report.pareto_front([1, 2], [0.5])
