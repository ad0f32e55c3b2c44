"""Accuracy against cost of the networks that a one-shot search sampled."""

import numpy as np

from nas.report import charts
from nas.report.amounts import format_amount, is_finite
from nas.report.findings import Findings

MOST_POINTS = 5_000  # drawn of the samples, besides the front


def make(findings: Findings) -> list[tuple]:
  samples, name = findings.samples, findings.cost_title
  if samples is None or not len(samples):
    return [('missing', 'No network has been sampled yet.')]
  cost, accuracy = np.asarray(samples.cost), np.asarray(samples.accuracy, float)
  front = charts.pareto_front(cost, accuracy)
  if not len(front):
    return [('missing', 'No sampled network has a finite accuracy.')]
  points = np.flatnonzero(np.isfinite(accuracy))
  even = np.linspace(0, len(points) - 1, min(MOST_POINTS, len(points))).round().astype(int)
  drawn = np.union1d(points[even], front)
  ages = [f'var(--t{5 * i // len(drawn)})' for i in range(len(drawn))]
  layers = [
    charts.dots({'x': cost[drawn], 'y': accuracy[drawn], 'color': ages}, 12, tooltip=None),
    *charts.stairs(cost[front], accuracy[front], max(cost[drawn])),
    *charts.level('x', findings.target, 'target'),
  ]
  keys = [('var(--t0)', 'first samples'), ('var(--t4)', 'last')]
  own = {'cost': findings.found_cost, 'accuracy': findings.found_value('accuracy')}
  best = [{'cost': cost[i], 'accuracy': accuracy[i]} for i in front.tolist()]
  for what, color, rows, size, shape in (
    ('Pareto front', charts.FRONT, best, 14, 'circle'),
    ('random control', charts.CONTROL, findings.control, 70, 'diamond'),
    ('found', charts.FOUND, [own], 420, charts.STAR),
  ):
    rows = [(row['cost'], row['accuracy']) for row in rows]
    rows = [row for row in rows if all(map(is_finite, row))]
    said = [f'{what}: {format_amount(c, findings.cost)} {name}, accuracy {a:.3f}' for c, a in rows]
    columns = {'x': [c for c, _ in rows], 'y': [a for _, a in rows], 'tooltip': said}
    layers.append(charts.dots(columns, size, shape=shape, color=color))
    keys += [(color, what)] if rows else []
  few = f'{len(drawn):,} of {len(samples):,}' if len(drawn) < len(samples) else 'All'
  below = f'{few} samples are drawn. Each was measured on one batch: their front is too high.'
  x, title = charts.axis(name, findings.cost), f'Accuracy against {name}'
  return [charts.chart(title, layers, x, charts.axis(), height=420, keys=keys, below=below)]
