"""State dicts as PyTorchVideo and SlowFast write them, of our X3D variables."""

import numpy as np
from flax import traverse_util

from movinet_jax.convert.families import x3d as names
from movinet_jax.convert.families.x3d import to_slowfast

__all__ = ['to_pytorch', 'to_pytorchvideo', 'to_slowfast']


def to_pytorchvideo(key: str) -> str:
  """PyTorchVideo's name: the canonical one."""
  return key


def to_pytorch(variables, rename=to_pytorchvideo):
  """A state dict of our variables, as PyTorch would hold them."""
  leaves = traverse_util.flatten_dict(variables)
  keys = {path: rename(name) for path, name in names.make_names(list(leaves)).items()}
  return {key: names.write_array(key, np.asarray(leaves[path])) for path, key in keys.items()}
