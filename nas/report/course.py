"""The course of a sweep: the value of every trial by its number, and the best so far."""

import numpy as np

from nas.history import list_records
from nas.report.charts import (
  WholeAxis,
  dot,
  fit_width,
  grid,
  make_axis,
  path,
  star,
  svg,
)
from nas.report.html import (
  Html,
  capitalize,
  figure,
  format_change,
  format_number,
  join,
  key,
  missing,
  note,
  table,
)
from nas.report.scatter import describe, draw_trials
from nas.report.trials import SweepFindings


def make_course(findings: SweepFindings) -> Html:
  drawn = findings.valued
  if not drawn:
    return missing('No trial has a value yet.')
  numbers = [trial.number for trial in drawn]
  values = [trial.value for trial in drawn]
  x = WholeAxis(-0.5, max(4, len(findings.trials)) - 0.5, 0, 960)
  y = make_axis([values], 340, 14)
  x = fit_width(x, y, 960)
  records = [findings.trials[n] for n in list_records(drawn)]
  steps = x([trial.number for trial in records])
  heights = y([trial.value for trial in records])
  parts = [
    grid(x, y, 'trial'),
    *draw_trials(x(numbers), y(values), drawn, [describe(findings, t) for t in drawn]),
  ]
  if records:
    stairs = np.append(np.repeat(steps, 2)[1:], x.end), np.repeat(heights, 2)
    parts += [path(*stairs, 'line front'), star(steps[-1], heights[-1], 'dot found')]
  line = [trial for trial in drawn if trial.number in findings.conclusion.path]
  parts += [dot(x(t.number), y(t.value), 'ring', 6) for t in line]
  name = f'{capitalize(findings.value_title)} of every trial'
  return figure(
    name,
    svg(960, 380, name, *parts, class_='chart wide'),
    key('front', 'best so far'),
    key('found', 'best'),
    key('ring', 'led to the best'),
  )


def make_records(findings: SweepFindings) -> Html:
  """The trials that were better than all before them."""
  records = [findings.trials[n] for n in list_records(findings.valued)]
  if not records:
    return missing('No trial has been trained to the end yet.')
  rows, before = [], None
  for trial in records:
    gain = '' if before is None else format_change(trial.value - before)
    rows.append([trial.number, format_number(trial.value, 4), gain])
    before = trial.value
  names = 'Trial', capitalize(findings.value_title), 'Gain'
  return join([note('Trials better than all before them.'), table(names, rows, texts=0)])
