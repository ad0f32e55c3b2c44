"""Attention between all places of a video."""

import jax
import jax.numpy as jnp

MOST_WEIGHTS = 2**24  # that are held at a time, 64 MiB


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
  """Means of values weighted by softmax(query · key) (Wang et al., 2018, equation 1).

  There are as many weights as pairs of places: those of a few queries are made at a
  time, and made again for the gradient, so that a large clip takes time, not memory.

  Args:
    queries: [B, L, C].
    keys: [B, M, C].
    values: [B, M, D].

  Returns:
    [B, L, D] in the type of values; weights are float32.
  """

  @jax.checkpoint
  def attend_one(query):
    """[B, C] -> [B, D]."""
    scores = jnp.einsum('bc,bmc->bm', query, keys, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores).astype(values.dtype)
    return jnp.einsum('bm,bmd->bd', weights, values)

  at_once = max(1, MOST_WEIGHTS // (keys.shape[0] * keys.shape[1]))
  queries = jnp.moveaxis(queries, 1, 0)
  if at_once >= len(queries):
    means = jax.vmap(attend_one)(queries)
  else:
    means = jax.lax.map(attend_one, queries, batch_size=at_once)
  return jnp.moveaxis(means, 0, 1)
