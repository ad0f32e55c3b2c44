"""The report of a search: one HTML page that needs nothing else.

No script, no font, no picture is loaded: charts are inline SVG whose colours follow the
reader's light or dark mode. It is made of plain data, and what a search has not measured
(yet) is said to be missing.
"""

import dataclasses
import html
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path

import numpy as np

from nas.samples import Samples
from nas.space import Space

MOST_POINTS = 5_000  # drawn of the samples, besides the front
COLOURS = 8  # in the style below; a ninth choice has the first one's again


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a search left, as plain data. All but the first three may be missing.

  Attributes:
    title: of the page.
    command: the exact command that trains the result.
    space: what was searched.
    rows: a mapping for each log step: step, and any of reward, baseline, accuracy, loss,
      cost_ratio, entropy, rl_rate.
    samples: what was run.
    probabilities: ([S] steps, [S, D, most choices]) of the policy, padded with 0.
    found: family, spec, choices {path: value}, cost {'macs': …, 'params': …, …}, and
      accuracy and reward if they were measured.
    neighbours: of the found network, best reward first: changed {path: value} (empty for
      the found network itself), accuracy, reward, macs.
    control: random networks of the found one's cost band: accuracy, reward, macs.
    target_macs: the cost aimed at.
    beta: of the reward, accuracy + beta * |cost / target - 1|.
    slope: accuracy gained per unit of cost / target near the target: `estimate_slope`.
  """

  title: str
  command: str
  space: Space
  rows: Sequence[Mapping] = ()
  samples: Samples | None = None
  probabilities: tuple[np.ndarray, np.ndarray] | None = None
  found: Mapping | None = None
  neighbours: Sequence[Mapping] = ()
  control: Sequence[Mapping] = ()
  target_macs: float | None = None
  beta: float | None = None
  slope: float | None = None

  def __post_init__(self):
    decisions = len(self.space)
    if self.samples is not None and len(self.samples):
      shape = np.shape(self.samples.choices)
      if len(shape) != 2 or shape[1] != decisions:
        raise ValueError(
          f'samples of this space have choices [n, {decisions}], got {list(shape)}'
        )
    if self.probabilities is not None:
      steps, table = map(np.asarray, self.probabilities)
      wanted = (len(steps), decisions, max(self.space.sizes, default=0))
      if table.shape != wanted:
        raise ValueError(
          f'probabilities of this space over {len(steps)} steps are {list(wanted)}, '
          f'got {list(table.shape)}'
        )

  @property
  def target_is_missed(self) -> bool:
    """Whether the reward is greatest above the target: its cost term is too weak."""
    known = self.slope is not None and self.beta is not None
    return known and abs(self.beta) < self.slope


def write_report(path, findings: Findings):
  """Writes the page, whole or not at all.

  Raises:
    ValueError: the found choices are not of the space.
  """
  text = make_page(findings)
  path = Path(path)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    part.write_text(text, encoding='utf-8')
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def pareto_front(cost, accuracy) -> np.ndarray:
  """Which points no other beats: none is as cheap and as accurate, and better in one.

  Args:
    cost: [n].
    accuracy: [n]; a point whose accuracy or cost is not finite is on no front.

  Returns:
    Their indices, cheapest first. Of equal points the first.
  """
  cost, accuracy = np.asarray(cost), np.asarray(accuracy, float)
  if cost.shape != accuracy.shape or cost.ndim != 1:
    raise ValueError(
      f'a front needs as many costs as accuracies, got {list(cost.shape)} and '
      f'{list(accuracy.shape)}'
    )
  finite = np.flatnonzero(np.isfinite(cost) & np.isfinite(accuracy))
  order = finite[np.lexsort((-accuracy[finite], cost[finite]))]
  best_before = np.maximum.accumulate(np.append(-np.inf, accuracy[order]))[:-1]
  return order[accuracy[order] > best_before]


def estimate_slope(samples: Samples | None, target: float) -> float | None:
  """Accuracy per unit of cost / target near the target, by least squares.

  Of the search's second half, as the weights of the first half are still poor. Weights
  improve further while the cost drifts, which is no effect of cost: accuracy and cost are
  compared between samples of about the same step only. The nearest of three neighbourhoods
  of the target counts that has enough samples to tell.

  Returns:
    None where they do not tell: fewer than 50 samples, or a standard error of more than
    0.05 and of more than a quarter of the slope.
  """
  if samples is None or not len(samples):
    return None
  steps, ratio = np.asarray(samples.steps), np.asarray(samples.cost, float) / target
  accuracy = np.asarray(samples.accuracy, float)
  late = (steps >= (steps.min() + steps.max()) / 2) & np.isfinite(accuracy)
  for distance in (0.1, 0.25, 0.5):
    near = np.flatnonzero(late & (np.abs(ratio - 1) <= distance))
    fit = _fit_slope(steps[near], ratio[near], accuracy[near])
    if fit and fit[1] <= max(0.05, abs(fit[0]) / 4):
      return fit[0]
  return None


def _fit_slope(steps, x, y) -> tuple[float, float] | None:
  """The slope of y over x and its standard error, with an intercept for each era."""
  if len(x) < 50:
    return None
  eras = np.array_split(np.argsort(steps, kind='stable'), min(20, len(x) // 10))
  x = np.concatenate([x[era] - x[era].mean() for era in eras])
  y = np.concatenate([y[era] - y[era].mean() for era in eras])
  spread = float(x @ x)
  if spread < 1e-9 * len(x):
    return None
  slope = float(x @ y) / spread
  rest = y - slope * x
  return slope, math.sqrt(float(rest @ rest) / (len(x) - len(eras) - 1) / spread)


def count_trained(space: Space, choices) -> np.ndarray:
  """How many of n networks trained each choice: [D, most choices] of vectors [n, D].

  A choice of a decision that is closed in a network was not trained by it.
  """
  counts = np.zeros((len(space), max(space.sizes, default=0)), np.int64)
  for start in range(0, len(choices), 65_536):  # bounds the memory
    part = np.asarray(choices[start : start + 65_536])
    opened = space.is_open(part)
    for n in range(len(space)):
      counts[n] += np.bincount(part[opened[:, n], n], minlength=counts.shape[1])
  return counts


# HTML. Everything goes through _tag, which escapes what is not HTML already.


class _Html(str):
  """Text that is HTML."""


def _tag(_name: str, *inside, **attributes) -> _Html:
  """An element. `class_` stands for class, `stroke_width` for stroke-width."""
  written = ''.join(
    f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
    for key, value in attributes.items()
    if value is not None
  )
  return _Html(f'<{_name}{written}>{_join(inside)}</{_name}>')


def _join(parts) -> _Html:
  return _Html(
    ''.join(p if isinstance(p, _Html) else html.escape(str(p)) for p in parts)
  )


def _section(anchor: str, title: str, *inside) -> _Html:
  return _tag('section', _tag('h2', title), *inside, id=anchor)


def _note(text: str) -> _Html:
  return _tag('p', text, class_='note')


def _missing(text: str) -> _Html:
  return _tag('p', text, class_='missing')


def _table(names: Sequence[str], rows: Sequence[Sequence], texts: int = 1) -> _Html:
  """A table whose columns behind the first `texts` are numbers, set to the right."""

  def row(kind, cells):
    classes = [None if i < texts else 'number' for i in range(len(cells))]
    return _tag(
      'tr', *[_tag(kind, c, class_=k) for c, k in zip(cells, classes, strict=True)]
    )

  body = [row('td', cells) for cells in rows]
  table = _tag('table', _tag('thead', row('th', names)), _tag('tbody', *body))
  return _tag('div', table, class_='scroll')


def _figure(title: str, svg: _Html, *keys: _Html, note: str = '') -> _Html:
  caption = _tag('figcaption', _tag('b', title), *keys)
  inside = [caption, _tag('div', svg, class_='scroll')]
  if note:
    inside.append(_note(note))
  return _tag('figure', *inside)


def _key(colour: str, text: str) -> _Html:
  return _tag('span', _tag('i', class_=f'swatch {colour}'), text, class_='key')


# Numbers.


def _is_finite(value) -> bool:
  return isinstance(value, Real) and math.isfinite(value)


def _number(value) -> str:
  """An accuracy, a reward or a rate."""
  return f'{value:.3f}' if _is_finite(value) else '–'


def _amount(value) -> str:
  """A count with its thousands: 1.25G, 480M, 12k."""
  if not _is_finite(value):
    return '–'
  for size, unit in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= size:
      return f'{value / size:.3g}{unit}'
  return f'{value:.3g}'


def _bytes(value) -> str:
  for size, unit in ((2**30, 'GiB'), (2**20, 'MiB'), (2**10, 'KiB')):
    if value >= size:
      return f'{value / size:.3g} {unit}'
  return f'{value} B'


def _percent(share: float) -> str:
  if 0 < share < 0.01:
    return '<1 %'
  # Rounded down at the top: what is not certain is not 100 %.
  return f'{math.floor(share * 100) if share > 0.99 else round(share * 100)} %'


def _series(rows: Sequence[Mapping], key: str) -> tuple[np.ndarray, np.ndarray]:
  """Steps and values of the rows that have a finite one."""
  found = [(row['step'], row[key]) for row in rows if _is_finite(row.get(key))]
  return tuple(np.array(found, float).reshape(-1, 2).T)


def _shares(sizes: Sequence[int], table: np.ndarray) -> np.ndarray:
  """[..., D] entropies as shares of their most; 0 where there is one choice."""
  inside = np.where(table > 0, table, 1)
  entropy = -np.sum(inside * np.log(inside), axis=-1)
  most = np.log(np.asarray(sizes, float))
  return np.divide(entropy, most, out=np.zeros_like(entropy), where=most > 0)


# Charts.


@dataclasses.dataclass(frozen=True)
class _Axis:
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


def _make_axis(values, start: float, end: float, pad: float = 0.05) -> _Axis:
  values = np.concatenate([np.ravel(np.asarray(v, float)) for v in values])
  low, high = float(values.min()), float(values.max())
  room = pad * (high - low) or (0 if high > low else 0.05 * abs(high) or 1.0)
  return _Axis(low - room, high + room, start, end)


def _path(x, y, class_: str, close: bool = False) -> _Html:
  points = ' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(x, y, strict=True))
  return _tag('path', d=f'M{points}{"Z" if close else ""}', class_=class_)


def _line(x1, y1, x2, y2, class_: str) -> _Html:
  return _tag(
    'line',
    x1=f'{x1:.1f}',
    y1=f'{y1:.1f}',
    x2=f'{x2:.1f}',
    y2=f'{y2:.1f}',
    class_=class_,
  )


def _text(x, y, text, class_: str = 'tick', anchor: str = 'start') -> _Html:
  return _tag(
    'text', text, x=f'{x:.1f}', y=f'{y:.1f}', class_=class_, text_anchor=anchor
  )


def _svg(width, height, name: str, *inside, class_: str = 'chart') -> _Html:
  return _tag(
    'svg',
    *inside,
    viewBox=f'0 0 {width} {height}',
    role='img',
    aria_label=name,
    class_=class_,
  )


def _grid(x: _Axis, y: _Axis, x_name: str, right: Callable | None = None) -> _Html:
  """Lines and numbers behind a chart; `right` turns y into what a second axis says."""
  parts = []
  for value in y.ticks():
    at = float(y(value))
    parts.append(_line(x.start, at, x.end, at, 'grid'))
    parts.append(_text(x.start - 6, at + 4, f'{value:.4g}', anchor='end'))
    if right:
      parts.append(_text(x.end + 6, at + 4, right(value)))
  for value in x.ticks():
    at = float(x(value))
    parts.append(_line(at, y.start, at, y.start + 4, 'grid'))
    parts.append(_text(at, y.start + 17, _amount(value), anchor='middle'))
  middle = (x.start + x.end) / 2
  parts.append(_text(middle, y.start + 34, x_name, 'name', 'middle'))
  return _join(parts)


def _thin(x: np.ndarray, y: np.ndarray, most: int = 240):
  """x, mean, least and greatest of y, over at most as many groups of neighbours."""
  groups = np.array_split(np.arange(len(x)), min(most, len(x)))
  rows = [(x[g].mean(), y[g].mean(), y[g].min(), y[g].max()) for g in groups]
  return np.array(rows).T


def _line_chart(
  name: str,
  lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
  *,
  start_step: float | None = None,
  level: tuple[float, str] | None = None,
  right: Callable | None = None,
  bounds: tuple[float, ...] = (),
) -> _Html | None:
  """Values over steps, or None where there are none.

  Args:
    lines: name -> steps, values.
    start_step: where the policy began to learn.
    level: a value to compare with, and its name.
    right: see _grid.
    bounds: values that the chart shows in any case.
  """
  lines = {k: v for k, v in lines.items() if len(v[0])}
  if not lines:
    return None
  thin = {k: _thin(*v) for k, v in lines.items()}
  levels = [level[0]] if level else []
  x = _make_axis([t[0] for t in thin.values()], 52, 428 if right else 472, pad=0)
  y = _make_axis([*(t[2:] for t in thin.values()), levels, bounds], 196, 12)
  parts = [_grid(x, y, 'step', right)]
  for i, (steps, mean, low, high) in enumerate(thin.values()):
    if len(steps) < len(list(lines.values())[i][0]):
      around = np.concatenate([x(steps), x(steps)[::-1]])
      band = np.concatenate([y(low), y(high)[::-1]])
      parts.append(_path(around, band, f'band c{i % COLOURS}', close=True))
    parts.append(_path(x(steps), y(mean), f'line c{i % COLOURS}'))
    if len(steps) == 1:
      parts.append(_dot(x(steps)[0], y(mean)[0], f'dot c{i % COLOURS}'))
  if level:
    at = float(y(level[0]))
    parts.append(_line(x.start, at, x.end, at, 'level'))
    parts.append(_text(x.start + 4, at - 5, level[1], 'mark'))
  if start_step is not None and x.low < start_step < x.high:
    at = float(x(start_step))
    parts.append(_line(at, y.start, at, y.end, 'moment'))
  keys = [_key(f'c{i % COLOURS}', k) for i, k in enumerate(thin)]
  return _figure(name, _svg(480, 236, name, *parts), *(keys if len(keys) > 1 else ()))


def _dot(x, y, class_: str, r: float = 4) -> _Html:
  return _tag('circle', cx=f'{x:.1f}', cy=f'{y:.1f}', r=r, class_=class_)


# The page.


def make_page(findings: Findings) -> str:
  """The page's text. Raises a ValueError where found choices are not of the space."""
  sections = {
    'Summary': _summary(findings),
    'Network': _network(findings),
    'Search': _progress(findings),
    'Accuracy and cost': _tradeoff(findings),
    'Random control': _control(findings),
    'Neighbours': _neighbours(findings),
    'Decisions': _decisions(findings),
  }
  anchors = [
    _tag('a', name, href=f'#{_anchor(name)}') for name in sections if name != 'Summary'
  ]
  body = [
    _tag('header', _tag('h1', findings.title), _tag('nav', *anchors)),
    *[_section(_anchor(name), name, part) for name, part in sections.items()],
    _tag(
      'footer',
      f'Space {findings.space.digest}: {len(findings.space)} decisions, '
      f'{_power(findings.space.count())} networks.',
    ),
  ]
  return _PAGE.format(
    title=html.escape(findings.title), style=_STYLE, body=_tag('main', *body)
  )


