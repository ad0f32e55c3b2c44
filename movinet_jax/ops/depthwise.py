"""Depthwise 3D convolution, the operation that decides how fast these networks run.

XLA's grouped convolution is two orders of magnitude slower on a CPU than the same
arithmetic written as a sum of shifted products, one per kernel tap, which XLA fuses
into a single pass over the input (`benchmarks/depthwise.py` measures both). Automatic
differentiation of that sum is slow in the kernel's gradient, so both gradients are
written out here:

* with respect to the input: the same sum with the kernel reversed, one for each
  position that an output's stride skips;
* with respect to the kernel: a loop over image rows that keeps its accumulators in
  cache (CPU), or one reduction per tap (accelerators, and several CPU devices, where
  slicing a sharded batch row by row would gather it).

On a CPU the sum is a program that XLA must not merge with what follows: it takes sums for
cheap and computes all taps once more in everything that reads them, such as norm, squeeze
and gate. The two sums of an X3D block that is trained, its own and its input's gradient,
would be in eight to ten loops.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from movinet_jax.names import check_name
from movinet_jax.ops.cuda import depthwise as kernels
from movinet_jax.ops.padding import space_padding, time_padding

FORMS = ('auto', 'shifted', 'native', 'cuda')
FEW = 8  # frames of all clips together, for which a GPU needs no kernels


@functools.partial(jax.jit, static_argnames=('stride', 'time', 'padding', 'form'))
def depthwise_conv3d(
  x: jax.Array,
  kernel: jax.Array,
  *,
  stride: tuple[int, int] = (1, 1),
  time: str = 'same',
  padding: str = 'same',
  form: str = 'auto',
) -> jax.Array:
  """Convolves every channel with its own kernel.

  Args:
    x: [B, T, H, W, C].
    kernel: [KT, KH, KW, 1, C], any sizes.
    stride: of height and width; time always has stride 1.
    time: `same`, `causal` or `valid` (no padding: x carries KT - 1 earlier frames).
    padding: of height and width, `same` or `centred`, see ops.space_padding.
    form: `shifted`, `native` (XLA's grouped convolution), or `auto`: `native` on TPU,
      where the compiler's own account of training is better in sum, `shifted` elsewhere, as
      was measured on CPU and GPU (docs/performance.md).

  Returns:
    [B, T', ceil(H / stride), ceil(W / stride), C] in x's dtype, summed in float32 by the
    shifted form; T' = T, or T - KT + 1 when `time` is `valid`.

  Raises:
    ValueError: shapes, `time`, `padding` or `form` do not fit.
  """
  # Being its own jit gives the operation a name in every trace: movinet_jax.cost counts
  # it by that name, whichever form runs.
  if x.ndim != 5 or kernel.ndim != 5 or kernel.shape[3:] != (1, x.shape[-1]):
    raise ValueError(
      f'depthwise_conv3d wants x [B, T, H, W, C] and kernel [KT, KH, KW, 1, C], '
      f'got {x.shape} and {kernel.shape}'
    )
  check_name(form, FORMS, 'form')
  kt, kh, kw = kernel.shape[:3]
  pads = (
    time_padding(kt, time),
    space_padding(padding, x.shape[2], kh, stride[0]),
    space_padding(padding, x.shape[3], kw, stride[1]),
  )
  if x.shape[1] + sum(pads[0]) < kt:
    raise ValueError(
      f'{x.shape[1]} frames with time={time!r} are fewer than the kernel needs ({kt})'
    )
  if jax.sharding.get_abstract_mesh().manual_axes:
    # Under shard_map, clips may differ between devices that share a kernel. A sum marks all that
    # it reads alike; XLA drops its zeros.
    zero = jnp.zeros_like(x.ravel()[0]) + jnp.zeros_like(kernel.ravel()[0])
    x, kernel = x + zero.astype(x.dtype), kernel + zero.astype(kernel.dtype)
  forms = {
    'native': lambda x, kernel: _native(x, kernel, stride, pads),
    'shifted': lambda x, kernel: _shifted(x, kernel[..., 0, :], stride, pads),
    'cuda': lambda x, kernel: _cuda(x, kernel[..., 0, :], stride, pads),
  }
  if form != 'auto':
    return forms[form](x, kernel)
  # A few frames are a few microseconds of work, which XLA joins with what is around it.
  many = x.shape[0] * x.shape[1] > FEW and kernels.fits(x, kernel)
  cards = {'cuda': forms['cuda']} if many and kernels.can_run() else {}
  return lax.platform_dependent(x, kernel, tpu=forms['native'], default=forms['shifted'], **cards)


def _native(x, kernel, stride, pads):
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, *stride),
    pads,
    dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
    feature_group_count=x.shape[-1],
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted(x, kernel, stride, pads):
  return _shifted_forward(x, kernel, stride, pads)[0]


def _shifted_forward(x, kernel, stride, pads):
  how = {'stride': stride, 'pads': pads}
  y = lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(_add_taps_apart, **how),
    default=functools.partial(_add_taps_unpadded, **how),
  )
  return y.astype(x.dtype), (x, kernel)


def _shifted_backward(stride, pads, saved, g):
  x, kernel = saved
  axes = [
    _Axis(n, m, taps, step, pad[0])
    for n, m, taps, step, pad in zip(
      x.shape[1:4], g.shape[1:4], kernel.shape[:3], (1, *stride), pads, strict=True
    )
  ]
  how = {'axes': axes, 'stride': stride, 'pads': pads}
  dx, dk = lax.platform_dependent(
    x,
    kernel,
    g,
    cpu=functools.partial(_differentiate_padded, **how),
    default=functools.partial(_differentiate, **how),
  )
  return dx.astype(x.dtype), dk.astype(kernel.dtype)


_shifted.defvjp(_shifted_forward, _shifted_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _cuda(x, kernel, stride, pads):
  return _cuda_forward(x, kernel, stride, pads)[0]


def _cuda_forward(x, kernel, stride, pads):
  plan = kernels.make_plan(x, kernel, stride, pads)
  return kernels.convolve(x, kernel, plan), (x, kernel)


def _cuda_backward(stride, pads, saved, g):
  x, kernel = saved
  plan = kernels.make_plan(x, kernel, stride, pads)
  dx, dk = kernels.transpose(g, kernel, plan), kernels.correlate(x, g, plan)
  return dx.astype(x.dtype), dk.astype(kernel.dtype)


_cuda.defvjp(_cuda_forward, _cuda_backward)


def _pad(x, pads):
  """Zeros around x [B, T, H, W, C]; fewer than none cut it."""
  return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))


def _taps(kernel_shape):
  return itertools.product(*map(range, kernel_shape[:3]))


def _window(x, tap, stride, shape, pads=((0, 0),) * 3):
  """The part of x [B, T, H, W, C], padded, that tap (t, i, j) multiplies for an output `shape`."""
  cuts = []
  for at, outputs, step, size, (before, _) in zip(
    tap, shape[1:4], (1, *stride), x.shape[1:4], pads, strict=True
  ):
    cuts.append((before - at, (outputs - 1) * step + 1 - size - before + at))
  return _pad(x, cuts)[:, :, :: stride[0], :: stride[1]]


def _add_taps_apart(x, kernel, stride, pads):
  """The convolution of a padded x with a kernel [KT, KH, KW, C], in float32, for a CPU."""
  # Padded it is stored once: the sum reads no other x. An optimisation barrier would not keep the
  # sum apart: XLA takes it out before it merges loops.
  with set_xla_metadata(inlineable='false'):
    return _add_taps(_pad(x, pads), kernel, stride=stride)


@functools.partial(jax.jit, static_argnames='stride')
def _add_taps(x, kernel, *, stride):
  return _add_taps_unpadded(x, kernel, stride, ((0, 0),) * 3)


def _add_taps_unpadded(x, kernel, stride, pads):
  """As `_add_taps_apart`, with the zeros made as they are read: no copy of x is stored."""
  sizes = zip(x.shape[1:4], pads, kernel.shape, (1, *stride), strict=False)
  shape = x.shape[0], *((n + sum(pad) - k) // step + 1 for n, pad, k, step in sizes), x.shape[4]
  # Casting per tap stays inside the fusion, so bfloat16 still moves half the bytes.
  kernel = kernel.astype(jnp.float32)
  return sum(
    _window(x, tap, stride, shape, pads).astype(jnp.float32) * kernel[tap]
    for tap in _taps(kernel.shape)
  )


class _Axis:
  """Which outputs read an input, along one axis.

  Inputs a, a + s, a + 2 s, … are phase a of stride s: the m-th meets tap first[a] + k s in
  output m + shift[a] - k, for k below taps[a]. `pads` are the zeros around the outputs
  that make every phase a plain sum.
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
    """Zeros around the outputs that a phase meets, where it ends, and its taps."""
    taps = self.taps[phase]
    before = taps - 1 - self.shift[phase]
    pads = before, self.count + taps - 1 - self.outputs - before
    return pads, slice(self.first[phase], None, self.stride)


def _differentiate_padded(x, kernel, g, axes, stride, pads):
  """Both gradients on a CPU. Like x, g is stored once with its zeros: both read that."""
  x, padded = _pad(x, pads), _pad(g, [axis.pads for axis in axes])

  def add_phase(kernel, zeros):
    # What of `padded` a phase reads.
    cuts = [
      (pad[0] - axis.pads[0], pad[1] - axis.pads[1]) for pad, axis in zip(zeros, axes, strict=True)
    ]
    return _add_taps_apart(padded, kernel, (1, 1), cuts)

  dx = _input_gradient(g, kernel, axes, add_phase)
  if jax.device_count() > 1:
    return dx, _gradient_by_tap(x, g, kernel.shape, stride, ((0, 0),) * 3)
  first = [axis.pads[0] for axis in axes]
  return dx, _gradient_by_row(x, padded, g.shape, kernel.shape, stride, first)


def _differentiate(x, kernel, g, axes, stride, pads):
  """Both gradients on an accelerator."""

  def add_phase(kernel, zeros):
    return _add_taps_unpadded(g, kernel, (1, 1), zeros)

  dx = _input_gradient(g, kernel, axes, add_phase)
  return dx, _gradient_by_tap(x, g, kernel.shape, stride, pads)


def _input_gradient(g, kernel, axes, add_phase):
  """Transposes the convolution: every phase of the stride is a stride-1 sum over g."""
  time, height, width = axes

  def find_phase(*phase):
    zeros, taps = zip(*(axis.select(a) for axis, a in zip(axes, phase, strict=True)), strict=True)
    if 0 in kernel[taps].shape:  # A stride beyond the kernel leaves pixels that nothing reads.
      shape = g.shape[0], *(axis.count for axis in axes), g.shape[-1]
      return jnp.zeros(shape, jnp.float32)
    return add_phase(kernel[taps][::-1, ::-1, ::-1], zeros)

  rows = [
    _interleave([find_phase(0, i, j) for j in range(width.stride)], 3) for i in range(height.stride)
  ]
  return _interleave(rows, 2)[:, : time.size, : height.size, : width.size]


def _interleave(parts, axis):
  if len(parts) == 1:
    return parts[0]
  merged = jnp.stack(parts, axis + 1)
  shape = parts[0].shape
  return merged.reshape(*shape[:axis], len(parts) * shape[axis], *shape[axis + 1 :])


def _gradient_by_tap(x, g, kernel_shape, stride, pads):
  """Sums x * g over all positions for each tap, [KT, KH, KW, C] in float32."""
  g = g.astype(jnp.float32)
  # Columns last: sums that keep them are sums of whole rows.
  sums = [
    jnp.sum(_window(x, tap, stride, g.shape, pads).astype(jnp.float32) * g, (0, 1, 2))
    for tap in _taps(kernel_shape)
  ]
  return jnp.stack(sums).sum(1).reshape(kernel_shape)


def _gradient_by_row(x, padded, shape, kernel_shape, stride, first):
  """As `_gradient_by_tap`: walks image rows with an accumulator [KT, KH, W, C] a kernel column.

  A row of an NDHWC array is one contiguous vector, and a step to the next column is a
  step of C within it: without a stride in width, all taps of a kernel column are one
  plain product of vectors. g, of `shape`, begins in `padded` at `first`.
  """
  (sh, sw), (b, t, h, w, c) = stride, shape
  kt, kh, kw, _ = kernel_shape
  flat = sw == 1

  def read_column(rows, m):
    """What kernel column m multiplies, of x's rows [KT, KH, W', C]."""
    if flat:
      return rows.reshape(kt, kh, -1)[..., m * c : (m + w) * c]
    return rows[:, :, m : m + sw * (w - 1) + 1 : sw]

  def add_row(n, sums):
    frame, i, j = n // (t * h), n // h % t, n % h
    at = frame, i + first[0], j + first[1], first[2], 0
    row = lax.dynamic_slice(padded, at, (1, 1, 1, w, c))
    row = row.reshape(-1) if flat else row.reshape(w, c)
    size = 1, kt, kh, *x.shape[3:]
    rows = lax.dynamic_slice(x, (frame, i, j * sh, 0, 0), size)[0]
    columns = (read_column(rows, m).astype(jnp.float32) for m in range(kw))
    return tuple(a + column * row for a, column in zip(sums, columns, strict=True))

  # Made of g, not plain zeros: under shard_map a loop's first value must be marked as
  # differing between devices just as its later ones are.
  zeros = jnp.zeros_like(padded[0, 0, 0, :w], jnp.float32) + jnp.zeros((kt, kh, 1, 1))
  zeros = zeros.reshape(kt, kh, -1) if flat else zeros
  sums = lax.fori_loop(0, b * t * h, add_row, (zeros,) * kw, unroll=2)
  return jnp.stack(sums, 2).reshape(*kernel_shape[:3], w, c).sum(3)
