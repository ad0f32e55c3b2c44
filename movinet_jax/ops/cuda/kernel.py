"""A kernel of CUDA C++ as an operation of JAX.

The program of JAX carries the kernel as PTX, in a call that XLA launches itself: no library is
registered, nothing of Python runs at a launch, the call can be part of a CUDA graph, programs are
cached and exported like any other, and compiled for GPUs that are not here.
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
_CALL = '__gpu$xla.gpu.ptx'


@dataclasses.dataclass(frozen=True)
class Kernel:
  """One kernel, cut for one call.

  Attributes:
    file: with its source.
    name: of the function in it.
    dtype: of its elements, `float32` or `bfloat16`.
    constants: which the file reads, by their names.
    grid: blocks along x, y and z.
    threads: of a block.
    shape: of what it writes.
    out_dtype: of what it writes.
  """

  file: Path
  name: str
  dtype: str
  constants: tuple[tuple[str, int], ...]
  grid: tuple[int, int, int]
  threads: int
  shape: tuple[int, ...]
  out_dtype: str

  @property
  def source(self) -> str:
    """The whole text that a compiler gets."""
    lines = [f'#define {self.name.upper()}', f'using Element = {_ELEMENTS[self.dtype]};']
    lines += [f'constexpr int {name} = {value};' for name, value in self.constants]
    return '\n'.join([*lines, _read(self.file)])


_read = functools.cache(Path.read_text)


def launch(kernel: Kernel, *operands: jax.Array) -> jax.Array:
  """Runs a kernel on arrays as they lie, row by row.

  Under `jax.shard_map`, all operands differ between the same devices, and so does the result.

  Raises:
    CudaError: while the program is lowered, if the kernel cannot be compiled.
  """
  return _launch_p.bind(*operands, kernel=kernel)


_launch_p = Primitive('cuda_kernel')


@_launch_p.def_abstract_eval
def _shape(*operands, kernel):
  return operands[0].update(shape=kernel.shape, dtype=np.dtype(kernel.out_dtype), weak_type=False)


def _lower(context, *operands: Sequence, kernel: Kernel):
  grid = dict(zip(('grid_x', 'grid_y', 'grid_z'), map(np.int32, kernel.grid), strict=True))
  block = {'block_x': np.int32(kernel.threads), 'block_y': np.int32(1), 'block_z': np.int32(1)}
  return jax.ffi.ffi_lowering(_CALL)(
    context,
    *operands,
    name=kernel.name,
    kernel_type='ptx',
    kernel_data=nvrtc.compile_ptx(kernel.source),
    shared_mem_bytes=np.int32(0),  # beyond what a kernel declares itself
    output_indices=(np.int32(len(operands)),),
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
