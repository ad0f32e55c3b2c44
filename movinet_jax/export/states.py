"""Names a stream's state for files: the arrays that a call takes and returns.

Zeros begin a video. Running sums become running means, because a sum in float16 stops growing at
2048.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

NEXT = '_next'  # behind a state's name in what a call returns
_MEANS = {'total': 'mean', 'mass': 'mean_mass'}


def list_leaves(state: Mapping) -> dict[str, jax.Array]:
  """Lists the arrays of a state by path, such as 'block0_layer1.se.count', in pytree order."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  return {'.'.join(str(key.key) for key in path): leaf for path, leaf in leaves}


def is_count(leaf) -> bool:
  return jnp.issubdtype(leaf.dtype, jnp.integer)


def name_leaf(path: str, leaves: Mapping) -> tuple[str, str]:
  """Names a leaf, and finds the count of its mean.

  Args:
    path: path of the leaf.
    leaves: the whole state.

  Returns:
    Its name in files, without dots; and the path of the count that a sum is divided by, or ''.
  """
  home, _, key = path.rpartition('.')
  count = f'{home}.count'
  if key in _MEANS and count in leaves:
    return _name(f'{home}.{_MEANS[key]}'), count
  return _name(path), ''


def _name(path: str) -> str:
  return path.replace('.', '_')


def pack(state: Mapping) -> dict[str, jax.Array]:
  """Turns a state into the named arrays of a file."""
  leaves, found = list_leaves(state), {}
  for path, leaf in leaves.items():
    name, count = name_leaf(path, leaves)
    found[name] = leaf / _spread(leaves[count], leaf) if count else leaf
  return found


def unpack(named: Mapping[str, jax.Array], like: Mapping) -> dict:
  """Turns named arrays of a file back into a state.

  Args:
    like: a state of the same network, of which only the paths matter.
  """
  leaves, found = list_leaves(like), []
  for path in leaves:
    name, count = name_leaf(path, leaves)
    value = named[name]
    found.append(value * _spread(named[_name(count)], value) if count else value)
  return jax.tree.unflatten(jax.tree.structure(like), found)


def _spread(count, leaf):
  """Shapes the counts [B] to divide sums [B, ...]; 0 becomes 1, because those sums are 0."""
  sizes = (*count.shape, *(1,) * (leaf.ndim - count.ndim))
  return jnp.maximum(count, 1).reshape(sizes).astype(leaf.dtype)
