"""Convolves with the kernels for NVIDIA GPUs in `cuda.cu`.

`tiles` chooses what a thread owns. This module cuts a call into so many threads that they fill a
GPU, and splits it between devices.
"""

import dataclasses
import functools
import math
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from movinet_jax.ops.cuda import nvrtc
from movinet_jax.ops.cuda.kernel import DTYPES, Kernel, launch
from movinet_jax.ops.depthwise import shifted
from movinet_jax.ops.depthwise.plan import Plan
from movinet_jax.ops.depthwise.tiles import choose_correlation, choose_tile, keeps_taps

_SOURCE = Path(__file__).with_suffix('.cu')
LARGEST, LONGEST_STRIDE = 7, 3  # of a kernel, along each axis

_THREADS = 128  # of a block
_RESIDENT = 132 * 512  # threads that an H100 runs at once with the registers that these take
_SHARED_BYTES = 48 << 10  # of a block


def can_run(plan: Plan) -> bool:
  """Tells whether kernels can run a plan; warns once if they should and cannot."""
  if _find_fault(plan):
    return False
  if fault := _try_out():
    _warn(fault)
  return not fault


@functools.cache
def _try_out() -> str:
  """Returns why kernels cannot run, or ''. Runs a small one if there is a GPU here.

  XLA's way to launch a kernel is not a public interface, so a later version may change it.
  """
  try:
    nvrtc.load()
    return _find_error() if jax.default_backend() == 'gpu' else ''
  except Exception as fault:  # of NVRTC, of XLA, or of the driver
    return f'{type(fault).__name__}: {fault}'


def _find_error() -> str:
  """Compares a small convolution on the GPU here with the sum of shifted products."""
  plan = Plan((4, 5, 6, 6), (3, 3, 3), (2, 1), ((2, 0), (1, 1), (1, 1)), 'float32', 'float32')
  random = np.random.default_rng(0)
  x, kernel = random.normal(size=(1, *plan.x)), random.normal(size=plan.kernel)

  def differentiate(x, kernel, convolve, correlate):
    y = convolve(x, kernel, plan)
    return y, correlate(x, y, plan)

  here = jax.default_device(jax.local_devices()[0])
  with jax.ensure_compile_time_eval(), jax.transfer_guard('allow'), here:
    # As arguments of a program: what depends on constants alone would not be compiled here.
    operands = [jnp.asarray(array, jnp.float32) for array in (x, kernel)]
    run = jax.jit(differentiate, static_argnums=(2, 3))
    ours = jax.device_get(run(*operands, convolve, correlate))
    theirs = jax.device_get(run(*operands, shifted.convolve, shifted.correlate))
  error = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True))
  return '' if error < 1e-5 else f'a small convolution differs by {error:.3g}'


@functools.cache
def _warn(fault: str):
  warnings.warn(
    f'depthwise convolutions run without their kernels, several times slower: {fault}',
    RuntimeWarning,
    stacklevel=2,
  )


def check_plan(plan: Plan):
  """
  Raises:
    ValueError: no kernel is made for such a convolution.
  """
  if fault := _find_fault(plan):
    raise ValueError(
      f'form=cuda has kernels for {" and ".join(DTYPES)}, up to {LARGEST}x{LARGEST}x{LARGEST} with '
      f'strides up to {LONGEST_STRIDE}; got {fault}: use form=auto'
    )


def _find_fault(plan) -> str:
  if plan.dtype not in DTYPES:
    return plan.dtype
  if max(plan.taps) > LARGEST:
    return 'x'.join(map(str, plan.taps))
  return f'stride {plan.stride}' if max(plan.stride) > LONGEST_STRIDE else ''


def convolve(x: jax.Array, kernel: jax.Array, plan: Plan) -> jax.Array:
  return _convolve(x, kernel.astype(jnp.float32), plan)


def transpose(g: jax.Array, kernel: jax.Array, plan: Plan) -> jax.Array:
  return _transpose(g, kernel.astype(jnp.float32), plan)


def correlate(x: jax.Array, g: jax.Array, plan: Plan) -> jax.Array:
  return _correlate(x, g, plan).sum(0).astype(plan.kernel_dtype)


def _split(rule, frees):
  """Splits a function of two arrays and a plan between devices along the letters in `frees`.

  JAX gathers the other axes first. If your mesh cuts frames or pixels, form='shifted' is faster.
  """

  def decorate(function):
    shared = custom_partitioning(function, static_argnums=(2,))

    def partition(plan, mesh, shapes, result):
      sides = [side.split() for side in rule.replace('->', ',').split(',')]
      # Each letter is split over the same devices in all arrays: the first split that is found.
      cuts, used = {}, set()
      for shape, letters in zip((*shapes, result), sides, strict=True):
        for letter, axes in zip(letters, _spec(shape), strict=True):
          names = {axes} if isinstance(axes, str) else set(axes or ())
          if letter in frees and names and letter not in cuts and not names & used:
            cuts[letter] = axes
            used |= names
      places = [NamedSharding(mesh, PartitionSpec(*map(cuts.get, letters))) for letters in sides]
      local = functools.partial(_call_local, function, plan)
      return mesh, local, places[-1], tuple(places[:-1])

    letters = dict.fromkeys(rule.replace('->', ' ').replace(',', ' ').split())
    shared.def_partition(
      partition=partition,
      sharding_rule=rule,
      need_replication_factors=tuple(letter for letter in letters if letter not in frees),
    )
    return shared

  return decorate


