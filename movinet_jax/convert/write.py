"""Weights of a network for others' code: files as TensorFlow's and PyTorch's readers take them.

write_tensorflow('export/ckpt-1', variables, model)     a MoViNet, for the TF Model Garden
write_pytorch('x3d_s.pyth', variables, model)           an X3D, for PyTorchVideo or SlowFast

Names and axes are those of the published files (convert/families); `convert.load` reads them back
bit for bit.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import flax.linen as nn
import numpy as np
from flax import traverse_util

from movinet_jax.convert import families
from movinet_jax.convert.report import ConversionError
from movinet_jax.models import name_family

_SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'  # of a variable's key in an object-based checkpoint


def write_tensorflow(prefix: str | Path, variables: Mapping, model: nn.Module) -> None:
  """Writes a checkpoint that `tf.train.Checkpoint(model=…).restore(prefix)` reads.

  Args:
    prefix: of its files, such as 'export/ckpt-1': PREFIX.index and PREFIX.data-00000-of-00001.
    variables: of the network.
    model: the network, whose family is published as TensorFlow checkpoints: a MoViNet.

  Raises:
    ConversionError: the family is not, or its published code has no such network.
  """
  arrays = _name_arrays(variables, model, 'tensorflow')
  import tensorflow as tf

  root = tf.train.Checkpoint()
  for key, array in arrays.items():
    *path, last = key.removesuffix(_SUFFIX).split('/')
    node = root
    for name in path:
      if not hasattr(node, name):
        setattr(node, name, tf.Module())
      node = getattr(node, name)
    setattr(node, last, tf.Variable(array))
  prefix = Path(prefix).absolute()
  # TensorFlow takes letters such as * of a path for a pattern, and numbers what it saves.
  with tempfile.TemporaryDirectory(dir=prefix.parent) as home:
    saved = Path(root.save(str(Path(home) / 'ckpt')))
    for path in sorted(saved.parent.glob(f'{saved.name}.*')):  # .data before .index
      shutil.move(path, prefix.with_name(prefix.name + path.name.removeprefix(saved.name)))


def write_pytorch(path: str | Path, variables: Mapping, model: nn.Module) -> None:
  """Writes a file that holds a state dict under 'model_state', as published files of X3D do.

  Args:
    path: of the file.
    variables: of the network.
    model: the network, whose family is published as PyTorch files: an X3D. One with
      `shortcut_norm` has SlowFast's names, since PyTorchVideo has no such networks; others have
      PyTorchVideo's.

  Raises:
    ConversionError: the family is not, its published code has no such network, or PyTorch is not
      installed.
  """
  arrays = _name_arrays(variables, model, 'pytorch')
  try:
    import torch
  except ImportError as error:
    raise ConversionError(
      f'PyTorch is needed to write the PyTorch file {path}: pip install torch'
    ) from error
  state = {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
  part = Path(f'{path}.{os.getpid()}.part')
  try:
    torch.save({'model_state': state}, part)
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def _name_arrays(variables, model, kind: str) -> dict[str, np.ndarray]:
  """The arrays under their published keys."""
  names = _find_names(model, kind)
  leaves = traverse_util.flatten_dict(dict(variables))
  keys = names.make_keys(names.make_names(list(leaves)), model.spec)
  return {keys[path]: names.write_array(keys[path], np.asarray(leaves[path])) for path in leaves}


def _find_names(model, kind: str):
  """What `families.find` gives for a family that is published in files of this kind."""
  family = name_family(model)
  known = {name: families.find(name).KIND for name in families.list_names()}
  if known.get(family) != kind:
    can = ', '.join(f'{name} for {own}' for name, own in known.items())
    advice = ', or its members one by one' if family == 'ensemble' else ''
    raise ConversionError(
      f'no code for {kind} is known that reads the family {family!r} (known: {can}): write an '
      f'.npz{advice}'
    )
  return families.find(family)
