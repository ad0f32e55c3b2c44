"""Accuracy against cost: of what was sampled, of random networks, of neighbours."""

import math
from collections.abc import Mapping

import numpy as np

from nas.report.charts import (
  Axis,
  diamond,
  fit_width,
  grid,
  line,
  make_axis,
  star,
  svg,
  text,
)
from nas.report.decisions import describe_changes
from nas.report.findings import Findings, is_finite, list_values
from nas.report.front import draw_front, pareto_front
from nas.report.html import (
  Html,
  cost_units,
  figure,
  fold,
  format_cost,
  format_number,
  join,
  key,
  missing,
  note,
  table,
  tag,
)

MOST_POINTS = 5_000  # drawn of the samples, besides the front
MEASURES = ('accuracy', 'reward', 'cost')


def make_tradeoff(findings: Findings) -> Html:
  samples = findings.samples
  if samples is None or not len(samples):
    return missing('No network has been sampled yet.')
  cost, accuracy = np.asarray(samples.cost), np.asarray(samples.accuracy, float)
  front = pareto_front(cost, accuracy)
  if not len(front):
    return missing('No sampled network has a finite accuracy.')
  drawn = _subsample(np.flatnonzero(np.isfinite(accuracy)), front)
  found, own = findings.found_cost, findings.found_value('accuracy')
  control = _list_measured(findings.control)
  costs = [row['cost'] for row in control] + _given(found, findings.target)
  heights = [row['accuracy'] for row in control] + _given(own)
  x = make_axis([cost[drawn], costs], 0, 960, units=cost_units(findings.cost))
  y = make_axis([accuracy[drawn], heights], 400, 14)
  x = fit_width(x, y, 960)
  parts = [
    grid(x, y, findings.cost_title),
    *_draw_points(x(cost), y(accuracy), drawn),
    *draw_front(x(cost[front]), y(accuracy[front]), x.end),
    *[_draw_control(x(row['cost']), y(row['accuracy'])) for row in control],
    *_draw_target(findings, x, y),
    *_draw_found(findings, x, y),
  ]
  name = f'Accuracy against {findings.cost_title}'
  few = f'{len(drawn):,} of {len(samples):,}' if len(drawn) < len(samples) else 'All'
  return figure(
    name,
    svg(960, 440, name, *parts, class_='chart wide'),
    key('t0', 'first samples'),
    key('t4', 'last'),
    key('front', 'Pareto front'),
    *([key('found', 'found')] if found is not None else []),
    *([key('control', 'random control')] if control else []),
    below=f'{few} samples are drawn, with the whole front. Each was measured on one '
    'batch, so a front of many samples is higher than its networks are.',
  )


def _subsample(points: np.ndarray, front: np.ndarray) -> np.ndarray:
  """At most MOST_POINTS, evenly over the search, and the front; in order."""
  if len(points) > MOST_POINTS:
    even = np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)
    points = points[even]
  return np.union1d(points, front)


def _list_measured(rows) -> list[Mapping]:
  return [row for row in rows if is_finite(row.get('accuracy'))]


def _given(*values) -> list:
  return [value for value in values if value is not None]


def _draw_points(x, y, drawn) -> list[Html]:
  """The samples in five colours, of their fifth of the search."""
  parts = []
  for age, part in enumerate(np.array_split(drawn, 5)):
    dots = ''.join(f'M{x[i]:.1f},{y[i]:.1f}h0' for i in part)
    parts.append(tag('path', d=dots, class_=f'points t{age}'))
  return parts


def _draw_control(x, y) -> Html:
  return diamond(x, y, 'dot control', 'random control')


def _draw_target(findings: Findings, x: Axis, y: Axis) -> list[Html]:
  if findings.target is None:
    return []
  at = x(findings.target)
  return [
    line(at, y.start, at, y.end, 'level'),
    text(at + 5, y.end + 10, 'target', 'mark'),
  ]


def _draw_found(findings: Findings, x: Axis, y: Axis) -> list[Html]:
  """A star, or a line where its accuracy is not known."""
  own = findings.found_value('accuracy')
  if findings.found_cost is None:
    return []
  at = x(findings.found_cost)
  if own is None:
    return [line(at, y.start, at, y.end, 'line found')]
  return [star(at, y(own), 'dot found')]


