"""The results of a comparison: a row for each evaluation, as a table, files and a picture."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from launch import tables
from launch.runs.panels import Name, choose_style, open_figure, scale_x, write_names
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
_NCOLS = 3  # of the legend
_MODES = {'clip': 'one clip', 'multiclip': 'several clips', 'stream': 'as a stream'}
_RULES = {'clips': 1, 'crops': 1}  # facts that are not worth a label, because they are the rule
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
  sides = ['>' if key in ('gmacs', plot.y, 'videos') else '<' for key in lines[0]]
  print('\n'.join(tables.align(lines, sides)))


def _say_value(row: Row, metric: str) -> str:
  value, error = row.metrics[metric], row.find_error(metric)
  return f'{value:.4f}' if error is None else f'{value:.1%} ± {error:.1%}'


def draw(rows: Sequence[Row], plot: Plot) -> bytes:
  """Draws a metric over a fact of the evaluations, a line for each series: a PNG."""
  lines: dict[tuple, list[Row]] = {}
  for row in rows:
    lines.setdefault(tuple(row.facts[key] for key in plot.series), []).append(row)
  places, names, file = _place_words(rows, plot.x), [], io.BytesIO()
  more = max(0, -(-len(lines) // _NCOLS) - 2) if plot.series else 0  # rows of the legend
  with open_figure(file, (8, 5 + 0.2 * more)) as (figure, axes):
    for number, (values, own) in enumerate(lines.items()):
      words = [say_fact(key, value) for key, value in zip(plot.series, values, strict=True)]
      style = choose_style(number)
      names += _draw_line(axes, own, plot, places, show(', '.join(words)), style)
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
      below = {'loc': 'outside lower center', 'ncols': min(_NCOLS, len(lines))}
      for text in figure.legend(**below, fontsize=8, frameon=False).get_texts():
        text.set_parse_math(False)  # a name is no formula, although it may hold two dollars
    write_names(figure, [(axes, names)], fontsize=7)
  return file.getvalue()


def _place_words(rows: Sequence[Row], key: str) -> dict[str, int]:
  """Where words stand on an axis; {} for numbers, which have their own places."""
  values = dict.fromkeys(row.facts[key] for row in rows)
  return {value: i for i, value in enumerate(values) if isinstance(value, str)}


def _draw_line(
  axes, rows: Sequence[Row], plot: Plot, places: Mapping, name: str, style: Mapping
) -> list[Name]:
  """Draws a series: a mark with its error for each evaluation, and a line through the means.

  The line has no marks: a mean of several is no result.

  Returns:
    the labels of its points.
  """
  from matplotlib.lines import Line2D

  scale, means, labels = 100 if plot.y in _SHARES else 1, {}, []
  for row in rows:
    error = row.find_error(plot.y)
    bar = None if error is None else scale * error
    x, y = row.facts[plot.x], scale * row.metrics[plot.y]
    x = places.get(x, x)
    means.setdefault(x, []).append(y)
    axes.errorbar(x, y, bar, linestyle='', capsize=3, markersize=6, linewidth=1, **style)
    if plot.label and row.facts[plot.label] != _RULES.get(plot.label):
      text = show(say_fact(plot.label, row.facts[plot.label]), 24)
      labels.append(Name(text, x, y, style['color'], side=(1, 1)))
  points = sorted((x, sum(ys) / len(ys)) for x, ys in means.items())
  axes.plot(*zip(*points, strict=True), color=style['color'], linewidth=1.2)
  # Of the legend, which shows line and mark together.
  axes.add_line(Line2D([], [], label=name, linewidth=1.2, markersize=6, **style))
  return labels


def _scale(axes, values: Sequence[float], log: bool):
  """Gives x its scale, and ticks that are numbers: those that occur, if there are few."""
  from matplotlib.ticker import FixedLocator

  scale_x(axes, log=log)
  if log:
    axes.margins(x=0.1)
  if len(values) <= _FEW and all(isinstance(value, int) for value in values):
    axes.xaxis.set_major_locator(FixedLocator(values))


def _describe(rows: Sequence[Row], plot: Plot) -> str:
  counts = sorted({row.evaluated for row in rows})
  videos = f'{counts[0]:,}' + (f' to {counts[-1]:,}' if len(counts) > 1 else '')
  bars = 'Bars: one standard deviation of a mean over ' if plot.y in _SHARES else 'Means over '
  return f'{bars}{videos} videos'
