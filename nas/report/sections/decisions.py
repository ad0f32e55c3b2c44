"""Every decision: what the policy made of it, and how often each choice was trained."""

import json
from collections.abc import Sequence

import numpy as np

from nas import choices
from nas.report.amounts import format_percent
from nas.report.charts import axis, chart, color, layer
from nas.report.findings import Findings

MOMENTS = 30  # of the steps that are drawn
ROW = 24  # height of a decision


def make(findings: Findings) -> list[tuple]:
  space, samples, labels = findings.space, findings.samples, choices.name_choices(findings.space)
  chosen = choices.find_chosen(space, (findings.found or {}).get('choices', {}))
  steps, table = map(np.asarray, findings.probabilities or ((), ()))
  sure, often = table[-1] if len(steps) else None, None
  if samples is not None and len(samples):
    often = choices.count_trained(space, samples.choices) / len(samples)
  said = (
    'The table has the last probabilities and, in brackets, the share of all networks run that had '
    'the choice. The found network’s are bold; a decision without one does not matter in it.'
  )
  lost = 'missing', 'The policy has not been logged yet.'
  parts = [('note', said) if len(steps) else lost]
  for group, members in choices.list_groups(space).items():
    members = [n for n in members if findings.sizes[n] > 1 or findings.held is None]
    if not members:
      continue
    names, rows = [choices.name_decision(space.decisions[n].path) for n in members], []
    for name, n in zip(names, members, strict=True):
      left = None if sure is None else choices.share_entropy(space.sizes[[n]], sure[[n]])[0]
      cells = []
      for i, label in enumerate(labels[n]):
        last = '' if sure is None else f': {format_percent(sure[n, i])}'
        trained = '' if often is None else f' ({format_percent(often[n, i])})'
        cells.append(('bold' if chosen.get(n) == i else 'plain', f'{label}{last}{trained}'))
      rows.append([name, format_percent(left), *cells])
    parts.append(('heading', f'{group or "Others"}: {len(members)} decisions'))
    if len(steps) > 1:
      parts.append(_draw(group, names, [labels[n] for n in members], steps, table[:, members]))
    head = 'Decision', 'Entropy', 'Choices', *[''] * (max(map(len, rows)) - 3)
    parts.append(('table', head, rows, len(head)))
  return parts


def _draw(group: str, names: Sequence[str], labels, steps, table) -> tuple:
  """Draws a row for each decision: its probabilities [S, D, N] over steps, stacked."""
  at = np.unique(np.linspace(0, len(steps) - 1, min(MOMENTS, len(steps))).round().astype(int))
  tops = np.cumsum(table[at], axis=-1)
  places = [(n, i) for n, row in enumerate(labels) for i in range(len(row))]
  columns = {'x': np.tile(steps[at], len(places)), 'detail': np.repeat(range(len(places)), len(at))}
  for side, edges in {'y': tops, 'y2': tops - table[at]}.items():
    rows = [n + 0.9 - 0.8 * edges[:, n, i] for n, i in places]
    columns[side] = np.concatenate(rows).round(3)
  said = [f'{names[n]}: {labels[n][i]}' for n, i in places]
  computed = ('color', _pick([color(i) for _, i in places])), ('tooltip', _pick(said))
  y = axis(
    scale={'domain': [0, len(names)], 'reverse': True, 'padding': 0},
    **{'values': [n + 0.5 for n in range(len(names))], 'grid': False, 'labelSeparation': 0},
    labelExpr=_pick(names, 'floor(datum.value)'),
    labelLimit=300,
  )
  x, title = axis('step', '', scale={'padding': 0}), f'Probabilities of {group or "others"}'
  areas = layer('area', columns, computed=computed)
  return chart(title, [areas], x, y, height=ROW * len(names) + 46)


def _pick(texts: Sequence[str], number: str = 'datum.detail') -> str:
  """Writes the Vega expression of the text with a number."""
  return f'{json.dumps(texts, ensure_ascii=False)}[{number}]'
