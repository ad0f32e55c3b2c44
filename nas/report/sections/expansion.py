"""The steps of an expansion: each one's candidates, and the axis that won."""

import math
from collections.abc import Iterable, Mapping, Sequence

from nas.choices import format_choice
from nas.cost import TITLES
from nas.report.amounts import format_amount, format_number, is_finite
from nas.report.charts import FOUND, FRONT, axis, chart, color, dots, layer, level, stairs
from nas.report.findings import SweepFindings

COST = TITLES['macs']  # what an expansion doubles


def make(findings: SweepFindings) -> list[tuple]:
  """Draws the facts `steps`, `targets` and `ended`."""
  facts = findings.conclusion.facts
  steps, targets, ended = facts.get('steps'), facts.get('targets', {}), facts.get('ended')
  stand = f'The expansion has ended: {ended}.' if ended else 'The expansion is still running.'
  if not steps:
    return [('missing', f'No step has been decided. {stand}')]
  stand = 'note', f'Steps taken: {len(steps) - 1}. {stand}'
  parts = [_draw_steps(findings, steps, targets), stand, _make_steps(findings, steps)]
  lost = [('missing', 'No target has been reached yet.')]
  return [*parts, ('heading', 'Targets'), *(_make_targets(targets) if targets else lost)]


def _list_rejected(steps: Sequence[Mapping]) -> list[Mapping]:
  """Returns the networks that were tried and not accepted, with a value."""
  tried = [(step, network) for step in steps for network in step['candidates']]
  return [n for s, n in tried if n['factors'] != s['factors'] and is_finite(n['value'])]


def _draw_steps(findings: SweepFindings, steps, targets: Mapping) -> tuple:
  trained = [network for network in targets.values() if is_finite(network['value'])]
  contracted = [network for network in trained if network['contracted']]
  drawn = [*_list_rejected(steps), *contracted, *steps]  # the last on top
  axes = list(dict.fromkeys(n['axis'] for n in drawn if n['axis']))
  colors = {name: color(i) for i, name in enumerate(axes)} | {'': FRONT}
  met, accepted = _place(n for n in trained if n['met']), _place(steps)
  said = [
    f'step {n["step"]}, {n["axis"] or "start"}: {findings.value_title} {format_number(n["value"])}'
    f', {format_amount(n["cost"])} {COST}, trial {", ".join(map(str, n["trials"]))}'
    for n in drawn
  ]
  marks = {**_place(drawn), 'color': [colors[n['axis']] for n in drawn], 'tooltip': said}
  layers = [
    *stairs(accepted['x'], accepted['y'], steps[-1]['cost']),
    dots(marks, 50),
    layer('point', met, size=200, color=FOUND, opacity=1, tooltip=None),
  ]
  for name, network in targets.items():
    layers += level('x', network['target'], name)
  keys = [*((colors[one], one) for one in axes), (FRONT, 'accepted steps')]
  keys += [(FOUND, 'meets a target', 'ring')] if met['x'] else []
  x, y = axis(COST, '', log=True), axis(scale={'padding': 24})
  name = f'{findings.value_title} against {COST}, step by step'
  below = 'Each dot has one more axis expanded. The next step begins from the most accurate one.'
  return chart(name, layers, x, y, height=440, keys=keys, below=below)


def _place(networks: Iterable[Mapping]) -> dict[str, list]:
  networks = list(networks)
  return {'x': [one['cost'] for one in networks], 'y': [one['value'] for one in networks]}


def _make_steps(findings: SweepFindings, steps: Sequence[Mapping]) -> tuple:
  """Makes a row for each step: what it came to, and how far the second best was behind."""
  rows = []
  for step in steps:
    second = '', ''
    if others := _list_rejected([step]):
      other = max(others, key=lambda network: network['value'])
      ahead = step['value'] - other['value']
      # The difference of two trainings varies by the root of two more than one does.
      within = ' (within noise)' if ahead < 2 * math.sqrt(2) * (findings.seed_noise or 0) else ''
      second = other['axis'], f'{format_number(ahead, "+.4f")}{within}'
    factors = map(format_choice, step['factors'].values())
    amounts = format_amount(step['cost']), format_number(step['value'])
    rows.append([step['step'], step['axis'] or 'start', *factors, *amounts, *second])
  names = 'Cost', 'Value', 'Next best', 'Ahead by'
  return 'table', ('Step', 'Axis', *steps[0]['factors'], *names), rows, 2


def _make_targets(targets: Mapping[str, Mapping]) -> list[tuple]:
  rows, missed = [], []
  for name, network in targets.items():
    aim, cost = format_amount(network['target']), format_amount(network['cost'])
    if not network['met']:
      less = f'more than {100 * network["tolerance"]:g} % below it'
      missed.append(f'{name}: wanted {aim}, got {cost}, {less}.')
    origin = f'step {network["step"]}'
    origin += f', {network["axis"]} contracted' if network['contracted'] else ''
    ratio, value = f'{network["cost"] / network["target"]:.3f}', format_number(network['value'])
    factors = map(format_choice, network['factors'].values())
    trials = ', '.join(map(str, network['trials'])) or 'none done'
    rows.append([name, origin, aim, cost, ratio, value, *factors, trials])
  names = 'Target', 'Network', 'Aim', 'Cost', 'Cost / aim', 'Value', *network['factors'], 'Trials'
  warning = 'warning', 'Targets were missed', missed
  return [*([warning] if missed else []), ('table', names, rows, 2)]
