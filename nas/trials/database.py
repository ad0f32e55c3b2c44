"""The database that studies are kept in: SQLite on one machine, PostgreSQL for many."""

import contextlib
import errno
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import (
  ArgumentError,
  InterfaceError,
  OperationalError,
  PendingRollbackError,
  SQLAlchemyError,
)

from movinet_jax.paths import check_writable

PATIENCE_SECS = 600  # that a database may be away before a sweep gives up
_TELL_SECS = 2  # after which somebody may want to know
_DRIVERS = {
  'sqlite': 'sqlite',
  'postgres': 'postgresql+psycopg',
  'postgresql': 'postgresql+psycopg',
  'postgresql+psycopg': 'postgresql+psycopg',
}
_CONNECT = {
  'sqlite': {'timeout': 30},
  'postgresql': {'connect_timeout': 10},
}
# For every connection. With SQLite's defaults each commit waits for the disk: a kill loses
# nothing so either, and a power cut the last trials, never the file. PostgreSQL ends the
# transaction of a coordinator that is stopped in the middle of one, and all must mean the
# same time, for columns of time without a zone are compared.
_SETTINGS = {
  'sqlite': ('pragma journal_mode = wal', 'pragma synchronous = normal'),
  'postgresql': (
    "set timezone = 'UTC'",
    "set lock_timeout = '30s'",
    "set idle_in_transaction_session_timeout = '60s'",
  ),
}
_SETUP = 0x6D6F76696E6574  # a lock of PostgreSQL's, by a number that nobody else has


class _Refused(Exception):
  """A write would no longer be right."""


