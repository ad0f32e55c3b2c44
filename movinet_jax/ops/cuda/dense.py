"""Multiplies the pixels of a frame with a matrix, in one kernel with what stands around that.

A frame of a stream is so small that a GPU spends more time between kernels than in them. XLA needs
up to four kernels for a product with its gate, bias, activation and shortcut.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from movinet_jax.ops.cuda.kernel import Kernel, choose_vector, launch

_SOURCE = Path(__file__).with_suffix('.cu')
_KINDS = ('', 'relu', 'relu6', 'hard_swish', 'silu', 'logistic')
ACTIVATIONS = frozenset(_KINDS)  # '' is none
_THREADS = 128  # of a block, at most
_BLOCKS = 132  # to keep an H100 busy: one for each of its multiprocessors
_SHARED_FLOATS = 8 << 10  # of a block, for its pixels


def multiply(
  x: jax.Array,
  matrix: jax.Array,
  bias: jax.Array,
  *,
  offset: jax.Array | None = None,
  start: str = '',
  gate: jax.Array | None = None,
  shortcut: jax.Array | None = None,
  finish: str = '',
) -> jax.Array:
  """Returns finish((start(x + offset) * gate) @ matrix + bias + shortcut), summed in float32.

  Args:
    x: pixels [P, C], float32 or bfloat16.
    matrix: [C, F].
    bias: [F].
    offset: [C].
    start: an activation of `ACTIVATIONS`.
    gate: [C].
    shortcut: [P, F], not `x` itself.
    finish: an activation of `ACTIVATIONS`.

  Returns:
    [P, F] of the type of `x`.

  Raises:
    CudaError, ValueError: as `kernel.launch` does.
  """
  given = {'OFFSET': offset, 'GATED': gate, 'ADDED': shortcut}
  flags = tuple(name for name, array in given.items() if array is not None)
  kernel = make_multiply(x, matrix.shape[1], flags, start, finish)
  vectors = bias if offset is None else jnp.concatenate([bias, offset])
  operands = [x, matrix.astype(x.dtype), vectors.astype(jnp.float32)]
  operands += [] if gate is None else [gate.astype(jnp.float32)]
  operands += [] if shortcut is None else [shortcut.astype(x.dtype)]
  (y,) = launch(kernel, *operands)
  return y


@dataclasses.dataclass(frozen=True)
class Tile:
  """How threads share a product.

  Attributes:
    vector: neighboring features that a thread owns.
    lanes: threads along the features.
    teams: groups of threads that share the channels.
    pixels: that a thread owns.
    groups: of threads that share the pixels.
  """

  vector: int
  lanes: int
  teams: int
  pixels: int
  groups: int


# Threads along the features, and pixels of a thread: from many products for a value that is read to
# few.
_SHAPES = ((16, 8), (16, 4), (8, 4), (8, 2), (4, 2), (4, 1))


def choose_tile(pixels: int, channels: int, features: int) -> Tile:
  """Chooses the most work for a thread that leaves enough blocks. No GPU has timed the choice."""
  vector = choose_vector(features)
  packs = features // vector
  for most, own in _SHAPES:
    lanes = min(most, packs)
    teams = max(1, min(_THREADS // lanes, channels // 16))
    groups = max(1, min(_THREADS // (lanes * teams), -(-pixels // own)))
    if -(-pixels // (own * groups)) * -(-packs // lanes) >= _BLOCKS:
      break
  return Tile(vector, lanes, teams, own, groups)


def make_multiply(
  x, features: int, flags: tuple[str, ...] = (), start: str = '', finish: str = ''
) -> Kernel:
  """Returns the kernel of a product with `x` [P, C].

  Args:
    x: an array or its shape and type.
    features: F.
    flags: of an offset, a gate and a shortcut: OFFSET, GATED and ADDED.
    start, finish: as of `multiply`.
  """
  pixels, channels = x.shape
  tile = choose_tile(pixels, channels, features)
  together = tile.groups * tile.pixels  # pixels of a block
  step = 4 * tile.teams  # channels that the teams read at once
  chunk = min(-(-channels // step), max(1, _SHARED_FLOATS // (together * step))) * step
  constants = {
    **{'P': pixels, 'C': channels, 'F': features, 'CHUNK': chunk, 'VEC': tile.vector},
    **{'LANES': tile.lanes, 'TEAMS': tile.teams, 'PIXELS': tile.pixels, 'GROUPS': tile.groups},
    **{'LOAD': choose_vector(channels)},
    **{'START': _KINDS.index(start), 'FINISH': _KINDS.index(finish)},
    **{kind.upper(): number for number, kind in enumerate(_KINDS) if kind},
  }
  grid = -(-pixels // together), -(-features // (tile.lanes * tile.vector)), 1
  threads = tile.lanes * tile.teams * tile.groups
  result = jax.ShapeDtypeStruct((pixels, features), x.dtype)
  constants = tuple(constants.items())
  return Kernel(_SOURCE, 'multiply', x.dtype.name, constants, grid, threads, (result,), flags)
