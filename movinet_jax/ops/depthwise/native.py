"""Convolves with XLA's grouped convolution; JAX derives the gradients."""

import jax
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
  x = jax.ShapeDtypeStruct((g.shape[0], *plan.x), g.dtype)
  return jax.linear_transpose(lambda x: convolve(x, kernel, plan), x)(g)[0]


def correlate(x: jax.Array, g: jax.Array, plan: Plan) -> jax.Array:
  kernel = jax.ShapeDtypeStruct(plan.kernel, plan.kernel_dtype)
  return jax.linear_transpose(lambda kernel: convolve(x, kernel, plan), kernel)(g)[0]
