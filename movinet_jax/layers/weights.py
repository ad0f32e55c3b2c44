"""Random weights to begin with: flax's initializers, drawn by few compiled programs.

XLA takes about a CPU second to compile a draw, and a network has weights of a hundred
shapes. The first numbers of a long draw are those of a short one from the same key, so all
weights are cut from draws of three lengths.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

_LENGTHS = (1 << 16, 1 << 20, 1 << 24)
# Standard deviation of a normal distribution cut off at two.
_CUT_DEVIATION = 0.87962566103423978


def normal(deviation: float) -> nn.initializers.Initializer:
  """Normally distributed around 0."""

  def init(key, shape, dtype=jnp.float32):
    return _draw(key, jax.random.normal, shape, deviation, dtype)

  return init


def variance_scaling(
  scale: float, mode: str, distribution: str, in_axis: int = -2, out_axis: int = -1
) -> nn.initializers.Initializer:
  """Of variance scale / fan, as `nn.initializers.variance_scaling`, with its numbers.

  Args:
    mode: 'fan_in' or 'fan_out'.
    distribution: 'normal', or 'truncated_normal', cut off at two standard deviations.
  """
  axis = {'fan_in': in_axis, 'fan_out': out_axis}[mode]
  draw, share = {
    'normal': (jax.random.normal, 1.0),
    'truncated_normal': (_draw_cut, _CUT_DEVIATION),
  }[distribution]

  def init(key, shape, dtype=jnp.float32):
    fan = math.prod(shape) / (shape[in_axis] * shape[out_axis]) * shape[axis]
    deviation = math.sqrt(scale / fan) / share
    return _draw(key, draw, shape, deviation, dtype)

  return init


def _draw_cut(key, shape):
  return jax.random.truncated_normal(key, -2, 2, shape)


def _draw(key, draw, shape, deviation, dtype) -> jax.Array:
  count = math.prod(shape)
  length = next((length for length in _LENGTHS if count <= length), count)
  numbers = _draw_many(key, draw, length)
  if not isinstance(numbers, jax.core.Tracer):
    numbers = np.asarray(numbers)  # or every shape is cut by a program of its own
  cut = numbers[:count].reshape(shape) * np.float32(deviation)
  return jnp.asarray(cut, dtype)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _draw_many(key, draw, length) -> jax.Array:
  return draw(key, (length,))


he_normal = variance_scaling(2.0, 'fan_in', 'truncated_normal')
# PyTorch's kaiming_normal_(mode='fan_out'), which takes no notice of groups.
kaiming_normal = variance_scaling(2.0, 'fan_out', 'normal')
