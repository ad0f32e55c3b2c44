"""The Pareto front: what no other network beats in both accuracy and cost."""

import numpy as np

from nas.report.charts import dot, path
from nas.report.html import Html


def pareto_front(cost, accuracy) -> np.ndarray:
  """Which points no other beats: none is as cheap and as accurate, and better in one.

  Args:
    cost: [n].
    accuracy: [n]; a point whose accuracy or cost is not finite is on no front.

  Returns:
    Their indices, cheapest first. Of equal points the first.
  """
  cost, accuracy = np.asarray(cost), np.asarray(accuracy, float)
  if cost.shape != accuracy.shape or cost.ndim != 1:
    raise ValueError(
      f'a front needs as many costs as accuracies, got {list(cost.shape)} and '
      f'{list(accuracy.shape)}'
    )
  finite = np.flatnonzero(np.isfinite(cost) & np.isfinite(accuracy))
  order = finite[np.lexsort((-accuracy[finite], cost[finite]))]
  best_before = np.maximum.accumulate(np.append(-np.inf, accuracy[order]))[:-1]
  return order[accuracy[order] > best_before]


def draw_front(x, y, end: float) -> list[Html]:
  """Its points, and the stairs above what they dominate, on to the chart's end."""
  if not len(x):
    return []
  stairs = path(np.append(np.repeat(x, 2)[1:], end), np.repeat(y, 2), 'line front')
  return [stairs, *[dot(a, b, 'dot front', 2.5) for a, b in zip(x, y, strict=True)]]
