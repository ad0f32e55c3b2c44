"""How a sweep stands, and the networks that it recommends with their specs and commands."""

import json
import statistics

from nas.history import State, Trial, count_states, count_trained
from nas.report.amounts import format_amount, format_number, format_share, is_finite
from nas.report.findings import COSTS, METRICS, SweepFindings, list_values

MOST = 10  # networks


def make(findings: SweepFindings) -> list[tuple]:
  best = [findings.trials[number] for number in findings.conclusion.best[:MOST]]
  parts = [('tiles', _list_tiles(findings)), _tell_stand(findings)]
  if best and (command := findings.networks.get(best[0].number, {}).get('train')):
    parts.append(('command', command, f'Train the best network, trial {best[0].number}'))
  if findings.dashboard:
    parts.append(('command', findings.dashboard, 'Open the study'))
  if not best:
    return [*parts, ('missing', 'No network is recommended yet: none has been trained to the end.')]
  names = [name for name in METRICS if name != findings.measure]
  known = [name for name in names if any(is_finite(t.metrics.get(name)) for t in best)]
  rows = []
  for rank, t in enumerate(best, 1):
    amounts = (format_amount(t.metrics.get(name), name) for name in known)
    rows.append([rank, t.number, format_number(t.value), *amounts])
  titles = ('Rank', 'Trial', findings.value_title, *(METRICS[n].capitalize() for n in known))
  parts += [('heading', 'Best networks'), ('table', titles, rows, 0)]
  return [*parts, *(_fold_network(findings, trial) for trial in best)]


def _fold_network(findings: SweepFindings, trial: Trial) -> tuple:
  """Folds the command that trains a network, and its spec."""
  network = findings.networks.get(trial.number, {})
  missing = {'train': 'The command that trains it', 'spec': 'Its spec'}
  parts = [('missing', f'{m} is not known.') for key, m in missing.items() if key not in network]
  if 'train' in network:
    parts.append(('command', network['train']))
  if 'spec' in network:
    parts.append(('code', json.dumps(network['spec'], indent=1, ensure_ascii=False)))
  family = f', family {network["family"]}' if 'family' in network else ''
  return 'fold', f'Trial {trial.number}{family}: command and spec as JSON', parts


def _list_tiles(findings: SweepFindings) -> list[tuple[str, str, str]]:
  """Lists a name, a value, and what else is to say of it."""
  coefficients, best = findings.conclusion.facts.get('coefficients', {}), findings.best
  tiles = [(f'Coefficient {k}', f'{v:.4g}', 'averaged') for k, v in coefficients.items()]
  if best is not None:
    more = f'best: trial {best.number}'
    tiles.append((findings.value_title, format_number(best.value), more))
    for cost in COSTS:
      if is_finite(value := best.metrics.get(cost)):
        more = format_share(value, findings.limits.get(cost), 'limit', cost)
        tiles.append((METRICS[cost].capitalize(), format_amount(value, cost), more))
  of = f'of {findings.budget:,} to be trained' if findings.budget else ''
  for state, count in count_states(findings.trials).items():
    if count:
      tiles.append((state.capitalize(), f'{count:,}', of if state == State.DONE.value else ''))
  secs = list_values([trial.metrics for trial in findings.trials], 'secs')
  if len(secs):
    middle = format_amount(statistics.median(secs), 'secs')
    tiles.append(('Time per trial', middle, f'median of {len(secs):,}'))
  return tiles


def _tell_stand(findings: SweepFindings) -> tuple[str, str]:
  """Tells whether the sweep is over."""
  running, trained = count_states(findings.trials)['running'], count_trained(findings.trials)
  if not findings.trials:
    return 'missing', 'No trial has begun yet.'
  if running:
    return 'missing', f'The sweep is still running: {running:,} trials are in training.'
  if findings.budget and trained < findings.budget:
    return 'missing', f'{trained:,} of a budget of {findings.budget:,} trials have been used.'
  if not findings.over:
    return 'missing', 'The sweep has stopped before its end: run the same command to resume it.'
  return 'note', 'The sweep is over.'
