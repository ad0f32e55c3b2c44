"""Chooses how many outputs a thread of the CUDA kernels owns.

A tile is chosen by counting what a thread would do: instructions and registers. Nothing is tried
out at run time.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from movinet_jax.ops.depthwise.plan import Plan

_LONGEST = 2600  # products in a compiled text: longer ones take minutes to compile
_MOST_TAPS = 100  # that a thread keeps in registers
_READ = 2.5  # instructions for an element that is loaded, with its address and its conversion
_OTHER_REGISTERS = 30  # for addresses and counters


class Tile(NamedTuple):
  """What a thread owns: a vector of channels, rows, columns, and some frames of the kernel."""

  vector: int
  rows: int
  cols: int
  frames: int

  @property
  def outputs(self) -> int:
    """Vectors of a frame."""
    return self.rows * self.cols


class _Work(NamedTuple):
  """What a thread does: instructions for each output, registers, products in its text."""

  instructions: float
  registers: int
  length: int


def choose_tile(plan: Plan, outputs: Sequence[int], transposed: bool) -> Tile:
  """Returns the tile of a convolution, or of its transpose, with such `outputs` (T, H, W, C)."""
  steps = plan.stride if transposed else (1, 1)
  tiles = itertools.product(
    [_find_vector(plan)],
    [n * steps[0] for n in (1, 2, 3, 4, 7)],
    [n * steps[1] for n in (1, 2, 4, 7)],
    sorted({1, plan.taps[0]}),
  )
  return _choose(tiles, lambda tile: _count_convolution(plan, tile, transposed), outputs)


def choose_correlation(plan: Plan) -> Tile:
  """Returns the tile of a correlation; its outputs are positions of the gradient."""
  kt, kh, kw = plan.taps
  vector = _find_vector(plan)
  groups = -(-kt // max(1, _MOST_TAPS // (kh * kw * vector)))
  tiles = itertools.product([vector], (1, 2, 3, 4), (1, 2, 4, 7), [-(-kt // groups)])
  return _choose(tiles, lambda tile: _count_correlation(plan, tile, groups), plan.y)


def keeps_taps(plan: Plan, tile: Tile) -> bool:
  """Tells whether a thread keeps the kernel in registers or loads it for every frame."""
  return tile.frames == plan.taps[0] and math.prod(plan.taps) * tile.vector <= _MOST_TAPS


def _find_vector(plan):
  return 2 if plan.x[3] % 2 == 0 else 1


def _choose(tiles, count: Callable[[Tile], _Work], outputs) -> Tile:
  """Returns the tile with the fewest instructions for each output element."""
  tiles = [Tile(*one) for one in tiles]
  short = [tile for tile in tiles if count(tile).length <= _LONGEST] or tiles[:1]
  _, height, width, _ = outputs

  def find_cost(tile):
    # What a tile computes beyond the edge of the image is lost.
    rows, cols = -(-height // tile.rows) * tile.rows, -(-width // tile.cols) * tile.cols
    work = count(tile)
    lost = rows / height * (cols / width)
    return lost * work.instructions * _slow_down(work.registers)

  return min(short, key=find_cost)


def _count_convolution(plan, tile, transposed) -> _Work:
  (kt, kh, kw), (sh, sw) = plan.taps, plan.stride

  def count_inputs(outs, taps, stride):
    return (outs + taps - 2) // stride + 1 if transposed else (outs - 1) * stride + taps

  rows, cols = count_inputs(tile.rows, kh, sh), count_inputs(tile.cols, kw, sw)
  products = math.prod(plan.taps) / (sh * sw if transposed else 1)
  reads = _READ * rows * cols / tile.outputs * (1 if tile.frames == kt else kt)
  kept = keeps_taps(plan, tile)
  weights = 0 if kept else 2 * math.prod(plan.taps) / tile.outputs
  held = tile.frames * tile.outputs + (math.prod(plan.taps) if kept else kw) + cols
  return _Work(
    products + reads + weights,
    _OTHER_REGISTERS + tile.vector * held,
    # Every phase of time is written out.
    tile.frames**2 * kh * kw * tile.outputs * tile.vector,
  )


def _count_correlation(plan, tile, groups) -> _Work:
  (_, kh, kw), (sh, sw) = plan.taps, plan.stride
  rows, cols = (tile.rows - 1) * sh + kh, (tile.cols - 1) * sw + kw
  reads = _READ * groups * (rows * cols / tile.outputs + 1)
  # The sums of all taps, and a window of the gradient.
  held = tile.frames * (kh * kw + tile.outputs) + cols
  return _Work(
    math.prod(plan.taps) + reads,
    _OTHER_REGISTERS + tile.vector * held,
    tile.frames**2 * kh * kw * tile.outputs * tile.vector,
  )


def _slow_down(registers) -> float:
  """Returns how much slower a thread with many registers is, since fewer fit on a processor.

  A thread has at most 255; what does not fit would go to memory.
  """
  if registers > 230:
    return 100.0
  return max(1.0, registers / 128) ** 1.5
