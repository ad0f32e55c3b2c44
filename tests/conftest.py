"""All tests run on CPU, keep compiled programs between runs, and start from one seed."""

import collections
import ctypes
import gc
import os
import pathlib
import tempfile

import pytest

# Before anything imports JAX; processes that tests start inherit both.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  str(pathlib.Path(tempfile.gettempdir()) / f'movinet-jax-tests-{os.getuid()}'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')


def pytest_collection_modifyitems(items):
  """Files with the most slow tests come first, so that no worker waits for one in the end."""
  slow = collections.Counter(item.path for item in items if item.get_closest_marker('slow'))
  items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope='module')
def _forget_programs():
  """Compiled programs of a file, which would fill the memory of a worker by the end.

  The next file reads from the cache on disk what it needs of them.
  """
  yield
  import jax

  jax.clear_caches()
  gc.collect()
  if hasattr(libc := ctypes.CDLL(None), 'malloc_trim'):
    libc.malloc_trim(0)  # what is free goes back to the system
