"""The picture of timed networks: published accuracy against time and against multiply-adds.

As Figures 1 and 2 of MoViNet's supplement have it. Both axes are of a whole video as the accuracy
was evaluated: of the native clip, times the views whose scores were averaged. Times are of one
stream or clip at a time, as those that papers print.
"""

import collections
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

from launch.runs.named import Named
from launch.runs.panels import COLORS, Name, open_figure, scale_x, write_names
from launch.runs.timings import Case, Row
from movinet_jax import cost, published
from movinet_jax.names import show

_BASE, _STREAM = 'o', '^'
_LEAST_PERCENT = 4  # of accuracy in a panel
_MANY_TIMES = 300  # so much larger is the end of an axis that has few ticks for each decade
_PRINTED = ('x', '+', '*', 'P', 's')  # marks of what papers print, by device


@dataclasses.dataclass(frozen=True)
class Point:
  """A network in the picture.

  Attributes:
    row: of its time.
    result: where its accuracy is printed, with the number of views; None where that is not, or of
      a network that was trained here.
    clip_ms: milliseconds of its native clip, as it was timed.
    clip_gmacs: billions of multiply-adds of that.
  """

  row: Row
  result: published.Result | None
  clip_ms: float
  clip_gmacs: float

  @property
  def network(self) -> Named:
    return self.row.case.network

  @property
  def family(self) -> str:
    return self.network.name.partition('/')[0]

  @property
  def label(self) -> str:
    text = self.network.text
    return show(os.path.basename(text.rstrip('/')) if text != self.network.name else text, 24)

  @property
  def views(self) -> int:
    return self.result.views if self.result else 1


def find_points(rows: Sequence[Row]) -> list[Point]:
  """A point for each network, of its first row that can be drawn."""
  first = {}
  for row in rows:
    if row.timing and can_draw(row.case):
      first.setdefault(id(row.case.network), row)
  results = choose_results([row.case.network for row in first.values()])
  return [
    Point(
      row,
      result,
      row.frame_ms * row.case.network.input[0],
      cost.count(row.case.network.model, (1, *row.case.network.input, 3)).macs / 1e9,
    )
    for row, result in zip(first.values(), results, strict=True)
  ]


def can_draw(case: Case) -> bool:
  """Whether it is of one stream, or of one clip, as the accuracy is evaluated."""
  frames, height, width = case.network.input
  fits = case.kind == 'stream' or (case.kind == 'clip' and case.frames == frames)
  return fits and case.batch == 1 and (case.height, case.width) == (height, width)


def check(cases: Sequence[Case]):
  """Checks that there is something to draw, before anything is timed.

  Raises:
    ValueError: no case is of one stream or clip of its network's native input.
  """
  if not any(map(can_draw, cases)):
    raise ValueError(
      'there is nothing to draw: no case is of one stream or clip of the native size of its '
      'network; leave out --clip or its size, and have 1 among the values of --batch'
    )


def choose_results(networks: Sequence[Named]) -> list[published.Result | None]:
  """The published accuracy of each network, on as few data sets as possible.

  Only such of the native clip count, whose number of views is known.
  """
  known = [list(_list_results(network)) for network in networks]
  chosen: list[published.Result | None] = [None] * len(known)
  left = {number for number, results in enumerate(known) if results}
  while left:
    # Of equally common ones the first, so that each network's own order decides.
    sets = [{result.dataset: None for result in known[number]} for number in sorted(left)]
    (dataset, _), *_ = collections.Counter(name for names in sets for name in names).most_common(1)
    for number in sorted(left):
      chosen[number] = next((one for one in known[number] if one.dataset == dataset), None)
    left = {number for number in left if chosen[number] is None}
  return chosen


def _list_results(network: Named) -> Iterator[published.Result]:
  frames, size, _ = network.input
  for result in published.find_results(network.name) if network.variables is None else ():
    known = result.accuracy is not None and result.views is not None
    if known and result.clip in (None, (frames, size)):
      yield result


def draw(rows: Sequence[Row], path: str, about: Mapping):
  """Draws the timed networks of which there is an accuracy; the others are lines.

  Args:
    about: the machine.

  Raises:
    ValueError: no row can be drawn: none is of one stream or clip of the native input, or was
      timed.
  """
  points = find_points(rows)
  if not points:
    check([row.case for row in rows])
    raise ValueError('there is nothing to draw: no network could be timed at its native size')
  datasets = list(dict.fromkeys(one.result.dataset for one in points if one.result)) or ['']
  families = list(dict.fromkeys(one.family for one in points))
  colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(sorted(families))}
  size = 12, 1 + 4.5 * len(datasets)
  grid = {'nrows': len(datasets), 'ncols': 2, 'squeeze': False, 'sharey': 'row'}
  marks, names = {}, []
  with open_figure(path, size, **grid) as (figure, axes):
    for pair, dataset in zip(axes, datasets, strict=True):
      names += _draw_dataset(pair, dataset, points, colors, marks)
    figure.suptitle(_describe(points, about), fontsize=11)
    _draw_legend(figure, points, colors, marks)
    write_names(figure, names)