def _anchor(name: str) -> str:
  return name.lower().replace(' ', '-')


def _power(count: int) -> str:
  return f'{count:,}' if count < 10**6 else f'about 10^{len(str(count)) - 1}'


def _summary(findings: Findings) -> _Html:
  tiles = [_tile(*tile) for tile in _list_tiles(findings)]
  return _join(
    [
      _tag('ul', *tiles, class_='tiles'),
      _slope(findings),
      _tag('h3', 'Train it'),
      _tag('pre', findings.command, class_='command'),
    ]
  )


def _tile(name: str, value: str, more: str = '') -> _Html:
  return _tag('li', _tag('span', name), _tag('b', value), _tag('small', more))


def _list_tiles(findings: Findings) -> list[tuple[str, ...]]:
  found, control = findings.found or {}, _values(findings.control, 'accuracy')
  tiles = []
  if (accuracy := _found_value(findings, 'accuracy')) is not None:
    tiles.append(('Accuracy', _number(accuracy), 'with the shared weights'))
  for name, value in found.get('cost', {}).items():
    if name == 'macs':
      target = findings.target_macs
      more = f'{value / target:.2f} × target {_amount(target)}' if target else ''
      tiles.append(('Multiply-adds', _amount(value), more))
    elif name.endswith('_bytes'):
      tiles.append((_title(name.removesuffix('_bytes')), _bytes(value)))
    else:
      name = 'Parameters' if name == 'params' else _title(name)
      tiles.append((name, _amount(value)))
  if len(control):
    spread = f'± {control.std(ddof=1):.3f}' if len(control) > 1 else ''
    more = f'{spread} accuracy of {len(control)} networks'.strip()
    tiles.append(('Random control', _number(float(control.mean())), more))
  if findings.probabilities is not None and len(findings.probabilities[0]):
    left = _shares(findings.space.sizes, np.asarray(findings.probabilities[1][-1]))
    tiles.append(('Entropy left', _percent(float(left.mean())), 'of the most possible'))
  if findings.samples is not None and len(findings.samples):
    more = f'in {_amount(int(np.max(findings.samples.steps)))} steps'
    tiles.append(('Networks run', _amount(len(findings.samples)), more))
  return tiles


