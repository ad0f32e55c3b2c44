"""Batch statistics that an evaluation recomputed, beside the checkpoint that it evaluated.

Training goes on from the state, which stays as it was; evaluation uses these with the
averaged weights.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from movinet_jax.train.arrays import describe
from movinet_jax.train.failures import DAMAGED


def write_statistics(directory, step: int, batch_stats: Mapping):
  """Writes statistics beside a checkpoint, whole or not at all."""
  path = _make_path(directory, step)
  flat = traverse_util.flatten_dict(batch_stats, sep='/')
  part = path.with_suffix('.part')
  with part.open('wb') as file:
    np.savez(file, **jax.device_get(flat))
    file.flush()
    os.fsync(file.fileno())
  part.replace(path)


def has_statistics(directory, step: int) -> bool:
  """Whether a checkpoint has recomputed batch statistics."""
  return _make_path(directory, step).exists()


def read_statistics(directory, step: int, like: Mapping) -> dict:
  """The statistics beside a checkpoint, in place of those of `like`.

  Raises:
    ValueError: they are damaged, or not shaped like those of `like`.
  """
  path = _make_path(directory, step)
  wanted = traverse_util.flatten_dict(like, sep='/')
  try:
    with np.load(path) as file:
      found = {name: file[name] for name in file.files}
  except DAMAGED as error:
    raise ValueError(f'{path} is damaged, or no archive of arrays: {error}') from error
  for name in sorted(found | wanted):
    if describe(found, name) != describe(wanted, name):
      raise ValueError(
        f'{path} is of another network: {name} is {describe(found, name)}, wanted '
        f'{describe(wanted, name)}'
      )
  return traverse_util.unflatten_dict(found, sep='/')


def _make_path(directory, step) -> Path:
  return Path(directory) / str(step) / 'statistics.npz'
