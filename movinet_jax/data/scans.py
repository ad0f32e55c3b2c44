"""What was found in large files, so that their next clips need not read them whole again."""

import collections
import dataclasses
import os
import threading

import numpy as np

from movinet_jax.data.timeline import Timeline

# A million frames take 41 MB.
MAX_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Scan:
  """What reading a whole file tells.

  Attributes:
    columns: stamps and marks of its packets, one array a kind.
    shown: when its frames are shown.
    size: (width, height) of its pictures as shown.
  """

  columns: tuple[np.ndarray, ...]
  shown: Timeline
  size: tuple[int, int]

  @property
  def nbytes(self) -> int:
    arrays = *self.columns, self.shown.times_secs, self.shown.pts, self.shown.positions
    return sum(array.nbytes for array in arrays if array is not None)


class Scans:
  """The latest scans, up to a number of bytes; safe to use from several threads."""

  def __init__(self, max_bytes: int = MAX_BYTES):
    self._max_bytes, self._bytes = max_bytes, 0
    self._found: collections.OrderedDict[tuple, Scan] = collections.OrderedDict()
    self._lock = threading.Lock()

  def get(self, key: tuple) -> Scan | None:
    with self._lock:
      if key in self._found:
        self._found.move_to_end(key)
      return self._found.get(key)

  def put(self, key: tuple, scan: Scan):
    """Keeps a scan in place of an earlier one; forgets those not asked for the longest."""
    with self._lock:
      if key in self._found:
        self._bytes -= self._found.pop(key).nbytes
      self._found[key] = scan
      self._bytes += scan.nbytes
      while self._bytes > self._max_bytes:
        _, forgotten = self._found.popitem(last=False)
        self._bytes -= forgotten.nbytes


def identify(path: str) -> tuple:
  """A key of the file at a path, which changes when the file does."""
  found = os.stat(path)
  return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
