"""Compiles CUDA C++ with NVRTC, NVIDIA's compiler library, which `jax[cuda13]` installs.

NVRTC needs no GPU, no driver and no other compiler. It returns PTX, a text that every NVIDIA driver
translates for its own GPU.
"""

import concurrent.futures
import contextlib
import ctypes
import functools
import glob
import hashlib
import importlib.util
import os
import pathlib
import re

import jax

# The oldest architecture that CUDA 13 compiles for. A driver translates it for every later GPU, and
# the kernels use nothing newer.
ARCHITECTURE = 'compute_75'
# NVRTC writes the version of its own release, which an older driver refuses. The kernels need no
# more than this one.
PTX_VERSION = '7.8'
_OPTIONS = ('--std=c++17',)
_END = '\n// end\n'  # a kept file without it was not written whole


class CudaError(RuntimeError):
  """A kernel cannot be compiled; says why."""


def find_library() -> str | None:
  """Returns the library's file, from NVIDIA's packages or else from a CUDA toolkit."""
  places = []
  if spec := importlib.util.find_spec('nvidia'):
    for folder in spec.submodule_search_locations:
      places += [f'{folder}/cu*/lib', f'{folder}/cuda_nvrtc/lib']
  places += [f'{os.environ.get("CUDA_HOME", "/usr/local/cuda")}/lib64']
  found = (file for place in places for file in sorted(glob.glob(f'{place}/libnvrtc.so.*[0-9]')))
  return next(found, None)


@functools.cache
def load():
  """Loads the library.

  Raises:
    CudaError: it is not installed, or does not load.
  """
  file = find_library()
  if file is None:
    raise CudaError("NVRTC is not installed: pip install 'jax[cuda13]'")
  try:
    library = ctypes.CDLL(file)
  except OSError as fault:
    raise CudaError(f'NVRTC does not load: {fault}') from fault
  library.nvrtcGetErrorString.restype = ctypes.c_char_p
  return library


def compile_ptx(source: str) -> str:
  """Compiles CUDA C++ to PTX, or waits for it if `begin` has begun.

  Raises:
    CudaError: NVRTC is missing or refuses the source; says what it says.
  """
  return begin(source).result()


@functools.lru_cache(maxsize=1024)
def begin(source: str) -> concurrent.futures.Future:
  """Begins to compile CUDA C++ to PTX in a thread of its own."""
  return _make_pool().submit(find_ptx, source)


@functools.cache
def _make_pool():
  return concurrent.futures.ThreadPoolExecutor(thread_name_prefix='nvrtc')


def find_ptx(source: str) -> str:
  """Compiles CUDA C++ to PTX, and keeps it beside JAX's compiled programs where those are kept.

  JAX keeps programs by their lowered text, which holds the PTX. So without this, each start of a
  process would compile all kernels again only to find that the program is there.

  Raises:
    CudaError: NVRTC is missing or refuses the source; says what it says.
  """
  kept = _find_kept(source)
  with contextlib.suppress(OSError, UnicodeDecodeError):
    if kept and (ptx := kept.read_text()).endswith(_END):
      return ptx
  ptx = _compile(source, f'--gpu-architecture={ARCHITECTURE}')[0].decode()
  ptx = re.sub(r'^\.version .*$', f'.version {PTX_VERSION}', ptx, flags=re.MULTILINE) + _END
  if kept:
    with contextlib.suppress(OSError):  # a full or read-only disk: it is compiled again next time
      _write(kept, ptx)
  return ptx


def _find_kept(source: str) -> pathlib.Path | None:
  """The file for the PTX of a source; None where JAX keeps nothing on a disk of this machine."""
  folder = jax.config.jax_compilation_cache_dir
  if not folder or '://' in folder or not jax.config.jax_enable_compilation_cache:
    return None
  # NVRTC tells no more of its version than two numbers; a repaired release has another size.
  library = find_library()
  known = library and (os.path.basename(library), os.path.getsize(library))
  made_of = known, _OPTIONS, ARCHITECTURE, PTX_VERSION, source
  return pathlib.Path(folder) / f'nvrtc-{hashlib.sha256(repr(made_of).encode()).hexdigest()}.ptx'


def _write(path: pathlib.Path, text: str):
  """Writes a file whole or not at all; other processes may write the same."""
  path.parent.mkdir(parents=True, exist_ok=True)
  own = path.with_suffix(f'.{os.getpid()}')
  try:
    own.write_text(text)
    os.replace(own, path)
  finally:
    own.unlink(missing_ok=True)


def report(source: str, architecture: str) -> str:
  """Returns the assembler's report for an architecture such as `sm_90`: registers and spills."""
  options = (f'--gpu-architecture={architecture}', '--ptxas-options=-v')
  return _compile(source, *options, result='CUBIN')[1]


def _compile(source, *options, result='PTX') -> tuple[bytes, str]:
  """Returns what NVRTC makes of a source, and its log."""
  library, program = load(), ctypes.c_void_p()
  text = source.encode()
  _check(library.nvrtcCreateProgram(ctypes.byref(program), text, b'kernel.cu', 0, None, None))
  try:
    words = [option.encode() for option in (*_OPTIONS, *options)]
    status = library.nvrtcCompileProgram(
      program, len(words), (ctypes.c_char_p * len(words))(*words)
    )
    log = _read(program, 'ProgramLog').decode()
    if status:
      raise CudaError(f'NVRTC refuses a kernel:\n{log}')
    return _read(program, result), log
  finally:
    library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(program, what) -> bytes:
  library, size = load(), ctypes.c_size_t()
  _check(getattr(library, f'nvrtcGet{what}Size')(program, ctypes.byref(size)))
  text = ctypes.create_string_buffer(size.value)
  _check(getattr(library, f'nvrtcGet{what}')(program, text))
  return text.raw.rstrip(b'\0') if what != 'CUBIN' else text.raw


def _check(status):
  if status:
    raise CudaError(f'NVRTC: {load().nvrtcGetErrorString(status).decode()}')
