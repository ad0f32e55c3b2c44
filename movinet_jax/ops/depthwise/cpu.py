"""Convolves with a sum of shifted products, arranged for a CPU.

The sum stays apart from the operations that read it, such as the norm, the squeeze and the gate. In
the training step of an X3D block, eight to ten loops would otherwise repeat its two sums.

The kernel's gradient loops over image rows and keeps its accumulators in cache. With several CPU
devices it is one sum for each tap, because slicing a sharded batch row by row would gather it.
"""

import jax
import jax.numpy as jnp
from jax import lax

from movinet_jax.ops.apart import apart
from movinet_jax.ops.depthwise import padded, shifted
from movinet_jax.ops.depthwise.plan import Plan


def convolve(x: jax.Array, kernel: jax.Array, plan: Plan) -> jax.Array:
  return padded.convolve(x, kernel, plan, _add_taps_apart)


def transpose(g: jax.Array, kernel: jax.Array, plan: Plan) -> jax.Array:
  return padded.transpose(g, kernel, plan, _add_taps_apart)


def correlate(x: jax.Array, g: jax.Array, plan: Plan) -> jax.Array:
  if jax.device_count() > 1:
    return padded.correlate(x, g, plan)
  return _add_rows(x, g, plan).astype(plan.kernel_dtype)


def _add_taps_apart(x, kernel, stride):
  return apart(padded.add_taps, x, kernel, stride=stride)


def _add_rows(x, g, plan):
  """Loops over the image rows of g with an accumulator [KT, KH, W, C] for each kernel column.

  A row of an NDHWC array is one contiguous vector, and the next column lies C elements further on.
  Without a stride in width, all taps of a kernel column are therefore one product of vectors.
  """
  x = shifted.pad(x, plan.pads)
  # The same padded copy as in `padded.transpose`, so that XLA stores it once.
  around = [axis.pads for axis in shifted.make_axes(plan)]
  rows_of_g, first = shifted.pad(g, around), [pads[0] for pads in around]
  (sh, sw), (b, t, h, w, c) = plan.stride, g.shape
  kt, kh, kw = plan.taps
  flat = sw == 1

  def read_column(rows, m):
    """What kernel column m multiplies, of x's rows [KT, KH, W', C]."""
    if flat:
      return rows.reshape(kt, kh, -1)[..., m * c : (m + w) * c]
    return rows[:, :, m : m + sw * (w - 1) + 1 : sw]

  def add_row(n, sums):
    frame, i, j = n // (t * h), n // h % t, n % h
    at = frame, i + first[0], j + first[1], first[2], 0
    row = lax.dynamic_slice(rows_of_g, at, (1, 1, 1, w, c))
    row = row.reshape(-1) if flat else row.reshape(w, c)
    size = 1, kt, kh, *x.shape[3:]
    rows = lax.dynamic_slice(x, (frame, i, j * sh, 0, 0), size)[0]
    columns = (read_column(rows, m).astype(jnp.float32) for m in range(kw))
    return tuple(a + column * row for a, column in zip(sums, columns, strict=True))

  # Under shard_map, a loop's first value must vary between devices as its later values do, so the
  # zeros are made from g.
  zeros = jnp.zeros_like(g[0, 0, 0], jnp.float32) + jnp.zeros((kt, kh, 1, 1))
  zeros = zeros.reshape(kt, kh, -1) if flat else zeros
  sums = lax.fori_loop(0, b * t * h, add_row, (zeros,) * kw, unroll=2)
  return jnp.stack(sums, 2).reshape(*plan.taps, w, c).sum(3)
