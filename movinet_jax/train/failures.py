"""What a failure while saving or reading means: a full disk, damage, or a lost process."""

import contextlib
import os
import re
import sys
import textwrap
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator

import jax

# XLA and JAX's coordination service begin their messages so. RESOURCE_EXHAUSTED is about
# memory and says nothing about other processes.
_LOST = re.compile(
  '(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|'
  'FAILED_PRECONDITION|DATA_LOSS): '
)
_LATE_SECS = 0.5  # from a failed read to the last word of those beside it
# Raised by readers of files that are cut short, altered, or of another kind.
DAMAGED = (
  *(ValueError, TypeError, AttributeError, LookupError, EOFError),
  *(zipfile.BadZipFile, zlib.error),
)


def is_of_a_lost_process(error: BaseException | None) -> bool:
  """Whether an error means that another process of the run is gone.

  What is being saved is never completed then, and waiting for it would wait for that process.
  """
  if not jax.distributed.is_initialized():
    return False
  # A collective whose other end is gone fails with one of many messages. The type of the
  # error depends on whether the collective was being dispatched or was running.
  said = isinstance(error, (jax.errors.JaxRuntimeError, ValueError, RuntimeError))
  return said and _LOST.match(str(error)) is not None


class Damaged(ValueError):
  """The files of a checkpoint cannot be read."""


@contextlib.contextmanager
def naming_system_errors(directory) -> Iterator[None]:
  """Raises the system's errors as OSErrors: Orbax raises a ValueError for a full disk."""
  try:
    yield
  except ValueError as error:
    if not (found := re.search(r"os_error_code='(\d+)'", str(error))):
      raise
    number = int(found[1])
    raise OSError(number, os.strerror(number), str(directory)) from error


@contextlib.contextmanager
def _hushing_threads() -> Iterator[None]:
  """Within, only this thread writes to stderr.

  When the read of one array fails, TensorStore's threads finish those of the others, and each
  prints a traceback: a hundred of them hide the one line that says what is wrong.
  """
  before, this = sys.stderr, threading.current_thread()

  class OnlyThis:
    def __getattr__(self, name):
      return getattr(before, name)

    def write(self, text: str):
      return before.write(text) if threading.current_thread() is this else len(text)

  sys.stderr = OnlyThis()
  try:
    yield
  except Exception:
    time.sleep(_LATE_SECS)
    raise
  finally:
    sys.stderr = before


@contextlib.contextmanager
def explaining_damage(path) -> Iterator[None]:
  """Raises Damaged, in one sentence, for whatever Orbax raises for damaged files."""
  try:
    with _hushing_threads():
      yield
  except Exception as error:
    # Errors of the system or of other processes pass: the same call may work later.
    if not (type(error) is Exception or isinstance(error, DAMAGED)):
      raise
    shown = textwrap.shorten((str(error).splitlines() or [''])[0], 200, placeholder=' …')
    raise Damaged(f'the checkpoint {path} cannot be read: {shown}') from error