def _spec(shape):
  spec = tuple(shape.sharding.spec)
  return spec + (None,) * (len(shape.shape) - len(spec))


def _call_local(function, plan, a, b):
  channels = a.shape[-1]
  local = dataclasses.replace(plan, x=(*plan.x[:3], channels))
  return function(a, b, local)


@_split('b t h w c, i j k c -> b u v z c', frees=('b', 'c'))
def _convolve(x, kernel, plan):
  return launch(make_convolve(x.shape[0], plan), x, kernel)[0]


@_split('b t h w c, i j k c -> b u v z c', frees=('b', 'c'))
def _transpose(g, kernel, plan):
  return launch(make_convolve(g.shape[0], plan, transposed=True), g, kernel)[0]


@_split('b t h w c, b u v z c -> b i j k c', frees=('b', 'c'))
def _correlate(x, g, plan):
  """Returns one gradient for each clip, so that JAX adds what the devices hold."""
  clips = x.shape[0]
  (parts,) = launch(make_correlate(clips, plan), x, g)
  return parts.reshape(clips, -1, *parts.shape[1:]).sum(1)


def make_convolve(clips: int, plan: Plan, transposed: bool = False) -> Kernel:
  """Returns the kernel of a convolution, or of its transpose."""
  x, y, pads = plan.x, plan.y, [before for before, _ in plan.pads]
  if transposed:
    # Time has no stride, so along time the transpose is a convolution with the kernel reversed.
    x, y, pads = y, x, (plan.taps[0] - 1 - pads[0], *pads[1:])
  tile = choose_tile(plan, y, transposed)
  columns = -(-y[2] // tile.cols) * (y[3] // tile.vector)
  rows = -(-y[1] // tile.rows)
  frames = _cut(y[0], 2 * _RESIDENT / (clips * rows * columns), least=2 * plan.taps[0])
  constants = _name_constants(plan, x, y, pads) | {
    **{'VEC': tile.vector, 'ROWS': tile.rows, 'COLS': tile.cols, 'HELD': tile.frames},
    **{'FRAMES': frames, 'THREADS': _THREADS, 'TRANSPOSED': int(transposed)},
    'KEEP': int(keeps_taps(plan, tile)),
  }
  grid = -(-columns // _THREADS), rows, clips * -(-y[0] // frames)
  result = jax.ShapeDtypeStruct((clips, *y), plan.dtype)
  return Kernel(
    _SOURCE, 'convolve', plan.dtype, tuple(constants.items()), grid, _THREADS, (result,)
  )


def make_correlate(clips: int, plan: Plan) -> Kernel:
  """Returns the kernel of a correlation, which writes [clips * parts, KT, KH, KW, C]."""
  x, y, (kt, kh, kw) = plan.x, plan.y, plan.taps
  tile = choose_correlation(plan)
  packs = x[3] // tile.vector
  lane_blocks = -(-packs // 32)
  lanes = -(-packs // lane_blocks)
  shared = 4 * tile.frames * kh * kw * lanes * tile.vector  # bytes of one team
  teams = max(1, min(_THREADS // lanes, _SHARED_BYTES // shared))
  row_groups = -(-y[1] // tile.rows)
  blocks = clips * lane_blocks * -(-kt // tile.frames)
  wanted = 2 * _RESIDENT / _THREADS / blocks  # parts of a clip: rows first, then frames
  groups = _cut(row_groups, wanted, least=1)
  parts = -(-row_groups // groups)
  frames = _cut(x[0], wanted / parts, least=2 * kt)
  constants = _name_constants(plan, x, y, [before for before, _ in plan.pads]) | {
    **{'VEC': tile.vector, 'ROWS': tile.rows, 'COLS': tile.cols, 'KTS': tile.frames},
    **{'FRAMES': frames, 'LANES': lanes, 'TEAMS': teams, 'GROUPS': groups},
  }
  chunks = clips * -(-x[0] // frames)
  grid = lane_blocks * -(-kt // tile.frames), parts, chunks
  result = jax.ShapeDtypeStruct((chunks * parts, *plan.taps, x[3]), jnp.float32)
  threads = lanes * teams
  return Kernel(
    _SOURCE, 'correlate', plan.dtype, tuple(constants.items()), grid, threads, (result,)
  )


def _name_constants(plan, x, y, pads) -> dict:
  return {
    **dict(zip(('T_IN', 'H_IN', 'W_IN', 'C'), x, strict=True)),
    **dict(zip(('T_OUT', 'H_OUT', 'W_OUT'), y[:3], strict=True)),
    **dict(zip(('KT', 'KH', 'KW'), plan.taps, strict=True)),
    **dict(zip(('STRIDE_H', 'STRIDE_W'), plan.stride, strict=True)),
    **dict(zip(('PAD_T', 'PAD_H', 'PAD_W'), pads, strict=True)),
  }


def _cut(size, parts, least) -> int:
  """Returns how long a part of `size` is when there are about `parts`, each at least `least`."""
  parts = max(1, min(math.ceil(parts), size // least))
  return -(-size // parts)
