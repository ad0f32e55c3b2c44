"""A PostgreSQL server for a while: from Debian's package, or from the wheel pgserver."""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

_START_SECS = 60
# Nothing of it is to outlive a crash of the machine.
_FAST = ('fsync=off', 'synchronous_commit=off', 'full_page_writes=off')


@contextlib.contextmanager
def run_server() -> Iterator[str]:
  """Runs a server on a free port of this machine; gives the address of an empty database.

  Raises:
    FileNotFoundError: there is neither the package nor the wheel.
  """
  folder = tempfile.mkdtemp(prefix='postgres-')
  try:
    programs = sorted(glob.glob('/usr/lib/postgresql/*/bin'))
    with _run_wheel(folder) if not programs else _run(programs[-1], folder) as address:
      yield address
  finally:
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _run(programs: str, folder: str) -> Iterator[str]:
  user = _find_user(folder)
  data = f'{folder}/data'
  make = [
    f'{programs}/initdb',
    '-D',
    data,
    '-U',
    'postgres',
    '-A',
    'trust',
    '--no-sync',
  ]
  subprocess.run(make, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  settings = [word for setting in _FAST for word in ('-c', setting)]
  place = ['-D', data, '-h', '127.0.0.1', '-p', str(port), '-k', folder]
  with open(f'{folder}/log', 'w') as log:
    server = subprocess.Popen(
      [f'{programs}/postgres', *place, *settings], cwd=folder, stderr=log, **user
    )
  try:
    _await(server, [f'{programs}/pg_isready', '-q', '-h', '127.0.0.1', '-p', str(port)], log)
    yield f'postgresql://postgres@127.0.0.1:{port}/postgres'
  finally:
    server.send_signal(signal.SIGQUIT)  # at once: nobody wants what it holds
    server.wait()


def _find_user(folder: str) -> dict:
  """PostgreSQL refuses to be root."""
  if os.getuid():
    return {}
  name = pwd.getpwnam('postgres')
  os.chown(folder, name.pw_uid, name.pw_gid)
  return {'user': name.pw_uid, 'group': name.pw_gid, 'extra_groups': []}


def _await(server, ask, log):
  until = time.monotonic() + _START_SECS
  while time.monotonic() < until and server.poll() is None:
    if subprocess.run(ask).returncode == 0:
      return
    time.sleep(0.05)
  with open(log.name) as file:
    raise RuntimeError(f'PostgreSQL did not start:\n{file.read()}')


@contextlib.contextmanager
def _run_wheel(folder: str) -> Iterator[str]:
  try:
    import pgserver
  except ImportError as error:
    raise FileNotFoundError(
      'there is no PostgreSQL: apt-get install postgresql, or pip install pgserver'
    ) from error
  with pgserver.get_server(folder, cleanup_mode='delete') as server:
    yield server.get_uri()