def _title(name: str) -> str:
  return name.replace('_', ' ').capitalize()


def _values(rows: Sequence[Mapping], key: str) -> np.ndarray:
  return np.array([row[key] for row in rows if _is_finite(row.get(key))], float)


def _found_value(findings: Findings, key: str) -> float | None:
  """The found network's accuracy or reward, or its own among its neighbours."""
  own = [row for row in findings.neighbours if not row.get('changed')]
  values = [row.get(key) for row in [findings.found or {}, *own]]
  return next((value for value in values if _is_finite(value)), None)


def _slope(findings: Findings) -> _Html:
  """What β does at the target: holds it, does not (a warning), or is not known to."""
  slope, beta = findings.slope, findings.beta
  if beta is None or findings.target_macs is None:
    return _missing('The search had no cost target.')
  minus = f'{beta:g}'.replace('-', '−')
  ratio = _series(findings.rows, 'cost_ratio')[1]
  late = ratio[-max(1, len(ratio) // 10) :]
  reached = ''
  if len(late):
    reached = f' The last tenth of the search had a mean ratio of {late.mean():.2f}.'
  if slope is None:
    return _missing(
      'How fast accuracy rises with cost near the target is not known: the samples do not '
      f'tell. So β = {minus} may or may not be strong enough to hold it.{reached}'
    )
  if not findings.target_is_missed:
    return _note(
      f'β = {minus} holds the target: near it, accuracy changes by {slope:.3f} per unit '
      f'of cost ratio, no more than |β|, so exceeding it does not pay.{reached}'
    )
  text = (
    f'Near the target, accuracy rises by {slope:.3f} per unit of cost ratio, more than '
    f'|β| = {abs(beta):g}. So the reward is greatest above the target, where the search '
    f'settles.{reached} A β below −{slope:.3f} makes the target the best place; with some '
    f'room, β = −{math.ceil(slope * 150) / 100:.2f}.'
  )
  title = _tag('b', 'β is too weak for this target')
  return _tag(
    'div', title, _tag('p', text), class_='warning', id='slope-warning', role='alert'
  )


# The found network.


def _network(findings: Findings) -> _Html:
  spec = (findings.found or {}).get('spec')
  if spec is None:
    return _missing('No network has been found yet.')
  written = _tag(
    'details',
    _tag('summary', 'Its spec as JSON'),
    _tag('pre', json.dumps(spec, indent=1, ensure_ascii=False)),
  )
  rest = {k: v for k, v in spec.items() if k not in ('blocks', 'version')}
  facts = _tag('p', *[_fact(k, v) for k, v in rest.items()], class_='facts')
  family = _tag('p', 'Family ', _tag('b', findings.found.get('family', 'unknown')))
  blocks = spec.get('blocks')
  if not blocks:
    return _join([family, facts, written])
  skipped = _list_skipped(findings.found)
  widest = max(
    (layer.get('expand', 0) for b in blocks for layer in b.get('layers', ())), default=0
  )
  drawn = [_block(i, b, skipped.get(i, set()), widest) for i, b in enumerate(blocks)]
  kinds = [
    _key('c0', 'spatial kernel'),
    _key('c1', 'spatial and temporal'),
    _key('c3', 'temporal'),
    _key('gone', 'left out'),
  ]
  return _join(
    [family, facts, _tag('p', *kinds), _tag('ol', *drawn, class_='blocks'), written]
  )


def _fact(name: str, value) -> _Html:
  return _tag('span', f'{name} ', _tag('b', _label(value)))


def _list_skipped(found: Mapping) -> dict[int, set[int]]:
  """Block -> the places of layers that were left out, which a spec does not tell."""
  skipped = {}
  for path, value in found.get('choices', {}).items():
    keys = path.split('/')
    if value is None and len(keys) == 4 and (keys[0], keys[2]) == ('blocks', 'layers'):
      skipped.setdefault(int(keys[1]), set()).add(int(keys[3]))
  return skipped


def _block(number: int, block: Mapping, skipped: set[int], widest: int) -> _Html:
  layers = block.get('layers', ())
  places = len(layers) + len(skipped)
  given = iter(layers)
  cards = [
    _tag('li', 'left out', class_='layer gone')
    if place in skipped
    else _layer(place, next(given), widest)
    for place in range(places)
  ]
  depth = f'{len(layers)} of {places} layers' if skipped else f'{len(layers)} layers'
  facts = [_fact(k, v) for k, v in block.items() if k != 'layers' and v is not None]
  head = _tag('div', _tag('b', f'Block {number}'), *facts, _tag('span', depth))
  return _tag('li', head, _tag('ol', *cards, class_='layers'))


def _layer(place: int, layer: Mapping, widest: int) -> _Html:
  parts = [_tag('small', f'layer {place}')]
  if 'kernel' in layer:
    kernel = layer['kernel']
    sizes = (1, kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
    parts += [_kernel(sizes), _tag('b', _label(kernel))]
  if 'expand' in layer:
    share = f'width:{100 * layer["expand"] / widest:.0f}%'
    parts.append(_tag('span', _tag('i', style=share), class_='bar'))
    parts.append(_tag('span', f'expand {layer["expand"]}'))
  if 'se' in layer:
    parts.append(_tag('small', 'SE' if layer['se'] else 'no SE'))
  rest = {k: v for k, v in layer.items() if k not in ('kernel', 'expand', 'se')}
  parts += [_tag('small', f'{k} {_label(v)}') for k, v in rest.items()]
  return _tag('li', *parts, class_='layer')


def _kernel(sizes: Sequence[int]) -> _Html:
  """A kernel (…, T, H, W) as T sheets of H by W cells."""
  time, high, wide = (1, 1, 1, *sizes)[-3:]
  colour = 'c0' if time == 1 else 'c3' if high == wide == 1 else 'c1'
  cell = min(7, 58 / (wide + time - 1), 58 / (high + time - 1))
  gap = cell * 0.9
  width, height = wide * cell + (time - 1) * gap, high * cell + (time - 1) * gap
  left, top = (72 - width) / 2, (60 - height) / 2
  sheets = []
  for t in reversed(range(time)):
    x, y = left + t * gap, top + (time - 1 - t) * gap
    sheets.append(
      _tag(
        'rect',
        x=f'{x:.1f}',
        y=f'{y:.1f}',
        width=f'{wide * cell:.1f}',
        height=f'{high * cell:.1f}',
        class_=f'sheet {colour}',
      )
    )
  return _svg(72, 60, f'kernel {_label(sizes)}', *sheets, class_='kernel')


# Over the steps.


def _progress(findings: Findings) -> _Html:
  rows, target = findings.rows, findings.target_macs
  series = {
    k: _series(rows, k)
    for k in ('reward', 'baseline', 'accuracy', 'loss', 'cost_ratio', 'entropy')
  }
  start = _policy_start(rows)

  def right(ratio):
    return _amount(ratio * target)

  def draw(name, *keys, **options):
    lines = {_title(k): series[k] for k in keys}
    return _line_chart(name, lines, start_step=start, **options)

  cost = 'Cost ratio and multiply-adds' if target else 'Cost ratio'
  charts = [
    draw('Reward', 'reward', 'baseline'),
    draw('Accuracy on held-out batches', 'accuracy'),
    draw(cost, 'cost_ratio', level=(1, 'target'), right=right if target else None),
    draw('Loss of the shared weights', 'loss'),
    draw('Entropy of the policy', 'entropy', bounds=(0,)),
    _group_entropy(findings, start),
  ]
  charts = [chart for chart in charts if chart is not None]
  if not charts:
    return _missing('No step has been logged yet.')
  parts = [_tag('div', *charts, class_='charts')]
  if start is not None:
    parts.append(
      _note(f'The upright line is step {start:g}, from which on the policy learns.')
    )
  return _join(parts)


def _policy_start(rows: Sequence[Mapping]) -> float | None:
  steps, rates = _series(rows, 'rl_rate')
  learning = np.flatnonzero(rates > 0)
  return float(steps[learning[0]]) if learning.size else None


def _group_entropy(findings: Findings, start: float | None) -> _Html | None:
  if findings.probabilities is None:
    return None
  steps, table = map(np.asarray, findings.probabilities)
  shares = _shares(findings.space.sizes, table)
  lines = {
    group or 'others': (steps.astype(float), shares[:, members].mean(axis=1))
    for group, members in _list_groups(findings.space).items()
  }
  name = 'Entropy left, by part, of the most possible'
  return _line_chart(name, lines, start_step=start, bounds=(0, 1))


# Accuracy against cost.


def _tradeoff(findings: Findings) -> _Html:
  samples = findings.samples
  if samples is None or not len(samples):
    return _missing('No network has been sampled yet.')
  cost, accuracy = np.asarray(samples.cost), np.asarray(samples.accuracy, float)
  front = pareto_front(cost, accuracy)
  if not len(front):
    return _missing('No sampled network has a finite accuracy.')
  drawn = _subsample(np.flatnonzero(np.isfinite(accuracy)), front)
  found = (findings.found or {}).get('cost', {}).get('macs')
  own = _found_value(findings, 'accuracy')
  marks = [v for v in (found, findings.target_macs) if v is not None]
  control = [row for row in findings.control if _is_finite(row.get('accuracy'))]
  macs = [row['macs'] for row in control]
  x = _make_axis([cost[drawn], macs, marks], 56, 944)
  heights = [row['accuracy'] for row in control] + ([] if own is None else [own])
  y = _make_axis([accuracy[drawn], heights], 400, 14)
  px, py = x(cost), y(accuracy)
  parts = [_grid(x, y, 'multiply-adds')]
  for age, part in enumerate(np.array_split(drawn, 5)):
    dots = ''.join(f'M{px[i]:.1f},{py[i]:.1f}h0' for i in part)
    parts.append(_tag('path', d=dots, class_=f'points t{age}'))
  parts.append(_path(*_stairs(px[front], py[front], x.end), 'line front'))
  parts += [_dot(px[i], py[i], 'dot front', 2.5) for i in front]
  parts += [_diamond(x(row['macs']), y(row['accuracy'])) for row in control]
  parts += _cost_marks(findings, x, y, found, own)
  name = 'Accuracy against multiply-adds'
  few = f'{len(drawn):,} of {len(samples):,}' if len(drawn) < len(samples) else 'All'
  return _figure(
    name,
    _svg(960, 440, name, *parts, class_='chart wide'),
    *[_key(f't{age}', text) for age, text in ((0, 'first samples'), (4, 'last'))],
    _key('front', 'Pareto front'),
    *([_key('found', 'found')] if found is not None else []),
    *([_key('control', 'random control')] if control else []),
    note=f'{few} samples are drawn, with the whole front. Each was measured on one batch, '
    'so a front of many samples is higher than its networks are.',
  )


def _subsample(points: np.ndarray, front: np.ndarray) -> np.ndarray:
  """At most MOST_POINTS, evenly over the search, and the front; in order."""
  if len(points) > MOST_POINTS:
    even = np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)
    points = points[even]
  return np.union1d(points, front)


def _stairs(x, y, end: float):
  """The corners of what a front dominates, drawn on to the chart's end."""
  xs = np.append(np.repeat(x, 2)[1:], end)
  return xs, np.repeat(y, 2)


def _diamond(x, y) -> _Html:
  d = f'M{x:.1f},{y - 5:.1f}l5,5l-5,5l-5,-5Z'
  return _tag('path', _tag('title', 'random control'), d=d, class_='dot control')


def _cost_marks(findings: Findings, x: _Axis, y: _Axis, found, own) -> list[_Html]:
  marks = []
  if findings.target_macs is not None:
    at = float(x(findings.target_macs))
    marks.append(_line(at, y.start, at, y.end, 'level'))
    marks.append(_text(at + 5, y.end + 10, 'target', 'mark'))
  if found is not None:
    at = float(x(found))
    if own is None:
      marks.append(_line(at, y.start, at, y.end, 'line found'))
    else:
      height = float(y(own))
      corners = [
        (r * math.sin(i * math.pi / 5), -r * math.cos(i * math.pi / 5))
        for i, r in enumerate([11, 4.6] * 5)
      ]
      dx, dy = np.array(corners).T
      marks.append(_path(at + dx, height + dy, 'dot found', close=True))
  return marks


# Control and neighbours.


def _control(findings: Findings) -> _Html:
  rows = [row for row in findings.control if _is_finite(row.get('accuracy'))]
  if not rows:
    return _missing('No random networks of the same cost have been measured.')
  accuracy, macs = _values(rows, 'accuracy'), _values(rows, 'macs')
  sd = accuracy.std(ddof=1) if len(rows) > 1 else math.nan
  own = _found_value(findings, 'accuracy')
  found_macs = (findings.found or {}).get('cost', {}).get('macs')
  summary = [
    [
      'Mean',
      _number(accuracy.mean()),
      _number(_mean(rows, 'reward')),
      _amount(macs.mean()),
    ],
    [
      'Standard deviation',
      _number(sd),
      _number(_spread(rows, 'reward')),
      _amount(_spread(rows, 'macs')),
    ],
  ]
  best = max(rows, key=lambda row: row['accuracy'])
  summary.append(['Best of them', *_measures(best)])
  summary.append(
    [
      _tag('b', 'Found network'),
      _number(own),
      _number(_found_value(findings, 'reward')),
      _amount(found_macs),
    ]
  )
  text = (
    f'{len(rows)} networks drawn at random with {_amount(macs.min())} to '
    f'{_amount(macs.max())} multiply-adds, measured like the found one.'
  )
  if own is not None:
    beaten = int(np.sum(accuracy < own))
    text += f' The found network is better than {beaten} of them'
    text += (
      f', {(own - accuracy.mean()) / sd:+.1f} standard deviations.' if sd > 0 else '.'
    )
  names = ('', 'Accuracy', 'Reward', 'Multiply-adds')
  each = [[i + 1, *_measures(row)] for i, row in enumerate(rows)]
  return _join(
    [
      _note(text),
      _strip(accuracy, own),
      _table(names, summary),
      _tag(
        'details', _tag('summary', 'Each of them'), _table(('Number', *names[1:]), each)
      ),
    ]
  )


def _mean(rows, key) -> float:
  values = _values(rows, key)
  return values.mean() if len(values) else math.nan


def _spread(rows, key) -> float:
  values = _values(rows, key)
  return values.std(ddof=1) if len(values) > 1 else math.nan


def _measures(row: Mapping) -> list[str]:
  return [
    _number(row.get('accuracy')),
    _number(row.get('reward')),
    _amount(row.get('macs')),
  ]


def _strip(accuracy: np.ndarray, own: float | None) -> _Html:
  """Accuracies side by side on one line, with the found network's."""
  x = _make_axis([accuracy, [] if own is None else [own]], 20, 940)
  parts = [_line(x.start, 34, x.end, 34, 'grid')]
  for value in x.ticks():
    parts.append(_line(float(x(value)), 34, float(x(value)), 39, 'grid'))
    parts.append(_text(float(x(value)), 54, f'{value:.4g}', anchor='middle'))
  parts += [_diamond(float(x(value)), 22) for value in accuracy]
  if own is not None:
    at = float(x(own))
    parts.append(_line(at, 4, at, 34, 'line found'))
  name = 'Accuracy of the random control and of the found network'
  keys = [_key('control', 'random control')]
  keys += [] if own is None else [_key('found', 'found')]
  return _figure('Accuracy', _svg(960, 60, name, *parts, class_='chart wide'), *keys)


def _neighbours(findings: Findings) -> _Html:
  if not findings.neighbours:
    return _missing("The found network's neighbours have not been measured.")
  own = _found_value(findings, 'reward')
  rows, better = [], 0
  for i, row in enumerate(findings.neighbours):
    changed = row.get('changed') or {}
    text = ', '.join(f'{path} → {_label(value)}' for path, value in changed.items())
    gain = ''
    if changed and own is not None and _is_finite(row.get('reward')):
      better += row['reward'] > own
      gain = f'{row["reward"] - own:+.3f}'.replace('-', '−')
    what = text or _tag('b', 'the found network')
    rows.append([i + 1, what, *_measures(row), gain])
  note = (
    'Networks with one decision changed, with the shared weights, best reward first. '
    f'{better} of these have a higher reward than the found network.'
  )
  names = (
    'Rank',
    'Changed',
    'Accuracy',
    'Reward',
    'Multiply-adds',
    'Against the found',
  )
  return _join([_note(note), _table(names, rows, texts=2)])


# Every decision.


@dataclasses.dataclass(frozen=True)
class _Choices:
  """What is known of every choice: what it is, and, of those measured, the rest.

  Attributes:
    labels: for each decision, of its choices.
    policy: steps and probabilities of some moments, the last among them.
    trained: [D, most choices], shares of the networks.
    chosen: number of a decision -> the found choice; none where no network was found.
  """

  space: Space
  labels: list[list[str]]
  policy: tuple[np.ndarray, np.ndarray] | None
  trained: np.ndarray | None
  chosen: Mapping[int, int]


def _decisions(findings: Findings) -> _Html:
  space, samples, policy = findings.space, findings.samples, findings.probabilities
  trained = None
  if samples is not None and len(samples):
    trained = count_trained(space, samples.choices) / len(samples)
  if policy is not None:
    policy = _take_moments(*map(np.asarray, policy)) if len(policy[0]) else None
  choices = _Choices(
    space, _list_labels(space), policy, trained, _find_chosen(findings)
  )
  parts = [_least_trained(choices), _entropies(choices), _tag('h3', 'Every choice')]
  parts.append(
    _note(
      'Bars and percentages are the final probabilities; the chart before them shows the '
      'same over the steps. “Trained” is the share of all networks run that had the '
      'choice. Framed is the found network; faded, decisions that do not matter in it.'
    )
  )
  for i, (group, members) in enumerate(_list_groups(space).items()):
    title = _tag('summary', f'{group or "Others"}: {len(members)} decisions')
    rows = [_decision(choices, n) for n in members]
    opened = '' if i == 0 else None
    parts.append(_tag('details', title, *rows, open=opened, class_='group'))
  return _join(parts)


def _place(path: str) -> tuple[str, str, str]:
  """A path's part of the network, place in it, and the rest: blocks/0, layers/2, kernel."""
  keys = [key.split(':')[0] for key in path.split('/')]
  ends = [i + 1 for i, key in enumerate(keys) if key.isdigit()]
  first = ends[0] if ends else 0
  second = ends[1] if len(ends) > 1 else first
  return tuple(
    '/'.join(part) for part in (keys[:first], keys[first:second], keys[second:])
  )


def _list_groups(space: Space) -> dict[str, list[int]]:
  """Part of the network -> its decisions' numbers."""
  groups = {}
  for n, decision in enumerate(space.decisions):
    groups.setdefault(_place(decision.path)[0], []).append(n)
  return groups


def _list_values(space: Space) -> list[list]:
  """What each choice of each decision is, in plain JSON."""
  values = []
  for n, decision in enumerate(space.decisions):
    vector = np.zeros(len(space), np.int32)
    for parent, wanted in decision.needs:
      vector[parent] = wanted
    values.append([])
    for i in range(decision.choices):
      vector[n] = i
      value = space.describe(vector)[decision.path]
      values[-1].append(json.loads(json.dumps(value)))
  return values


def _list_labels(space: Space) -> list[list[str]]:
  return [
    # What may be left out is named by that, not by all that is in it.
    ['kept' if None in row and isinstance(v, dict) else _label(v) for v in row]
    for row in _list_values(space)
  ]


def _label(value) -> str:
  if value is None:
    return 'left out'
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, Mapping):
    return ', '.join(f'{k} {_label(v)}' for k, v in value.items())
  if isinstance(value, (list, tuple)):
    return '×'.join(map(_label, value))
  return f'{value:g}' if isinstance(value, float) else str(value)


def _find_chosen(findings: Findings) -> dict[int, int]:
  """Number of a decision -> the found choice, of those that matter in it."""
  values = _list_values(findings.space)
  known = {d.path: n for n, d in enumerate(findings.space.decisions)}
  chosen = {}
  for path, value in (findings.found or {}).get('choices', {}).items():
    # As text, for in Python 1 == 1.0 == True.
    texts = [json.dumps(v) for v in values[known[path]]] if path in known else []
    if json.dumps(value) not in texts:
      raise ValueError(
        f'found choices are of another space: {path} is {json.dumps(value)}, the space '
        f'has {" or ".join(texts) or "no such decision"}'
      )
    chosen[known[path]] = texts.index(json.dumps(value))
  return chosen


def _take_moments(steps, table, most: int = 60):
  """Steps and probabilities of at most as many moments, the last among them."""
  at = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round())
  return steps[at.astype(int)], table[at.astype(int)]


