"""Processes that cannot join say why and end in time; what other starters say is answered."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest
from jax._src.clusters import slurm_cluster

from launch import cluster, rendezvous
from launch.errors import find_exit_code


@pytest.fixture
def port():
  with socket.create_server(('127.0.0.1', 0)) as probe:
    return probe.getsockname()[1]


@pytest.fixture(autouse=True)
def only_ours(monkeypatch):
  """No starter of other tests, and no wait for JAX, which does not follow here."""
  others = (*cluster._FOREIGN, *cluster._FOREIGN.values(), 'JAX_COORDINATOR_ADDRESS')
  for name in (*cluster.EXPLICIT, 'MOVINET_CLUSTER', 'KUBERNETES_SERVICE_HOST', *others):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(rendezvous, '_await_jax', lambda group: None)
  cluster._tell_once.cache_clear()


class Caller(threading.Thread):
  """One process of a group, as a thread; `end` is how its rendezvous ended."""

  def __init__(self, port, index, count=2, secs=20.0, address=None):
    super().__init__(daemon=True)
    address = address or f'127.0.0.1:{port}'
    self._group = rendezvous.Group(address, f'127.0.0.1:{port}', count, index, 'THE_SETTING')
    self._secs = secs
    self.start()

  def run(self):
    try:
      self._end = rendezvous.meet(self._group, rendezvous.Patience(self._secs))
    except Exception as error:
      self._end = error

  @property
  def end(self):
    self.join(timeout=20)
    return self._end


def call(port, text=''):
  """A connection of anybody to the first process, which has said something."""
  ends = time.monotonic() + 10
  while True:
    try:
      connection = socket.create_connection(('127.0.0.1', port), timeout=10)
      break
    except ConnectionRefusedError:
      assert time.monotonic() < ends
      time.sleep(0.02)
  connection.sendall(text.encode())
  return connection


def assert_retriable(error, *facts):
  assert isinstance(error, cluster.NotJoined)
  assert find_exit_code(error) == 75
  assert all(fact in str(error) for fact in facts), error


def assert_misuse(error, *facts):
  assert isinstance(error, ValueError)
  assert find_exit_code(error) == 2
  assert all(fact in str(error) for fact in facts), error


def test_all_go_when_the_last_is_there_and_the_port_is_free(port):
  others = [Caller(port, index, count=3) for index in (2, 1)]
  time.sleep(0.3)
  assert all(other.is_alive() for other in others)
  first = Caller(port, 0, count=3)
  assert [each.end for each in (first, *others)] == [None] * 3
  socket.create_server(('127.0.0.1', port)).close()


def test_those_that_are_missing_are_named_at_the_limit(port):
  callers = [Caller(port, 0, count=5, secs=0.5), Caller(port, 2, count=5, secs=1)]
  first, other = (each.end for each in callers)
  assert_retriable(first, 'process 0 of 5', '1, 3, 4', str(port), '0.5 s', 'MOVINET_JOIN_SECS')
  assert_retriable(other, 'process 2 of 5', 'process 0', str(port))


def test_a_missing_first_process_is_told_once_while_one_waits(port, monkeypatch, capsys):
  monkeypatch.setattr(rendezvous, '_QUIET_SECS', 0.1)
  assert_retriable(Caller(port, 1, secs=0.6).end, 'process 0', 'refused')
  (line,) = capsys.readouterr().err.splitlines()
  facts = ('process 1 of 2', 'process 0', f'127.0.0.1:{port}', '0.6 s (MOVINET_JOIN_SECS)')
  assert all(fact in line for fact in facts)


def test_strangers_do_not_disturb(port, capfd):
  first = Caller(port, 0)
  hello = ('GET / HTTP/1.1\r\n\r\n', 'x' * 10000, '\0\n', 'movinet 2 0 x\n', 'movinet 2 7 x\n')
  with contextlib.ExitStack() as closing:
    closing.enter_context(call(port))  # says nothing and stays
    call(port).close()
    for text in hello:
      stranger = closing.enter_context(call(port, text))
      with contextlib.suppress(ConnectionResetError):
        assert not stranger.recv(100).strip()
    assert Caller(port, 1).end is first.end is None
  assert not capfd.readouterr().err  # asyncio would report here what nobody caught


def test_a_process_that_dies_and_comes_again_is_one_process(port):
  first = Caller(port, 0, count=3)
  with call(port, 'movinet 3 1 x\n') as old:
    assert old.recv(100)
    assert_retriable(Caller(port, 1, count=3, secs=0.3).end, 'another process 1')
  others = [Caller(port, index, count=3) for index in (1, 2)]
  assert [each.end for each in (first, *others)] == [None] * 3


def test_when_the_first_process_dies_the_others_wait_for_the_next_one(port):
  other = Caller(port, 1)
  assert_retriable(Caller(port, 0, count=3, secs=0.3).end)  # tells of its count, below
  assert_misuse(other.end, 'process 1', 'of 2 processes', 'of 3')
  other = Caller(port, 1, count=3)
  assert_retriable(Caller(port, 0, count=3, secs=0.3).end, 'process 2')
  callers = [other, Caller(port, 0, count=3), Caller(port, 2, count=3)]
  assert [each.end for each in callers] == [None] * 3


def test_a_process_that_meets_another_program_waits_for_its_own_run(port):
  with socket.create_server(('127.0.0.1', port)) as server:
    other = Caller(port, 1)
    connection, _ = server.accept()
    connection.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n')
    connection.close()
  assert Caller(port, 0).end is other.end is None


@pytest.mark.parametrize('option', [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_taken_port_is_told(port, option, monkeypatch):
  """Also one that its holder would share, as JAX's coordinator does with another one."""
  monkeypatch.setattr(rendezvous, '_GRACE_SECS', 0.1)
  with socket.socket() as holder:
    holder.setsockopt(socket.SOL_SOCKET, option, 1)
    holder.bind(('127.0.0.1', port))
    holder.listen()
    assert_misuse(Caller(port, 0).end, f'port {port} is taken', 'THE_SETTING')


