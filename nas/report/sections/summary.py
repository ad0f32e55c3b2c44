"""What a one-shot search found, whether it held its target, and how to train the network."""

import json
import math
from collections.abc import Mapping

import numpy as np

from nas.choices import mean_entropy
from nas.cost import TITLES
from nas.report.amounts import format_amount, format_number, format_percent, format_share
from nas.report.findings import Findings, list_values


def make(findings: Findings) -> list[tuple]:
  command = 'command', findings.command, 'Train it'
  parts, found = [('tiles', _list_tiles(findings)), _judge_beta(findings), command], findings.found
  return [*parts, ('heading', 'Network'), *_make_network(found or {})]


def _make_network(found: Mapping) -> list[tuple]:
  """Makes a row for each block, a cell for each layer."""
  spec = found.get('spec')
  if spec is None:
    return [('missing', 'No network has been found yet.')]
  facts = {k: v for k, v in spec.items() if k != 'version' and not _has_parts(v)}
  rows = []
  for number, block in enumerate(spec.get('blocks', ())):
    about = {k: v for k, v in block.items() if k != 'layers' and v is not None}
    layers = [_draw_layer(layer) for layer in block.get('layers', ())]
    rows.append([('bold', f'Block {number}'), ('facts', about), *layers])
  names = 'Block', '', *(f'Layer {i}' for i in range(max(map(len, rows), default=2) - 2))
  return [
    ('facts', {'family': found.get('family', 'unknown'), **facts}),
    *([('table', names, rows, len(names))] if rows else []),
    ('fold', 'Its spec as JSON', [('code', json.dumps(spec, indent=1, ensure_ascii=False))]),
  ]


def _has_parts(value) -> bool:
  """Whether a field of a spec lists parts of the network, and is no fact by itself."""
  return isinstance(value, (list, tuple)) and any(isinstance(part, Mapping) for part in value)


def _draw_layer(layer: Mapping) -> tuple:
  kernel = layer.get('kernel')
  sizes = (1, 1, kernel, kernel) if isinstance(kernel, int) else (1, 1, 1, *(kernel or ()))
  return 'layer', layer, *sizes[-3:]


def _list_tiles(findings: Findings) -> list[tuple[str, str, str]]:
  """Lists a name, a value, and what else is to say of it."""
  tiles, samples = [], findings.samples
  if (accuracy := findings.found_value('accuracy')) is not None:
    tiles.append(('Accuracy', format_number(accuracy, '.3f'), 'with the shared weights'))
  for name, value in (findings.found or {}).get('cost', {}).items():
    target = findings.target if name == findings.cost else None
    title = TITLES.get(name, name.replace('_', ' ')).capitalize()
    more = format_share(value, target, 'target', name)
    tiles.append((title, format_amount(value, name), more))
  control = list_values(findings.control, 'accuracy')
  if len(control):
    more = f'accuracy of {len(control)} networks'
    tiles.append(('Random control', format_number(control.mean(), '.3f'), more))
  steps, table = findings.probabilities or ((), ())
  left = mean_entropy(findings.sizes, np.asarray(table[-1])) if len(steps) else None
  if left is not None:
    tiles.append(('Entropy left', format_percent(left), 'of the most possible'))
  if samples is not None and len(samples):
    more = f'in {format_amount(np.max(samples.steps))} steps'
    tiles.append(('Networks run', format_amount(len(samples)), more))
  return tiles


def _judge_beta(findings: Findings) -> tuple:
  """Tells whether β holds the target, does not (a warning), or is not known to."""
  if findings.beta is None or findings.target is None:
    return 'missing', 'The search had no cost target.'
  slope, beta = findings.slope, f'β = {format_number(findings.beta, "g")}'
  ratios = list_values(findings.rows, 'cost_ratio')
  late = ratios[-max(1, len(ratios) // 10) :]
  mean = f' The last tenth of the steps had a mean ratio of {late.mean():.2f}.' if len(late) else ''
  if findings.reward not in ('absolute', 'hinge'):
    why = f'judged: its term in the reward “{findings.reward}” grows with accuracy'
    return 'missing', f'Whether {beta} holds the target is not {why}.{mean}'
  if slope is None:
    why = 'known: the samples do not tell how fast accuracy rises with cost near it'
    return 'missing', f'Whether {beta} holds the target is not {why}.{mean}'
  name = 'log accuracy' if findings.relative else 'accuracy'
  rise = f'near it, {name} changes by {format_number(slope, "+.3f")} per unit of cost ratio'
  if abs(findings.beta) >= slope:
    return 'note', f'{beta} holds the target: {rise}, no more than |β|.{mean}'
  said = f'The reward is greatest above the target: {rise}, more than |β| = {abs(findings.beta):g}.'
  said += f'{mean} With some room, β = −{math.ceil(slope * 150) / 100:.2f}.'
  return 'warning', 'β is too weak for this target', [said], 'slope-warning'
