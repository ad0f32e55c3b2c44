"""All trials of a sweep: accuracy against each cost that is known of them."""

from collections.abc import Sequence

from nas.history import State, Trial
from nas.report.charts import (
  Axis,
  dot,
  fit_width,
  grid,
  line,
  make_axis,
  make_log_axis,
  star,
  svg,
  text,
)
from nas.report.findings import is_finite
from nas.report.front import draw_front, pareto_front
from nas.report.html import (
  Html,
  capitalize,
  cost_units,
  figure,
  format_cost,
  format_number,
  join,
  key,
  missing,
)
from nas.report.labels import Labels
from nas.report.trials import COSTS, SweepFindings, title_cost

CROWD = 800  # trials from which their dots are smaller


def make_scatters(findings: SweepFindings) -> Html:
  if not findings.valued:
    return missing('No trial has a value yet: there is nothing to draw.')
  return join([_make_scatter(findings, cost) for cost in COSTS])


def read_accuracy(findings: SweepFindings, trial: Trial) -> float:
  """What the charts against costs show of a trial that has a value."""
  return trial.metrics['top1'] if findings.shows_top1 else trial.value


def is_placed(trial: Trial, cost: str) -> bool:
  """Whether a cost of a trial can stand on an axis of ratios."""
  return is_finite(trial.metrics.get(cost)) and trial.metrics[cost] > 0


def find_front(findings: SweepFindings, cost: str) -> list[Trial]:
  """Trained to the end and beaten by none in both, cheapest first."""
  done = [t for t in findings.valued if t.state is State.DONE and is_placed(t, cost)]
  costs = [trial.metrics[cost] for trial in done]
  front = pareto_front(costs, [read_accuracy(findings, trial) for trial in done])
  return [done[i] for i in front]


def _make_scatter(findings: SweepFindings, cost: str) -> Html:
  title, drawn = title_cost(cost), [t for t in findings.valued if is_placed(t, cost)]
  if not drawn:
    return missing(f'No trial with a value says its {title}: not drawn against it.')
  measure = 'top-1 accuracy' if findings.shows_top1 else findings.value_title
  limit = findings.limits.get(cost)
  places = [trial.metrics[cost] for trial in drawn]
  heights = [read_accuracy(findings, trial) for trial in drawn]
  x = make_log_axis([places, [limit] if limit else []], 0, 960, units=cost_units(cost))
  y = make_axis([heights], 380, 14)
  x = fit_width(x, y, 960)
  name = f'{capitalize(measure)} against {title}'
  best = findings.best
  parts = [
    grid(x, y, title),
    *(_draw_limit(x, y, limit) if limit else ()),
    *draw_trials(x(places), y(heights), drawn, [describe(findings, t) for t in drawn]),
    *_draw_best(findings, cost, x, y),
  ]
  return figure(
    name,
    svg(960, 420, name, *parts, class_='chart wide'),
    key('t2', 'first trials'),
    key('t4', 'last'),
    key('front', 'Pareto front'),
    *([key('found', f'best: trial {best.number}')] if best in drawn else []),
    *([key('hollow', 'pruned')] if any(t.state is State.PRUNED for t in drawn) else []),
    below=_tell_rest(findings, drawn, title),
  )


def draw_trials(x, y, trials: Sequence[Trial], said: Sequence[str]) -> list[Html]:
  """A dot for each trial, of the colour of its third of the search."""
  size = 2.5 if len(trials) > CROWD else 4
  last = max(trial.number for trial in trials) + 1
  parts = []
  for trial, a, b, title in zip(trials, x, y, said, strict=True):
    kind = ' hollow' if trial.state is State.PRUNED else ''
    class_ = f'dot trial t{2 + 3 * trial.number // last}{kind}'
    parts.append(dot(a, b, class_, size, title))
  return parts


def describe(findings: SweepFindings, trial: Trial) -> str:
  """What is known of a trial, in a line."""
  value = f'{findings.value_title} {format_number(trial.value, 4)}'
  if findings.shows_top1:
    value += f', top-1 accuracy {format_number(trial.metrics["top1"], 4)}'
  costs = [
    f'{format_cost(cost, trial.metrics[cost])} {title_cost(cost)}'
    for cost in COSTS
    if is_finite(trial.metrics.get(cost))
  ]
  pruned = ' (pruned)' if trial.state is State.PRUNED else ''
  return ', '.join([f'trial {trial.number}{pruned}: {value}', *costs])


def _draw_limit(x: Axis, y: Axis, limit: float) -> list[Html]:
  at = x(limit)
  said = text(at - 5, y.end + 10, 'limit', 'mark', 'end')
  return [line(at, y.start, at, y.end, 'level'), said]


def _draw_best(findings: SweepFindings, cost: str, x: Axis, y: Axis) -> list[Html]:
  """The front and the best, with the numbers of those trials that have room for it."""
  front, best = find_front(findings, cost), findings.best
  costs = x([trial.metrics[cost] for trial in front])
  heights = y([read_accuracy(findings, trial) for trial in front])
  parts, labels = draw_front(costs, heights, x.end), Labels(x, y)
  if best is not None and is_finite(best.value) and is_placed(best, cost):
    at = x(best.metrics[cost]), y(read_accuracy(findings, best))
    parts.append(star(*at, 'dot found'))
    labels.avoid(*at, 11, 11)
  labels.avoid_stairs(costs, heights, x.end)
  for trial, a, b in zip(front, costs, heights, strict=True):
    parts += labels.write(a, b, str(trial.number))
  return parts


def _tell_rest(findings: SweepFindings, drawn: Sequence[Trial], title: str) -> str:
  """How many trials are not drawn, and why."""
  counts = {
    'failed': findings.count(State.FAILED),
    'discarded before training': findings.count(State.DISCARDED),
    'running': findings.count(State.RUNNING),
    f'without known {title}': len(findings.valued) - len(drawn),
  }
  rest = len(findings.trials) - len(drawn) - sum(counts.values())
  counts['without a finite value'] = rest
  said = [f'{count:,} {what}' for what, count in counts.items() if count > 0]
  text = f'{len(drawn):,} of {len(findings.trials):,} trials are drawn'
  return f'{text}; {", ".join(said)}.' if said else f'{text}.'
