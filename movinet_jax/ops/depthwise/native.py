"""Convolves with XLA's grouped convolution; JAX derives the gradients."""

import jax
import jax.numpy as jnp
from jax import lax

from movinet_jax.ops.depthwise.plan import Plan


def convolve(x: jax.Array, kernel: jax.Array, plan: Plan) -> jax.Array:
  return lax.conv_general_dilated(
    x,
    kernel[..., None, :].astype(x.dtype),
    plan.steps,
    plan.pads,
    dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
    feature_group_count=x.shape[-1],
  )


def transpose(g: jax.Array, kernel: jax.Array, plan: Plan) -> jax.Array:
  x = _make_zeros((g.shape[0], *plan.x), g)
  return jax.vjp(lambda x: convolve(x, kernel, plan), x)[1](g)[0]


def correlate(x: jax.Array, g: jax.Array, plan: Plan) -> jax.Array:
  kernel = _make_zeros(plan.kernel, g).astype(plan.kernel_dtype)
  return jax.vjp(lambda kernel: convolve(x, kernel, plan), kernel)[1](g)[0]


def _make_zeros(shape, like):
  # Under shard_map, zeros that do not vary between devices as `like` does would make JAX add the
  # gradient over the devices.
  return jnp.zeros(shape, like.dtype) + jnp.zeros_like(like.ravel()[0])
