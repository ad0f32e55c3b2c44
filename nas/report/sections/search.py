"""What a one-shot search logged over its steps."""

from collections.abc import Sequence

import numpy as np

from nas.report.amounts import is_finite
from nas.report.charts import axis, chart, color, layer, level
from nas.report.findings import Findings

POINTS = 240  # of a line


def make(findings: Findings) -> list[tuple]:
  charts = [
    _draw(findings, 'Reward', ('reward', 'baseline')),
    _draw(findings, 'Accuracy on held-out batches', ('accuracy',)),
    _draw(findings, 'Cost / target', ('cost_ratio',), level('y', 1, 'target')),
    _draw(findings, 'Loss of the shared weights', ('loss',)),
    _draw(findings, 'Entropy of the policy', ('entropy',)),
  ]
  charts = [chart for part in charts for chart in part]
  if not charts:
    return [('missing', 'No step has been logged yet.')]
  start = findings.policy_start
  said = '' if start is None else f'The policy learns after step {start:,}, the upright line.'
  return [('charts', charts), ('note', said)]


def _draw(findings: Findings, name: str, keys: Sequence[str], layers=()) -> list[tuple]:
  """Draws values over steps, with a band from least to greatest where points are means."""
  known = {key: [row for row in findings.rows if is_finite(row.get(key))] for key in keys}
  known = {key: rows for key, rows in known.items() if rows}
  start = level('x', findings.policy_start, strokeDash=[1, 0], color='var(--soft)')
  layers, names = [*layers, *start], [(color(i), key) for i, key in enumerate(known)]
  for shade, key in names:
    places = [(row['step'], row[key]) for row in known[key]]
    parts = np.array_split(places, min(POINTS, len(places)))
    x, means = np.array([part.mean(axis=0) for part in parts]).T
    ends = {'y': [part[:, 1].min() for part in parts], 'y2': [part[:, 1].max() for part in parts]}
    said = [f'step {a:,.0f}: {key} {b:.4g}' for a, b in zip(x, means, strict=True)]
    line = {'x': x, 'y': means, 'tooltip': said}
    layers.append(layer('area', {'x': x, **ends}, color=shade, opacity=0.16))
    layers.append(layer('line', line, color=shade, point='transparent' if len(x) > 1 else True))
  x = axis('step', '', scale={'padding': 0})
  keys = names if len(names) > 1 else ()
  return [chart(name, layers, x, axis(), height=220, keys=keys)] if known else []
