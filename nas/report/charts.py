"""Charts: axes, lines and dots as inline SVG."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from nas.report.html import (
  COUNTS,
  PLAIN,
  Html,
  Units,
  figure,
  format_amount,
  join,
  key,
  pick_unit,
  tag,
)

COLOURS = 8  # in style.css; a ninth line has the first one's again
# Of a letter of the size that numbers have, in a font as wide as any that is usual.
LETTER_WIDTH = 7.8


@dataclasses.dataclass(frozen=True)
class Axis:
  """Values from `low` to `high`, drawn from `start` to `end`, written in `units`."""

  low: float
  high: float
  start: float
  end: float
  units: Units = PLAIN

  def __call__(self, values):
    share = (np.asarray(values, float) - self.low) / (self.high - self.low)
    return self.start + share * (self.end - self.start)

  def ticks(self) -> list[tuple[float, str]]:
    """Four to eight values that are round in their unit, and how they are written.

    All in one unit and with the digits that their step has: equal steps look equal.
    """
    size, name = pick_unit(self.units, max(abs(self.low), abs(self.high)))
    low, high = self.low / size, self.high / size
    power = math.floor(math.log10((high - low) / 4))
    times = max(m for m in (1, 2, 2.5, 5) if (high - low) / (m * 10**power) >= 4)
    digits = max(0, -power + (times == 2.5))
    step = times * 10**power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [
      (i * step * size, f'{i * step:.{digits}f}{name}'.replace('-', '−'))
      for i in range(first, last + 1)
    ]

  def widest(self) -> float:
    """How wide the widest of its numbers is."""
    return LETTER_WIDTH * max(len(said) for _, said in self.ticks())


@dataclasses.dataclass(frozen=True)
class LogAxis(Axis):
  """Values above 0: equal ratios are equally far apart."""

  def __call__(self, values):
    share = np.log(np.asarray(values, float) / self.low) / math.log(self.high / self.low)
    return self.start + share * (self.end - self.start)

  def ticks(self) -> list[tuple[float, str]]:
    """Four to nine round values, each in its unit; on a short axis those of a plain one."""
    first, last = (math.floor(math.log10(end)) for end in (self.low, self.high))
    for times in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
      round_ones = [m * 10.0**p for p in range(first, last + 1) for m in times]
      inside = [v for v in round_ones if self.low <= v <= self.high]
      if 4 <= len(inside) <= 9:
        return [(v, format_amount(v, self.units)) for v in inside]
    return super().ticks()


class WholeAxis(Axis):
  """Numbers of things, which have no fractions."""

  def ticks(self) -> list[tuple[float, str]]:
    whole = [v for v, _ in super().ticks() if abs(v - round(v)) < 1e-9]
    return [(v, f'{v:,.0f}') for v in whole]


def make_log_axis(
  values, start: float, end: float, pad: float = 0.05, units: Units = COUNTS
) -> LogAxis:
  """An axis on which all arrays of values above 0 fit, with a share of room at both ends."""
  plain = make_axis([np.log(np.asarray(v, float)) for v in values], start, end, pad)
  return LogAxis(math.exp(plain.low), math.exp(plain.high), start, end, units)


def make_axis(values, start: float, end: float, pad: float = 0.05, units: Units = PLAIN) -> Axis:
  """An axis on which all arrays of values fit, with a share of room at both ends."""
  values = np.concatenate([np.ravel(np.asarray(v, float)) for v in values])
  low, high = float(values.min()), float(values.max())
  room = pad * (high - low) or (0 if high > low else 0.05 * abs(high) or 1.0)
  return Axis(low - room, high + room, start, end, units)


def fit_width(x: Axis, y: Axis, width: float, right: Axis | None = None) -> Axis:
  """x, as long as the numbers beside and below a chart leave room for."""
  before = y.widest() + 8
  after = max(x.widest() / 2, right.widest() + 10 if right else 0)
  return dataclasses.replace(x, start=max(52, before), end=width - after - 4)


def svg(width, height, name: str, *inside, class_='chart', style=None) -> Html:
  named = {'viewBox': f'0 0 {width} {height}', 'role': 'img', 'aria_label': name}
  return tag('svg', *inside, **named, class_=class_, style=style)


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


def dot(x, y, class_: str, r: float = 4, title: str | None = None) -> Html:
  """A mark; where it has a title, it says that when the pointer is over it."""
  inside = [] if title is None else [tag('title', title)]
  return tag('circle', *inside, **_round(cx=x, cy=y), r=r, class_=class_)


def diamond(x, y, class_: str, title: str) -> Html:
  """A mark that says its title where the pointer is over it."""
  d = f'M{x:.1f},{y - 5:.1f}l5,5l-5,5l-5,-5Z'
  return tag('path', tag('title', title), d=d, class_=class_)


def star(x, y, class_: str) -> Html:
  angles, radii = np.arange(10) * math.pi / 5, np.array([11, 4.6] * 5)
  corners = x + radii * np.sin(angles), y - radii * np.cos(angles)
  return path(*corners, class_, close=True)


def text(x, y, said, class_: str = 'tick', anchor: str = 'start') -> Html:
  return tag('text', said, **_round(x=x, y=y), class_=class_, text_anchor=anchor)


def _round(**places) -> dict[str, str]:
  return {name: f'{value:.1f}' for name, value in places.items()}


def grid(x: Axis, y: Axis, x_name: str, right: Axis | None = None) -> Html:
  """Lines and numbers behind a chart.

  Args:
    right: a second axis for the heights of y.
  """
  parts = []
  for value, said in y.ticks():
    at = y(value)
    parts.append(line(x.start, at, x.end, at, 'grid'))
    parts.append(text(x.start - 6, at + 4, said, anchor='end'))
  for value, said in right.ticks() if right else ():
    at = right(value)
    parts.append(line(x.end, at, x.end + 4, at, 'grid'))
    parts.append(text(x.end + 8, at + 4, said))
  for value, said in x.ticks():
    at = x(value)
    parts.append(line(at, y.start, at, y.start + 4, 'grid'))
    parts.append(text(at, y.start + 17, said, anchor='middle'))
  middle = (x.start + x.end) / 2
  return join([*parts, text(middle, y.start + 34, x_name, 'name', 'middle')])


def line_chart(
  name: str,
  lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
  *,
  start_step: float | None = None,
  level: tuple[float, str] | None = None,
  right: tuple[float, Units] | None = None,
  bounds: tuple[float, ...] = (),
) -> Html | None:
  """Values over steps, or None where there are none.

  Args:
    lines: name -> steps, values.
    start_step: after which the policy learns.
    level: a value to compare with, and its name.
    right: what a second axis has for a value of 1, and its units.
    bounds: values that the chart shows in any case.
  """
  lines = {k: v for k, v in lines.items() if len(v[0])}
  if not lines:
    return None
  thin = [_thin(*series) for series in lines.values()]
  levels = [level[0]] if level else []
  y = make_axis([*(t[2:] for t in thin), levels, bounds], 196, 12)
  if right:
    scale, units = right
    right = Axis(y.low * scale, y.high * scale, y.start, y.end, units)
  x = make_axis([t[0] for t in thin], 0, 480, pad=0, units=COUNTS)
  x = fit_width(x, y, 480, right)
  parts = [grid(x, y, 'step', right)]
  for i, (steps, _) in enumerate(lines.values()):
    parts += _draw_series(x, y, thin[i], colour(i), thinned=len(thin[i][0]) < len(steps))
  if level:
    at = y(level[0])
    parts.append(line(x.start, at, x.end, at, 'level'))
    parts.append(text(x.start + 4, at - 5, level[1], 'mark'))
  if start_step is not None and x.low <= start_step <= x.high:
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
