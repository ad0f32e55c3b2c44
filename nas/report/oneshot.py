"""The page of a one-shot search: its sections, their head, and what the search logged."""

import math

import numpy as np

from nas.cost import TITLES
from nas.report.charts import line_chart
from nas.report.decisions import list_groups, make_decisions, mean_entropy
from nas.report.findings import Findings, list_series, list_values
from nas.report.html import (
  Html,
  cost_units,
  format_amount,
  format_cost,
  format_number,
  format_percent,
  join,
  missing,
  note,
  tag,
)
from nas.report.network import make_network
from nas.report.page import make_command, make_page, make_tiles, write_page
from nas.report.tradeoff import make_control, make_neighbours, make_tradeoff


def write_report(path, findings: Findings):
  """Writes the page, whole or not at all.

  Raises:
    ValueError: choices of the found network or its neighbours are not of the space.
  """
  write_page(path, make_report(findings))


def make_report(findings: Findings) -> str:
  """The page's text. Raises a ValueError where choices are not of the space."""
  sections = {
    'Network': make_network(findings),
    'Search': _make_progress(findings),
    'Accuracy and cost': make_tradeoff(findings),
    'Random control': make_control(findings),
    'Neighbours': make_neighbours(findings),
    'Decisions': make_decisions(findings),
  }
  summary = join(
    [
      make_tiles(_list_tiles(findings)),
      _judge_beta(findings),
      make_command('Train it', findings.command),
    ]
  )
  return make_page(findings.title, findings.space, summary, sections)


def _list_tiles(findings: Findings) -> list[tuple[str, str, str]]:
  """A name, a value, and what else is to say of it."""
  tiles = []
  if (accuracy := findings.found_value('accuracy')) is not None:
    tiles.append(('Accuracy', format_number(accuracy), 'with the shared weights'))
  costs = (findings.found or {}).get('cost', {})
  tiles += [_make_cost_tile(findings, *cost) for cost in costs.items()]
  control = list_values(findings.control, 'accuracy')
  if len(control):
    spread = f'± {control.std(ddof=1):.3f} ' if len(control) > 1 else ''
    more = f'{spread}accuracy of {len(control)} networks'
    tiles.append(('Random control', format_number(control.mean()), more))
  if findings.probabilities is not None and len(findings.probabilities[0]):
    left = mean_entropy(findings.space.sizes, np.asarray(findings.probabilities[1][-1]))
    if left is not None:
      tiles.append(('Entropy left', format_percent(left), 'of the most possible'))
  if findings.samples is not None and len(findings.samples):
    more = f'in {format_amount(np.max(findings.samples.steps))} steps'
    tiles.append(('Networks run', format_amount(len(findings.samples)), more))
  return tiles


def _make_cost_tile(findings: Findings, name: str, value) -> tuple[str, str, str]:
  target, more = findings.target, ''
  if target and name == findings.cost:
    more = f'{value / target:.2f} × target {format_cost(name, target)}'
  title = TITLES.get(name, _make_title(name)).capitalize()
  return title, format_cost(name, value), more


def _make_title(name: str) -> str:
  return name.replace('_', ' ').capitalize()


def _judge_beta(findings: Findings) -> Html:
  """What β does at the target: holds it, does not (a warning), or is not known to."""
  slope, beta = findings.slope, findings.beta
  if beta is None or findings.target is None:
    return missing('The search had no cost target.')
  minus = f'{beta:g}'.replace('-', '−')
  ratio = list_values(findings.rows, 'cost_ratio')
  late = ratio[-max(1, len(ratio) // 10) :]
  reached = ''
  if len(late):
    reached = f' The last tenth of the search had a mean ratio of {late.mean():.2f}.'
  if findings.reward != 'absolute':
    return missing(
      f'The reward is “{findings.reward}”, which presses on cost the harder the better a '
      f'network is: whether β = {minus} holds the target is not judged.{reached}'
    )
  if slope is None:
    return missing(
      'How fast accuracy rises with cost near the target is not known: the samples do '
      f'not tell. So β = {minus} may or may not be strong enough to hold it.{reached}'
    )
  if not findings.target_is_missed:
    change = f'{slope:+.3f}'.replace('-', '−')
    return note(
      f'β = {minus} holds the target: near it, accuracy changes by {change} per '
      f'unit of cost ratio, no more than |β|, so exceeding it does not pay.{reached}'
    )
  text = (
    f'Near the target, accuracy rises by {slope:.3f} per unit of cost ratio, more than '
    f'|β| = {abs(beta):g}. So the reward is greatest above the target, where the '
    f'search settles.{reached} A β below −{slope:.3f} makes the target the best place; '
    f'with some room, β = −{math.ceil(slope * 150) / 100:.2f}.'
  )
  inside = tag('b', 'β is too weak for this target'), tag('p', text)
  return tag('div', *inside, class_='warning', id='slope-warning', role='alert')


def _make_progress(findings: Findings) -> Html:
  target, start = findings.target, findings.policy_start

  def draw(name, *keys, **options):
    lines = {_make_title(k): list_series(findings.rows, k) for k in keys}
    return line_chart(name, lines, start_step=start, **options)

  def draw_cost(name, **options):
    return draw(name, 'cost_ratio', level=(1, 'target'), **options)

  entropy_left = 'Entropy left, by part, of the most possible'
  charts = [
    draw('Reward', 'reward', 'baseline'),
    draw('Accuracy on held-out batches', 'accuracy'),
    draw_cost(
      f'Cost ratio and {findings.cost_title}',
      right=(target, cost_units(findings.cost)),
    )
    if target
    else draw_cost('Cost ratio'),
    draw('Loss of the shared weights', 'loss'),
    draw('Entropy of the policy', 'entropy', bounds=(0,)),
    line_chart(entropy_left, _list_left(findings), start_step=start, bounds=(0, 1)),
  ]
  charts = [chart for chart in charts if chart is not None]
  if not charts:
    return missing('No step has been logged yet.')
  parts = [tag('div', *charts, class_='charts')]
  if start is not None:
    said = f'The policy learns after step {start:,}'
    line = ', the upright line' if any('class="moment"' in c for c in charts) else ''
    parts.append(note(f'{said}{line}.'))
  return join(parts)


def _list_left(findings: Findings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Part of the network with something to decide -> steps, mean entropy left."""
  if findings.probabilities is None:
    return {}
  steps, table = map(np.asarray, findings.probabilities)
  left = {
    group or 'others': mean_entropy(findings.space.sizes[members], table[:, members])
    for group, members in list_groups(findings.space).items()
  }
  return {k: (steps.astype(float), v) for k, v in left.items() if v is not None}
