"""Dense convolutions: of frames in space, and of single positions."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

from movinet_jax.names import check_name
from movinet_jax.ops.apart import apart
from movinet_jax.ops.padding import space_padding

FORMS = ('auto', 'direct', 'patches', 'patches_5d', 'native')
FEW = 4  # channels; from 8 on XLA's convolution was the faster one


def pointwise_conv(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
  """1x1x1 convolution: the same matrix at every position, in the dtype of the kernel.

  Args:
    x: [..., C].
    kernel: [C, F].
    bias: [F], of any float type.

  Returns:
    [..., F].
  """
  # As one matrix: the kernel's gradient is then a product of two matrices as they lie,
  # where XLA would transpose the gradient of a 5D y first.
  rows = x.astype(kernel.dtype).reshape(-1, x.shape[-1])
  y = (rows @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])
  return y if bias is None else y + bias.astype(kernel.dtype)


def skip_pixels(x: jax.Array, stride: int) -> jax.Array:
  """Keeps every `stride`-th row and column: what a strided 1x1x1 convolution sees.

  Args:
    x: [B, T, H, W, C].
    stride: 1 or more, of height and width.

  Returns:
    [B, T, ceil(H / stride), ceil(W / stride), C].
  """
  if stride == 1:
    return x
  pick = lambda x: x[:, :, ::stride, ::stride]  # noqa: E731
  # On NVIDIA GPUs, XLA fuses a strided slice into the product that follows and then aborts the
  # process: "Check failed: subdim_size_accumulator == dim_size" in triton_tiling_propagation.cc,
  # with jax 0.10.2 and 0.11.2, in the training steps of X3D and Auto-TSNet. The barrier keeps the
  # slice out of the product. See github.com/openxla/xla/issues/47381.
  hold = lambda x: lax.optimization_barrier(pick(x))  # noqa: E731
  return lax.platform_dependent(x, cuda=hold, default=pick)


@functools.partial(jax.jit, static_argnames=('stride', 'padding', 'form'))
def spatial_conv(
  x: jax.Array,
  kernel: jax.Array,
  *,
  stride: tuple[int, int],
  padding: str = 'same',
  form: str = 'auto',
) -> jax.Array:
  """Convolves each frame.

  Three input channels, a stem's, waste most of a vector unit and of a matrix unit. The `direct`
  form adds one product for each number of the kernel, in one pass over the image. The `patches`
  form lays neighbouring columns side by side as channels, which costs no copy in NDHWC, gathers
  the kernel's rows, and multiplies once by the kernel as a matrix; its extra columns meet zeros,
  so it is exact. `benchmarks/stem.py` measures all.

  Args:
    x: [B, T, H, W, C].
    kernel: [1, KH, KW, C, F].
    stride: of height and width.
    padding: `same` or `centred`, see ops.space_padding.
    form: `direct`, whose gradients are those of `patches`; `patches`; `patches_5d`, which
      multiplies patches where they are, so that devices can share frames and rows of pixels;
      `native` (XLA's convolution); or `auto`: for few channels `direct` on CPU, where it was
      measured, and `patches_5d` on TPU, whose compiler says so; else `native`.

  Returns:
    [B, T, ceil(H / stride), ceil(W / stride), F].

  Raises:
    ValueError: shapes or `form` do not fit.
  """
  if x.ndim != 5 or kernel.ndim != 5 or kernel.shape[0] != 1:
    raise ValueError(
      f'spatial_conv wants x [B, T, H, W, C] and kernel [1, KH, KW, C, F], '
      f'got {x.shape} and {kernel.shape}'
    )
  check_name(form, FORMS, 'form')
  pads = tuple(
    space_padding(padding, x.shape[2 + a], kernel.shape[1 + a], stride[a]) for a in (0, 1)
  )
  patches = functools.partial(_patches, stride=stride, pads=pads)
  native = functools.partial(_native, stride=stride, pads=pads)
  direct = functools.partial(_direct, stride, pads)
  forms = {
    'direct': direct,
    'patches': patches,
    'patches_5d': functools.partial(patches, flat=False),
    'native': native,
  }
  if form == 'auto' and x.shape[-1] > FEW:
    form = 'native'
  if form == 'auto':
    tpu = forms['patches_5d']
    return lax.platform_dependent(x, kernel, cpu=direct, tpu=tpu, default=native)
  return forms[form](x, kernel)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _direct(stride, pads, x, kernel):
  b, t = x.shape[:2]
  rows = lay_rows(x.reshape(b * t, *x.shape[2:]), pads)
  y = apart(add_products, rows, kernel[0], stride=stride)
  return y.reshape(b, t, *y.shape[1:]).astype(x.dtype)


@_direct.defjvp
def _direct_jvp(stride, pads, primals, tangents):
  # The kernel's gradient is then one product of matrices, not a sum for each of its numbers.
  (x, kernel), (dx, dk) = primals, tangents
  patches = functools.partial(_patches, stride=stride, pads=pads)
  dy = patches(dx, kernel) + patches(x, dk)
  return _direct(stride, pads, x, kernel), dy.astype(x.dtype)


def lay_rows(x: jax.Array, pads) -> jax.Array:
  """Pads images [N, H, W, C] and lays the channels of each row side by side, [N, H', W' C]."""
  n, h, w, c = x.shape
  rows, (left, right) = pads[0], pads[1]
  return jnp.pad(x.reshape(n, h, w * c), ((0, 0), rows, (left * c, right * c)))


def add_products(rows: jax.Array, kernel: jax.Array, stride: tuple[int, int]) -> jax.Array:
  """Convolves images with a sum of products, one for each place and channel of the kernel.

  Args:
    rows: [N, H, W C], padded, see `lay_rows`.
    kernel: [KH, KW, C, F].
    stride: of height and width.

  Returns:
    [N, H', W', F] float32.
  """
  (kh, kw, c, f), (_, h, wide), (down, across) = kernel.shape, rows.shape, stride
  height, width = (h - kh) // down + 1, (wide // c - kw) // across + 1
  kernel, total = kernel.reshape(kh, kw * c, f).astype(jnp.float32), 0
  for i, j in itertools.product(range(kh), range(kw * c)):
    last = i + down * (height - 1) + 1, j + across * c * (width - 1) + 1
    values = rows[:, i : last[0] : down, j : last[1] : across * c].astype(jnp.float32)
    total = total + values[..., None] * kernel[i, j]
  return total


def _native(x, kernel, *, stride, pads):
  b, t, *image = x.shape
  # Frames are images of one batch: a CPU's convolution of videos is several times slower
  # than that of images, and its gradient with a stride more than ten times.
  y = lax.conv_general_dilated(
    x.reshape(b * t, *image),
    kernel[0],
    stride,
    pads,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return y.reshape(b, t, *y.shape[1:])


def _patches(x, kernel, *, stride, pads, flat=True):
  (sh, sw), (_, kh, kw, c, f) = stride, kernel.shape
  b, t, h, w, _ = x.shape
  out_h, out_w = -(-h // sh), -(-w // sw)
  blocks = -(-kw // sw)  # groups of sw columns that a kernel row touches
  width = (out_w + blocks - 1) * sw
  (top, bottom), (left, _) = pads
  crop = max(left + w - width, 0)  # columns behind the last window
  x = jnp.pad(
    x[:, :, :, : w - crop],
    ((0, 0), (0, 0), (top, bottom), (left, width - left - w + crop), (0, 0)),
  ).reshape(b, t, h + top + bottom, width // sw, sw * c)
  columns = [
    x[:, :, i : i + sh * (out_h - 1) + 1 : sh, j : j + out_w]
    for i in range(kh)
    for j in range(blocks)
  ]
  matrix = jnp.pad(kernel[0], ((0, 0), (0, blocks * sw - kw), (0, 0), (0, 0)))
  matrix, rows = matrix.reshape(-1, f), jnp.concatenate(columns, -1)
  if not flat:
    return rows @ matrix
  # Two matrices, so that the gradient is of matrices too: of a 5D product, XLA would
  # transpose what it multiplies, on a CPU.
  rows = rows.reshape(-1, matrix.shape[0])
  return (rows @ matrix).reshape(b, t, out_h, out_w, f)
