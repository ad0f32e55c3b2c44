"""Runs kernels of CUDA C++ on this CPU: the same text, by a C++ compiler."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from movinet_jax.ops.cuda import nvrtc

COMPILER = shutil.which('g++')
needs_compiler = pytest.mark.skipif(COMPILER is None, reason='g++ is not installed')
needs_nvrtc = pytest.mark.skipif(nvrtc.find_library() is None, reason='NVRTC is not installed')
# A GPU loads only aligned words; this CPU would not mind.
_CHECKS = ('-fsanitize=alignment,bounds', '-fno-sanitize-recover=all')
HEADER = Path(__file__).with_name('host.h')
RUN = """
}}
extern "C" void run_{n}(
    unsigned x, unsigned y, unsigned z, unsigned threads, void** arrays) {{
  run_grid({{x, y, z}}, threads, [&] {{ call(kernel_{n}::{name}, arrays); }});
}}
"""


def compile_kernels(kernels, folder):
  """One library of all kernels: for most of its time the compiler reads its own headers."""
  lines = [HEADER.read_text()]
  for n, kernel in enumerate(kernels):
    source = kernel.source.replace('extern "C" ', '')  # which knows no namespaces
    lines.append(f'namespace kernel_{n} {{\n{source}')
    lines.append(RUN.format(n=n, name=kernel.name))
    lines += [f'#undef {name}' for name in (kernel.name.upper(), *kernel.flags)]
  source = Path(folder, 'kernels.cpp')
  source.write_text('\n'.join(lines))
  library = source.with_suffix('.so')
  flags = ('-std=c++20', '-O1', '-w', '-shared', '-fPIC', '-pthread', *_CHECKS)
  subprocess.run([COMPILER, *flags, '-o', library, source], check=True)
  return ctypes.CDLL(str(library))


def run(library, n, kernel, *operands):
  """What the n-th kernel of a library makes of arrays: a list of results."""
  results = [np.full(one.shape, np.nan, one.dtype) for one in kernel.results]
  arrays = [*map(np.ascontiguousarray, operands), *results]
  pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
  getattr(library, f'run_{n}')(*kernel.grid, kernel.threads, pointers)
  return results


def launch(folder, kernel, *operands):
  """Runs one kernel, in place of `movinet_jax.ops.cuda.kernel.launch`."""
  return run(compile_kernels([kernel], folder), 0, kernel, *map(np.asarray, operands))


def count_registers(kernel) -> int:
  """Compiles a kernel for an H100; it may keep nothing in local memory."""
  said = nvrtc.report(kernel.source, 'sm_90')
  assert re.search(r'\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads', said)
  return int(re.search(r'Used (\d+) registers', said)[1])
