"""Charts as Vega-Lite specs, which templates/draw.js draws in the browser.

Colors are names in style.css, so that they follow the reader's light or dark mode.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nas.report.amounts import is_finite

INK, FRONT, FOUND, CONTROL = 'var(--ink)', 'var(--front)', 'var(--found)', 'var(--control)'
STAR = 'M0,-1L.26,-.36L.95,-.31L.42,.14L.59,.81L0,.45L-.59,.81L-.42,.14L-.95,-.31L-.26,-.36Z'


def color(i: int) -> str:
  """Returns the color of the i-th of several areas or lines; a seventh has the first one's."""
  return f'var(--c{i % 6})'


def layer(mark: str, columns: Mapping, *, shared='', where='', computed=(), **options) -> dict:
  """Makes one layer of a chart: a mark for each row.

  Args:
    columns: channel of Vega-Lite (x, y, x2, color, tooltip, …) -> its values.
    shared: the page's dataset; then columns name its fields.
    where: which rows are drawn, a Vega expression.
    computed: channels and the Vega expressions of their values.
    options: of the mark.
  """
  encoding = {name: {'field': columns[name] if shared else name} for name in columns}
  encoding |= {name: {'field': name} for name, _ in computed}
  for name in encoding.keys() - {'x', 'y', 'x2', 'y2', 'xError'}:
    encoding[name] |= {'type': 'nominal'}
  for name in encoding.keys() & {'color', 'fill', 'stroke'}:
    encoding[name] |= {'scale': None}  # the values are colors
  data = {'name': shared} if shared else {'values': {k: plain(v) for k, v in columns.items()}}
  changes = [{'calculate': text, 'as': name} for name, text in computed]
  changes += [{'filter': where}] if where else []
  mark = {'type': mark, **options}
  return {'mark': mark, 'data': data, 'encoding': encoding, 'transform': changes}


def dots(columns: Mapping, size: float, **options) -> dict:
  """Makes a layer of filled dots, which is `layer` otherwise."""
  return layer('point', columns, **{'filled': True, 'size': size, 'opacity': 1, **options})


def plain(values: Sequence) -> list:
  """Makes values JSON: numbers of six digits, None for those that are not finite."""
  values = values.tolist() if isinstance(values, np.ndarray) else values
  rounded = [float(f'{v:.6g}') if is_finite(v) else v for v in values]
  return [None if isinstance(v, float) and not math.isfinite(v) else v for v in rounded]


def axis(title=None, unit: str | None = None, *, log=False, scale=None, **options) -> dict:
  """Makes an axis.

  Args:
    unit: a name of a cost, or '' for counts; then numbers are in the unit that fits each.
    log: whether equal ratios are equally far apart.
    scale, options: of Vega-Lite's scale and axis.
  """
  if unit is not None:
    size, ending = {'latency_ns': (1e9, 's'), 'state_bytes': (1, 'B')}.get(unit, (1, ''))
    options['labelExpr'] = f'format(datum.value / {size}, ".3~s") + "{ending}"'
  kind = {'type': 'log'} if log else {'zero': False}
  scale = {**kind, 'nice': False, 'padding': 12, **(scale or {})}
  return {'type': 'quantitative', 'title': title, 'scale': scale, 'axis': options}


def chart(
  title: str, layers: Sequence[Mapping], x: Mapping, y: Mapping, height=340, keys=(), below=''
) -> tuple:
  """Makes a chart, a block of a page.

  Args:
    layers: the last is on top; one without values is left out.
    x, y: axes that all layers share.
    height: in pixels.
    keys: what colors mean: (color, text) or (color, text, 'ring').
    below: a note.
  """
  layers = [one for one in layers if all(one['data'].get('values', {'shared': True}).values())]
  for each in layers:
    for name, place in {'x': x, 'y': y}.items():
      if name in each['encoding']:
        each['encoding'][name] = {**place, **each['encoding'][name]}
  keys = [(*key, 'dot')[:3] for key in keys]
  return 'chart', title, {'layer': layers}, height, keys, below


def level(channel: str, at: float | None, name: str = '', **options) -> list[dict]:
  """Makes a dashed line across a chart at a value, and its name beside it; nothing for None."""
  if at is None:
    return []
  line = layer('rule', {channel: [at]}, **{'strokeDash': [5, 4], 'color': INK, **options})
  place = {'x': {'y': 0, 'align': 'right', 'dx': -4}, 'y': {'x': 0, 'align': 'left', 'dx': 4}}
  text = layer('text', {channel: [at], 'text': [name]}, dy=-6, **place[channel])
  return [line, text] if name else [line]


def stairs(x: Sequence[float], y: Sequence[float], end: float) -> list[dict]:
  """Makes the line above what a front dominates, on to the chart's end."""
  columns = {'x': [*x, end], 'y': [*y, *y[-1:]]}
  line = layer('line', columns, interpolate='step-after', color=FRONT, strokeWidth=1.5)
  return [line] if len(x) else []


def star(x: float, y: float) -> dict:
  return dots({'x': [x], 'y': [y]}, 420, shape=STAR, color=FOUND, tooltip=None)


def pareto_front(cost, accuracy) -> np.ndarray:
  """Finds the points that no other beats: none is as cheap and as accurate, and better in one.

  Args:
    cost, accuracy: [n]; a point where one is not finite is on no front.

  Returns:
    Their indices, cheapest first. Of equal points the first.
  """
  cost, accuracy = np.asarray(cost), np.asarray(accuracy, float)
  finite = np.flatnonzero(np.isfinite(cost) & np.isfinite(accuracy))
  order = finite[np.lexsort((-accuracy[finite], cost[finite]))]
  best_before = np.maximum.accumulate(np.append(-np.inf, accuracy[order]))[:-1]
  return order[accuracy[order] > best_before]