def _least_trained(choices: _Choices) -> _Html:
  if choices.trained is None:
    return _missing('No network has been sampled yet: no choice was trained.')
  found = sorted(
    (choices.trained[n, i], d.path, label)
    for n, d in enumerate(choices.space.decisions)
    for i, label in enumerate(choices.labels[n])
  )
  texts = [f'{path} {label} ({share:.2%})' for share, path, label in found[:5]]
  return _note(f'Trained by the fewest of the networks run: {"; ".join(texts)}.')


def _entropies(choices: _Choices) -> _Html:
  if choices.policy is None:
    return _missing('The policy has not been logged yet.')
  maps = [
    _entropy_map(choices.space, group, members, *choices.policy)
    for group, members in _list_groups(choices.space).items()
  ]
  scale = _tag('p', _key('h0', 'decided'), _key('h7', 'undecided'))
  title = _tag('h3', 'Entropy of every decision over the steps')
  return _join([title, scale, _tag('div', *maps, class_='charts')])


def _entropy_map(space, group, members, steps, table) -> _Html:
  """A row for each decision, darker the less it is decided, over the moments."""
  shares = _shares(space.sizes[members], table[:, members])
  levels = np.clip((shares * 8).astype(int), 0, 7)
  left, tall, wide = 128, 12, 340 / len(steps)
  height = tall * len(members)
  cells = {}
  for row in range(len(members)):
    # Neighbours of one level are one rectangle.
    edges = np.flatnonzero(np.diff(levels[:, row])) + 1
    for first, last in zip([0, *edges], [*edges, len(steps)], strict=True):
      x, width = left + first * wide, (last - first) * wide
      shape = f'M{x:.1f},{row * tall}h{width:.1f}v{tall - 1}h-{width:.1f}Z'
      cells.setdefault(int(levels[first, row]), []).append(shape)
  parts = [_tag('path', d=''.join(v), class_=f'h{k}') for k, v in sorted(cells.items())]
  parts += [
    _text(left - 6, row * tall + 9, _row_name(space.decisions[n].path), 'small', 'end')
    for row, n in enumerate(members)
  ]
  parts.append(_text(left, height + 14, f'step {steps[0]:g}'))
  parts.append(_text(472, height + 14, f'{steps[-1]:g}', anchor='end'))
  name = f'{group or "Others"}'
  return _figure(name, _svg(480, height + 20, f'Entropy of {name}', *parts))


