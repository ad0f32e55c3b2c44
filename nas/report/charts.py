"""Charts: axes, lines and dots as inline SVG."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from nas.report.html import Html, figure, format_amount, join, key, tag

COLOURS = 8  # in style.css; a ninth line has the first one's again


@dataclasses.dataclass(frozen=True)
class Axis:
  """Values from `low` to `high`, drawn from `start` to `end`."""

  low: float
  high: float
  start: float
  end: float

  def __call__(self, values):
    share = (np.asarray(values, float) - self.low) / (self.high - self.low)
    return self.start + share * (self.end - self.start)

  def ticks(self) -> list[float]:
    """Round values, four to eight of them."""
    span = self.high - self.low
    step = 10 ** math.floor(math.log10(span / 4))
    step *= max(m for m in (1, 2, 2.5, 5) if span / (m * step) >= 4)
    first = math.ceil(self.low / step - 1e-9)
    last = math.floor(self.high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def make_axis(values, start: float, end: float, pad: float = 0.05) -> Axis:
  """An axis on which all arrays of values fit, with a share of room at both ends."""
  values = np.concatenate([np.ravel(np.asarray(v, float)) for v in values])
  low, high = float(values.min()), float(values.max())
  room = pad * (high - low) or (0 if high > low else 0.05 * abs(high) or 1.0)
  return Axis(low - room, high + room, start, end)


def svg(width, height, name: str, *inside, class_: str = 'chart') -> Html:
  box = f'0 0 {width} {height}'
  return tag('svg', *inside, viewBox=box, role='img', aria_label=name, class_=class_)


def colour(i: int) -> str:
  """The class of the i-th of several lines or areas."""
  return f'c{i % COLOURS}'


def path(x, y, class_: str, close: bool = False) -> Html:
  points = ' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(x, y, strict=True))
  return tag('path', d=f'M{points}{"Z" if close else ""}', class_=class_)


def line(x1, y1, x2, y2, class_: str) -> Html:
  return tag('line', **_round(x1=x1, y1=y1, x2=x2, y2=y2), class_=class_)


def rect(x, y, width, height, class_: str) -> Html:
  return tag('rect', **_round(x=x, y=y, width=width, height=height), class_=class_)


def dot(x, y, class_: str, r: float = 4) -> Html:
  return tag('circle', **_round(cx=x, cy=y), r=r, class_=class_)


def text(x, y, said, class_: str = 'tick', anchor: str = 'start') -> Html:
  return tag('text', said, **_round(x=x, y=y), class_=class_, text_anchor=anchor)


def _round(**places) -> dict[str, str]:
  return {name: f'{value:.1f}' for name, value in places.items()}


def grid(
  x: Axis,
  y: Axis,
  x_name: str,
  right: Callable | None = None,
  below: Callable = format_amount,
) -> Html:
  """Lines and numbers behind a chart.

  Args:
    right: turns y into what a second axis says.
    below: writes x.
  """
  parts = []
  for value in y.ticks():
    at = y(value)
    parts.append(line(x.start, at, x.end, at, 'grid'))
    parts.append(text(x.start - 6, at + 4, f'{value:.4g}', anchor='end'))
    if right:
      parts.append(text(x.end + 6, at + 4, right(value)))
  for value in x.ticks():
    at = x(value)
    parts.append(line(at, y.start, at, y.start + 4, 'grid'))
    parts.append(text(at, y.start + 17, below(value), anchor='middle'))
  middle = (x.start + x.end) / 2
  return join([*parts, text(middle, y.start + 34, x_name, 'name', 'middle')])


def line_chart(
  name: str,
  lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
  *,
  start_step: float | None = None,
  level: tuple[float, str] | None = None,
  right: Callable | None = None,
  bounds: tuple[float, ...] = (),
) -> Html | None:
  """Values over steps, or None where there are none.

  Args:
    lines: name -> steps, values.
    start_step: where the policy began to learn.
    level: a value to compare with, and its name.
    right: see `grid`.
    bounds: values that the chart shows in any case.
  """
  lines = {k: v for k, v in lines.items() if len(v[0])}
  if not lines:
    return None
  thin = [_thin(*series) for series in lines.values()]
  levels = [level[0]] if level else []
  x = make_axis([t[0] for t in thin], 52, 428 if right else 472, pad=0)
  y = make_axis([*(t[2:] for t in thin), levels, bounds], 196, 12)
  parts = [grid(x, y, 'step', right)]
  for i, (steps, _) in enumerate(lines.values()):
    parts += _draw_series(
      x, y, thin[i], colour(i), thinned=len(thin[i][0]) < len(steps)
    )
  if level:
    at = y(level[0])
    parts.append(line(x.start, at, x.end, at, 'level'))
    parts.append(text(x.start + 4, at - 5, level[1], 'mark'))
  if start_step is not None and x.low < start_step < x.high:
    parts.append(line(x(start_step), y.start, x(start_step), y.end, 'moment'))
  keys = [key(colour(i), k) for i, k in enumerate(lines)] if len(lines) > 1 else []
  return figure(name, svg(480, 236, name, *parts), *keys)


def _thin(x: np.ndarray, y: np.ndarray, most: int = 240) -> np.ndarray:
  """x, mean, least and greatest of y, over at most as many groups of neighbours."""
  groups = np.array_split(np.arange(len(x)), min(most, len(x)))
  rows = [(x[g].mean(), y[g].mean(), y[g].min(), y[g].max()) for g in groups]
  return np.array(rows).T


def _draw_series(x: Axis, y: Axis, series, colour: str, *, thinned: bool) -> list[Html]:
  """A line through the means, before the band from the least to the greatest."""
  steps, mean, low, high = series
  parts = []
  if thinned:
    around = np.concatenate([x(steps), x(steps)[::-1]])
    band = np.concatenate([y(low), y(high)[::-1]])
    parts.append(path(around, band, f'band {colour}', close=True))
  parts.append(path(x(steps), y(mean), f'line {colour}'))
  if len(steps) == 1:
    parts.append(dot(x(steps[0]), y(mean[0]), f'dot {colour}'))
  return parts
