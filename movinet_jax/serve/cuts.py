"""Cuts: where a film goes to another scene, seen by comparing each frame with the one before."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from movinet_jax.data import Cut, EvalClip, VideoInfo
from movinet_jax.data.live import Painting
from movinet_jax.data.ticks import Shown

_SIDE, _BLOCKS, _REACH = 64, 16, 4  # pixels; blocks along a side; blocks that a pan may move by
_LEVELS = 4  # of each colour
# Nine real clips joined in all 72 orders differ by 0.289 or more at the joins, and by 0.200 or
# less within a scene: at a pan in which frames are missing. tests/serve/cuts_test.py holds both.
THRESHOLD = 0.24


def mark_scenes(frames: Iterable[Shown]) -> Iterator[Shown]:
  """Counts the scenes of a source, at its own rate: between slow frames too much changes."""
  painting, before, scene = Painting(_shrink), None, 0
  for shown in frames:
    sketch = Sketch.draw(painting.paint(shown))
    scene += before is not None and sketch.is_cut_from(before)
    before = sketch
    yield dataclasses.replace(shown, scene=scene)


@dataclasses.dataclass(frozen=True)
class Sketch:
  """What is compared of a picture.

  Attributes:
    blocks: mean colours, [16, 16, 3] from 0 to 255.
    shares: of all pixels, the share that has each of 64 colours.
  """

  blocks: np.ndarray
  shares: np.ndarray

  @classmethod
  def draw(cls, picture: np.ndarray) -> 'Sketch':
    """Sketches a picture uint8 `[64, 64, 3]`."""
    step = _SIDE // _BLOCKS
    blocks = picture.reshape(_BLOCKS, step, _BLOCKS, step, 3).mean((1, 3), dtype=np.float32)
    red, green, blue = np.moveaxis(picture // (256 // _LEVELS), -1, 0).astype(int)
    colours = (red * _LEVELS + green) * _LEVELS + blue
    counts = np.bincount(colours.ravel(), minlength=_LEVELS**3)
    return cls(blocks, counts / colours.size)

  def compare(self, other: 'Sketch') -> float:
    """How much two pictures differ, from 0 to 1.

    The geometric mean of two differences: of blocks, wherever a pan may have moved them to, and
    of colours. In a pan the colours stay, in a flash or a dark film the blocks do.
    """
    moves = itertools.product(range(-_REACH, _REACH + 1), repeat=2)
    return self._compare(other, moves)

  def is_cut_from(self, before: 'Sketch') -> bool:
    """Whether this picture is of another scene than the one before it."""
    # Most pictures are like the one before where they are, and need not be moved.
    return self._compare(before, [(0, 0)]) > THRESHOLD and self.compare(before) > THRESHOLD

  def _compare(self, other: 'Sketch', moves: Iterable[tuple[int, int]]) -> float:
    colours = np.abs(self.shares - other.shares).sum() / 2
    least = min(_differ(self.blocks, other.blocks, down, right) for down, right in moves)
    return float((least * colours) ** 0.5)


def _differ(a: np.ndarray, b: np.ndarray, down: int, right: int) -> float:
  """Mean difference of blocks, from 0 to 1, where the first picture lies moved on the second."""
  rows, columns = (slice(max(move, 0), _BLOCKS + min(move, 0)) for move in (down, right))
  back = (slice(max(-move, 0), _BLOCKS + min(-move, 0)) for move in (down, right))
  return float(np.abs(a[rows, columns] - b[tuple(back)]).mean()) / 255


def _shrink(info: VideoInfo) -> Cut:
  """The middle of a picture, as networks see it."""
  return EvalClip(frames=1, size=_SIDE, stride=1).frame(info)
