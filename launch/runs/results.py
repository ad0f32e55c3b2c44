"""The results of a comparison: a row for each evaluation, as a table, files and a picture."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from launch.runs.pictures import COLORS
from movinet_jax import data
from movinet_jax.names import show
from movinet_jax.train.workdir import replace_file

JSON, CSV, PICTURE = 'results.json', 'results.csv', 'comparison.png'

# What is known of an evaluation: the label of its axis, and the words for a value of it.
FACTS = {
  'training': ('training', '{}'),
  'evaluation': ('evaluation', '{}'),
  'network': ('network', '{}'),
  'seed': ('seed of the training', 'seed {}'),
  'train_frames': ('frames of a training clip', 'trained on {} frames'),
  'train_rate': ('frame rate in training', 'trained at {}'),
  'frames': ('frames of a clip in evaluation', '{} frames'),
  'rate': ('frame rate in evaluation', '{}'),
  'clips': ('clips of a video', '{} clip'),
  'crops': ('crops of a clip', '{} crop'),
  'seen': ('frames seen of a video, in all its clips', '{} frames seen'),
  'size': ('height and width, pixels', '{}²'),
  'mode': ('mode of evaluation', '{}'),
  'gmacs': ('multiply-adds of a video, billions', '{:.3g} billion multiply-adds'),
}
_SHARES = ('top1', 'top5', 'hit1')  # of videos, whose error is binomial
_METRICS = {'top1': 'top-1 accuracy', 'top5': 'top-5 accuracy', 'hit1': 'hit@1'}
_FEW = 12  # ticks
_MODES = {'clip': 'one clip', 'multiclip': 'several clips', 'stream': 'as a stream'}
_MARKS = ('o', 's', '^', 'D', 'v', 'P')
Fact = Literal[tuple(FACTS)]


@dataclasses.dataclass(frozen=True)
class Plot:
  """The picture of a comparison.

  Attributes:
    x, y: a fact of an evaluation, and one of its metrics.
    series: facts; evaluations that agree in them are one line.
    label: a fact that is written at each point; None for none.
    log: whether x is logarithmic.
    title: what is compared.
  """

  x: Fact
  y: str = 'top1'
  series: tuple[Fact, ...] = ()
  label: Fact | None = None
  log: bool = False
  title: str = ''


@dataclasses.dataclass(frozen=True)
class Row:
  """An evaluation of a training.

  Attributes:
    facts: of FACTS.
    metrics: what was found.
    evaluated, missing: videos.
  """

  facts: Mapping
  metrics: Mapping[str, float]
  evaluated: int
  missing: int | None

  def find_error(self, metric: str) -> float | None:
    """One standard deviation of a share of videos, as of so many draws; None for other metrics."""
    if metric not in _SHARES:
      return None
    share = self.metrics[metric]
    return math.sqrt(share * (1 - share) / self.evaluated)


def say_fact(key: str, value) -> str:
  """A fact in words."""
  more = 's' if key in ('clips', 'crops') and value != 1 else ''
  return FACTS[key][1].format(_MODES[value] if key == 'mode' else value) + more


def say_rate(clip: data.Clip) -> str:
  return f'{clip.fps:g} fps' if clip.fps else f'stride {clip.stride}'


def describe_clip(clip: data.EvalClip) -> str:
  """A clip of an evaluation in words."""
  views = [f'{n} {name}' for n, name in ((clip.clips, 'clips'), (clip.crops, 'crops')) if n > 1]
  frames = f'{clip.frames} frame{"s" if clip.frames > 1 else ""} of {clip.size}²'
  return ', '.join([frames, say_rate(clip), *views])


def write(rows: Sequence[Row], plot: Plot, folder: Path):
  """Writes the files of the results, each whole or not at all."""
  listed = [{**row.facts, **row.metrics, **_count(row, plot.y)} for row in rows]
  replace_file(folder / JSON, json.dumps(listed, indent=2) + '\n')
  columns = list(dict.fromkeys(key for row in listed for key in row))
  table = io.StringIO(newline='')
  writer = csv.DictWriter(table, columns)
  writer.writeheader()
  writer.writerows(listed)
  replace_file(folder / CSV, table.getvalue())
  replace_file(folder / PICTURE, draw(rows, plot))


def _count(row: Row, metric: str) -> dict:
  error = row.find_error(metric)
  said = {} if error is None else {f'{metric}_error': error}
  return {**said, 'evaluated': row.evaluated, 'missing': row.missing}


def print_table(rows: Sequence[Row], plot: Plot):
  """Prints a line for each evaluation, of the facts that are not the same for all."""
  keys = [key for key in FACTS if len({row.facts[key] for row in rows}) > 1] or ['training']
  if 'seen' in keys and all(row.facts['seen'] == row.facts['frames'] for row in rows):
    keys.remove('seen')
  lines = [[*keys, plot.y, 'videos']]
  for row in rows:
    facts = [f'{row.facts[key]:,.4g}' if key == 'gmacs' else str(row.facts[key]) for key in keys]
    lines.append([*map(show, facts), _say_value(row, plot.y), str(row.evaluated)])
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  for line in lines:
    cells = (
      f'{cell:>{width}}' if key in ('gmacs', plot.y, 'videos') else f'{cell:{width}}'
      for key, cell, width in zip(lines[0], line, widths, strict=True)
    )
    print('  '.join(cells).rstrip())


def _say_value(row: Row, metric: str) -> str:
  value, error = row.metrics[metric], row.find_error(metric)
  return f'{value:.4f}' if error is None else f'{value:.1%} ± {error:.1%}'


def draw(rows: Sequence[Row], plot: Plot) -> bytes:
  """Draws a metric over a fact of the evaluations, a line for each series: a PNG."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(8, 5), layout='constrained')
  lines: dict[tuple, list[Row]] = {}
  for row in rows:
    lines.setdefault(tuple(row.facts[key] for key in plot.series), []).append(row)
  places = _place_words(rows, plot.x)
  for number, (values, own) in enumerate(lines.items()):
    words = [say_fact(key, value) for key, value in zip(plot.series, values, strict=True)]
    style = {'color': COLORS[number % len(COLORS)], 'marker': _MARKS[number % len(_MARKS)]}
    _draw_line(axes, own, plot, places, show(', '.join(words)), style)
  if places:
    style = {'rotation': 20, 'ha': 'right', 'parse_math': False}
    axes.set_xticks(list(places.values()), list(map(show, places)), **style)
  else:
    _scale(axes, sorted({row.facts[plot.x] for row in rows}), plot.log)
  percent = ', %' if plot.y in _SHARES else ''
  axes.set(xlabel=FACTS[plot.x][0], ylabel=_METRICS.get(plot.y, plot.y) + percent)
  title = filter(None, (plot.title, _describe(rows, plot)))
  axes.set_title('\n'.join(title), size=10, parse_math=False)
  axes.grid(alpha=0.3, linewidth=0.5)
  if plot.series:
    below = {'loc': 'outside lower center', 'ncols': min(3, len(lines))}
    for text in figure.legend(**below, fontsize=8, frameon=False).get_texts():
      text.set_parse_math(False)  # a name is no formula, although it may hold two dollars
  file = io.BytesIO()
  figure.savefig(file, dpi=120, format='png')
  pyplot.close(figure)
  return file.getvalue()


