"""All trials of a sweep: their value against each cost that is known of them."""

import statistics

from nas.cost import TITLES
from nas.history import State, Trial
from nas.report import charts
from nas.report.amounts import format_amount, format_number, format_percent, is_finite
from nas.report.findings import COSTS, METRICS, SweepFindings, list_values

CROWD = 800  # trials from which their dots are smaller
# How far apart measured times of one network may be, as a share, before a reader is warned.
NOISY = 0.1


def make(findings: SweepFindings) -> list[tuple]:
  said = 'No trial has a value yet: there is nothing to draw.'
  drawn = [_draw(findings, cost) for cost in COSTS] if findings.valued else [('missing', said)]
  return [*drawn, ('heading', 'Measured time'), _judge_noise(findings)]


def list_columns(findings: SweepFindings) -> dict[str, list]:
  """Returns the trials that have a value, as columns that all charts of a page share."""
  trials, last = findings.valued, max((t.number for t in findings.valued), default=0) + 1
  ages = [f'var(--t{2 + 3 * trial.number // last})' for trial in trials]
  pruned = [trial.state is State.PRUNED for trial in trials]
  return {
    'number': [trial.number for trial in trials],
    'value': charts.plain([trial.value for trial in trials]),
    **{cost: charts.plain([trial.metrics.get(cost) for trial in trials]) for cost in COSTS},
    'stroke': ages,
    'fill': ['var(--paper)' if p else age for p, age in zip(pruned, ages, strict=True)],
    'tooltip': [_describe(findings, trial) for trial in trials],
  }


def draw_trials(findings: SweepFindings, x: str, where: str = '') -> dict:
  """Makes the layer of dots, of values over a column; a pruned trial's is hollow."""
  columns = {'x': x, 'y': 'value', 'stroke': 'stroke', 'fill': 'fill', 'tooltip': 'tooltip'}
  return charts.dots(
    columns, 16 if len(findings.valued) > CROWD else 45, shared='trials', where=where
  )


def _describe(findings: SweepFindings, trial: Trial) -> str:
  known = {k: trial.metrics[k] for k in METRICS if is_finite(trial.metrics.get(k))}
  parts = [f'{findings.value_title} {format_number(trial.value)}']
  parts += [f'{METRICS[name]} {format_amount(value, name)}' for name, value in known.items()]
  return f'trial {trial.number} ({trial.state.value}): {", ".join(parts)}'


def _draw(findings: SweepFindings, cost: str) -> tuple:
  # A cost stands on an axis of ratios.
  title, costs = TITLES[cost], [trial.metrics.get(cost) for trial in findings.valued]
  drawn = [t for t, x in zip(findings.valued, costs, strict=True) if is_finite(x) and x > 0]
  if not drawn:
    return 'missing', f'No trial with a value says its {title}: not drawn against it.'
  limit, best = findings.limits.get(cost), findings.best
  done = [trial for trial in drawn if trial.state is State.DONE]
  front = charts.pareto_front(
    [trial.metrics[cost] for trial in done], [trial.value for trial in done]
  )
  front = [done[i] for i in front]
  x, y = [trial.metrics[cost] for trial in front], [trial.value for trial in front]
  layers = [
    draw_trials(findings, cost, f'isValid(datum.{cost}) && datum.{cost} > 0'),
    *charts.stairs(x, y, max(limit or 0, *(trial.metrics[cost] for trial in drawn))),
    *charts.level('x', limit, 'limit'),
  ]
  keys = [('var(--t2)', 'first trials'), ('var(--t4)', 'last'), ('var(--t4)', 'pruned', 'ring')]
  keys.append((charts.FRONT, 'Pareto front'))
  if best in drawn:
    layers.append(charts.star(best.metrics[cost], best.value))
    keys.append((charts.FOUND, f'best: trial {best.number}'))
  name, x = f'{findings.value_title} against {title}', charts.axis(title, cost, log=True)
  below = f'{len(drawn):,} of {len(findings.trials):,} trials are drawn, with known {title}.'
  return charts.chart(name, layers, x, charts.axis(), height=400, keys=keys, below=below)


def _judge_noise(findings: SweepFindings) -> tuple:
  """Tells how sure the measured latencies are."""
  timed = [t.metrics for t in findings.trials if is_finite(t.metrics.get('latency_ns'))]
  noise = list_values(timed, 'latency_noise')
  if not timed:
    return 'missing', 'No latency has been measured in this sweep.'
  if not len(noise):
    return 'missing', f'{len(timed):,} latencies have been measured, their noise has not.'
  said = (
    f'{len(timed):,} networks were timed. The measurements of one network are '
    f'{format_percent(statistics.median(noise))} of its latency apart in the median, and '
    f'{format_percent(max(noise))} at most. Latencies that differ by less may well be equal.'
  )
  warning = 'warning', 'Measured time is noisy here', [said], 'noise-warning'
  return ('note', said) if statistics.median(noise) <= NOISY else warning