def _row_name(path: str) -> str:
  group, place, rest = _place(path)
  return f'{place} {rest}'.strip() or group


def _decision(choices: _Choices, n: int) -> _Html:
  decision, chosen = choices.space.decisions[n], choices.chosen
  head, drawn = [_tag('b', _row_name(decision.path))], []
  if choices.policy is not None:
    steps, table = choices.policy
    left = float(_shares(choices.space.sizes[n], table[-1, n]))
    head.append(_tag('small', f'entropy {_percent(left)}'))
    drawn.append(_areas(decision, steps, table[:, n, : decision.choices]))
  cells = [
    _tag('li', *_choice(choices, n, i), class_='won' if chosen.get(n) == i else None)
    for i in range(decision.choices)
  ]
  class_ = 'decision closed' if chosen and n not in chosen else 'decision'
  parts = [_tag('div', *head), *drawn, _tag('ul', *cells)]
  return _tag('div', *parts, class_=class_, data_path=decision.path)


def _choice(choices: _Choices, n: int, i: int) -> list[_Html]:
  parts = [_tag('span', choices.labels[n][i])]
  if choices.policy is not None:
    share = float(choices.policy[1][-1, n, i])
    parts += [_meter(f'c{i % COLOURS}', share), _tag('em', _percent(share))]
  if choices.trained is not None:
    share = float(choices.trained[n, i])
    parts.append(_tag('small', f'trained {_percent(share)}'))
  return parts


