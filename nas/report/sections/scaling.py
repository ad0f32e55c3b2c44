"""A search for scaling coefficients: its candidates, and which differences noise decides."""

from collections.abc import Mapping

from nas.report.amounts import format_amount, format_number, is_finite
from nas.report.charts import axis, chart, dots, layer, level
from nas.report.findings import SweepFindings

ROW = 20  # height of a candidate
AVERAGED, OTHER, BASELINE = 'var(--c2)', 'var(--c0)', 'var(--c1)'
KINDS = ((AVERAGED, 'averaged'), (OTHER, 'other drawn'), (BASELINE, 'baseline'))
DRAWN = 'drawn '  # how names of candidates begin that are no baselines
NOISE = {'samples': 'sampled network', 'repeats': 'seed'}


def make(findings: SweepFindings) -> list[tuple]:
  """Draws the facts averaged, candidates, comparisons, noise and recheck."""
  facts = findings.conclusion.facts
  if not facts or not any(is_finite(row['mean']) for row in facts['candidates']):
    return [('missing', 'No candidate has a network that was trained to the end yet.')]
  said = f'The coefficients are the mean of the best drawn: {", ".join(facts["averaged"])}.'
  lost = 'missing', 'No drawn candidate has a mean yet: there is nothing to average.'
  parts = [('note', said) if facts['averaged'] else lost, *_compare(findings, facts)]
  parts.append(('heading', 'Re-check at the largest φ'))
  if facts['recheck'] is None:
    return [*parts, ('missing', 'Nothing has been trained at a larger φ.')]
  again = {**facts['recheck'], 'averaged': facts['averaged']}
  at, agreement = f' at φ = {again["phi"]:g}', again['agreement']
  said = f'The order{at} is {", ".join(again["order"])}; it was {", ".join(again["order_before"])}.'
  said += '' if agreement is None else f' Kendall’s τ of the two is {agreement:.2f}.'
  same = 'note', f'The best is the same{at}. {said}'
  head = same if again['best_held'] else ('warning', f'Another one is the best{at}', [said])
  return [*parts, head, *_compare(findings, again, at)]


def _compare(findings: SweepFindings, facts: Mapping, at: str = '') -> list[tuple]:
  drawn = [row for row in facts['candidates'] if row['name'].startswith(DRAWN)]
  # With this one the others were compared.
  best = drawn[0] if drawn and is_finite(drawn[0]['mean']) else None
  return [_judge(facts, best), _draw(findings, facts, best, at), _make_table(facts)]


def _judge(facts: Mapping, best: Mapping | None) -> tuple:
  """Tells which of the differences are more than noise, with numbers."""
  comparisons, noise = facts['comparisons'], facts['noise']
  if not comparisons:
    return 'missing', 'There is nothing to compare the best candidate with yet.'
  if noise['over'] is None:
    said = 'Each candidate was judged by one training of one network: noise is not known.'
    return 'warning', 'Undecided', [said]
  repeats = noise['repeats_sd'] if noise['over'] == 'samples' else None
  within = '' if repeats is None else f'; among trainings of one network it is {repeats:.4f}'
  alike = [one['with'] for one in comparisons if one['undecided']]
  baselines = [one for one in comparisons if not one['with'].startswith(DRAWN)]
  said = (
    'Candidates are compared in pairs, on networks of the same numbers and the same seeds. Noise '
    f'is how they differ from one {NOISE[noise["over"]]} to the next: a standard deviation of '
    f'{noise["sd"]:.4f} ({noise["freedom"]} degrees of freedom){within}. Margins are honest '
    f'significant differences at 95 %. As good as {best["name"]}, as far as they tell: '
    f'{", ".join(alike) or "none"}.'
  )
  if any(one['gain'] < 0 for one in baselines if not one['undecided']):
    return 'warning', 'A baseline is better than the best candidate', [said]
  if any(one['undecided'] for one in baselines):
    return 'warning', 'Undecided between the best candidate and a baseline', [said]
  return 'note', said


def _draw(findings: SweepFindings, facts: Mapping, best: Mapping | None, at: str) -> tuple:
  """Draws a row for each: its samples, their mean, and how far noise may hide the best."""
  rows = [row for row in facts['candidates'] if is_finite(row['mean'])]
  names = [row['name'] for row in rows]
  kinds = {name: OTHER if name.startswith(DRAWN) else BASELINE for name in names}
  kinds |= {name: AVERAGED for name in names if name in facts['averaged']}
  known = [one for one in facts['comparisons'] if one['margin'] is not None]
  found = [(row['name'], i, v) for row in rows for i, v in enumerate(row['samples'])]
  found = [(name, f'{name}, sample {i}: {v:.4f}', v) for name, i, v in found if is_finite(v)]
  bars = {'x': [best['mean'] - one['gain'] for one in known], 'y': [one['with'] for one in known]}
  bars['xError'] = [one['margin'] for one in known]
  means = {'x': [row['mean'] for row in rows], 'y': names}
  marks = dict(zip(('y', 'tooltip', 'x'), zip(*found, strict=True), strict=True))
  for columns in (bars, means, marks):
    columns['color'] = [kinds[name] for name in columns['y']]
  layers = [
    *level('x', best and best['mean']),
    layer('errorbar', bars),
    layer('tick', means, thickness=2, size=14),
    dots(marks, 40, stroke='var(--paper)', strokeWidth=1),
  ]
  below = (
    'Dots are the networks of a candidate, the upright bar is their mean. The line is the margin '
    'of noise on networks that the best drawn one has too: where it reaches the dashed line, the '
    'candidate may be as good. In the table, MACs and latency are means.'
  )
  title, tall = f'{findings.value_title} of every candidate{at}', ROW * len(rows) + 52
  x, keys = axis(findings.value_title, grid=True), [k for k in KINDS if k[0] in kinds.values()]
  wide = {'labelLimit': 300, 'labelOverlap': False, 'grid': False}
  y = {'type': 'nominal', 'title': None, 'scale': {'domain': names}, 'axis': wide}
  return chart(title, layers, x, y, height=tall, keys=keys, below=below)


def _make_table(facts: Mapping) -> tuple:
  """Makes a row for each candidate, best first; those without a mean last."""
  comparisons, rows = {one['with']: one for one in facts['comparisons']}, []
  for row in facts['candidates']:
    name, spread, against, gap = row['name'], row['sd'], comparisons.get(row['name']), ('', '', '')
    if against:
      verdict = 'undecided' if against['undecided'] else 'decided'
      gap = format_number(against['gain'], '+.4f'), format_number(against['margin']), verdict
    cells = [name, *(f'{value:.4g}' for value in row['coefficients'].values())]
    cells += [f'{row["ratio"]:.3f}', *(format_amount(row[c], c) for c in ('macs', 'latency_ns'))]
    cells += [format_number(row['mean']) + (f' ± {spread:.4f}' if is_finite(spread) else '')]
    rows.append([*cells, row['n'], *gap, ', '.join(map(str, row['trials']))])
  names = ('Cost / base', 'MACs', 'Latency', 'Mean ± sd', 'Networks', 'Behind', 'Margin', '')
  return 'table', ('Candidate', *facts['candidates'][0]['coefficients'], *names, 'Trials'), rows
