import errno
import os
import socket
import stat
import threading
import time

import psycopg
import pytest
import sqlalchemy as sa

from nas.trials import database
from nas.trials.database import Database, check_no_password, parse_address


@pytest.mark.parametrize(
  ('address', 'parsed'),
  [
    ('a/study.db', 'sqlite:///a/study.db'),
    ('/a/study.db', 'sqlite:////a/study.db'),
    ('sqlite:////a/study.db', 'sqlite:////a/study.db'),
    ('postgresql://me@here/nas', 'postgresql+psycopg://me@here/nas'),
    ('postgres://me@here:1/nas', 'postgresql+psycopg://me@here:1/nas'),
  ],
)
def test_addresses(address, parsed):
  assert parse_address(address).render_as_string() == parsed


@pytest.mark.parametrize(
  ('address', 'message'),
  [
    ('mysql://me:secret@here/nas', 'sqlite:///PATH or postgresql://'),
    ('postgresql://me:secret@here:port/nas', 'cannot be read'),
    ('postgresql://me:secret@here', 'names no database'),
    ('sqlite://', 'names no database'),
    ('sqlite:///:memory:', 'names no database'),
    ('', 'names no database'),
    ('postgresql://me:a@secret@here/nas', 'written %40'),
    ('postgresql://a/b:secret@here/nas', 'written %40'),
    ('postgresql//me:secret@here/nas', 'cannot be read'),
    ('postgresql:/me:secret@here/nas', 'cannot be read'),
    ('postgresql://me@here/nas%3Fpassword=secret', 'cannot be read'),
    ('host=here password=secret', 'cannot be read'),
    ('me:secret@here://nas', 'cannot be read'),
  ],
)
def test_what_is_no_address_is_refused_and_no_password_shown(address, message):
  with pytest.raises(ValueError, match=message) as error:
    parse_address(address)
  assert 'secret' not in str(error.value)
  assert error.value.__cause__ is None


def test_files_may_have_any_name():
  for path in ('/home/me@here/study.db', 'sqlite:////a:b@c/study.db'):
    assert parse_address(path).database == path.removeprefix('sqlite:///')


def test_addresses_with_a_password():
  check_no_password('postgresql://me@here/nas?sslmode=require&passfile=/home/me/pass')
  check_no_password('a/study.db')
  for address in (
    'postgresql://me:secret@here:1/nas',
    'postgresql://here:1/nas?user=me&password=secret',
    'postgresql://me@here:1/nas?sslpassword=secret',
  ):
    with pytest.raises(ValueError, match=r'here:1/nas and give .* PGPASSWORD') as error:
      check_no_password(address)
    assert 'secret' not in str(error.value)


def make_text_file(folder):
  (folder / 'notes.txt').write_text('this is no database at all, but a file of text\n' * 99)
  return folder / 'notes.txt'


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda folder: folder / 'none/study.db', 'no folder'),
    (lambda folder: folder, 'is a folder'),
    (make_text_file, 'file is not a database'),
  ],
)
def test_a_file_that_cannot_be_a_database(tmp_path, make, message):
  with pytest.raises(OSError, match=message):
    Database(str(make(tmp_path)), alone=True)


@pytest.mark.skipif(not os.getuid(), reason='root may write anywhere')
def test_a_folder_that_cannot_be_written(tmp_path):
  tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
  with pytest.raises(OSError, match=r'study\.db'):
    Database(str(tmp_path / 'study.db'), alone=True)


def test_looking_makes_no_file(tmp_path):
  with pytest.raises(OSError, match='no database'):
    Database(str(tmp_path / 'study.db'), alone=False)
  assert not list(tmp_path.iterdir())


def test_a_server_that_is_not_there():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  address = f'postgresql://me:secret@127.0.0.1:{port}/nas'
  with pytest.raises(OSError, match=f'127.0.0.1:{port}/nas cannot be used') as error:
    Database(address, alone=True)
  assert 'refused' in str(error.value)
  assert 'secret' not in str(error.value)


def test_a_database_and_a_user_that_are_not_there(postgres):
  base = postgres.rpartition('/')[0]
  with pytest.raises(OSError, match='database "nowhere" does not exist'):
    Database(f'{base}/nowhere', alone=True)
  with pytest.raises(OSError, match='role "nobody" does not exist') as error:
    Database(postgres.replace('postgres@', 'nobody:secret@'), alone=True)
  assert 'secret' not in str(error.value)


def test_a_file_has_one_coordinator_at_a_time(tmp_path):
  path = str(tmp_path / 'study.db')
  first = Database(path, alone=True)
  with pytest.raises(BlockingIOError, match='another sweep is running'):  # 75: try again
    Database(path, alone=True)
  Database(path, alone=False).close()  # Looking is allowed.
  first.close()
  Database(path, alone=True).close()


