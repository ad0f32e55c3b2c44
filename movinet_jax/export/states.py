"""A stream's state as arrays with names: what an artifact takes, and returns for the next call.

Zeros are the beginning of a video. Running sums become running means, for numbers of 16 bits have
a largest whole number that they can count to, beyond which a sum stands still.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

NEXT = '_next'  # behind a state's name in what a call returns
_MEANS = {'total': 'mean', 'mass': 'mean_mass'}


def list_leaves(state: Mapping) -> dict[str, jax.Array]:
  """The arrays of a state by path, such as 'block0_layer1.se.count', in the order of a pytree."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  return {'.'.join(str(key.key) for key in path): leaf for path, leaf in leaves}


def is_count(leaf) -> bool:
  return jnp.issubdtype(leaf.dtype, jnp.integer)


def name_leaf(path: str, leaves: Mapping) -> tuple[str, str]:
  """What a leaf is called in an artifact, and the path of the count that its mean is of.

  Args:
    path: of the leaf.
    leaves: of the whole state.

  Returns:
    the name, without dots, and '' for what is no sum.
  """
  home, _, key = path.rpartition('.')
  count = f'{home}.count'
  if key in _MEANS and count in leaves:
    return _name(f'{home}.{_MEANS[key]}'), count
  return _name(path), ''


def _name(path: str) -> str:
  return path.replace('.', '_')


def pack(state: Mapping) -> dict[str, jax.Array]:
  """The arrays that an artifact has in the place of a state."""
  leaves, found = list_leaves(state), {}
  for path, leaf in leaves.items():
    name, count = name_leaf(path, leaves)
    found[name] = leaf / _spread(leaves[count], leaf) if count else leaf
  return found


def unpack(named: Mapping[str, jax.Array], like: Mapping) -> dict:
  """The state of such arrays.

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
  """A count of each video beside a sum of each; 1 before the first, whose sum is 0."""
  sizes = (*count.shape, *(1,) * (leaf.ndim - count.ndim))
  return jnp.maximum(count, 1).reshape(sizes).astype(leaf.dtype)
