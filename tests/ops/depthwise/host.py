"""Runs kernels of CUDA C++ on this CPU: the same text, by a C++ compiler."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np

COMPILER = shutil.which('g++')
HEADER = Path(__file__).with_name('host.h')
RUN = """
}}
extern "C" void run_{n}(
    unsigned x, unsigned y, unsigned z, unsigned threads, void* a, void* b, void* out) {{
  run_grid({{x, y, z}}, threads, [&] {{ call(kernel_{n}::{name}, a, b, out); }});
}}
#undef {upper}
"""


def compile_kernels(kernels, folder):
  """One library of all kernels: for most of its time the compiler reads its own headers."""
  lines = [HEADER.read_text()]
  for n, kernel in enumerate(kernels):
    source = kernel.source.replace('extern "C" ', '')  # which knows no namespaces
    lines.append(f'namespace kernel_{n} {{\n{source}')
    lines.append(RUN.format(n=n, name=kernel.name, upper=kernel.name.upper()))
  source = Path(folder, 'kernels.cpp')
  source.write_text('\n'.join(lines))
  library = source.with_suffix('.so')
  flags = ('-std=c++20', '-O1', '-w', '-shared', '-fPIC', '-pthread')
  subprocess.run([COMPILER, *flags, '-o', library, source], check=True)
  return ctypes.CDLL(str(library))


def run(library, n, kernel, *operands):
  """What the n-th kernel of a library makes of two arrays."""
  out = np.full(kernel.shape, np.nan, jnp.dtype(kernel.out_dtype))
  arrays = [*map(np.ascontiguousarray, operands), out]
  pointers = (ctypes.c_void_p(array.ctypes.data) for array in arrays)
  getattr(library, f'run_{n}')(*kernel.grid, kernel.threads, *pointers)
  return out
