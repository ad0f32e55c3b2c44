"""The shared memory of loader workers: how much a stream needs, and what to do without it.

Grain's workers hand over each array of a batch as a file in /dev/shm. Such a file gets its
pages when it is written, so a worker that finds no room left is killed by SIGBUS.
"""

import contextlib
import dataclasses
import errno
import math
import mmap
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

_FOLDER = '/dev/shm'  # Linux; elsewhere nothing is known of such memory
# A worker holds a batch, its queue one, the thread that reads the queue one, and that
# thread's own queue one.
_BATCHES_AHEAD = 4
# Three queues, three events and a value have 25 semaphores, a page each, and a little more.
_PAGES_PER_WORKER = 28
_REMEDY = (
  'give the container more shared memory (`docker run --shm-size={size}` or `--ipc=host`; on '
  'Kubernetes an emptyDir of `medium: Memory` mounted at {folder}), or take {workers}'
)


class SharedMemoryFull(OSError):
  """Loader workers cannot have the shared memory they need; `errno` is that of a full disk."""

  def __init__(self, message: str):
    super().__init__(errno.ENOSPC, message)

  def __str__(self) -> str:
    return self.strerror


@dataclasses.dataclass(frozen=True)
class Need:
  """What a stream of batches needs of shared memory.

  Attributes:
    workers: processes that read the stream.
    batch_bytes: size of one process's share of a batch.
    batches: how many such shares the stream has; None if it never ends.
  """

  workers: int
  batch_bytes: int
  batches: int | None = None

  def count_batches(self, workers: int) -> int:
    """How many shares are held at the same time: those ahead, one in use, one being freed."""
    held = _BATCHES_AHEAD * workers + 2
    return held if self.batches is None else min(held, self.batches)

  def count_bytes(self, workers: int) -> int:
    """The most bytes that the stream takes with so many workers."""
    if not workers:
      return 0
    own = workers * _PAGES_PER_WORKER * mmap.PAGESIZE
    return own + self.count_batches(workers) * self.batch_bytes


def count_pages(*sizes: int) -> int:
  """Bytes of files of these sizes, each of which takes whole pages."""
  return sum(-(-size // mmap.PAGESIZE) for size in sizes) * mmap.PAGESIZE


def check_room(needs: Sequence[Need]):
  """Checks that streams that are about to be read side by side find room.

  Raises:
    SharedMemoryFull: they do not, or nothing can be written there.
  """
  free = find_free_bytes()
  workers = max(need.workers for need in needs)
  wanted = _sum_bytes(needs, workers)
  if not workers or free is None:
    return
  if not os.access(_FOLDER, os.W_OK):
    raise SharedMemoryFull(
      f'{_FOLDER} cannot be written, and loader workers need it: see to its permissions, or take '
      'loader.workers=0'
    )
  if wanted <= free:
    return
  held = ' and '.join(
    f'{need.count_batches(need.workers)} x {_say(need.batch_bytes)}' for need in needs
  )
  most = max(count for count in range(workers) if _sum_bytes(needs, count) <= free)
  raise SharedMemoryFull(
    f'{_FOLDER} has {_say(free)} free, and loader.workers={workers} needs {_say(wanted)} (batches '
    f'at the same time: {held}): {_advise(wanted, f"loader.workers={most}")}'
  )


def find_free_bytes() -> int | None:
  """Free bytes of /dev/shm; None where there is no such folder, or it has no limit."""
  try:
    found = os.statvfs(_FOLDER)
  except FileNotFoundError:
    return None
  return found.f_bavail * found.f_frsize if found.f_blocks else None


@contextlib.contextmanager
def explaining_shortage(need: Need) -> Iterator[None]:
  """Within, batches are asked for: names shared memory if that is what ran out.

  The processes of a run and the trials of a sweep share the memory of their machine, so it
  may run out after `check_room` found enough.

  Raises:
    SharedMemoryFull: instead of an error that names neither the folder nor the remedy.
  """
  try:
    yield
  except (OSError, RuntimeError) as error:
    free = find_free_bytes()
    if not need.workers or free is None or not (how := _find_shortage(error)):
      raise
    wanted = need.count_bytes(need.workers)
    raise SharedMemoryFull(
      f'{_FOLDER} is full: {how}; it has {_say(free)} free now, and loader.workers={need.workers} '
      f'needs {_say(wanted)} in each process or trial on this machine: '
      + _advise(wanted, 'fewer loader.workers (0 needs none)')
    ) from error


class Exit:
  """Where batches leave shared memory: they are copied, and theirs is freed in a thread.

  Left to grain, it is freed when the last reference is gone. The last batch of an evaluation
  stays referenced by the traceback of grain's StopIteration, so it would be left over when the
  program ends. (To free 400 MB takes 75 ms, twice as long as to copy them.)
  """

  def __init__(self):
    self._freeing = None

  def take(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies what of a batch is in shared memory; nobody may read the original again."""
    shared = [array for array in batch.values() if getattr(array, 'shm', None)]
    taken = {k: np.array(x) if getattr(x, 'shm', None) else x for k, x in batch.items()}
    self.wait()
    if shared:
      self._freeing = threading.Thread(target=_free, args=(shared,), daemon=True)
      self._freeing.start()
    return taken

  def wait(self):
    """Waits until the memory of all batches that were taken is free."""
    if self._freeing is not None:
      self._freeing.join()
      self._freeing = None


def _free(arrays: Sequence[np.ndarray]):
  """Frees the memory of grain's arrays, which must live until then: their end closes it too."""
  for array in arrays:
    array._unlink_on_del = False  # grain's own, for which it has no function
    array.shm.close()
    array.shm.unlink()


def _find_shortage(error: Exception) -> str:
  """How an error tells that shared memory ran out; '' if it tells something else."""
  if isinstance(error, OSError):
    # Nothing else is written while batches are read.
    return 'a loader worker found no room for a file' if error.errno == errno.ENOSPC else ''
  killed = f'exit code -{int(signal.SIGBUS)}' in str(error)
  return f'signal {int(signal.SIGBUS)} (bus error) ended a loader worker' if killed else ''


def _advise(wanted: int, workers: str) -> str:
  # Room for an evaluation beside it. Memory that is not used costs nothing.
  size = math.ceil(1.5 * wanted / 2**30)
  return _REMEDY.format(folder=_FOLDER, size=f'{size}g', workers=workers)


def _sum_bytes(needs: Sequence[Need], workers: int) -> int:
  return sum(need.count_bytes(min(workers, need.workers)) for need in needs)


def _say(size: int) -> str:
  for unit, name in ((2**30, 'GiB'), (2**20, 'MiB')):
    if size >= unit:
      return f'{size / unit:.1f} {name}'
  return f'{size / 2**10:.0f} KiB'
