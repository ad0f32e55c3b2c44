"""The path of a search for scaling coefficients: its candidates, and what noise decides."""

import math
from collections.abc import Mapping

from nas.report.charts import (
  LETTER_WIDTH,
  Axis,
  dot,
  line,
  make_axis,
  svg,
  text,
)
from nas.report.findings import is_finite
from nas.report.html import (
  Html,
  capitalize,
  figure,
  format_change,
  format_cost,
  format_number,
  join,
  key,
  missing,
  note,
  table,
  tag,
  warn,
)
from nas.report.trials import SweepFindings

ROW = 20  # height of a candidate
KINDS = {'c2': 'averaged', 'c0': 'other drawn', 'c1': 'baseline'}
DRAWN = 'drawn '  # how names of candidates begin that are no baselines


def make_scaling(findings: SweepFindings) -> Html:
  """The facts of nas.algorithms.scale, drawn and in tables."""
  facts = findings.conclusion.facts
  if not facts or not _list_judged(facts):
    return missing('No candidate has a network that was trained to the end yet.')
  return join(
    [
      _make_result(facts),
      make_verdict(facts),
      _draw_candidates(findings, facts),
      _make_table(facts),
      tag('h3', 'Re-check at the largest φ'),
      _make_recheck(findings, facts),
    ]
  )


def _make_result(facts: Mapping) -> Html:
  """The coefficients that the search recommends."""
  said = [
    tag('span', f'{name} ', tag('b', format_coefficient(value)))
    for name, value in facts['coefficients'].items()
  ]
  if not said:
    return missing('No drawn candidate has a mean yet: there is nothing to average.')
  count = len(facts['averaged'])
  names = ', '.join(facts['averaged'])
  which = f'Mean of the best {count} drawn candidates ({names})' if count > 1 else names
  return join([tag('p', *said, class_='facts'), note(f'{which}.')])


def format_coefficient(value: float) -> str:
  return f'{value:.4g}'


def make_verdict(facts: Mapping) -> Html:
  """Which of the differences are more than noise, with numbers."""
  comparisons, noise = facts['comparisons'], facts['noise']
  if not comparisons:
    return missing('There is nothing to compare the best candidate with yet.')
  if noise['over'] is None:
    return warn(
      'Undecided',
      'Every candidate has been judged by one training of one network, so noise is not '
      'known and no difference can be told from it.',
    )
  best = _find_best(facts)['name']
  baselines = [c for c in comparisons if not c['with'].startswith(DRAWN)]
  rest = [c for c in comparisons if c['with'].startswith(DRAWN)]
  said = [_say_noise(noise)]
  if rest:
    alike = sum(c['undecided'] for c in rest)
    said.append(f'Of {len(rest)} other candidates {alike} may be as good as {best}.')
  said += [_say_comparison(best, comparison) for comparison in baselines]
  if any(not c['undecided'] and c['gain'] < 0 for c in baselines):
    return warn('A baseline is better than the best candidate', *said)
  if any(c['undecided'] for c in baselines):
    return warn('Undecided between the best candidate and a baseline', *said)
  return join([note(line) for line in said])


def _find_best(facts: Mapping) -> Mapping:
  """The best of the drawn candidates, with which the others are compared."""
  return next(row for row in facts['candidates'] if row['name'].startswith(DRAWN))


def _say_noise(noise: Mapping) -> str:
  over = {
    'samples': 'from one sampled network to the next',
    'repeats': 'from one seed to the next, as each candidate has one network alone',
  }[noise['over']]
  said = (
    'Candidates are compared in pairs, on networks of the same numbers and the same '
    f'seeds. Noise is how they differ {over}, beside what all have in common: a standard '
    f'deviation of {noise["sd"]:.4f} ({noise["freedom"]} degrees of freedom)'
  )
  if noise['over'] == 'samples' and noise['repeats_sd'] is not None:
    said += f'; among trainings of one network it is {noise["repeats_sd"]:.4f}'
  return f'{said}. Margins are honest significant differences at 95 %.'


def _say_comparison(best: str, comparison: Mapping) -> str:
  gain, margin = comparison['gain'], comparison['margin']
  if margin is None:
    return f'{comparison["with"]}: undecided, it shares no network with {best}.'
  size = f'by {abs(gain):.4f}, {{}} the margin of noise {margin:.4f}'
  if comparison['undecided']:
    side = 'above' if gain >= 0 else 'below'
    within = f'undecided: {best} is {side} it {size.format("within")}'
    return f'{comparison["with"]}: {within}.'
  side = 'better' if gain >= 0 else 'worse'
  return f'{comparison["with"]}: {best} is {side} {size.format("more than")}.'


def _list_judged(facts: Mapping) -> list[Mapping]:
  return [row for row in facts['candidates'] if is_finite(row['mean'])]


