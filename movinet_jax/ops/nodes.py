"""Nodes of a graph as weighted means of a video's places (Chen et al., CVPR 2019)."""

import jax
import jax.numpy as jnp

from movinet_jax.ops.pool import running_means


def gather_nodes(
  values: jax.Array, shares: jax.Array, state, *, causal: bool
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Means over places of each value times each node's share.

  Args:
    values: [B, T, H, W, S].
    shares: [B, T, H, W, N], how much of a place belongs to each node.
    state: running sums of the frames before, empty or None at a video's beginning.
    causal: whether the mean is over all frames so far, else over the clip.

  Returns:
    [B, T or 1, 1, S, N] in the type of values, and the new state, which is {} for a clip.
  """
  _, t, h, w, _ = values.shape
  how = {'preferred_element_type': jnp.float32}
  if not causal:
    nodes = jnp.einsum('bthws,bthwn->bsn', values, shares, **how) / (t * h * w)
    return nodes[:, None, None].astype(values.dtype), {}
  frames = jnp.einsum('bthws,bthwn->btsn', values, shares, **how)[:, :, None] / (h * w)
  nodes, after = running_means(frames, state)
  return nodes.astype(values.dtype), after


def scatter_nodes(nodes: jax.Array, shares: jax.Array) -> jax.Array:
  """Sums of what nodes hold, times each place's shares.

  Args:
    nodes: [B, T or 1, 1, N, S].
    shares: [B, T, H, W, N].

  Returns:
    [B, T, H, W, S].
  """
  nodes = nodes[:, :, 0]
  if nodes.shape[1] == 1:
    return jnp.einsum('bthwn,bns->bthws', shares, nodes[:, 0])
  return jnp.einsum('bthwn,btns->bthws', shares, nodes)
