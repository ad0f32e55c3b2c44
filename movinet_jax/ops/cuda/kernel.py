"""Runs kernels of CUDA C++ as operations of JAX.

The compiled program carries a kernel as PTX, in a custom call that XLA itself launches. So nobody
builds or registers a library, no Python runs at a launch, XLA can put the call into a CUDA graph,
JAX's cache keeps the program of one device, and you can compile for a GPU that is not there.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir

from movinet_jax.ops.cuda import nvrtc

_ELEMENTS = {'float32': 'float', 'bfloat16': 'unsigned short'}  # the bits of a bfloat16
DTYPES = tuple(_ELEMENTS)
_ELEMENTS_FILE = Path(__file__).with_name('elements.h')
_CALL = '__gpu$xla.gpu.ptx'
LARGEST_GRID = 65_535  # along y and z, of every NVIDIA GPU


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A kernel with all constants of one call.

  Attributes:
    file: holds the source.
    name: of the function in the file.
    dtype: of the elements, `float32` or `bfloat16`.
    constants: names and values that the source reads.
    grid: the number of blocks along x, y and z.
    threads: in a block.
    results: their shapes and types.
    flags: what else the source may ask the preprocessor for.
  """

  file: Path
  name: str
  dtype: str
  constants: tuple[tuple[str, int], ...]
  grid: tuple[int, int, int]
  threads: int
  results: tuple[jax.ShapeDtypeStruct, ...]
  flags: tuple[str, ...] = ()

  @property
  def source(self) -> str:
    """The text to compile: the constants, how elements are loaded, then the file."""
    lines = [f'#define {name}' for name in (self.name.upper(), *self.flags)]
    lines += [f'using Element = {_ELEMENTS[self.dtype]};']
    lines += [f'constexpr int {name} = {value};' for name, value in self.constants]
    return '\n'.join([*lines, _read(_ELEMENTS_FILE), _read(self.file)])


_read = functools.cache(Path.read_text)


def choose_vector(size: int) -> int:
  """Chooses how many neighbors along an axis of this size a thread loads as one word."""
  return next(n for n in (4, 2, 1) if size % n == 0)


def launch(kernel: Kernel, *operands: jax.Array) -> list[jax.Array]:
  """Runs a kernel on arrays in row-major order, and returns its results.

  All operands must be different arrays. XLA merges equal ones, and some of its versions pass a
  merged one only once, so the kernel would read the wrong arrays.

  Under `jax.shard_map`, all operands must vary between the same devices. The results do so, too.

  Raises:
    CudaError: when JAX lowers the program, if the kernel cannot be compiled.
    ValueError: the kernel has more blocks than a GPU takes.
  """
  if max(kernel.grid[1:]) > LARGEST_GRID:
    raise ValueError(
      f'{kernel.name} needs {kernel.grid} blocks, and a GPU takes {LARGEST_GRID} along y and z: '
      'use fewer clips or form=auto'
    )
  if jax.default_backend() == 'gpu':  # the rest of the program is traced meanwhile
    nvrtc.begin(kernel.source)
  return _launch_p.bind(*operands, kernel=kernel)


_launch_p = Primitive('cuda_kernel')
_launch_p.multiple_results = True


@_launch_p.def_abstract_eval
def _shape(*operands, kernel):
  return [
    operands[0].update(shape=one.shape, dtype=one.dtype, weak_type=False) for one in kernel.results
  ]


def _lower(context, *operands: Sequence, kernel: Kernel):
  grid = dict(zip(('grid_x', 'grid_y', 'grid_z'), map(np.int32, kernel.grid), strict=True))
  block = {'block_x': np.int32(kernel.threads), 'block_y': np.int32(1), 'block_z': np.int32(1)}
  return jax.ffi.ffi_lowering(_CALL)(
    context,
    *operands,
    name=kernel.name,
    kernel_type='ptx',
    kernel_data=nvrtc.compile_ptx(kernel.source),
    shared_mem_bytes=np.int32(0),  # besides what the kernel declares
    output_indices=tuple(np.int32(len(operands) + n) for n in range(len(kernel.results))),
    **grid,
    **block,
  )


def _refuse(context, *operands, kernel):
  del context, operands
  raise ValueError(
    f'the kernel {kernel.name} runs on NVIDIA GPUs only; with form=auto, or shifted, the same '
    'network runs everywhere'
  )


mlir.register_lowering(_launch_p, _lower, platform='cuda')
mlir.register_lowering(_launch_p, _refuse)