def test_a_failed_opening_leaves_no_lock(tmp_path):
  path = make_text_file(tmp_path)
  with pytest.raises(OSError, match='not a database'):
    Database(str(path), alone=True)
  path.unlink()
  Database(str(path), alone=True).close()


def test_coordinators_that_begin_together_make_one_database(postgres):
  opened, errors = [], []

  def begin():
    try:
      opened.append(Database(postgres, alone=True))
    except Exception as error:
      errors.append(error)

  threads = [threading.Thread(target=begin) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert errors == []
  for each in opened:
    each.close()


def test_sqlite_does_not_wait_for_the_disk_and_stays_whole(tmp_path):
  opened = Database(str(tmp_path / 'study.db'), alone=True)
  assert opened.query('pragma journal_mode') == [('wal',)]
  assert opened.query('pragma synchronous') == [(1,)]
  opened.close()


@pytest.fixture
def shut(postgres):
  """Cuts all connections to the database and lets none in, or lets them in again."""
  base, _, name = postgres.rpartition('/')

  def shut(allow: bool = False):
    with psycopg.connect(f'{base}/template1', autocommit=True) as connection:
      connection.execute(f'alter database {name} allow_connections {allow}')
      if not allow:
        connection.execute(
          'select pg_terminate_backend(pid) from pg_stat_activity where datname = %s',
          (name,),
        )

  yield shut
  shut(allow=True)


def test_a_database_that_was_away_is_waited_for(postgres, shut):
  opened = Database(postgres, alone=True)
  shut()
  threading.Timer(1.0, shut, (True,)).start()
  began = time.monotonic()
  assert opened.query('select 1') == [(1,)]
  assert time.monotonic() - began > 0.8
  opened.close()


def test_a_session_that_broke_within_a_transaction_begins_anew(postgres):
  """It says PendingRollbackError to all that follows, until it is given up."""
  opened, calls = Database(postgres, alone=True), []
  session = opened.storage.scoped_session

  def read():
    calls.append(1)
    return session().execute(sa.text('select 1')).scalar()

  assert read() == 1
  with pytest.raises(sa.exc.DBAPIError):
    session().execute(sa.text('select pg_terminate_backend(pg_backend_pid())'))
  with pytest.raises(sa.exc.PendingRollbackError):
    read()
  assert opened.insist(read) == 1
  assert len(calls) == 4
  opened.close()


def test_patience_ends_and_says_so(postgres, shut, monkeypatch):
  opened = Database(postgres, alone=True)
  shut()
  monkeypatch.setattr(database, 'PATIENCE_SECS', 0.5)
  with pytest.raises(OSError, match=r'out of reach for 0\.5 seconds.*same command goes on'):
    opened.query('select 1')
  opened.close()


def test_who_waits_can_be_stopped(postgres, shut):
  opened = Database(postgres, alone=True)
  shut()

  def stop():
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt), opened.checking(stop):
    opened.query('select 1')
  opened.close()


def test_who_was_stopped_in_a_transaction_begins_it_again(postgres, monkeypatch):
  quick = tuple(s.replace("'60s'", "'300ms'") for s in database._SETTINGS['postgresql'])
  monkeypatch.setitem(database._SETTINGS, 'postgresql', quick)
  opened, looks = Database(postgres, alone=True), []

  def check(connection) -> bool:
    connection.execute(sa.text('select 1'))
    looks.append(time.sleep(0 if looks else 0.6))
    return len(looks) > 1  # The first look was of a time that is over.

  assert opened.try_to(opened.storage.get_all_studies, check) == []
  assert len(looks) == 2
  opened.close()


def test_a_full_disk_is_not_waited_for(tmp_path):
  opened = Database(str(tmp_path / 'study.db'), alone=True)

  def grow():
    with opened.storage.engine.connect() as connection:
      connection.execute(sa.text('pragma max_page_count = 1'))  # no more than it has
      connection.execute(sa.text('create table more as select zeroblob(100000)'))

  with pytest.raises(OSError, match='No space left') as error:
    opened.insist(grow)
  assert error.value.errno == errno.ENOSPC
  opened.close()


def test_who_waits_for_the_database_is_told_once(postgres, shut, monkeypatch, capsys):
  monkeypatch.setattr(database, '_TELL_SECS', 0.1)
  opened = Database(postgres, alone=True)
  shut()
  threading.Timer(1.0, shut, (True,)).start()
  opened.query('select 1')
  assert capsys.readouterr().err.count('is out of reach') == 1
  opened.close()


def test_a_wrong_query_is_not_waited_for(postgres):
  opened = Database(postgres, alone=True)
  with pytest.raises(sa.exc.ProgrammingError):
    opened.query('select nothing from nowhere')
  opened.close()
