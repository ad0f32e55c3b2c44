"""Pooling of video over space and over the time seen so far.

A stream's means over time keep running sums in its state, under these names:

* `total` and `count`: the sum of all frames so far, and how many there were.
* `weight`: what those frames weigh together, in a stream that forgets (`forget`). Without
  it each weighs 1.
* `peak`, `mass` and `total`, in place of a plain sum: frames weighted by a softmax, whose
  largest exponent is `peak` (layers.TemporalSoftmaxPool).
"""

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from movinet_jax.ops.depthwise import depthwise_conv3d
from movinet_jax.ops.padding import same_padding


@functools.partial(jax.jit, static_argnames=('window', 'stride'))
def average_pool(x: jax.Array, window: tuple[int, int], stride: tuple[int, int]) -> jax.Array:
  """Mean over spatial windows, 'same' padding, which does not count as values.

  A 3x3 window at the edge therefore divides by 6 and in a corner by 4, as TensorFlow's
  AvgPool does.

  Args:
    x: [B, T, H, W, C].

  Returns:
    [B, T, ceil(H / stride), ceil(W / stride), C].
  """
  add = functools.partial(depthwise_conv3d, stride=stride)
  # Made of x: under shard_map, a kernel must be marked as differing between devices just
  # as what it is multiplied by, or its unused gradient would ask for a sum over them.
  kernel = jnp.ones((1, *window, 1, 1), x.dtype) + jnp.zeros_like(x[0, 0, 0, 0])
  pads = map(same_padding, x.shape[2:4], window, stride)
  rows, columns = map(count_values, x.shape[2:4], window, stride, pads)
  count = (rows[:, None] * columns)[..., None].astype(np.float32)
  return add(x, kernel) * (1 / count).astype(x.dtype)


def count_values(size: int, window: int, stride: int, pads: tuple[int, int]) -> np.ndarray:
  """How many values, and no padding, each window along an axis has."""
  before, behind = pads
  first = np.arange((size + before + behind - window) // stride + 1) * stride - before
  return np.minimum(first + window, size) - np.maximum(first, 0)


@functools.partial(jax.jit, static_argnames=('window', 'stride'))
def max_pool(x: jax.Array, window: tuple[int, int], stride: tuple[int, int]) -> jax.Array:
  """Largest value of spatial windows, 'same' padding, which is never the largest.

  Rows first, then columns, each as a maximum of shifted values: XLA's windowed maximum
  takes up to a hundred times as long on a CPU, and its gradient more than ten times. Of
  equal values each has a share of the gradient.

  Args:
    x: [B, T, H, W, C].

  Returns:
    [B, T, ceil(H / stride), ceil(W / stride), C].
  """
  for axis, size, step in zip((2, 3), window, stride, strict=True):
    x = _max_along(x, axis, size, step)
  return x


def _max_along(x, axis, window, stride):
  length = x.shape[axis]
  pads = [(0, 0)] * x.ndim
  pads[axis] = same_padding(length, window, stride)
  x = jnp.pad(x, pads, constant_values=-jnp.inf)
  last = (-(-length // stride) - 1) * stride
  shifted = (lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(window))
  return functools.reduce(jnp.maximum, shifted)


@functools.partial(jax.jit, static_argnames='window')
def sliding_mean(x: jax.Array, window: tuple[int, int, int]) -> jax.Array:
  """Means over all windows (frames, height, width) of x [B, T, H, W, C], in float32.

  A window that is longer than x along an axis is as long as x.

  Returns:
    [B, T', H', W', C], one for each place of the window.
  """
  window = tuple(map(min, window, x.shape[1:4]))
  whole = (1, *window, 1)
  total = lax.reduce_window(x.astype(jnp.float32), 0.0, lax.add, whole, (1,) * 5, 'valid')
  return total / math.prod(window)


def spatial_mean(x: jax.Array) -> jax.Array:
  """Mean over height and width in float32: [B, T, H, W, C] -> [B, T, 1, 1, C]."""
  return jnp.mean(x, (2, 3), dtype=jnp.float32, keepdims=True)


def cumulative_mean(
  x: jax.Array, total: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Mean over all frames up to each one (MoViNet, "Cumulative Global Average Pooling").

  Args:
    x: [B, T, 1, 1, C] float32, one vector per frame.
    total: [B, 1, 1, 1, C] float32, sum over the frames before.
    count: [B], how many there were, int32; or what they weigh together, float32.

  Returns:
    means [B, T, 1, 1, C], and total and count after the last frame.
  """
  totals = jnp.cumsum(x, axis=1) + total
  counts = count[:, None] + 1 + jnp.arange(x.shape[1])
  return totals / counts[:, :, None, None, None], totals[:, -1:], counts[:, -1]


def global_mean(x: jax.Array, state, *, causal: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Mean over space and all frames so far, [B, T, H, W, C] -> [B, 1, 1, 1, C], and the state.

  With `causal` False a clip is all there is, and the state is {}.
  """
  means = spatial_mean(x)
  if not causal:
    return means.mean(1, keepdims=True).astype(x.dtype), {}
  mean, after = total_mean(means, state)
  return mean.astype(x.dtype), after


def running_means(frames: jax.Array, state) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Means over all frames up to each one, [B, T, 1, 1, C], and the new state.

  `state` holds the running sums of the frames before, None or {} where there were none.
  """
  start = {'total': jnp.zeros_like(frames[:, :1]), 'count': jnp.zeros(frames.shape[0], jnp.int32)}
  state = state or start
  means, total, _ = cumulative_mean(frames, state['total'], _weigh(state))
  return means, _count_on({**state, 'total': total}, frames.shape[1])


def total_mean(frames: jax.Array, state) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Mean over all frames so far, [B, T, 1, 1, C] -> [B, 1, 1, 1, C], and the new state.

  `state` is as in `running_means`.
  """
  total = frames.sum(1, keepdims=True)
  if state:
    after = _count_on({**state, 'total': total + state['total']}, frames.shape[1])
  else:
    after = {'total': total, 'count': jnp.full(frames.shape[:1], frames.shape[1])}
  return read_mean(after), after


def read_mean(state) -> jax.Array:
  """The mean that running sums stand for, [B, 1, 1, 1, C] float32."""
  return state['total'] / _weigh(state)[:, None, None, None, None]


def forget(state: Mapping, keep: float | jax.Array) -> dict:
  """Makes the frames so far weigh `keep` times what they weighed, in all means over time.

  Args:
    state: of a stream of any layer or network. What is not a running sum stays as it is:
      counts of frames, which tell a frame's number, and the last frames of convolutions.
    keep: above 0, 1 at most. With 1 the stream goes on as if nothing had been done.

  Returns:
    The state, in which plain sums have a `weight` from now on.
  """
  if {'peak', 'mass'} <= state.keys():
    # Sums stay, and the exponent that they are relative to becomes smaller: no underflow.
    return {**state, 'peak': state['peak'] + jnp.log(keep)}
  if {'total', 'count'} <= state.keys():
    weight = _weigh(state).astype(jnp.float32)
    return {**state, 'total': state['total'] * keep, 'weight': weight * keep}
  return {
    key: forget(value, keep) if isinstance(value, Mapping) else value
    for key, value in state.items()
  }


def _weigh(state) -> jax.Array:
  """What all frames so far weigh together, [B]."""
  return state['weight'] if 'weight' in state else state['count']


def _count_on(state: Mapping, frames: int) -> dict[str, jax.Array]:
  """Running sums after so many frames more."""
  more = jnp.full(state['total'].shape[:1], frames)
  return {key: value if key == 'total' else value + more for key, value in state.items()}