def _meter(colour: str, share: float) -> _Html:
  bar = _tag('i', class_=colour, style=f'width:{100 * share:.1f}%')
  return _tag('span', bar, class_='meter')


def _areas(decision, steps, table) -> _Html:
  """Probabilities [S, N] over steps, stacked."""
  x = np.append(steps, steps[-1] + 1) if len(steps) == 1 else steps
  table = np.repeat(table, 2, axis=0) if len(steps) == 1 else table
  x = _Axis(x[0], x[-1], 0, 160)(x)
  tops = 44 * (1 - np.cumsum(table, axis=1))
  areas = []
  for i in reversed(range(decision.choices)):  # each over the foot of the one before
    points = ' '.join(f'{a:.0f},{b:.0f}' for a, b in zip(x, tops[:, i], strict=True))
    areas.append(
      _tag('path', d=f'M0,44 {points} 160,44Z', class_=f'area c{i % COLOURS}')
    )
  name = f'Probabilities of {decision.path} over the steps'
  return _svg(160, 44, name, *areas, class_='areas')


# Nothing may be loaded: the browser itself is told so.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

_STYLE = """
:root {
  --paper: #ffffff; --card: #f5f7fa; --ink: #1a1f27; --soft: #5b6574; --rule: #dde2e9;
  --c0: #2468b4; --c1: #d2691e; --c2: #2b8a3e; --c3: #a6337f; --c4: #0f8b8d;
  --c5: #a67c00; --c6: #6f42c1; --c7: #7a828d;
  --t0: #d3dce8; --t1: #b3c9e4; --t2: #86abd8; --t3: #5489c6; --t4: #2468b4;
  --h0: #eef1f5; --h1: #d9e4f1; --h2: #bdd2ea; --h3: #9cbce0; --h4: #78a3d4;
  --h5: #5588c4; --h6: #366eb0; --h7: #1d5596;
  --front: #1a1f27; --found: #d6203a; --control: #e0a100;
  --warn: #fff4e0; --warn-rule: #e08a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --card: #1d222a; --ink: #e8ebf0; --soft: #9aa5b4; --rule: #323944;
    --c0: #5c9fe6; --c1: #f0935a; --c2: #5fbf74; --c3: #df79bb; --c4: #47c1c2;
    --c5: #d9b340; --c6: #a98be8; --c7: #98a1ad;
    --t0: #2c3541; --t1: #2f4764; --t2: #356292; --t3: #437fc0; --t4: #62a8f2;
    --h0: #1d222a; --h1: #22303f; --h2: #274058; --h3: #2d5274; --h4: #356792;
    --h5: #417eb2; --h6: #5397d2; --h7: #6db3f2;
    --front: #e8ebf0; --found: #ff5d73; --control: #ffcc4d;
    --warn: #35290f; --warn-rule: #e5a33c;
  }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
header { border-bottom: 1px solid var(--rule); padding-bottom: 10px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 22px 0 8px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; }
a { color: var(--c0); text-decoration: none; }
a:hover { text-decoration: underline; }
footer { margin-top: 48px; color: var(--soft); font-size: 13px; }
ul, ol { list-style: none; margin: 0; padding: 0; }
small, .note, .missing, figcaption { color: var(--soft); font-size: 13px; }
.note { max-width: 80ch; margin: 8px 0; }
.missing { border-left: 3px solid var(--rule); padding: 4px 12px; }
.warning {
  background: var(--warn); border-left: 4px solid var(--warn-rule); border-radius: 6px;
  padding: 12px 16px; margin: 16px 0; max-width: 86ch;
}
.warning p { margin: 4px 0 0; }
pre {
  background: var(--card); border: 1px solid var(--rule); border-radius: 6px;
  padding: 12px; overflow: auto; max-height: 480px; margin: 8px 0;
  font: 13px/1.45 ui-monospace, 'SF Mono', Menlo, Consolas, monospace;
}
.command { user-select: all; white-space: pre-wrap; overflow-wrap: anywhere; }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); gap: 10px;
}
.tiles li {
  display: flex; flex-direction: column; background: var(--card); border-radius: 8px;
  padding: 10px 14px;
}
.tiles span { color: var(--soft); font-size: 13px; }
.tiles b { font-size: 23px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.charts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 20px 28px; align-items: start;
}
figure { margin: 0; min-width: 0; }
figcaption b { color: var(--ink); margin-right: 12px; }
.key { white-space: nowrap; margin-right: 12px; font-size: 13px; color: var(--soft); }
.swatch {
  display: inline-block; width: 10px; height: 10px; border-radius: 3px;
  margin-right: 5px; background: currentColor;
}
svg { display: block; overflow: visible; }
.chart { width: 100%; height: auto; }
.chart.wide { min-width: 760px; }
.chart text { fill: var(--soft); font-size: 12px; }
.chart text.small { font-size: 10px; }
.chart text.mark { fill: var(--ink); }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.band { fill: currentColor; opacity: 0.16; }
.level { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 5 4; }
.moment { stroke: var(--soft); stroke-width: 1; }
.points { stroke: currentColor; stroke-width: 4; stroke-linecap: round; fill: none; }
.dot { fill: currentColor; stroke: var(--paper); stroke-width: 1; }
.area { fill: currentColor; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.c6 { color: var(--c6); } .c7 { color: var(--c7); }
.t0 { color: var(--t0); } .t1 { color: var(--t1); } .t2 { color: var(--t2); }
.t3 { color: var(--t3); } .t4 { color: var(--t4); }
.h0 { color: var(--h0); } .h1 { color: var(--h1); } .h2 { color: var(--h2); }
.h3 { color: var(--h3); } .h4 { color: var(--h4); } .h5 { color: var(--h5); }
.h6 { color: var(--h6); } .h7 { color: var(--h7); }
path[class^='h'] { fill: currentColor; }
.front { color: var(--front); } .found { color: var(--found); }
.control { color: var(--control); }
.front.line { stroke-width: 1.5; }
.facts { display: flex; flex-wrap: wrap; gap: 2px 16px; color: var(--soft); }
.facts b { color: var(--ink); font-weight: 600; }
.blocks > li {
  display: grid; grid-template-columns: 132px 1fr; gap: 12px; padding: 12px 0;
  border-top: 1px solid var(--rule);
}
.blocks > li > div { display: flex; flex-direction: column; font-size: 13px; }
.blocks > li > div > b { font-size: 15px; }
.blocks > li > div > span { color: var(--soft); }
.blocks > li > div > span b { color: var(--ink); }
.layers { display: flex; flex-wrap: wrap; gap: 8px; }
.layer {
  width: 86px; background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 6px 5px; display: flex; flex-direction: column; align-items: center;
  font-size: 12px; line-height: 1.4;
}
.layer b { font-size: 13px; }
.layer small { font-size: 11px; }
.layer.gone {
  background: none; border-style: dashed; color: var(--soft); justify-content: center;
}
.swatch.gone { background: none; border: 1px dashed var(--soft); }
.kernel { width: 72px; height: 60px; }
.sheet { fill: currentColor; fill-opacity: 0.85; stroke: var(--card); stroke-width: 1; }
.bar, .meter {
  display: block; width: 100%; height: 5px; border-radius: 3px; background: var(--rule);
  overflow: hidden; margin: 3px 0;
}
.bar i, .meter i { display: block; height: 100%; background: currentColor; }
.bar i { background: var(--c2); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 500; white-space: nowrap; }
th, td { padding: 5px 18px 5px 0; border-bottom: 1px solid var(--rule); }
.number { text-align: right; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--c0); }
.group { border: 1px solid var(--rule); border-radius: 8px; padding: 8px 14px; }
.group summary { font-weight: 600; color: var(--ink); }
.decision {
  display: grid; grid-template-columns: 132px 160px 1fr; gap: 6px 16px;
  align-items: center; padding: 8px 0; border-top: 1px solid var(--rule);
}
.group summary + .decision { margin-top: 8px; }
.decision.closed { opacity: 0.5; }
.decision > div { display: flex; flex-direction: column; font-size: 13px; }
.decision ul { grid-column: 3; display: flex; flex-wrap: wrap; gap: 6px; }
.decision li {
  display: grid; grid-template-columns: 1fr auto; column-gap: 6px; min-width: 86px;
  flex: 0 1 auto; padding: 4px 6px; font-size: 12px; line-height: 1.35; border-radius: 6px;
  border: 1px solid transparent;
}
.decision li > em { grid-area: 1 / 2; font-style: normal; text-align: right; }
.decision li > .meter { grid-column: 1 / 3; }
.decision li > small { grid-column: 1 / 3; font-size: 11px; }
.decision li.won { border-color: var(--ink); }
.areas { width: 160px; height: 44px; border-radius: 4px; overflow: hidden; }
@media (max-width: 640px) {
  .blocks > li { grid-template-columns: 1fr; }
  .blocks > li > div { flex-flow: row wrap; gap: 2px 12px; align-items: baseline; }
  .decision { grid-template-columns: 1fr; }
  .decision ul { grid-column: 1; }
}
@media print { main { max-width: none; } .layer, figure { break-inside: avoid; } }
"""
