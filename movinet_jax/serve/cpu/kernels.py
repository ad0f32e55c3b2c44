"""Computes the operations of a stream's graph in JAX, arranged for a CPU."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
from jax import lax

from movinet_jax.export import as_jax
from movinet_jax.export.graph import find_outputs
from movinet_jax.ops.apart import apart
from movinet_jax.ops.conv import add_products, lay_rows


def _depthwise(*inputs, stride, pads, finish):
  *frames, kernel, bias = inputs
  # Padded before, which is one pass with the activation that makes the frames.
  frames = [_pad(frame, pads) for frame in frames]

  def add(*frames):
    taps = _find_taps(frames, kernel.shape, stride)
    return _ACTIVATIONS[finish](sum((x * kernel[tap] for tap, x in taps), bias))

  return apart(add, *frames)


def _find_taps(frames, shape, stride):
  """Yields each tap (frame, row, column) with the pixels that it multiplies, of padded frames."""
  _, h, w, _ = frames[0].shape
  rows, columns = (
    find_outputs(n, k, step, (0, 0)) for n, k, step in zip((h, w), shape[1:3], stride, strict=True)
  )
  for k, i, j in itertools.product(*map(range, shape[:3])):
    down, right = (
      slice(first, first + step * (count - 1) + 1, step)
      for first, step, count in zip((i, j), stride, (rows, columns), strict=True)
    )
    yield (k, i, j), frames[k][:, down, right]


def _stem(x, kernel, bias, *, stride, pads, finish):
  def add(rows):
    return _ACTIVATIONS[finish](add_products(rows, kernel, stride) + bias)

  return apart(add, lay_rows(x, pads))


def _multiply(x, matrix, bias):
  rows = x.reshape(-1, x.shape[-1])
  return (rows @ matrix).reshape(*x.shape[:-1], -1) + bias


def _multiply_gated(x, gate, matrix, bias):
  return _multiply(x, gate.reshape(-1, 1) * matrix, bias)


def _average(x, *, window, stride, pads):
  ones = np.ones((1, *x.shape[1:3], 1), np.float32)
  padded = np.pad(ones, ((0, 0), *pads, (0, 0)))
  count = sum(one for _, one in _find_taps([padded], (1, *window), stride))

  def add(x):
    return sum(one for _, one in _find_taps([x], (1, *window), stride)) * (1 / count)

  return apart(add, _pad(x, pads))


def _mean(x, *, axes):
  places = [x.shape[axis] for axis in axes]
  if axes in ((1, 2), (2,)) and x.size == int(np.prod(places)) * x.shape[3]:
    # A product of matrices: XLA's own reduction of rows is slower here.
    weights = np.full((1, np.prod(places)), 1 / np.prod(places), np.float32)
    return (weights @ x.reshape(-1, x.shape[3])).reshape(1, 1, 1, -1)
  return jnp.mean(x, axes, keepdims=True)


def _pad(x, pads):
  return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _hard_swish(x):
  sixth, half = np.float32(1 / 6), np.float32(1 / 2)
  return x * lax.clamp(np.float32(0), x * sixth + half, np.float32(1))


OPERATIONS = {
  **as_jax.OPERATIONS,
  'depthwise': _depthwise,
  'stem': _stem,
  'product': _multiply,
  'gated': _multiply_gated,
  'average_pool': _average,
  'mean': _mean,
  'hard_swish': _hard_swish,
  'relu': lambda x: lax.max(x, np.float32(0)),  # JAX's is a `jit`, see `apart`
}
_ACTIVATIONS = {'': lambda x: x, **OPERATIONS}
emit = functools.partial(as_jax.emit, operations=OPERATIONS)
