"""The course of a sweep: the value of every trial by its number, and the best so far."""

from nas.history import list_records
from nas.report.charts import FOUND, FRONT, axis, chart, stairs, star
from nas.report.findings import SweepFindings
from nas.report.sections.costs import draw_trials


def make(findings: SweepFindings) -> list[tuple]:
  if not findings.valued:
    return [('missing', 'No trial has a value yet.')]
  numbers = list_records(findings.valued)
  values = [findings.trials[number].value for number in numbers]
  layers = [
    draw_trials(findings, 'number'),
    *stairs(numbers, values, len(findings.trials) - 1),
    *([star(numbers[-1], values[-1])] if numbers else []),
  ]
  x = axis('trial', tickMinStep=1, format=',d')
  keys = [(FRONT, 'best so far'), (FOUND, 'best')]
  drawn = chart(f'{findings.value_title} of every trial', layers, x, axis(), keys=keys)
  return [drawn] if numbers else [drawn, ('missing', 'No trial has been trained to the end yet.')]