class Database:
  """An open database.

  Attributes:
    name: to be shown: without a password.
    storage: Optuna's.
    is_shared: whether several coordinators may use it at once.
  """

  def __init__(self, address: str, *, alone: bool):
    """Opens or makes the database.

    Args:
      address: 'sqlite:///PATH', a path, or 'postgresql://USER@HOST/DATABASE'.
      alone: nobody else may open this file so, until this one is closed.

    Raises:
      ValueError, OSError: it cannot be used, in a sentence.
    """
    self._url = parse_address(address)
    self.name = show_address(self._url)
    self.is_shared = self._url.get_backend_name() == 'postgresql'
    self._check: Callable[[], None] = lambda: None
    self._guard = threading.local()
    with _explaining(self.name), contextlib.ExitStack() as closing:
      if alone and not self.is_shared:
        closing.enter_context(_own(Path(self._url.database)))
      self._try_out(alone)
      with self.setting_up():
        self.storage = self._open()
      closing.callback(self.storage.engine.dispose)
      self._closing = closing.pop_all()

  def close(self):
    self.storage.remove_session()
    self._closing.close()

  @contextlib.contextmanager
  def checking(self, check: Callable[[], None]) -> Iterator[None]:
    """Within, `check` is called between tries to reach the database, and may raise."""
    before, self._check = self._check, check
    try:
      yield
    finally:
      self._check = before

  def insist(self, action: Callable):
    """Calls an action that is all or nothing, again while the database is away.

    Raises:
      OSError: it was away for PATIENCE_SECS, or the disk that its file is on is full.
    """
    began, pause_secs, told = time.monotonic(), 0.1, False
    while True:
      try:
        return action()
      except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if _is_full(cause):
          raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name) from error
        if not _is_passing(cause):
          raise
        if time.monotonic() - began > PATIENCE_SECS:
          raise OSError(
            f'{self.name} has been out of reach for {PATIENCE_SECS:g} seconds '
            f'({_first_line(cause)}). What was finished is kept: the same command goes on'
          ) from error
      if not told and time.monotonic() - began > _TELL_SECS:
        told = True
        print(
          f'{self.name} is out of reach ({_first_line(cause)}): trying for '
          f'{PATIENCE_SECS:g} seconds to reach it, meanwhile trials are trained on',
          file=sys.stderr,
        )
      self._check()
      # A session whose connection broke within a transaction refuses all that follows.
      with contextlib.suppress(SQLAlchemyError):
        self.storage.remove_session()
      time.sleep(pause_secs)
      pause_secs = min(2 * pause_secs, 5.0)

  def try_to(
    self,
    write: Callable,
    check: Callable[[sa.Connection], bool],
    add: Callable[[sa.Connection], None] | None = None,
  ):
    """What a write of the storage returns; None, and nothing written, if a check fails.

    The check is made in each transaction of the write, at its beginning: what it finds, and
    locks, is still so when that is committed, however long this process was stopped. What
    `add` writes before the commit is part of the same transaction.
    """

    def guarded():
      self._guard.check, self._guard.add = check, add
      try:
        return write()
      finally:
        self._guard.check = self._guard.add = None

    try:
      return self.insist(guarded)
    except _Refused:
      return None

  def lock(self, connection: sa.Connection, table: str, key: str, value: int):
    """Nobody else changes a row until this transaction ends."""
    if self.is_shared:  # SQLite's only writer has nobody to lock out.
      row = sa.text(f'select 1 from {table} where {key} = :value for update')
      connection.execute(row, {'value': value})

  def query(self, text: str, **values) -> list:
    """All rows of a query by itself."""

    def read():
      with self.storage.engine.connect() as connection:
        return connection.execute(sa.text(text), values).all()

    return self.insist(read)

  @contextlib.contextmanager
  def setting_up(self) -> Iterator[None]:
    """Nobody else makes tables or studies meanwhile."""
    if not self.is_shared:
      yield
      return
    with self._make_engine().connect() as connection:
      connection.execute(sa.text("set lock_timeout = '60s'"))
      connection.execute(sa.text(f'select pg_advisory_lock({_SETUP})'))
      connection.commit()  # It is the session's, and goes with the connection.
      yield

  def _make_engine(self):
    return sa.create_engine(self._url, **self._options(), poolclass=sa.NullPool)

  def _options(self) -> dict:
    return {'connect_args': _CONNECT[self._url.get_backend_name()]}

  def _try_out(self, alone):
    if not (self.is_shared or alone or Path(self._url.database).is_file()):
      raise FileNotFoundError(f'there is no database {self._url.database}')
    with self._make_engine().connect() as connection:
      # SQLite connects to anything, and sees what it is when it reads or writes.
      first = 'select 1' if self.is_shared else 'pragma schema_version'
      connection.execute(sa.text(first))
      if alone and not self.is_shared:
        connection.execute(sa.text('begin immediate'))

  def _open(self):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(
      # Optuna fills in templates.
      self._url.render_as_string(hide_password=False).replace('{', '{{').replace('}', '}}'),
      # A connection that was cut off while nobody used it is not noticed otherwise.
      engine_kwargs={**self._options(), 'pool_pre_ping': True},
    )
    settings = _SETTINGS[self._url.get_backend_name()]

    @sa.event.listens_for(storage.engine, 'connect')
    def prepare(connection, _):
      cursor = connection.cursor()
      for setting in settings:
        cursor.execute(setting)
      cursor.close()
      connection.commit()

    storage.engine.dispose()  # of connections made before this

    @sa.event.listens_for(storage.scoped_session, 'after_begin')
    def begin(session, transaction, connection):
      check = getattr(self._guard, 'check', None)
      if check and not check(connection):
        raise _Refused

    @sa.event.listens_for(storage.scoped_session, 'before_commit')
    def commit(session):
      if add := getattr(self._guard, 'add', None):
        add(session.connection())

    return storage


def parse_address(address: str) -> sa.URL:
  """The address of a database, with the driver that is used here.

  Raises:
    ValueError: it is none, or of another kind of database. Never shows a password.
  """
  try:
    url = _split(address)
  except (ArgumentError, ValueError):
    kind = address.partition('://')[0]
    shown = f', {kind}://…,' if kind.replace('+', '').isalnum() else ''
    raise ValueError(
      f'the address of the database{shown} cannot be read; wanted sqlite:///PATH or '
      'postgresql://USER@HOST:PORT/DATABASE, where characters such as @ / : of a name are '
      'written %40 %2F %3A'
    ) from None
  if url.drivername not in _DRIVERS:
    raise ValueError(
      'studies are kept in sqlite:///PATH or postgresql://USER@HOST/DATABASE, got '
      f'{url.drivername}://…'
    )
  if url.drivername == 'sqlite' and url.query:
    raise ValueError(
      f'{url.database}?… has options, which the file of a study does not take: write a ? in a '
      'name as %3F'
    )
  if not url.database or url.database == ':memory:':
    raise ValueError(f'the address {show_address(url)} names no database')
  return url.set(drivername=_DRIVERS[url.drivername])


