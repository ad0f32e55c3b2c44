"""The arrays of a checkpoint: a state as a tree, and how two trees differ."""

import hashlib
from collections.abc import Mapping

import jax
import numpy as np
from flax import serialization, traverse_util


def to_tree(state):
  """A state as nested dicts of arrays.

  It lacks fields that are None, and the empty dicts that optax leaves in a state.
  """
  flat = traverse_util.flatten_dict(serialization.to_state_dict(state))
  return traverse_util.unflatten_dict({k: v for k, v in flat.items() if v is not None})


def from_tree(like, tree: Mapping):
  """A state like another, with the arrays of a tree that `to_tree` made."""
  template = serialization.to_state_dict(like)
  flat = traverse_util.flatten_dict(template, keep_empty_nodes=True)
  flat.update(traverse_util.flatten_dict(tree))
  return serialization.from_state_dict(like, traverse_util.unflatten_dict(flat))


def check_same_arrays(saved: Mapping, wanted: Mapping, path):
  """Raises a ValueError that names the arrays of two trees that differ in shape or type."""
  saved = traverse_util.flatten_dict(saved, sep='/')
  wanted = traverse_util.flatten_dict(wanted, sep='/')
  # Parameters first: averages and optimizer slots only repeat their differences.
  names = sorted(saved | wanted, key=lambda n: (not n.startswith('params/'), n))
  lines = [
    f'{name}: saved {describe(saved, name)}, wanted {describe(wanted, name)}'
    for name in names
    if describe(saved, name) != describe(wanted, name)
  ]
  if lines:
    shown = '\n  '.join(lines[:12] + [f'and {len(lines) - 12} more'][: len(lines) > 12])
    raise ValueError(
      f'The checkpoint {path} is of another model or optimizer:\n  {shown}\n'
      'Build the model that its meta describes, or load the weights alone with '
      'load_variables.'
    )


def check_weights(wanted: Mapping, variables: Mapping, path):
  """Raises a ValueError for weights that are not those of a network.

  Args:
    wanted: the network's variables, or their shapes.
    variables: those that the checkpoint `path` holds.
  """
  wanted, found = (
    {jax.tree_util.keystr(k): v.shape for k, v in jax.tree.leaves_with_path(tree)}
    for tree in (wanted, variables)
  )
  for name in sorted(wanted | found):
    if wanted.get(name) != found.get(name):
      raise ValueError(
        f'{path} is not of the network that its config describes: {name} is '
        f'{found.get(name)}, wanted {wanted.get(name)}'
      )


def check_trained(saved: Mapping, path):
  """Raises a ValueError for a checkpoint of a search, which holds no trained network."""
  # All TrainStates have averages. The params of a search are weights that all of its
  # networks share, so they are no network's, averaged or not.
  if 'ema' in saved:
    return
  raise ValueError(
    f'The checkpoint {path} holds no trained network (it has: '
    f'{", ".join(sorted(saved))}). If it is of a search, train the network that the '
    'search found first: movinet train --spec=FOLDER_OF_THE_SEARCH/found.json'
  )


def describe(arrays: Mapping, name: str) -> str:
  """Type and shape of an array of flat arrays, such as 'float32[3, 4]'."""
  if name not in arrays:
    return 'nothing'
  return f'{arrays[name].dtype}{list(arrays[name].shape)}'


def hash_arrays(tree: Mapping) -> str:
  """SHA-256 of the names and values of a tree of arrays, in hexadecimal."""
  found = hashlib.sha256()
  for name, leaf in sorted(traverse_util.flatten_dict(dict(tree), sep='/').items()):
    array = np.asarray(leaf)
    found.update(f'{name} {array.dtype} {array.shape}'.encode())
    found.update(np.ascontiguousarray(array).tobytes())
  return found.hexdigest()