def _place_words(rows: Sequence[Row], key: str) -> dict[str, int]:
  """Where words stand on an axis; {} for numbers, which have their own places."""
  values = dict.fromkeys(row.facts[key] for row in rows)
  return {value: i for i, value in enumerate(values) if isinstance(value, str)}


def _draw_line(axes, rows: Sequence[Row], plot: Plot, places: Mapping, name: str, style: Mapping):
  """Draws a series: its points with their errors, and a line through their means."""
  scale, means = 100 if plot.y in _SHARES else 1, {}
  for row in rows:
    x = row.facts[plot.x]
    means.setdefault(places.get(x, x), []).append(scale * row.metrics[plot.y])
    error = row.find_error(plot.y)
    bar = None if error is None else scale * error
    x, y = places.get(x, x), scale * row.metrics[plot.y]
    axes.errorbar(x, y, bar, linestyle='', capsize=3, markersize=6, linewidth=1, **style)
    if plot.label and row.facts[plot.label] != 1:  # one clip is the rule
      text = say_fact(plot.label, row.facts[plot.label])
      offset = {'xytext': (6, 6), 'textcoords': 'offset points', 'parse_math': False}
      axes.annotate(show(text, 24), (x, y), color=style['color'], fontsize=7, **offset)
  points = sorted((x, sum(ys) / len(ys)) for x, ys in means.items())
  axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, markersize=6, **style)


def _scale(axes, values: Sequence[float], log: bool):
  """Gives x its scale, and ticks that are numbers: those that occur, if there are few."""
  from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

  if log:
    axes.set_xscale('log')
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  if len(values) <= _FEW and all(isinstance(value, int) for value in values):
    axes.xaxis.set_major_locator(FixedLocator(values))
  axes.xaxis.set_minor_locator(NullLocator())
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,g}'))


def _describe(rows: Sequence[Row], plot: Plot) -> str:
  counts = sorted({row.evaluated for row in rows})
  videos = f'{counts[0]:,}' + (f' to {counts[-1]:,}' if len(counts) > 1 else '')
  bars = 'Bars: one standard deviation of a mean over ' if plot.y in _SHARES else 'Means over '
  return f'{bars}{videos} videos'