def make_control(findings: Findings) -> Html:
  """The found network among random ones of its cost."""
  rows = _list_measured(findings.control)
  if not rows:
    return missing('No random networks of the same cost have been measured.')
  accuracy = list_values(rows, 'accuracy')
  own = findings.found_value('accuracy')
  measured = {
    'Mean': {k: _mean(rows, k) for k in MEASURES},
    'Standard deviation': {k: _spread(rows, k) for k in MEASURES},
    'Best of them': max(rows, key=lambda row: row['accuracy']),
    tag('b', 'Found network'): _measure_found(findings),
  }
  summary = [[k, *_format_measures(findings, row)] for k, row in measured.items()]
  each = [[i + 1, *_format_measures(findings, row)] for i, row in enumerate(rows)]
  names = _name_measures(findings)
  return join(
    [
      note(_compare_control(findings, rows, own)),
      _draw_strip(accuracy, own),
      table(('', *names), summary),
      fold('Each of them', table(('Number', *names), each)),
    ]
  )


def _name_measures(findings: Findings) -> tuple[str, ...]:
  return 'Accuracy', 'Reward', findings.cost_title.capitalize()


def _format_measures(findings: Findings, row: Mapping) -> list[str]:
  numbers = [format_number(row.get(key)) for key in ('accuracy', 'reward')]
  return [*numbers, format_cost(findings.cost, row.get('cost'))]


def _measure_found(findings: Findings) -> dict:
  values = {key: findings.found_value(key) for key in ('accuracy', 'reward')}
  return {**values, 'cost': findings.found_cost}


def _mean(rows, key) -> float:
  values = list_values(rows, key)
  return values.mean() if len(values) else math.nan


def _spread(rows, key) -> float:
  values = list_values(rows, key)
  return values.std(ddof=1) if len(values) > 1 else math.nan


def _compare_control(findings: Findings, rows, own: float | None) -> str:
  accuracy, cost = list_values(rows, 'accuracy'), list_values(rows, 'cost')
  low, high = (format_cost(findings.cost, end) for end in (cost.min(), cost.max()))
  text = (
    f'{len(rows)} networks drawn at random with {low} to {high} {findings.cost_title}, measured '
    'like the found one.'
  )
  if own is None:
    return text
  text += f' The found network is better than {np.sum(accuracy < own)} of them'
  sd = _spread(rows, 'accuracy')
  if not sd > 0:  # of one alone it is not a number
    return f'{text}.'
  return f'{text}, {(own - accuracy.mean()) / sd:+.1f} standard deviations.'


def _draw_strip(accuracy: np.ndarray, own: float | None) -> Html:
  """Accuracies side by side, equal ones stacked, with the found network's."""
  x = make_axis([accuracy, _given(own)], 30, 930)
  places = np.sort(x(accuracy))
  levels = _stack(places)
  rise = min(12, 240 / (1 + max(levels)))
  foot = 34 + rise * max(levels)
  parts = [line(x.start, foot, x.end, foot, 'grid')]
  for value, said in x.ticks():
    parts.append(line(x(value), foot, x(value), foot + 5, 'grid'))
    parts.append(text(x(value), foot + 20, said, anchor='middle'))
  if own is not None:
    parts.append(line(x(own), 4, x(own), foot, 'line found'))
  for at, level in zip(places, levels, strict=True):
    parts.append(_draw_control(at, foot - 12 - rise * level))
  keys = [key('control', 'random control')]
  if own is not None:
    keys.append(key('found', 'found'))
  name = 'Accuracy of the random control and of the found network'
  drawn = svg(960, round(foot + 26), name, *parts, class_='chart wide')
  return figure('Accuracy', drawn, *keys)


def _stack(places, wide: float = 10) -> list[int]:
  """For ascending places the lowest level where nothing drawn before is in the way."""
  levels, ends = [], []
  for place in places:
    level = next((i for i, end in enumerate(ends) if end <= place), len(ends))
    ends[level : level + 1] = [place + wide]
    levels.append(level)
  return levels


def make_neighbours(findings: Findings) -> Html:
  """The networks of one decision changed."""
  if not findings.neighbours:
    return missing("The found network's neighbours have not been measured.")
  own = findings.found_value('reward')
  rows, better = [], 0
  for i, row in enumerate(findings.neighbours):
    changed = row.get('changed') or {}
    what = describe_changes(findings.space, changed)
    gain = ''
    if changed and own is not None and is_finite(row.get('reward')):
      better += row['reward'] > own
      gain = f'{row["reward"] - own:+.3f}'.replace('-', '−')
    what = what or tag('b', 'the found network')
    rows.append([i + 1, what, *_format_measures(findings, row), gain])
  said = note(
    'Networks with one decision changed, with the shared weights, best reward first. '
    f'{better} of these have a higher reward than the found network.'
  )
  names = ('Rank', 'Changed', *_name_measures(findings), 'Against the found')
  return join([said, table(names, rows, texts=2)])
