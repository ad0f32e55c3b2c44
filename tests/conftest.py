"""All tests run on CPU, keep compiled programs between runs, and start from one seed."""

import os
import pathlib
import tempfile

# Before anything imports JAX; processes that tests start inherit both.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  str(pathlib.Path(tempfile.gettempdir()) / f'movinet-jax-tests-{os.getuid()}'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
