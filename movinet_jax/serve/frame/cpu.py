"""Computes the operations of a stream's graph in JAX, arranged for a CPU."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax

from movinet_jax.export import as_jax
from movinet_jax.ops.apart import apart
from movinet_jax.ops.conv import add_products, lay_rows
from movinet_jax.ops.depthwise import padded
from movinet_jax.ops.pool import count_values


def _depthwise(*inputs, stride, pads, finish):
  *frames, kernel, bias = inputs
  # Padded before, which is one pass with the activation that makes the frames.
  frames = [_pad(frame, pads) for frame in frames]

  def add(*frames):
    return _ACTIVATIONS[finish](_add_taps(frames, kernel, stride) + bias)

  return apart(add, *frames)


def _add_taps(frames, kernel, stride):
  """Convolves K padded frames [1, H, W, C] with a kernel [K, KH, KW, C] and adds the results."""
  taps = zip(frames, kernel, strict=True)
  return sum(padded.add_taps(frame[:, None], own[None], stride)[:, 0] for frame, own in taps)


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
  rows, columns = map(count_values, x.shape[1:3], window, stride, pads)
  share = np.float32(1 / (rows[:, None] * columns))[..., None]
  ones = np.ones((1, *window, 1), np.float32)
  return apart(lambda x: _add_taps([x], ones, stride) * share, _pad(x, pads))


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