def test_two_runs_on_one_port(port, monkeypatch):
  monkeypatch.setattr(rendezvous, '_GRACE_SECS', 0.1)
  first = Caller(port, 0)
  call(port).close()
  assert_misuse(Caller(port, 0).end, f'port {port} is taken')
  assert Caller(port, 1).end is first.end is None


def test_a_port_that_its_last_run_still_closes_is_waited_for(port):
  with socket.create_server(('127.0.0.1', port)):
    first = Caller(port, 0)
    time.sleep(0.2)
  assert Caller(port, 1).end is first.end is None


@pytest.mark.parametrize('host', ['no-such-host.invalid', 'a..b', 'x' * 70])
@pytest.mark.parametrize('index', [0, 1])
def test_an_unknown_host_is_told(port, host, index, monkeypatch):
  monkeypatch.setattr(rendezvous, '_GRACE_SECS', 0.05)
  address = f'{host}:{port}'
  assert_misuse(Caller(port, index, address=address).end, address, 'unknown', 'THE_SETTING')


@pytest.mark.parametrize('index', [0, 1])
def test_a_name_in_kubernetes_comes_with_its_pod(port, index, monkeypatch):
  monkeypatch.setenv('KUBERNETES_SERVICE_HOST', '10.0.0.1')
  address = f'no-such-host.invalid:{port}'
  assert_retriable(Caller(port, index, address=address, secs=0.3).end, address)


def test_a_name_server_that_is_away_may_come_back(port, monkeypatch):
  def look_up(*_, **__):
    raise socket.gaierror(socket.EAI_AGAIN, 'try again')

  monkeypatch.setattr(socket, 'getaddrinfo', look_up)
  other = Caller(port, 1, secs=0.3, address=f'somewhere:{port}')
  assert_retriable(other.end, 'somewhere', 'name server')


def test_an_address_that_leads_away_from_the_first_process_is_told(port, monkeypatch):
  monkeypatch.setattr(rendezvous, '_GRACE_SECS', 0.1)
  with socket.create_server(('127.0.0.1', 0)) as server:
    address = f'127.0.0.1:{server.getsockname()[1]}'
    threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
    assert_misuse(Caller(port, 0, address=address).end, address, 'THE_SETTING')
  assert_misuse(Caller(port, 0, address=address).end, address, 'refused')


def test_an_address_of_another_machine_cannot_be_listened_at():
  group = rendezvous.Group('192.0.2.1:9', '192.0.2.1:9', 2, 0, 'THE_SETTING')
  with pytest.raises(ValueError, match=r'192.0.2.1:9 \(.*THE_SETTING'):
    rendezvous.meet(group, rendezvous.Patience(5))


@pytest.mark.parametrize('given', ['0', '-1', '1.5', 'soon', '86401', '9' * 30])
def test_a_limit_is_whole_seconds(given):
  with pytest.raises(ValueError, match=f"MOVINET_JOIN_SECS is '{given}'"):
    cluster.find_limit({'MOVINET_JOIN_SECS': given})
  assert cluster.find_limit({'MOVINET_JOIN_SECS': '7'}) == 7
  assert cluster.find_limit({}) == 300


@pytest.mark.parametrize('given', ['h:0', 'h:65536', 'h:-1', 'h:', ':1', 'h'])
def test_an_address_has_a_port(given):
  with pytest.raises(ValueError, match=f"MOVINET_COORDINATOR is '{given}'; wanted HOST:PORT"):
    cluster.find_arguments(dict(zip(cluster.EXPLICIT, (given, '2', '0'), strict=True)))


@pytest.mark.parametrize('nodes', ['n1', 'n1,n2', 'n[001-004],other', 'n[07,09-12]', 'n-a,n[2-3]'])
def test_the_tasks_of_slurm_meet_where_jax_will(nodes, monkeypatch):
  step = {'SLURM_JOB_ID': '4711123', 'SLURM_STEP_NODELIST': nodes, 'SLURM_NTASKS': '3'}
  for name, value in step.items():
    monkeypatch.setenv(name, value)
  known = slurm_cluster.SlurmCluster.get_coordinator_address(None, None)
  step |= {'SLURM_PROCID': '2', 'SLURM_LOCALID': '0'}
  group = cluster.find_group(cluster.find_arguments(step), step)
  assert (group.address, group.count, group.index) == (known, 3, 2)
  moved = step | {'JAX_COORDINATOR_PORT': '123'}
  assert cluster.find_group(cluster.find_arguments(step), moved).bind == '[::]:123'