def _split(address) -> sa.URL:
  """Refuses what would pass for a host or a file, and be shown, but holds a password."""
  if '://' in address:
    url = sa.make_url(address)
    names = '' if url.drivername == 'sqlite' else f'{url.host} {url.database}'
    suspect = '@' in names
  else:
    url, names = sa.URL.create('sqlite', database=address), address
    suspect = re.search(':.*@', address)  # PostgreSQL's, misspelt
  if suspect or 'password=' in names:
    raise ValueError
  return url


def check_no_password(address: str):
  """Raises a ValueError for an address with a password, which is to be given otherwise.

  For addresses that come from where others can read them: command lines are in the list of
  processes, in the history of shells and in what is submitted to clusters.
  """
  url = parse_address(address)
  if url.password or any('password' in key for key in url.query):
    user, host, port = url.username, url.host, url.port
    plain = sa.URL.create('postgresql', user, None, host, port, url.database)
    raise ValueError(
      f'the address of the database has a password, which all on this machine could read '
      f'in the list of processes: say {plain} and give the password in the environment '
      'variable PGPASSWORD, or in the file ~/.pgpass'
    )


def show_address(url: sa.URL) -> str:
  """An address as it may be printed; options may hold a password as well."""
  plain = url.set(drivername=url.get_backend_name(), query={})
  return plain.render_as_string(hide_password=True)


def _is_passing(error) -> bool:
  """Whether it is the connection, or the server, and not what was asked."""
  broken = getattr(error, 'connection_invalidated', False)
  passing = OperationalError, InterfaceError, PendingRollbackError
  return broken or isinstance(error, passing)


def _is_full(error) -> bool:
  """Whether it is SQLite's, of its disk. (PostgreSQL's may get room, and is waited for.)"""
  name = getattr(getattr(error, 'orig', None), 'sqlite_errorname', '')
  # Of files that it maps, SQLite says only that they cannot be made longer.
  return name in ('SQLITE_FULL', 'SQLITE_IOERR_SHMSIZE', 'SQLITE_IOERR_WRITE')


def _first_line(error) -> str:
  return str(getattr(error, 'orig', None) or error).strip().splitlines()[0]


@contextlib.contextmanager
def _explaining(name: str) -> Iterator[None]:
  """Errors of the first use of a database in a sentence."""
  try:
    yield
  except ImportError as error:
    raise ValueError(
      f'{name} needs a driver that is not installed: pip install "psycopg[binary]"'
    ) from error
  except (StorageInternalError, SQLAlchemyError) as error:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    raise OSError(f'{name} cannot be used: {_first_line(cause)}') from error
  except RuntimeError as error:  # Optuna's, of tables that another version made
    raise ValueError(f'{name} cannot be used: {error}') from error


@contextlib.contextmanager
def _own(path: Path) -> Iterator[None]:
  """Holds a lock beside a file. The system releases it however this process ends."""
  if not path.parent.is_dir():
    raise FileNotFoundError(f'there is no folder {path.parent} for the database {path}')
  if path.is_dir():
    raise IsADirectoryError(f'the database {path} is a folder, wanted a file')
  check_writable(f'{path}.lock')  # which would be taken for locked
  try:
    # Not by thread: a sweep may be closed by another thread than opened it.
    lock = filelock.FileLock(f'{path}.lock', thread_local=False).acquire(blocking=False)
  except filelock.Timeout:
    said = 'another sweep is running there (several at once need PostgreSQL)'
    raise BlockingIOError(errno.EAGAIN, said, str(path)) from None
  with lock:
    yield
