"""Words in a chart stand beside their marks, and never over anything."""

import re

import numpy as np

from nas.report.charts import LETTER_WIDTH, Axis
from nas.report.labels import TALL, Labels

X, Y = Axis(0, 1, 50, 450), Axis(0, 1, 300, 10)


def read_box(element):
  """Left, top, right and bottom of what was written."""
  x, y, said = re.search('x="([^"]*)" y="([^"]*)"[^>]*>([^<]*)<', element).groups()
  half, bottom = LETTER_WIDTH * len(said) / 2, float(y) + 3
  return float(x) - half, bottom - TALL, float(x) + half, bottom


def overlap(one, other):
  wide = min(one[2], other[2]) - max(one[0], other[0])
  tall = min(one[3], other[3]) - max(one[1], other[1])
  return wide > 0.2 and tall > 0.2  # places are rounded


def test_words_do_not_cover_each_other_nor_marks_nor_stairs():
  rng = np.random.default_rng(0)
  x, y = rng.uniform(50, 450, 60), rng.uniform(10, 300, 60)
  steps, heights = np.array([60.0, 200, 300]), np.array([280.0, 150, 90])
  labels = Labels(X, Y)
  for point in zip(x, y, strict=True):
    labels.avoid(*point, 4, 4)
  labels.avoid_stairs(steps, heights, 450)
  written = [labels.write(a, b, 'depth') for a, b in zip(x, y, strict=True)]
  boxes = [read_box(element) for found in written for element in found]
  assert 10 < len(boxes) < 60
  marks = [(a - 4, b - 4, a + 4, b + 4) for a, b in zip(x, y, strict=True)]
  lines = [(60, 280, 200, 280), (200, 150, 200, 280), (200, 150, 300, 150)]
  lines += [(300, 90, 300, 150), (300, 90, 450, 90)]
  lines = [(a - 1, b - 1, c + 1, d + 1) for a, b, c, d in lines]
  for n, box in enumerate(boxes):
    assert box[0] + 0.1 >= 50
    assert box[2] - 0.1 <= 450
    assert box[1] + 0.1 >= 10
    assert box[3] - 0.1 <= 300
    assert not any(overlap(box, other) for other in [*boxes[:n], *marks, *lines])


def test_words_stand_beside_their_mark():
  for x, y in ((200, 100), (55, 290), (445, 20), (55, 20), (449, 290)):
    left, top, right, bottom = read_box(Labels(X, Y).write(x, y, 'width')[0])
    gap = max(left - x, x - right, top - y, y - bottom)
    assert 0 < gap < 12
