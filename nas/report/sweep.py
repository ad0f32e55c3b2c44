"""The page of a search that trains networks one by one: its sections and their head."""

import statistics

from nas.history import State, count_trained
from nas.report.course import make_course, make_records
from nas.report.expansion import make_expansion
from nas.report.failures import make_failures
from nas.report.findings import is_finite
from nas.report.html import (
  SECS,
  Html,
  format_amount,
  format_cost,
  format_number,
  format_percent,
  join,
  missing,
  note,
  tag,
)
from nas.report.lineage import make_lineage
from nas.report.page import make_command, make_page, make_tiles, write_page
from nas.report.recommended import make_recommended
from nas.report.scaling import format_coefficient, make_scaling
from nas.report.scatter import make_scatters
from nas.report.trials import COSTS, NOISY, SweepFindings, title_cost


def write_sweep_report(path, findings: SweepFindings):
  """Writes the page, whole or not at all.

  Raises:
    ValueError: the notes or facts of the search are not as its algorithm makes them.
  """
  write_page(path, make_sweep_report(findings))


def make_sweep_report(findings: SweepFindings) -> str:
  """The page's text."""
  summary = join(
    [
      make_tiles(_list_tiles(findings)),
      _say_stand(findings),
      *_list_commands(findings),
    ]
  )
  sections = {
    'Best networks': make_recommended(findings),
    'Accuracy and cost': make_scatters(findings),
    **_make_path(findings),
    'Failures': make_failures(findings),
    'Measured time': _make_noise(findings),
  }
  return make_page(findings.title, findings.space, summary, sections)


def _make_path(findings: SweepFindings) -> dict[str, Html]:
  """The sections that tell how this algorithm came to its result."""
  if findings.algorithm == 'evolve':
    return {'Course': make_course(findings), 'Lineage': make_lineage(findings)}
  if findings.algorithm == 'expand':
    return {'Expansion': make_expansion(findings)}
  if findings.algorithm == 'scale':
    return {'Scaling': make_scaling(findings)}
  return {'Course': make_course(findings), 'Records': make_records(findings)}


def _list_tiles(findings: SweepFindings) -> list[tuple[str, str, str]]:
  tiles, best = [], findings.best
  for name, value in findings.conclusion.facts.get('coefficients', {}).items():
    tiles.append((f'Coefficient {name}', format_coefficient(value), 'averaged'))
  if best is not None:
    number = f'trial {best.number}'
    tiles.append((f'Best {findings.value_title}', format_number(best.value, 4), number))
    known = [cost for cost in COSTS if is_finite(best.metrics.get(cost))]
    tiles += [_make_cost_tile(findings, cost) for cost in known]
  of = f'of {findings.budget:,} to be trained' if findings.budget else ''
  tiles.append(('Done', f'{findings.count(State.DONE):,}', of))
  for state, more in {
    State.RUNNING: '',
    State.PRUNED: 'stopped early',
    State.DISCARDED: 'never trained',
    State.FAILED: '',
  }.items():
    if count := findings.count(state):
      tiles.append((state.value.capitalize(), f'{count:,}', more))
  secs = [t.metrics['secs'] for t in findings.trials if is_finite(t.metrics.get('secs'))]
  if secs:
    more = f'median of {len(secs):,}'
    tiles.append(('Time per trial', format_amount(statistics.median(secs), SECS), more))
  return tiles


def _make_cost_tile(findings: SweepFindings, cost: str) -> tuple[str, str, str]:
  value, limit = findings.best.metrics[cost], findings.limits.get(cost)
  more = f'{value / limit:.2f} × limit {format_cost(cost, limit)}' if limit else ''
  return title_cost(cost).capitalize(), format_cost(cost, value), more


def _say_stand(findings: SweepFindings) -> Html:
  """Whether the sweep is over."""
  if not findings.trials:
    return missing('No trial has begun yet.')
  running, trained = findings.count(State.RUNNING), count_trained(findings.trials)
  if running:
    return missing(f'The sweep goes on; trials running: {running:,}.')
  if findings.budget and trained < findings.budget:
    return missing(f'{trained:,} of a budget of {findings.budget:,} trials have been used.')
  if not findings.over:
    return missing('The sweep has stopped before its end; the same command goes on.')
  return note('The sweep is over.')


def _list_commands(findings: SweepFindings) -> list[Html]:
  commands, best = [], findings.best
  if best is not None:
    command = findings.networks.get(best.number, {}).get('train')
    title = f'Train the best network, trial {best.number}'
    commands.append(
      make_command(title, command)
      if command
      else missing('The command that trains the best is not known to the report.')
    )
  if findings.dashboard:
    commands.append(make_command('Open the study', findings.dashboard))
  return commands


def _make_noise(findings: SweepFindings) -> Html:
  """How sure the measured latencies are."""
  timed = [t for t in findings.trials if is_finite(t.metrics.get('latency_ns'))]
  if not timed:
    return missing('No latency has been measured in this sweep.')
  values = [t.metrics.get('latency_noise') for t in timed]
  noise = sorted(value for value in values if is_finite(value))
  if not noise:
    return missing(f'{len(timed):,} latencies have been measured, their noise has not.')
  middle, most = statistics.median(noise), noise[-1]
  said = (
    f'{len(timed):,} networks were timed. The measurements of one network are '
    f'{format_percent(middle)} of its latency apart in the median, and '
    f'{format_percent(most)} at most.'
  )
  if middle <= NOISY:
    return note(said)
  said += ' Latencies that differ by less than that may well be equal.'
  inside = tag('b', 'Measured time is noisy here'), tag('p', said)
  return tag('div', *inside, class_='warning', id='noise-warning', role='alert')
