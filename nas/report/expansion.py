"""The path of an expansion: each step's candidates, and the axis that won."""

from collections.abc import Mapping

import numpy as np

from nas.report.charts import (
  LETTER_WIDTH,
  Axis,
  colour,
  dot,
  fit_width,
  grid,
  line,
  make_axis,
  make_log_axis,
  path,
  svg,
  text,
)
from nas.report.findings import is_finite
from nas.report.html import (
  Html,
  capitalize,
  figure,
  format_change,
  format_choice,
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
from nas.report.labels import Labels
from nas.report.trials import SweepFindings, title_cost

COST = 'macs'  # what an expansion doubles
WIDTH = 960


def make_expansion(findings: SweepFindings) -> Html:
  """The facts of nas.algorithms.expand, drawn and in tables."""
  facts = findings.conclusion.facts
  steps, targets = facts.get('steps', ()), facts.get('targets', {})
  ended = facts.get('ended')
  stand = f'The expansion has ended: {ended}.' if ended else 'The expansion goes on.'
  if not steps:
    return missing(f'No step has been decided. {stand}')
  return join(
    [
      _draw_steps(findings, steps, targets),
      note(f'Steps taken: {len(steps) - 1}. {stand}'),
      tag('h3', 'Steps'),
      _make_steps(findings, steps),
      tag('h3', 'Targets'),
      _make_targets(targets),
    ]
  )


def _list_rejected(steps) -> list[Mapping]:
  """The networks that were tried and not gone on from, with a value."""
  return [
    network
    for step in steps
    for network in step['candidates']
    if network['factors'] != step['factors'] and is_finite(network['value'])
  ]


def _draw_steps(findings: SweepFindings, steps, targets) -> Html:
  trained = [network for network in targets.values() if is_finite(network['value'])]
  contracted = [network for network in trained if network['contracted']]
  met = [network for network in trained if network['met']]
  drawn = [*_list_rejected(steps), *contracted, *steps]  # the last on top
  axes = list(dict.fromkeys(n['axis'] for n in drawn if n['axis']))
  colours = {axis: colour(i) for i, axis in enumerate(axes)} | {'': 'front'}
  limits = [target['target'] for target in targets.values()]
  x = make_log_axis([[n['cost'] for n in drawn], limits], 0, WIDTH)
  y = make_axis([[n['value'] for n in drawn]], 420, 30, pad=0.08)
  x = fit_width(x, y, WIDTH)
  parts = [
    grid(x, y, title_cost(COST)),
    *[p for name, n in targets.items() for p in _draw_target(x, y, name, n['target'])],
    _draw_stairs(x, y, steps),
    *[_draw_network(findings, x, y, n, colours[n['axis']]) for n in drawn],
    *[dot(x(n['cost']), y(n['value']), 'ring', 7) for n in met],
    *_write_axes(x, y, steps, drawn),
  ]
  name = f'{capitalize(findings.value_title)} against {title_cost(COST)}'
  return figure(
    f'{name}, step by step',
    svg(WIDTH, 460, f'{name}, step by step', *parts, class_='chart wide'),
    *[key(colours[axis], axis) for axis in axes],
    key('front', 'accepted steps'),
    *([key('ring', 'meets a target')] if met else []),
    below='Each dot is a network with one more axis expanded. The most accurate of a step '
    'is accepted, and the next step begins from it.',
  )


def _draw_target(x: Axis, y: Axis, name: str, cost: float) -> list[Html]:
  at, half = x(cost), LETTER_WIDTH * len(name) / 2
  middle = min(max(at, half), WIDTH - half)  # not beyond the sides
  said = text(middle, y.end - 8, name, 'mark', 'middle')
  return [line(at, y.start, at, y.end, 'level'), said]


def _draw_stairs(x: Axis, y: Axis, steps) -> Html:
  costs = np.repeat(x([step['cost'] for step in steps]), 2)[1:]
  values = np.repeat(y([step['value'] for step in steps]), 2)[:-1]
  return path(costs, values, 'line front')


def _draw_network(findings: SweepFindings, x: Axis, y: Axis, network, class_) -> Html:
  trials = ', '.join(map(str, network['trials']))
  said = (
    f'step {network["step"]}, {network["axis"] or "start"}: {findings.value_title} '
    f'{format_number(network["value"], 4)}, {format_cost(COST, network["cost"])} '
    f'{title_cost(COST)}, trial {trials}'
  )
  at = x(network['cost']), y(network['value'])
  return dot(*at, f'dot candidate {class_}', 4, said)


def _write_axes(x: Axis, y: Axis, steps, drawn) -> list[Html]:
  """Names of axes beside their networks where there is room; accepted ones first."""
  labels = Labels(x, y)
  for network in drawn:
    labels.avoid(x(network['cost']), y(network['value']), 4, 4)
  costs, values = zip(*((n['cost'], n['value']) for n in steps), strict=True)
  labels.avoid_stairs(x(costs), y(values), x(costs[-1]))
  parts = []
  for network in (*steps[1:], *(n for n in drawn if n not in steps)):
    parts += labels.write(x(network['cost']), y(network['value']), network['axis'])
  return parts


def _make_steps(findings: SweepFindings, steps) -> Html:
  """A row for each step: what it came to, and how far the second best was behind."""
  factors = list(steps[0]['factors'])
  rows, before = [], None
  for step in steps:
    growth = f'{step["cost"] / before["cost"]:.3f}' if before else ''
    rows.append(
      [
        step['step'],
        step['axis'] or 'start',
        *_list_factors(factors, step, before),
        format_cost(COST, step['cost']),
        growth,
        format_number(step['value'], 4),
        *_compare(findings, step),
      ]
    )
    before = step
  names = ('Step', 'Axis', *factors, 'Cost', 'Growth', 'Value', 'Next best', 'Ahead by')
  return table(names, rows, texts=2)


def _list_factors(factors, network, before) -> list:
  """Values of a network's factors; in bold those that were others before."""
  values = {name: format_choice(network['factors'][name]) for name in factors}
  changed = before and {n for n in factors if network['factors'][n] != before['factors'][n]}
  return [tag('b', v) if changed and n in changed else v for n, v in values.items()]


def _compare(findings: SweepFindings, step) -> tuple[str, str]:
  """The second best candidate of a step, and how much worse it was."""
  others = _list_rejected([step])
  if not others:
    return '', ''
  second = max(others, key=lambda network: network['value'])
  ahead = step['value'] - second['value']
  within = ' (within noise)' if findings.is_within_noise(ahead) else ''
  return second['axis'], f'{format_change(ahead)}{within}'


def _make_targets(targets: Mapping[str, Mapping]) -> Html:
  if not targets:
    return missing('No target has been reached yet.')
  factors = list(next(iter(targets.values()))['factors'])
  rows = [
    [
      name,
      _say_origin(network),
      format_cost(COST, network['target']),
      format_cost(COST, network['cost']),
      f'{network["cost"] / network["target"]:.3f}{"" if network["met"] else " (missed)"}',
      format_number(network['value'], 4),
      *_list_factors(factors, network, None),
      ', '.join(map(str, network['trials'])) or 'none done',
    ]
    for name, network in targets.items()
  ]
  costs = 'Aim', 'Cost', 'Cost / aim'
  names = ('Target', 'Network', *costs, 'Value', *factors, 'Trials')
  parts = [table(names, rows, texts=2)]
  if not all(network['met'] for network in targets.values()):
    parts.insert(0, _say_missed(targets))
  return join(parts)


def _say_missed(targets: Mapping[str, Mapping]) -> Html:
  """What was wanted and what was got where no network is within the tolerance."""
  said = [
    f'{name}: wanted {format_cost(COST, network["target"])}, got '
    f'{format_cost(COST, network["cost"])}, more than {100 * network["tolerance"]:g} % below '
    'it. No contraction of the step that passed it comes nearer from below.'
    for name, network in targets.items()
    if not network['met']
  ]
  return warn('A target was missed' if len(said) == 1 else 'Targets were missed', *said)


def _say_origin(network: Mapping) -> str:
  step = f'step {network["step"]}'
  return f'{step}, {network["axis"]} contracted' if network['contracted'] else step
