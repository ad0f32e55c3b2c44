"""The steps of a progressive search: what each searched, what it found, how sure it was."""

from collections.abc import Sequence

import numpy as np

from nas.report.amounts import format_amount, format_number, format_share, is_finite
from nas.report.charts import axis, chart, color, layer
from nas.report.findings import Findings, ProgressiveFindings
from nas.report.sections import decisions

POINTS = 240  # of a line


def make(findings: ProgressiveFindings) -> list[tuple]:
  rows = [_tell(name, step) for name, step in findings.steps.items()]
  titles = (
    *('Step', 'Decisions searched', 'Multiply-adds', 'Cost', 'Accuracy'),
    *('Entropy at the end, nats', 'At most, nats'),
  )
  said = (
    'Each step inherits the weights and the choices of the one before. Accuracy is with the shared '
    'weights. The entropy is that of the distribution over networks; it is at most the logarithm '
    'of their number.'
  )
  charts = [
    part for i, (name, step) in enumerate(findings.steps.items()) for part in _draw(i, name, step)
  ]
  folds = [
    ('fold', f'{name}: every decision', decisions.make(step))
    for name, step in findings.steps.items()
  ]
  train = 'command', findings.command, 'Train the found network'
  return [('note', said), ('table', titles, rows, 1), train, ('charts', charts), *folds]


def _tell(name: str, step: Findings) -> list:
  last = step.rows[-1] if step.rows else {}
  searched = int(np.sum(step.searched))
  cost = format_share(step.found_cost, step.target, 'target', step.cost)
  left = (format_number(last.get(key), '.3g') for key in ('entropy_total', 'entropy_bound'))
  macs = format_amount(step.found.get('cost', {}).get('macs'), 'macs')
  accuracy = format_number(step.found_value('accuracy'), '.3f')
  return [name, f'{searched:,}', macs, cost, accuracy, *left]


def _draw(number: int, name: str, step: Findings) -> list[tuple]:
  """Draws the entropy of a step and its bound."""
  lines, keys = [], []
  for key, shade, said in (
    ('entropy_total', color(number), 'entropy'),
    ('entropy_bound', 'var(--soft)', 'at most'),
  ):
    x, y = _thin([(r['step'], r[key]) for r in step.rows if is_finite(r.get(key))])
    if len(x):
      columns = {'x': x, 'y': y, 'tooltip': [f'{said} {value:.3g} nats' for value in y]}
      lines.append(layer('line', columns, color=shade))
      keys.append((shade, said))
  x = axis('step', '', scale={'padding': 0})
  title = f'Entropy of {name}, nats'
  return (
    [chart(title, lines, x, axis(scale={'domainMin': 0}), height=200, keys=keys)] if lines else []
  )


def _thin(points: Sequence[tuple]) -> tuple[np.ndarray, np.ndarray]:
  """Takes POINTS of a line at most, the first and the last among them."""
  at = np.unique(np.linspace(0, len(points) - 1, min(POINTS, len(points))).round().astype(int))
  taken = np.array([points[n] for n in at], float).reshape(-1, 2)
  return taken[:, 0], taken[:, 1]