def _describe(points: Sequence[Point], about: Mapping) -> str:
  """What was timed, and on what."""
  cases = [one.row.case for one in points]
  cores = about.get('cores')
  parts = [about['device'], f'{cores} core{"s" * (cores != 1)}' if cores else '', about['date']]
  chunks = sorted({case.frames for case in cases if case.kind == 'stream'})
  frames = f'{" or ".join(map(str, chunks))} frame{"s" * (chunks != [1])}'
  types = ' and '.join(dict.fromkeys(case.dtype for case in cases))
  how = ['one at a time', types, f'streams {frames} a call' if chunks else '']
  return f'Timed on {", ".join(filter(None, parts))}: {", ".join(filter(None, how))}'


def _draw_dataset(
  pair, dataset: str, points: Sequence[Point], colors: Mapping, marks: dict
) -> list[tuple]:
  """Draws the two panels of a data set.

  Args:
    marks: of what papers print, by device; gets new ones.

  Returns:
    each panel with the names that belong into it.
  """
  own = [one for one in points if one.result and one.result.dataset == dataset]
  names = [], []
  for one in points:
    color = colors[one.family]
    xs = (one.clip_ms * one.views, one.clip_gmacs * one.views)
    for panel, x, found in zip(pair, xs, names, strict=True):
      if one.result is None:
        panel.axvline(x, color=color, linestyle=':', linewidth=1)
        found.append(Name(one.label, x, None, color))
      elif one in own:
        stream = one.network.has_stream
        panel.scatter(x, one.result.accuracy, 55, color, _STREAM if stream else _BASE, zorder=3)
        side = (0, -1) if stream else (0, 1)
        found.append(Name(one.label, x, one.result.accuracy, color, side))
    if one in own:
      _draw_printed(pair, one, color, marks)
  metric = own[0].result.metric if own else 'accuracy'
  for panel, what in zip(pair, ('milliseconds', 'billions of multiply-adds'), strict=True):
    _scale(panel)
    panel.set(xlabel=f'{what} a video')
    panel.grid(alpha=0.3, linewidth=0.5)
  if dataset:
    pair[0].set_ylabel(f'published {metric} on {dataset}, %')
  else:
    pair[0].set_yticks([])
  return list(zip(pair, names, strict=True))


def _scale(panel):
  """Makes x logarithmic, with room for names, and over a decade at least, to have ticks to read."""
  panel.set_xscale('log')
  panel.margins(x=0.25, y=0.12)
  low, high = panel.get_xlim()
  wider = max(1, 10 * low / high) ** 0.5
  panel.set_xlim(low / wider, high * wider)
  scale_x(panel, log=True, subs=(1, 2, 5) if high / low < _MANY_TIMES else (1,))
  low, high = panel.get_ylim()
  wider = max(0, _LEAST_PERCENT - (high - low)) / 2
  panel.set_ylim(low - wider, high + wider)


def _draw_printed(pair, one: Point, color: str, marks: dict):
  """Draws what papers print: times by device at the accuracy beside them, and multiply-adds."""
  frames, style = one.network.input[0], {'zorder': 2, 'linewidths': 1.3}
  for latency in published.find_latencies(one.network.name):
    ms = latency.clip_ms or latency.frame_ms * frames
    accuracy = _find_accuracy(one, latency.fields)
    if accuracy is None or latency.frames not in (None, 1, frames):
      continue
    mark = marks.setdefault(latency.device, _PRINTED[len(marks) % len(_PRINTED)])
    pair[0].scatter(ms * one.views, accuracy, 45, color, mark, **style)
    ends = (one.clip_ms * one.views, ms * one.views), (one.result.accuracy, accuracy)
    pair[0].plot(*ends, color=color, linewidth=0.6, alpha=0.35, zorder=1)
  if one.result.gmacs:
    mark = marks.setdefault('', 'd')
    x = one.result.gmacs * one.views
    hollow = {**style, 'facecolors': 'none', 'edgecolors': color, 'marker': mark}
    pair[1].scatter(x, one.result.accuracy, 60, **hollow)


def _find_accuracy(one: Point, fields: Mapping) -> float | None:
  """The accuracy of the network that a latency is of: the paper's stream has one of its own."""
  for result in published.find_results(one.network.name):
    if (result.dataset, result.fields) == (one.result.dataset, fields) and result.accuracy:
      return result.accuracy
  return None


def _draw_legend(figure, points: Sequence[Point], colors: Mapping, marks: Mapping):
  from matplotlib.lines import Line2D

  def key(label: str, marker: str, color: str = '0.25', **more) -> Line2D:
    return Line2D([], [], linestyle='', marker=marker, color=color, label=label, **more)

  keys = [key(name, 's', color) for name, color in sorted(colors.items())]
  kinds = {one.network.has_stream for one in points if one.result}
  names = {False: (_BASE, 'timed here, clips'), True: (_STREAM, 'timed here, stream')}
  keys += [key(names[kind][1], names[kind][0]) for kind in sorted(kinds)]
  for device, mark in marks.items():
    text = f'published, {device}' if device else 'published multiply-adds'
    keys.append(key(text, mark, **({} if device else {'fillstyle': 'none'})))
  if any(one.result is None for one in points):
    keys.append(
      Line2D([], [], linestyle=':', color='0.25', label='accuracy or its views not published')
    )
  figure.legend(handles=keys, loc='outside lower center', ncols=4, fontsize=8, frameon=False)