def test_jax_is_waited_for_within_the_limit(monkeypatch):
  """On a TPU, only JAX knows where the other hosts are."""
  stuck = threading.Event()
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **_: stuck.wait(20))
  try:
    with pytest.raises(cluster.NotJoined, match=r'0.3 s \(MOVINET_JOIN_SECS\)'):
      cluster._join({}, 0.3)
  finally:
    stuck.set()


def test_a_cluster_that_jax_does_not_know_is_told(monkeypatch):
  def initialize(**_):
    raise ValueError('coordinator_address should be defined.')

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  with pytest.raises(ValueError, match='MOVINET_COORDINATOR'):
    cluster._join({}, 5)


@pytest.mark.parametrize(
  ('environment', 'facts'),
  [
    (
      {'WORLD_SIZE': '4', 'RANK': '3', 'MASTER_ADDR': 'n1', 'MASTER_PORT': '29500'},
      ('WORLD_SIZE=4', 'COORDINATOR=n1:PORT', 'MOVINET_PROCESSES=4', 'MOVINET_PROCESS=3'),
    ),
    (
      {'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '0', 'OMPI_MCA_orte_hnp_uri': '1.0;'},
      ('OMPI_COMM_WORLD_SIZE=2', 'COORDINATOR=HOST:PORT', 'PROCESS=0', 'MOVINET_CLUSTER=auto'),
    ),
    ({'PMI_SIZE': '8', 'PMI_RANK': '7'}, ('PMI_RANK=7', 'PROCESSES=8', 'MOVINET_PROCESS=7')),
    (
      {'JAX_COORDINATOR_ADDRESS': 'n1:77'},
      ('JAX_COORDINATOR_ADDRESS=n1:77', 'MOVINET_COORDINATOR=n1:77', 'PROCESSES=COUNT'),
    ),
    (
      {'JAX_COORDINATOR_ADDRESS': 'n:7', 'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '1'},
      ('MOVINET_COORDINATOR=n:7', 'MOVINET_PROCESSES=2', 'MOVINET_PROCESS=1'),
    ),
  ],
)
def test_what_others_say_about_processes_is_said_to_be_ignored(environment, facts, monkeypatch):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  text = cluster.describe_ignored(os.environ)
  assert all(fact in text for fact in (*facts, 'ignored', 'MOVINET_CLUSTER=none')), text
  assert cluster.describe_ignored(environment | {'MOVINET_CLUSTER': 'none'}) == ''


@pytest.mark.parametrize(
  'environment',
  [{}, {'WORLD_SIZE': '1', 'RANK': '0'}, {'PMI_SIZE': 'x'}, {'SLURM_NTASKS': '4'}, {'RANK': '3'}],
)
def test_one_process_alone_needs_no_note(environment):
  assert cluster.describe_ignored(environment) == ''


def test_the_note_is_printed_once_and_not_by_data_workers(monkeypatch, capsys):
  monkeypatch.setenv('WORLD_SIZE', '4')
  with monkeypatch.context() as worker:
    worker.setattr(cluster.multiprocessing, 'parent_process', lambda: 'the run')
    cluster.connect()
  assert not capsys.readouterr().err
  cluster.connect()
  cluster.connect()
  assert capsys.readouterr().err.count('WORLD_SIZE=4') == 1


def test_a_command_that_cannot_join_ends_by_itself(port, tmp_path):
  """Real processes, side by side: a missing one, a taken port, an unknown host."""
  with socket.create_server(('127.0.0.1', 0)) as holder:
    taken = f'localhost:{holder.getsockname()[1]}'
    cases = [
      (f'localhost:{port}', '0', 75, 'process 1'),
      (taken, '0', 2, f'port {holder.getsockname()[1]} is taken'),
      (f'no-such-host.invalid:{port}', '1', 2, 'no-such-host.invalid'),
    ]
    started = []
    for number, (address, index, *_) in enumerate(cases):
      command = [
        'train',
        '--config=configs/movinet/quickstart.py',
        f'--workdir={tmp_path}/{number}',
      ]
      joins = dict(zip(cluster.EXPLICIT, (address, '2', index), strict=True))
      started.append(
        subprocess.Popen(
          [sys.executable, '-m', 'launch.main', *command],
          stderr=subprocess.PIPE,
          text=True,
          env={**os.environ, **joins, 'MOVINET_JOIN_SECS': '1', 'PYTHONPATH': os.getcwd()},
        )
      )
    errors = [process.communicate(timeout=60)[1] for process in started]
  for (*_, code, fact), process, error in zip(cases, started, errors, strict=True):
    assert process.returncode == code, error
    (line,) = error.splitlines()  # no traceback, no dump of a stack
    assert fact in line
