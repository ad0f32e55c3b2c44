"""Squeezes a frame of a stream in one kernel: means, their running mean, the first product."""

from pathlib import Path

import jax
import jax.numpy as jnp

from movinet_jax.ops.cuda.kernel import Kernel, choose_vector, launch

_SOURCE = Path(__file__).with_suffix('.cu')
_THREADS = 512  # of a block
_FEATURES = 16  # of a block
# Each block reads all pixels. XLA's reduction shares more of them between many blocks.
MOST_VALUES = 128 << 10
MOST_CHANNELS = 2048  # a block keeps both means of each in its 48 KB of shared memory


def squeeze(
  z: jax.Array,
  running: jax.Array,
  weight: jax.Array,
  matrix: jax.Array,
  place: jax.Array | None = None,
  scale: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
  """Returns the product of [new, mean] + scale * place with a matrix, and new.

  `mean` is that of the pixels, and new = running + (mean - running) * weight.

  Args:
    z: pixels [P, C], float32 or bfloat16.
    running: the running mean [C].
    weight: [1], of this frame in the new running mean.
    matrix: [2 * C, S].
    place: the encoding of the frame's number [2 * C].
    scale: of `place`.

  Returns:
    [S] and [C], float32.

  Raises:
    CudaError, ValueError: as `kernel.launch` does.
  """
  given = [running, weight, matrix]
  given += [] if place is None else [place, jnp.full(1, scale)]
  kernel = make_squeeze(z, matrix.shape[1], placed=place is not None)
  raw, new = launch(kernel, z, *(one.astype(jnp.float32) for one in given))
  return raw, new


def make_squeeze(z, features: int, placed: bool = False) -> Kernel:
  """Returns the kernel for `z` [P, C], an array or its shape and type."""
  pixels, channels = z.shape
  constants = {
    **{'P': pixels, 'C': channels, 'S': features, 'THREADS': _THREADS, 'FEATURES': _FEATURES},
    'VEC': choose_vector(channels),
  }
  results = tuple(jax.ShapeDtypeStruct((size,), jnp.float32) for size in (features, channels))
  grid = -(-features // _FEATURES), 1, 1
  constants = tuple(constants.items())
  flags = ('PLACED',) if placed else ()
  return Kernel(_SOURCE, 'squeeze', z.dtype.name, constants, grid, _THREADS, results, flags)
