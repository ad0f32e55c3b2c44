"""Convolves with a sum of shifted products, one for each tap of the kernel.

XLA fuses the sum into one pass over the input. The gradients are written out:

* The input's gradient is the same sum with the kernel reversed. A stride of s splits it into s
  sums, one for each phase.
* The kernel's gradient is one sum over all positions for each tap.

Padding happens inside the fusion, so no padded copy is stored.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

from movinet_jax.ops.depthwise.plan import Plan


def convolve(x: jax.Array, kernel: jax.Array, plan: Plan) -> jax.Array:
  return add_taps(x, kernel, plan.stride, plan.pads).astype(plan.dtype)


def transpose(g: jax.Array, kernel: jax.Array, plan: Plan) -> jax.Array:
  add_phase = functools.partial(add_taps, g, stride=(1, 1))
  return add_phases(g, kernel, plan, lambda kernel, pads: add_phase(kernel, pads=pads))


def correlate(x: jax.Array, g: jax.Array, plan: Plan) -> jax.Array:
  g = g.astype(jnp.float32)
  # The first sum keeps the columns, so that it adds whole rows. On an H100 that took 1.7 ms where
  # one reduction per tap took 13.2 (56² x 40, 3x3x3, 8 clips of 50 frames).
  sums = [
    jnp.sum(_window(x, tap, plan.stride, g.shape, plan.pads).astype(jnp.float32) * g, (0, 1, 2))
    for tap in _list_taps(plan.taps)
  ]
  return jnp.stack(sums).sum(1).reshape(plan.kernel).astype(plan.kernel_dtype)


def pad(x: jax.Array, pads) -> jax.Array:
  """Pads x [B, T, H, W, C] with zeros; a negative pad cuts."""
  widths = ((0, 0, 0), *((before, behind, 0) for before, behind in pads), (0, 0, 0))
  return lax.pad(x, jnp.zeros((), x.dtype), widths)


def add_taps(x, kernel, stride, pads) -> jax.Array:
  """Convolves x [B, T, H, W, C] after padding it; returns float32."""
  axes = zip(x.shape[1:4], pads, kernel.shape, (1, *stride), strict=False)
  outputs = ((n + sum(pad) - k) // step + 1 for n, pad, k, step in axes)
  shape = x.shape[0], *outputs, x.shape[4]
  # Casting per tap stays inside the fusion, so bfloat16 still moves half the bytes.
  kernel = kernel.astype(jnp.float32)
  return sum(
    _window(x, tap, stride, shape, pads).astype(jnp.float32) * kernel[tap]
    for tap in _list_taps(kernel.shape)
  )


def _list_taps(shape):
  return itertools.product(*map(range, shape[:3]))


def _window(x, tap, stride, shape, pads):
  """Returns the part of the padded x that tap (t, i, j) multiplies; `shape` is the output's."""
  cuts, slices = [], []
  for at, outputs, step, size, (before, _) in zip(
    tap, shape[1:4], (1, *stride), x.shape[1:4], pads, strict=True
  ):
    first, span = at - before, (outputs - 1) * step + 1
    cuts.append((-first, first + span - size))
    slices.append(slice(first, first + span, step))
  if max(map(max, cuts)) <= 0:  # within x: one strided slice, which compilers know how to fuse
    return x[:, *slices]
  return pad(x, cuts)[:, :, :: stride[0], :: stride[1]]


class Axis:
  """Tells which outputs read an input along one axis.

  Inputs a, a + s, a + 2 s, … form phase a of stride s. The m-th of them meets tap first[a] + k s in
  output m + shift[a] - k, for every k below taps[a]. `pads` is the padding of the outputs that
  covers all phases.
  """

  def __init__(self, size, outputs, taps, stride, padding):
    self.size, self.outputs, self.stride = size, outputs, stride
    self.count = -(-size // stride)  # of a phase; the last may go on beyond the end
    starts = [padding + a for a in range(stride)]
    self.first = [start % stride for start in starts]
    self.shift = [start // stride for start in starts]
    self.taps = [len(range(first, taps, stride)) for first in self.first]
    before = (k - 1 - n for k, n in zip(self.taps, self.shift, strict=True))
    self.pads = max(0, *before), max(0, self.count + max(self.shift) - outputs)

  def select(self, phase):
    """Returns the padding of the outputs that a phase needs (negative: cuts), and its taps."""
    taps = self.taps[phase]
    before = taps - 1 - self.shift[phase]
    pads = before, self.count + taps - 1 - self.outputs - before
    return pads, slice(self.first[phase], None, self.stride)


def make_axes(plan: Plan) -> list[Axis]:
  axes = zip(plan.x, plan.y, plan.taps, plan.steps, plan.pads, strict=False)
  return [Axis(n, m, taps, step, pad[0]) for n, m, taps, step, pad in axes]


def add_phases(g, kernel, plan, add_phase) -> jax.Array:
  """Computes the input's gradient: each phase of the stride is a stride-1 convolution of g.

  Args:
    add_phase: convolves g with taps [KT', KH', KW', C] after padding; returns float32.
  """
  axes = time, height, width = make_axes(plan)

  def find_phase(*phase):
    pads, taps = zip(*(axis.select(a) for axis, a in zip(axes, phase, strict=True)), strict=True)
    if 0 in kernel[taps].shape:  # A stride beyond the kernel leaves pixels that nothing reads.
      shape = g.shape[0], *(axis.count for axis in axes), g.shape[-1]
      return jnp.zeros(shape, jnp.float32)
    return add_phase(kernel[taps][::-1, ::-1, ::-1], pads)

  rows = [
    _interleave([find_phase(0, i, j) for j in range(width.stride)], 3) for i in range(height.stride)
  ]
  dx = _interleave(rows, 2)[:, : time.size, : height.size, : width.size]
  return dx.astype(plan.dtype)


def _interleave(parts, axis):
  if len(parts) == 1:
    return parts[0]
  merged = jnp.stack(parts, axis + 1)
  shape = parts[0].shape
  return merged.reshape(*shape[:axis], len(parts) * shape[axis], *shape[axis + 1 :])
