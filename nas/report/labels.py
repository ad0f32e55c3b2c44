"""Words beside the marks of a chart, where there is room for them."""

import itertools
from collections.abc import Sequence

from nas.report.charts import LETTER_WIDTH, Axis, text
from nas.report.html import Html

TALL = 13  # of a line of text
NEAR = 8  # from the middle of a mark


class Labels:
  """Writes at points of a chart without writing over what is there already."""

  def __init__(self, x: Axis, y: Axis):
    self._left, self._right = x.start, x.end
    self._bottom, self._top = y.start, y.end
    self._boxes = []  # left, top, right, bottom

  def avoid(self, x: float, y: float, wide: float, tall: float):
    """Nothing is to be written over what reaches so far to all sides of its middle."""
    self._boxes.append((x - wide, y - tall, x + wide, y + tall))

  def avoid_stairs(self, x: Sequence[float], y: Sequence[float], end: float):
    """Nothing is to be written over lines from each point to below the next, and up."""
    corners = [*zip(x, y, strict=True), (end, y[-1])] if len(x) else []
    for (left, before), (right, after) in itertools.pairwise(corners):
      self.avoid((left + right) / 2, before, (right - left) / 2, 3)
      self.avoid(right, (before + after) / 2, 3, abs(before - after) / 2)

  def write(self, x: float, y: float, said: str, class_: str = 'mark') -> Sequence[Html]:
    """The words above the point, right, left or below; nothing where none has room."""
    wide = LETTER_WIDTH * len(said)
    for left, top in (
      (x - wide / 2, y - NEAR - TALL),
      (x + NEAR, y - TALL / 2),
      (x - NEAR - wide, y - TALL / 2),
      (x - wide / 2, y + NEAR),
    ):
      box = left, top, left + wide, top + TALL
      if self._is_inside(box) and not any(_overlap(box, other) for other in self._boxes):
        self._boxes.append(box)
        return [text(left + wide / 2, top + TALL - 3, said, class_, 'middle')]
    return []

  def _is_inside(self, box) -> bool:
    left, top, right, bottom = box
    inside = self._left <= left and right <= self._right
    return inside and self._top <= top and bottom <= self._bottom


def _overlap(one, other) -> bool:
  apart = one[2] <= other[0] or other[2] <= one[0]
  return not (apart or one[3] <= other[1] or other[3] <= one[1])
