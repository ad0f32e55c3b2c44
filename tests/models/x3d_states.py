"""State dicts as PyTorchVideo and SlowFast write them, of our X3D variables."""

import re

import jax
import numpy as np

from movinet_jax.convert.families import x3d as names


def to_pytorchvideo(key: str) -> str:
  """PyTorchVideo's name: the canonical one."""
  return key


def to_slowfast(key: str) -> str:
  """SlowFast's name for one of PyTorchVideo's."""
  ends = {v: k for k, v in names._SLOWFAST_ENDS.items()}
  parts = {v: k for k, v in names._SLOWFAST_PARTS.items()}
  module, _, leaf = key.rpartition('.')
  if module in ends:
    return f'{ends[module]}.{leaf}'
  stage, layer, part = re.match(r'blocks\.(\d)\.res_blocks\.(\d+)\.(.*)', module).groups()
  return f's{int(stage) + 1}.pathway0_res{layer}.{parts[part]}.{leaf}'


def to_pytorch(variables, rename=to_pytorchvideo):
  """A state dict of our variables, as PyTorch would hold them."""
  flat = {
    tuple(key.key for key in path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
  }
  found = {}
  for path, name in names.make_names(list(flat)).items():
    array = flat[path]
    if array.ndim == 2 and 'classifier' not in path:
      array = array[None, None, None]
    if array.ndim > 1:
      array = np.moveaxis(array, (-2, -1), (1, 0))
    found[rename(name)] = array
  return found
