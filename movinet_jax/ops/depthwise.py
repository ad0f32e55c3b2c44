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
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

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
      where the compiler's own account of a training step is several times better,
      `shifted` on CPU, where it was measured, and elsewhere, where it was not.

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
  dx = _input_gradient(g, kernel, x.shape, stride, pads)
  dk = _kernel_gradient(x, g, kernel.shape, stride)
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
  kt, kh, kw, _ = kernel.shape
  b, t, h, w, c = x.shape
  shape = (b, t - kt + 1, (h - kh) // stride[0] + 1, (w - kw) // stride[1] + 1, c)
  # Casting per tap stays inside the fusion, so bfloat16 still moves half the bytes.
  kernel = kernel.astype(jnp.float32)
  return sum(
    _window(x, tap, stride, shape).astype(jnp.float32) * kernel[tap]
    for tap in _taps(kernel.shape)
  )


def _input_gradient(g, kernel, x_shape, stride, pads):
  """Transposes the convolution: every phase of the stride is a stride-1 sum over g.

  `x_shape` is that of the padded input; the gradient is that of what lies inside.
  """
  sizes, (kt, kh, kw, _), (sh, sw) = x_shape[1:4], kernel.shape, stride
  # All phases get the size of the largest, so that they interleave; the crop drops the rest.
  # Strided windows may end before the last padded row: their zeros follow g.
  least = (sizes[0], -(-sizes[1] // sh), -(-sizes[2] // sw))
  before = (kt - 1, -(-kh // sh) - 1, -(-kw // sw) - 1)
  after = (n - m for n, m in zip(least, g.shape[1:4], strict=True))
  g = _pad(g, tuple(zip(before, after, strict=True)))
  rows = [
    _interleave(
      [_phase_gradient(g, kernel[:, i::sh, j::sw], least) for j in range(sw)], 3
    )
    for i in range(sh)
  ]
  dx = _interleave(rows, axis=2)
  inside = (slice(p[0], n - p[1]) for p, n in zip(pads, sizes, strict=True))
  return dx[:, *inside]


def _phase_gradient(g, taps, size):
  """Gradient, [B, *size, C], of the inputs that a stride's phase reads with these taps.

  Those are rows i, i + s, … of the padded input for the taps i, i + s, …, and columns so.
  """
  if 0 in taps.shape:  # A stride beyond the kernel leaves pixels that nothing reads.
    return jnp.zeros((g.shape[0], *size, g.shape[-1]), jnp.float32)
  # g is padded for the phase with the most taps.
  first = (
    n - m - k + 1 for n, m, k in zip(g.shape[1:4], size, taps.shape[:3], strict=True)
  )
  g = g[:, *(slice(n, None) for n in first)]
  return _sum_of_taps(g, taps[::-1, ::-1, ::-1], (1, 1))


def _interleave(parts, axis):
  if len(parts) == 1:
    return parts[0]
  merged = jnp.stack(parts, axis + 1)
  shape = parts[0].shape
  return merged.reshape(*shape[:axis], len(parts) * shape[axis], *shape[axis + 1 :])


def _kernel_gradient(x, g, kernel_shape, stride):
  """Sums x * g over all positions for each tap, [KT, KH, KW, C] in float32."""
  by_tap = functools.partial(_gradient_by_tap, kernel_shape=kernel_shape, stride=stride)
  if jax.device_count() > 1:
    return by_tap(x, g)
  by_row = functools.partial(_gradient_by_row, kernel_shape=kernel_shape, stride=stride)
  return lax.platform_dependent(x, g, cpu=by_row, default=by_tap)


def _gradient_by_tap(x, g, *, kernel_shape, stride):
  g = g.astype(jnp.float32)
  sums = [
    jnp.sum(_window(x, tap, stride, g.shape).astype(jnp.float32) * g, (0, 1, 2, 3))
    for tap in _taps(kernel_shape)
  ]
  return jnp.stack(sums).reshape(kernel_shape)


def _gradient_by_row(x, g, *, kernel_shape, stride):
  """Walks the image rows of g with an accumulator [KT, KH, W * C] for each kernel column.

  A row of an NDHWC array is one contiguous vector, and a step to the next column is a
  step of C within it, so all taps of a kernel column are one plain product of vectors.
  With a stride in width, columns are first sorted by phase to make the same true.
  """
  (sh, sw), (b, t, h, w, c) = stride, g.shape
  kt, kh, kw, _ = kernel_shape
  phases = [x[:, :, :, j::sw] for j in range(min(sw, kw))]

  def add_row(n, sums):
    at = (n // (t * h), n // h % t)
    row = lax.dynamic_slice(g, (*at, n % h, 0, 0), (1, 1, 1, w, c)).reshape(w * c)
    rows = [
      lax.dynamic_slice(part, (*at, n % h * sh, 0, 0), (1, kt, kh, *part.shape[3:]))
      for part in phases
    ]
    rows = [part.reshape(kt, kh, -1) for part in rows]
    columns = (rows[j % sw][..., j // sw * c : (j // sw + w) * c] for j in range(kw))
    return tuple(
      a + x.astype(jnp.float32) * row for a, x in zip(sums, columns, strict=True)
    )

  # Made of g, not plain zeros: under shard_map a loop's first value must be marked as
  # differing between devices just as its later ones are.
  zeros = jnp.zeros_like(g[0, 0, 0], jnp.float32).reshape(-1) + jnp.zeros((kt, kh, 1))
  sums = lax.fori_loop(0, b * t * h, add_row, (zeros,) * kw, unroll=2)
  return jnp.stack(sums, 2).reshape(*kernel_shape[:3], w, c).sum(3)
