"""Who works on a study: one process, whose end others on its machine can see.

It holds a lock on a file, which the system lets go of however the process ends, and which
tells a process that was killed from one that is stopped, or whose number another one has
now. The file is in the memory of the machine: no other machine has it, nor a container
without part in that memory, nor the same machine after a restart. There, and where that
memory had no room for the file, a process that was killed is one that has been silent for too
long. (What it leaves is an empty file, until the restart.)
"""

import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from movinet_jax import disks

_MEMORY = Path('/dev/shm')  # Linux; elsewhere nobody sees the end of another


@contextlib.contextmanager
def hold_name() -> Iterator[str]:
  """A name for this process, HOST/PID/TOKEN, that nobody had before."""
  name = f'{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(8)}'
  if not os.access(_MEMORY, os.W_OK):
    yield name
    return
  path = _find_lock(name)
  with contextlib.ExitStack() as stack:
    try:
      file = stack.enter_context(path.open('x'))
    except OSError as error:
      if not disks.is_full(error):
        raise
    else:
      stack.callback(path.unlink, missing_ok=True)
      fcntl.flock(file, fcntl.LOCK_EX)
    yield name


def is_gone(name: str) -> bool:
  """Whether a process is known to have been killed; False where that cannot be seen."""
  unseen = FileNotFoundError, PermissionError, BlockingIOError
  with contextlib.suppress(*unseen), _find_lock(name).open() as file:
    # Shared, so that several may ask at once; filelock has exclusive locks only.
    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return True
  return False


def _find_lock(name: str) -> Path:
  return _MEMORY / f'movinet-{name.rpartition("/")[2]}'
