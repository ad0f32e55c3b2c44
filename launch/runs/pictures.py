"""Pictures of evaluations."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from launch.runs.panels import choose_style, open_figure
from movinet_jax.names import show

_DRAWN = 24  # letters of a class in a picture
_LINES = ('-', '--')


def draw_confusion(confusion: np.ndarray, labels, path: str):
  """Draws a confusion matrix [N, N] (true, predicted) as shares of each true class."""
  counts = confusion.sum(1, keepdims=True)
  shares = np.divide(confusion, counts, where=counts > 0, out=np.zeros(confusion.shape))
  n, names = len(labels), [show(label, _DRAWN) for label in labels]
  side = min(4 + 0.35 * n, 24)
  with open_figure(path, (side + 1, side)) as (figure, axes):
    image = axes.imshow(shares, vmin=0, vmax=1, cmap='Blues')
    figure.colorbar(image, label='share of the true class')
    axes.set(xlabel='predicted', ylabel='true')
    if n <= 60:  # More names than that cannot be read.
      # A label is no formula, although it may hold two dollars.
      style = {'parse_math': False, 'fontfamily': _choose_fonts(''.join(names))}
      upright = n > 6 or max(map(len, names)) > 10
      axes.set_xticks(range(n), names, rotation=90 if upright else 0, **style)
      axes.set_yticks(range(n), names, **style)
    if n <= 20:
      for i, j in np.ndindex(n, n):
        dark = 'white' if shares[i, j] > 0.5 else 'black'
        axes.text(j, i, int(confusion[i, j]), ha='center', va='center', color=dark)


def _choose_fonts(text: str) -> list[str]:
  """Families of installed fonts that have the letters of a text: the usual one, then others.

  Says so where none has them.
  """
  from matplotlib import font_manager

  usual = font_manager.findfont(font_manager.FontProperties())
  families = [font_manager.get_font(usual).family_name]
  left = set(text) - _list_letters(usual)
  for font in font_manager.fontManager.ttflist if left else ():
    # Matplotlib's font of last resort has a box for every letter.
    if font.name.startswith('Last Resort') or font.name in families:
      continue
    if has := left & _list_letters(font.fname):
      families.append(font.name)
      left -= has
    if not left:
      break
  if left:
    print(
      f'Note: no font here has the letters {"".join(sorted(left)[:5])}: the picture has boxes in '
      'their place. Install a font that has them, such as Noto Sans CJK',
      file=sys.stderr,
    )
  return families


def _list_letters(file: str) -> set[str]:
  """The letters that a font has; none if it is gone since Matplotlib listed the fonts."""
  from matplotlib import font_manager

  try:
    return set(map(chr, font_manager.get_font(file).get_charmap()))
  except (OSError, RuntimeError):
    return set()


@dataclasses.dataclass(frozen=True)
class Curve:
  """How often a network is right about each frame.

  Attributes:
    network: its name; curves of one have one color and mark.
    place: where its weights are.
    subject: what was evaluated, as JSON.
    kind: of answer; curves of one have one kind of line.
    accuracy: [T] in [0, 1].
    error: [T], the standard deviation of that.
    videos: that were evaluated.
  """

  network: str
  place: str
  subject: Mapping
  kind: str
  accuracy: np.ndarray
  error: np.ndarray
  videos: int


def draw_frames(networks: Sequence[Sequence[Curve]], path: str, rate: str, title: str = ''):
  """Draws accuracy over the number of a frame, as Figure 5 of MoViNet's supplement has it.

  Args:
    networks: the curves of each.
    rate: of frames, in words.
    title: what else to say.
  """
  kinds = list(dict.fromkeys(curve.kind for curves in networks for curve in curves))
  lines = sum(map(len, networks))
  # A line of the legend is a fifth of an inch, for which the panel does not become smaller.
  with open_figure(path, (8, 4.2 + 0.2 * lines)) as (figure, axes):
    for number, curves in enumerate(networks):
      style = choose_style(number)
      for curve in curves:
        x, y, band = np.arange(1, len(curve.accuracy) + 1), 100 * curve.accuracy, 100 * curve.error
        line = _LINES[kinds.index(curve.kind)]
        label = f'{curve.network}, {curve.kind}, {curve.videos} videos'
        axes.plot(x, y, line, **style, markersize=4, label=label)
        axes.fill_between(x, y - band, y + band, color=style['color'], alpha=0.2, linewidth=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=f'frame of the clip ({rate})', ylabel='top-1 accuracy, %')
    bands = 'Bands: one standard deviation of the mean over videos'
    axes.set_title('\n'.join(filter(None, (title, bands))), fontsize=9)
    axes.grid(alpha=0.3, linewidth=0.5)
    _, labels = axes.get_legend_handles_labels()
    fonts = {'family': _choose_fonts(''.join(labels)), 'size': 8}
    legend = figure.legend(loc='outside lower center', prop=fonts, frameon=False)
    for text in legend.get_texts():
      text.set_parse_math(False)  # a folder's name is no formula
