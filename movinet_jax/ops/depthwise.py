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
from movinet_jax.ops.padding import space_padding, time_padding

FORMS = ('auto', 'shifted', 'native')


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
  forms = {
    'native': lambda x, kernel: _native(x, kernel, stride, pads),
    'shifted': lambda x, kernel: _shifted(x, kernel[..., 0, :], stride, pads),
  }
  if form == 'auto':
    tpu, default = forms['native'], forms['shifted']
    return lax.platform_dependent(x, kernel, tpu=tpu, default=default)
  return forms[form](x, kernel)


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
  # Padded it is stored once: the forward sum reads no other x.
  x = _pad(x, pads)
  return _sum_of_taps(x, kernel, stride).astype(x.dtype), (x, kernel)


def _shifted_backward(stride, pads, saved, g):
  x, kernel = saved
  axes = [
    _Axis(n - sum(pad), m, taps, step, pad[0])
    for n, m, taps, step, pad in zip(
      x.shape[1:4], g.shape[1:4], kernel.shape[:3], (1, *stride), pads, strict=True
    )
  ]
  # Like x, g is stored once with its padding: both gradients read that.
  padded = _pad(g, [axis.pads for axis in axes])
  dx = _input_gradient(padded, kernel, axes)
  dk = _kernel_gradient(x, g, padded, axes, kernel.shape, stride)
  return dx.astype(x.dtype), dk.astype(kernel.dtype)


_shifted.defvjp(_shifted_forward, _shifted_backward)


def _pad(x, pads):
  return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _taps(kernel_shape):
  return itertools.product(*map(range, kernel_shape[:3]))


def _window(x, tap, stride, shape):
  """The part of a padded x [B, T, H, W, C] that tap (t, i, j) multiplies."""
  t, i, j = tap
  (sh, sw), (_, frames, height, width, _) = stride, shape
  return x[
    :,
    t : t + frames,
    i : i + sh * (height - 1) + 1 : sh,
    j : j + sw * (width - 1) + 1 : sw,
  ]


def _sum_of_taps(x, kernel, stride):
  """Valid convolution of a padded x with a kernel [KT, KH, KW, C], in float32."""

  def apart(x, kernel):
    # An optimisation barrier would not do: XLA takes it out before it merges loops.
    with set_xla_metadata(inlineable='false'):
      return _add_taps(x, kernel, stride=stride)

  merged = functools.partial(_add_taps, stride=stride)
  return lax.platform_dependent(x, kernel, cpu=apart, default=merged)


@functools.partial(jax.jit, static_argnames='stride')
def _add_taps(x, kernel, *, stride):
  kt, kh, kw, _ = kernel.shape
  b, t, h, w, c = x.shape
  shape = (b, t - kt + 1, (h - kh) // stride[0] + 1, (w - kw) // stride[1] + 1, c)
  # Casting per tap stays inside the fusion, so bfloat16 still moves half the bytes.
  kernel = kernel.astype(jnp.float32)
  return sum(
    _window(x, tap, stride, shape).astype(jnp.float32) * kernel[tap] for tap in _taps(kernel.shape)
  )


class _Axis:
  """Which outputs read an input, along one axis.

  Inputs a, a + s, a + 2 s, … are phase a of stride s: the m-th meets tap first[a] + k s in
  output m + shift[a] - k, for k below taps[a]. `pads` are the zeros around the outputs
  that make every phase a plain sum.
  """

  def __init__(self, size, outputs, taps, stride, padding):
    self.size, self.stride = size, stride
    self.count = -(-size // stride)  # of a phase; the last may go on beyond the end
    starts = [padding + a for a in range(stride)]
    self.first = [start % stride for start in starts]
    self.shift = [start // stride for start in starts]
    self.taps = [len(range(first, taps, stride)) for first in self.first]
    before = (k - 1 - n for k, n in zip(self.taps, self.shift, strict=True))
    self.pads = max(0, *before), max(0, self.count + max(self.shift) - outputs)

  def select(self, phase):
    """The slices of the padded outputs, and of the taps, that a phase meets."""
    taps = self.taps[phase]
    start = self.pads[0] + self.shift[phase] - taps + 1
    outputs = slice(start, start + self.count + taps - 1)
    return outputs, slice(self.first[phase], None, self.stride)


def _input_gradient(g, kernel, axes):
  """Transposes the convolution: every phase of the stride is a stride-1 sum over g."""
  time, height, width = axes
  rows = [
    _interleave([_phase_gradient(g, kernel, axes, (0, i, j)) for j in range(width.stride)], 3)
    for i in range(height.stride)
  ]
  return _interleave(rows, 2)[:, : time.size, : height.size, : width.size]


def _phase_gradient(g, kernel, axes, phase):
  selected = (axis.select(a) for axis, a in zip(axes, phase, strict=True))
  outputs, taps = zip(*selected, strict=True)
  kernel = kernel[taps]
  if 0 in kernel.shape:  # A stride beyond the kernel leaves pixels that nothing reads.
    shape = g.shape[0], *(axis.count for axis in axes), g.shape[-1]
    return jnp.zeros(shape, jnp.float32)
  return _sum_of_taps(g[:, *outputs], kernel[::-1, ::-1, ::-1], (1, 1))


def _interleave(parts, axis):
  if len(parts) == 1:
    return parts[0]
  merged = jnp.stack(parts, axis + 1)
  shape = parts[0].shape
  return merged.reshape(*shape[:axis], len(parts) * shape[axis], *shape[axis + 1 :])


def _kernel_gradient(x, g, padded, axes, kernel_shape, stride):
  """Sums x * g over all positions for each tap, [KT, KH, KW, C] in float32."""
  how = {'kernel_shape': kernel_shape, 'stride': stride}
  by_tap = functools.partial(_gradient_by_tap, **how)
  if jax.device_count() > 1:
    return by_tap(x, g, padded)
  first = [axis.pads[0] for axis in axes]
  by_row = functools.partial(_gradient_by_row, first=first, **how)
  return lax.platform_dependent(x, g, padded, cpu=by_row, default=by_tap)


def _gradient_by_tap(x, g, padded, *, kernel_shape, stride):
  del padded
  g = g.astype(jnp.float32)
  sums = [
    jnp.sum(_window(x, tap, stride, g.shape).astype(jnp.float32) * g, (0, 1, 2, 3))
    for tap in _taps(kernel_shape)
  ]
  return jnp.stack(sums).reshape(kernel_shape)


def _gradient_by_row(x, g, padded, *, first, kernel_shape, stride):
  """Walks the image rows of g with an accumulator [KT, KH, W, C] for each kernel column.

  A row of an NDHWC array is one contiguous vector, and a step to the next column is a
  step of C within it: without a stride in width, all taps of a kernel column are one
  plain product of vectors. Rows of g are read from `padded`, where it begins at `first`.
  """
  (sh, sw), (b, t, h, w, c) = stride, g.shape
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
  zeros = jnp.zeros_like(g[0, 0, 0], jnp.float32) + jnp.zeros((kt, kh, 1, 1))
  zeros = zeros.reshape(kt, kh, -1) if flat else zeros
  sums = lax.fori_loop(0, b * t * h, add_row, (zeros,) * kw, unroll=2)
  return jnp.stack(sums, 2).reshape(*kernel_shape[:3], w, c).sum(3)