def _draw_candidates(findings: SweepFindings, facts: Mapping, at: str = '') -> Html:
  """A row for each: its samples, their mean, and how far noise may hide the best."""
  rows = _list_judged(facts)
  reaches = {row['name']: _find_reach(facts, row) for row in rows}
  left = 12 + LETTER_WIDTH * max(len(row['name']) for row in rows)
  sampled = [[v for v in row['samples'] if is_finite(v)] for row in rows]
  x = make_axis([*reaches.values(), *sampled], left, 940)
  foot = ROW * len(rows) + 6
  parts = [_draw_foot(findings, x, foot)]
  drawn = [row for row in rows if row['name'].startswith(DRAWN)]
  if drawn:
    best = x(drawn[0]['mean'])
    parts.append(line(best, 0, best, foot, 'level'))
  for place, row in enumerate(rows):
    middle = ROW * (place + 0.5) + 2
    parts += _draw_row(x, middle, row, reaches[row['name']], _name_kind(facts, row))
  title = f'{capitalize(findings.value_title)} of every candidate{at}'
  kinds = {_name_kind(facts, row) for row in rows}
  return figure(
    title,
    svg(960, foot + 40, title, *parts, class_='chart wide'),
    *[key(kind, meaning) for kind, meaning in KINDS.items() if kind in kinds],
    below='Dots are the networks sampled for a candidate, the upright bar is their mean. '
    'The line is the margin of noise: where it reaches the dashed line, the candidate may '
    'be as good as the best drawn one. It begins at the mean, or beside it where one of '
    'the two lacks networks that the other has.',
  )


def _draw_foot(findings: SweepFindings, x: Axis, foot: float) -> Html:
  """The axis, whose numbers are below all rows."""
  parts = []
  for value, said in x.ticks():
    parts.append(line(x(value), 0, x(value), foot, 'grid'))
    parts.append(text(x(value), foot + 16, said, anchor='middle'))
  middle = (x.start + x.end) / 2
  return join([*parts, text(middle, foot + 34, findings.value_title, 'name', 'middle')])


def _find_reach(facts: Mapping, row: Mapping) -> tuple[float, float]:
  """The margin of noise, from a candidate's place toward the best drawn one's mean.

  That place is its mean, but for the networks that only one of the two has.
  """
  for comparison in facts['comparisons']:
    if comparison['with'] == row['name'] and comparison['margin'] is not None:
      place = _find_best(facts)['mean'] - comparison['gain']
      return place, place + math.copysign(comparison['margin'], comparison['gain'])
  return row['mean'], row['mean']


def _name_kind(facts: Mapping, row: Mapping) -> str:
  if not row['name'].startswith(DRAWN):
    return 'c1'
  return 'c2' if row['name'] in facts['averaged'] else 'c0'


def _draw_row(x: Axis, at: float, row: Mapping, reach, kind: str) -> list[Html]:
  name, mean = row['name'], x(row['mean'])
  said = f'{name}: mean {row["mean"]:.4f} of {row["n"]}'
  parts = [text(x.start - 8, at + 4, name, anchor='end')]
  parts.append(line(x(reach[0]), at, x(reach[1]), at, f'line thin {kind}'))
  parts.append(line(mean, at - 7, mean, at + 7, f'line {kind}'))
  parts += [
    dot(x(value), at, f'dot sample {kind}', 3.5, f'{said}; sample {i}: {value:.4f}')
    for i, value in enumerate(row['samples'])
    if is_finite(value)
  ]
  return parts


def _make_table(facts: Mapping) -> Html:
  """A row for each candidate, best first; those without a mean last."""
  comparisons = {c['with']: c for c in facts['comparisons']}
  coefficients = list(facts['candidates'][0]['coefficients'])
  rows = [
    [
      tag('b', row['name']) if row['name'] in facts['averaged'] else row['name'],
      *(format_coefficient(row['coefficients'][name]) for name in coefficients),
      f'{row["ratio"]:.3f}',
      format_cost('macs', row['macs']),
      format_cost('latency_ns', row['latency_ns']),
      _say_mean(row),
      row['n'],
      *_say_gap(comparisons.get(row['name'])),
      ', '.join(map(str, row['trials'])),
    ]
    for row in facts['candidates']
  ]
  names = (
    'Cost / base',
    'MACs',
    'Latency',
    'Mean ± sd',
    'Networks',
    'Behind',
    'Margin',
    '',
    'Trials',
  )
  lost = sum(row['lost'] for row in facts['candidates'])
  said = (
    'In bold: those that were averaged. MACs and latency: the mean of the candidate’s '
    'networks. Behind the best drawn one, on networks that both have, and the margin.'
  )
  if lost:
    said += f' Trials that ended without a value: {lost}.'
  return join([table(('Candidate', *coefficients, *names), rows), note(said)])


def _say_mean(row: Mapping) -> str:
  spread = f' ± {row["sd"]:.4f}' if is_finite(row['sd']) else ''
  return f'{format_number(row["mean"], 4)}{spread}'


def _say_gap(comparison: Mapping | None) -> tuple[str, str, str]:
  if comparison is None:
    return '', '', ''
  verdict = 'undecided' if comparison['undecided'] else 'decided'
  margin = format_number(comparison['margin'], 4)
  return format_change(comparison['gain']), margin, verdict


def _make_recheck(findings: SweepFindings, facts: Mapping) -> Html:
  """What became of the order of candidates at the largest φ."""
  again = facts['recheck']
  if again is None:
    return missing('Nothing has been trained at a larger φ.')
  again = {**again, 'averaged': facts['averaged']}
  at, agreement = f' at φ = {again["phi"]:g}', again['agreement']
  said = f'The order{at} is {", ".join(again["order"])}; it was {", ".join(again["order_before"])}.'
  if agreement is not None:
    said += f' Kendall’s τ of the two is {agreement:.2f}.'
  same = f'The best is the same{at}. '
  return join(
    [
      note(same + said) if again['best_held'] else warn(f'Another one is the best{at}', said),
      make_verdict(again),
      _draw_candidates(findings, again, at),
      _make_table(again),
    ]
  )
