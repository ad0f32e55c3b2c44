"""A real PostgreSQL server for the tests of studies that many machines share."""

import psycopg
import pytest

from benchmarks.postgres import run_server


@pytest.fixture(scope='session')
def server():
  # Without one these tests fail: a skipped test would look like a passed one.
  with run_server() as address:
    yield address


@pytest.fixture
def postgres(server) -> str:
  """The address of an empty database."""
  with psycopg.connect(server, autocommit=True) as connection:
    connection.execute(
      'select pg_terminate_backend(pid) from pg_stat_activity '
      'where datname = current_database() and pid <> pg_backend_pid()'
    )
    # Emptied, for making a new one for every test takes longer than the test.
    connection.execute('drop schema public cascade')
    connection.execute('create schema public')
  return server


@pytest.fixture(params=['sqlite', 'postgresql'])
def address(request, tmp_path) -> str:
  """The address of an empty database, of either kind."""
  if request.param == 'sqlite':
    return f'sqlite:///{tmp_path}/study.db'
  return request.getfixturevalue('postgres')
