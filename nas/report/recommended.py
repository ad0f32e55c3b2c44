"""The networks that a sweep recommends: their costs, specs and commands."""

import json

from nas.history import Trial
from nas.report.findings import is_finite
from nas.report.html import (
  Html,
  capitalize,
  fold,
  format_choice,
  format_cost,
  format_number,
  join,
  missing,
  table,
  tag,
)
from nas.report.trials import COSTS, TOPS, SweepFindings, title_cost

MOST = 10


def make_recommended(findings: SweepFindings) -> Html:
  best = [findings.trials[number] for number in findings.conclusion.best[:MOST]]
  if not best:
    return missing('No network can be recommended yet: none has been trained to the end.')
  costs = [c for c in COSTS if any(is_finite(t.metrics.get(c)) for t in best)]
  tops = [
    name
    for name in TOPS
    if name != findings.measure and all(is_finite(t.metrics.get(name)) for t in best)
  ]
  names = [
    capitalize(findings.value_title),
    *(capitalize(TOPS[name]) for name in tops),
    *(title_cost(c).capitalize() for c in costs),
  ]
  rows = [
    [
      rank,
      trial.number,
      format_number(trial.value, 4),
      *(format_number(trial.metrics[key], 4) for key in tops),
      *(format_cost(cost, trial.metrics.get(cost)) for cost in costs),
    ]
    for rank, trial in enumerate(best, 1)
  ]
  each = [_make_network(findings, trial) for trial in best]
  return join([table(('Rank', 'Trial', *names), rows, texts=0), *each])


def _make_network(findings: SweepFindings, trial: Trial) -> Html:
  """What was chosen for it, its spec and the command, folded."""
  network = findings.networks.get(trial.number, {})
  chosen = findings.space.describe(trial.choices)
  parts = [
    tag(
      'p',
      *[tag('span', f'{k} ', tag('b', format_choice(v))) for k, v in chosen.items()],
      class_='facts',
    )
  ]
  if command := network.get('train'):
    parts.append(tag('pre', command, class_='command'))
  if spec := network.get('spec'):
    parts.append(tag('pre', json.dumps(spec, indent=1, ensure_ascii=False)))
  else:
    parts.append(missing('Its spec has not been handed to the report.'))
  family = f', family {network["family"]}' if 'family' in network else ''
  return fold(f'Trial {trial.number}{family}: choices, command and spec as JSON', *parts)
