"""What the kernels of a frame compute, in plain JAX."""

import jax.numpy as jnp

from movinet_jax.export import as_jax


def multiply(x, matrix, bias, *, offset=None, start='', gate=None, shortcut=None, finish=''):
  """As `movinet_jax.ops.cuda.dense.multiply`."""
  y = x.astype(jnp.float32)
  y = y if offset is None else y + offset
  y = as_jax.OPERATIONS[start](y) if start else y
  y = y if gate is None else y * gate
  y = y @ matrix.astype(jnp.float32) + bias
  y = y if shortcut is None else y + shortcut.astype(jnp.float32)
  return (as_jax.OPERATIONS[finish](y) if finish else y).astype(x.dtype)


def squeeze(z, running, weight, matrix, place=0.0, scale=1.0):
  """As `movinet_jax.ops.cuda.squeeze.squeeze`."""
  mean = z.astype(jnp.float32).mean(0)
  new = running + (mean - running) * weight
  return (jnp.concatenate([new, mean]) + scale * place) @ matrix, new
