"""What pictures have in common: figures, colors and marks, scales, names beside points."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence

# Of Okabe and Ito, which the color-blind tell apart too.
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
# One more than there are colors, so that 42 lines pass before both come together again.
MARKS = ('o', 's', '^', 'D', 'v', 'P', 'X')
_NUMBER = '{:,g}'.format
_RINGS = (7, 15, 24, 34, 46, 60, 76)  # points between a mark and its name, the nearest first
_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
_BESIDE = (1, -10, 11, -20, 21)  # points between a line and its upright name
_MARK_POINTS = 4.5  # half the width of a mark
_ALIGN = {1: ('left', 'bottom'), 0: ('center', 'center'), -1: ('right', 'top')}


@contextlib.contextmanager
def open_figure(file, size: tuple[float, float], **options) -> Iterator[tuple]:
  """A figure to draw in, which is written to the file in the end.

  Args:
    file: a path, or a binary file, which gets a PNG.
    size: in inches.
    options: of Figure.subplots.

  Yields:
    the figure and its panels.
  """
  # No pyplot: it would choose a screen, and keep the figure.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(size, layout='constrained')
  FigureCanvasAgg(figure)
  yield figure, figure.subplots(**options)
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', message='Glyph .* missing from')  # which was said once
    figure.savefig(file, dpi=120, **({} if isinstance(file, str) else {'format': 'png'}))


def choose_style(number: int) -> dict[str, str]:
  """Color and mark of a line: no two of the first 42 are the same."""
  return {'color': COLORS[number % len(COLORS)], 'marker': MARKS[number % len(MARKS)]}


def scale_x(panel, *, log: bool, subs: Sequence[int] = (1, 2, 5)):
  """Gives x its scale, and ticks that are written as plain numbers.

  Args:
    subs: of each decade of a logarithmic scale, the numbers that have ticks.
  """
  from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

  if log:
    panel.set_xscale('log')
    panel.xaxis.set_major_locator(LogLocator(subs=subs))
  panel.xaxis.set_minor_locator(NullLocator())
  panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _NUMBER(value)))


@dataclasses.dataclass(frozen=True)
class Name:
  """A text that belongs to a place of a panel.

  Attributes:
    x, y: in the panel's data; y is None for a name of the whole vertical line at x.
    side: where it stands if there is room: right and up of its place are 1, left and down -1.
  """

  text: str
  x: float
  y: float | None
  color: str
  side: tuple[int, int] = (0, 1)


def write_names(figure, panels: Sequence[tuple[object, Sequence[Name]]], fontsize: float = 8):
  """Writes names where they lie neither on each other nor on a mark, if there is room.

  To be called last: the layout of the figure is fixed then.

  Args:
    panels: each with its names.
  """
  figure.canvas.draw()  # which lays it out
  figure.set_layout_engine('none')
  for panel, names in panels:
    taken = _list_marks(panel)
    for name in names:
      place = _place_upright if name.y is None else _place_beside
      text = place(panel, name, {'fontsize': fontsize, 'color': name.color}, taken)
      taken.append(_find_box(text))


def _find_box(text):
  """Pixels of a text, without the line from it to its mark."""
  from matplotlib.text import Text

  text.update_positions(text.figure.canvas.get_renderer())
  return Text.get_window_extent(text)


def _list_marks(panel) -> list:
  """Boxes around the marks of a panel, in pixels."""
  from matplotlib.transforms import Bbox

  places = [point for marks in panel.collections for point in marks.get_offsets()]
  lines = (line for line in panel.lines if line.get_marker() not in ('None', '', None))
  places += [point for line in lines for point in line.get_xydata()]
  half = _MARK_POINTS * panel.figure.dpi / 72
  pixels = panel.transData.transform(places) if places else ()
  return [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in pixels]


def _place_beside(panel, name: Name, style: dict, taken: Sequence):
  sides = [name.side, *(side for side in _SIDES if side != name.side)]
  places = [(side, ring) for ring in _RINGS for side in sides]

  def write(place, **more):
    (right, up), ring = place
    diagonal = 0.7 if right and up else 1
    align = {'ha': _ALIGN[right][0], 'va': _ALIGN[up][1]}
    offset = right * ring * diagonal, up * ring * diagonal
    at = {'xytext': offset, 'textcoords': 'offset points', 'parse_math': False}
    return panel.annotate(name.text, (name.x, name.y), **at, **align, **style, **more)

  chosen = _choose(panel, places, write, taken)
  far = chosen[1] > _RINGS[0]
  line = {'arrowstyle': '-', 'color': name.color, 'linewidth': 0.5, 'shrinkA': 0, 'shrinkB': 3}
  return write(chosen, **({'arrowprops': line} if far else {}))


def _place_upright(panel, name: Name, style: dict, taken: Sequence):
  def write(place):
    height, right = place
    at = {
      'xytext': (right, 0),
      'textcoords': 'offset points',
      'xycoords': ('data', 'axes fraction'),
    }
    text = panel.annotate(name.text, (name.x, height), rotation=90, va='bottom', **at, **style)
    text.set_parse_math(False)
    return text

  heights = [0.02 + 0.07 * step for step in range(13)]
  places = [(height, right) for right in _BESIDE for height in heights]
  return write(_choose(panel, places, write, taken))


def _choose(panel, places: Sequence, write: Callable, taken: Sequence):
  """The first place where a text covers nothing, else where it covers least."""
  edge, costs = panel.get_window_extent(), []
  for place in places:
    text = write(place)
    box = _find_box(text)
    text.remove()
    costs.append(box.width * box.height - _overlap(box, edge))
    costs[-1] += sum(_overlap(box, other) for other in taken)
    if costs[-1] < 1:  # a pixel
      return place
  return places[min(range(len(costs)), key=costs.__getitem__)]


def _overlap(one, other) -> float:
  """Pixels that two boxes share."""
  width = min(one.x1, other.x1) - max(one.x0, other.x0)
  height = min(one.y1, other.y1) - max(one.y0, other.y0)
  return max(width, 0) * max(height, 0)
