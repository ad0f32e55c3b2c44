"""Stores kernels with fewer bits. Runtimes still compute in float32."""

import dataclasses
from typing import Literal

import numpy as np

KINDS = ('float32', 'float16', 'int8', 'int8-dynamic')
Kind = Literal[KINDS]
_LARGEST = 127
_LEAST_VALUES = 1024  # a smaller kernel is stored as it is, for little would be gained


@dataclasses.dataclass(frozen=True)
class Stored:
  """A kernel as a file stores it.

  Attributes:
    values: [.., F], float32, float16 or int8.
    scale: [F] float32, what the values of each feature are multiplied by; None for 1.
  """

  values: np.ndarray
  scale: np.ndarray | None = None


def store(kernel: np.ndarray, kind: Kind) -> Stored:
  """Stores a kernel [.., F] with fewer bits; int8 has a scale for each feature."""
  kernel = np.asarray(kernel, np.float32)
  if kind == 'float32' or kernel.size < _LEAST_VALUES:
    return Stored(kernel)
  if kind == 'float16':
    return Stored(kernel.astype(np.float16))
  most = np.abs(kernel).max(tuple(range(kernel.ndim - 1)))
  scale = np.where(most > 0, most / _LARGEST, 1).astype(np.float32)
  return Stored(np.round(kernel / scale).astype(np.int8), scale)
