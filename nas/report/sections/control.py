"""The found network beside random networks of its cost and its own neighbors, measured like it."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from nas.choices import describe_changes
from nas.report.amounts import format_amount, format_number, is_finite
from nas.report.findings import Findings, list_values

KEYS = ('accuracy', 'reward', 'cost')


def make(findings: Findings) -> list[tuple]:
  return [*_make_control(findings), ('heading', 'Neighbors'), *_make_neighbors(findings)]


def _make_control(findings: Findings) -> list[tuple]:
  rows = [row for row in findings.control if is_finite(row.get('accuracy'))]
  if not rows:
    return [('missing', 'No random networks of the same cost have been measured.')]
  own = {key: findings.found_value(key) for key in KEYS} | {'cost': findings.found_cost}
  values = {key: list_values(rows, key) for key in KEYS}
  means = {k: v.mean() if len(v) else math.nan for k, v in values.items()}
  spreads = {k: v.std(ddof=1) if len(v) > 1 else math.nan for k, v in values.items()}
  shown = {'Mean': means, 'Standard deviation': spreads, 'Found': own}
  said = (
    f'{len(rows)} networks of about the same cost, drawn at random, measured like the found one.'
  )
  if (found := own['accuracy']) is not None:
    away = (found - means['accuracy']) / (spreads['accuracy'] or math.nan)
    said += f' The found network is better than {np.sum(values["accuracy"] < found)} of them'
    said += f', {away:+.1f} standard deviations from their mean.' if is_finite(away) else '.'
  every = [((number,), row) for number, row in enumerate(rows, 1)]
  return [
    ('note', said),
    _make_table(findings, ('',), [((name,), row) for name, row in shown.items()]),
    ('fold', 'Each of them', [_make_table(findings, ('Number',), every)]),
  ]


def _make_neighbors(findings: Findings) -> list[tuple]:
  if not findings.neighbours:
    return [('missing', "The found network's neighbors have not been measured.")]
  own, rows = findings.found_value('reward'), []
  for rank, row in enumerate(findings.neighbours, 1):
    what = describe_changes(findings.space, row.get('changed') or {})
    rows.append(((rank, what or ('bold', 'the found network')), row))
  rewards = list_values(findings.neighbours, 'reward')
  better = 0 if own is None else np.sum(rewards > own)
  said = (
    'Networks with one decision changed, with the shared weights, best reward first. '
    f'{better} of these have a higher reward than the found network.'
  )
  return [('note', said), _make_table(findings, ('Rank', 'Changed'), rows)]


def _make_table(findings: Findings, names: tuple, rows: Iterable[tuple[tuple, Mapping]]) -> tuple:
  """Makes a table of networks: cells with such names, and what was measured of each."""
  cells = []
  for first, row in rows:
    values = (format_number(row.get(key), '.3f') for key in KEYS[:2])
    cells.append([*first, *values, format_amount(row.get('cost'), findings.cost)])
  titles = (*names, 'Accuracy', 'Reward', findings.cost_title.capitalize())
  return 'table', titles, cells, len(names)
