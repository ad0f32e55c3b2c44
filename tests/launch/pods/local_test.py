"""The supervisor of local processes, with a stand-in for `movinet`."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from launch.errors import is_retriable
from launch.pods import job
from launch.pods.targets import local
from tests.launch.pods import stand_in
from tests.launch.pods.jobs import HOSTILE, make
from tests.launch.pods.stand_in import wait_for


@pytest.fixture
def start(tmp_path):
  """Starts the supervisor as `movinet submit` does; ends what is left of it."""
  supervisors = []

  def start_one(plan, words=('train',), *, secs=None, **changed):
    environment = stand_in.install(tmp_path / 'env', tmp_path / 'seen', plan)
    changed = {'processes': len(plan), 'directory': str(tmp_path), **changed}
    known = make(words, str(tmp_path / 'run'), environment=environment, **changed)
    rendered = local.render(known)
    told = {**json.loads(rendered.files[local.FILE]), 'pause_secs': 0.1, **(secs or {})}
    (tmp_path / local.FILE).write_text(json.dumps(told))
    (command,) = rendered.commands
    supervisors.append(
      subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': os.getcwd(), 'JAX_PLATFORMS': 'cpu'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
    return supervisors[-1]

  yield start_one
  for supervisor in supervisors:
    supervisor.kill()
    supervisor.wait()
  for seen in stand_in.read_starts(tmp_path / 'seen').values():
    if is_alive(seen['pid']):
      os.kill(seen['pid'], signal.SIGKILL)


def is_alive(pid: int) -> bool:
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2][1] != 'Z'
  except FileNotFoundError:
    return False


def finish(supervisor) -> tuple[int, str]:
  output, _ = supervisor.communicate(timeout=60)
  return supervisor.returncode, output


def wait_for_starts(tmp_path, count) -> list[int]:
  """Pids of all processes, once so many have been started."""
  wait_for(lambda: len(stand_in.read_starts(tmp_path / 'seen')) >= count)
  return [seen['pid'] for seen in stand_in.read_starts(tmp_path / 'seen').values()]


def test_processes_are_told_of_each_other(start, tmp_path):
  env = tuple((f'V{i}', word) for i, word in enumerate(HOSTILE))
  words = ('train', *HOSTILE)
  code, output = finish(start({str(i): [{'code': 0}] for i in range(3)}, words, env=env))
  assert code == 0, output
  seen = stand_in.read_starts(tmp_path / 'seen')
  assert set(seen) == {'0.1', '1.1', '2.1'}
  (address,) = {each['env']['MOVINET_COORDINATOR'] for each in seen.values()}
  assert address.startswith('127.0.0.1:')
  for each in seen.values():
    assert each['env']['MOVINET_PROCESSES'] == '3'
    assert each['words'] == [*words, f'--workdir={tmp_path}/run']
    assert [each['env'][f'V{i}'] for i in range(len(HOSTILE))] == list(HOSTILE)


def test_one_process_is_told_nothing(start, tmp_path):
  assert finish(start({'0': [{'code': 0}]}))[0] == 0
  (seen,) = stand_in.read_starts(tmp_path / 'seen').values()
  assert not [name for name in seen['env'] if name.startswith('MOVINET_')]


def test_the_first_process_is_shown_and_all_are_logged(start, tmp_path):
  stopped, done = {'code': 75}, {'code': 0}
  code, output = finish(start({'0': [stopped, done], '1': [stopped, done]}))
  assert code == 0
  assert 'process 0 start 1\n' in output
  assert 'process 0 start 2\n' in output
  assert 'process 1 start 2\n' not in output
  for i in (0, 1):
    log = (tmp_path / 'run' / 'logs' / f'process-{i}.log').read_text()
    assert log.count(f'process {i} start') == 2  # appended
    assert log.count('--- start ') == 2


def test_a_permanent_code_ends_the_job(start, tmp_path):
  """With that code, though others ended with 75 first."""
  plan = {'0': [{'code': 75}], '1': [{'code': 70, 'secs': 0.5}]}
  code, output = finish(start(plan))
  assert code == 70
  assert 'process 1 ended with code 70 (must be mended)' in output
  assert set(stand_in.read_starts(tmp_path / 'seen')) == {'0.1', '1.1'}


def test_a_killed_process_is_started_again(start, tmp_path):
  plan = {'0': [{'code': 0, 'signal': signal.SIGKILL}, {'code': 0}]}
  assert finish(start(plan))[0] == 0
  assert set(stand_in.read_starts(tmp_path / 'seen')) == {'0.1', '0.2'}


def test_restarts_are_bounded(start, tmp_path):
  code, output = finish(start({'0': [{'code': 75}]}, restarts=2))
  assert code == 75
  assert '--restarts=2 are used up' in output
  assert len(stand_in.read_starts(tmp_path / 'seen')) == 3


def test_a_process_that_hangs_without_its_peer_is_killed(start, tmp_path):
  plan = {'0': [{'deaf': True}, {'code': 0}], '1': [{'code': 75}, {'code': 0}]}
  begun = time.monotonic()
  code, output = finish(start(plan, secs={'peer_secs': 1}))
  assert code == 0
  assert time.monotonic() - begun < 20
  assert '1 processes did not end, and are killed' in output


def test_a_hanging_process_does_not_hide_a_permanent_code(start):
  plan = {'0': [{'deaf': True}], '1': [{'code': 2}]}
  assert finish(start(plan, secs={'peer_secs': 1}))[0] == 2


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_all_and_is_the_end(start, tmp_path, number):
  supervisor = start({'0': [{'save': 0.5}], '1': [{'save': 0.5}]})
  pids = wait_for_starts(tmp_path, 2)
  supervisor.send_signal(number)
  code, output = finish(supervisor)
  assert code == 75
  assert 'saved' in output
  assert 'saved' in (tmp_path / 'run' / 'logs' / 'process-1.log').read_text()
  assert not any(map(is_alive, pids))
  assert len(stand_in.read_starts(tmp_path / 'seen')) == 2


def test_a_second_signal_ends_it_at_once(start, tmp_path):
  supervisor = start({'0': [{'deaf': True}], '1': [{'deaf': True}]})
  pids = wait_for_starts(tmp_path, 2)
  supervisor.send_signal(signal.SIGINT)
  time.sleep(0.5)
  supervisor.send_signal(signal.SIGINT)
  assert finish(supervisor)[0] == 75
  assert not any(map(is_alive, pids))


def test_what_does_not_save_in_time_is_killed(start, tmp_path):
  supervisor = start({'0': [{'deaf': True}]}, secs={'save_secs': 0.5})
  pids = wait_for_starts(tmp_path, 1)
  supervisor.terminate()
  assert finish(supervisor)[0] == 75
  assert not any(map(is_alive, pids))


@pytest.mark.skipif(sys.platform != 'linux', reason='the parent-death signal is of Linux')
def test_a_killed_supervisor_takes_its_processes_along(start, tmp_path):
  supervisor = start({'0': [{'save': 0.1}], '1': [{'save': 0.1}]})
  pids = wait_for_starts(tmp_path, 2)
  assert all(map(is_alive, pids))
  supervisor.kill()
  wait_for(lambda: not any(map(is_alive, pids)))
  assert 'saved' in (tmp_path / 'run' / 'logs' / 'process-1.log').read_text()


def test_secrets_must_be_there(start, monkeypatch, tmp_path):
  monkeypatch.delenv('PGPASSWORD', raising=False)
  code, output = finish(start({'0': [{'code': 0}]}, secrets=('PGPASSWORD',)))
  assert code == 2
  assert 'PGPASSWORD must be in the environment' in output
  assert not stand_in.read_starts(tmp_path / 'seen')


def test_a_command_that_is_not_there(tmp_path, capfd):
  plan = {'command': [str(tmp_path / 'nothing')], 'processes': 1, 'env': {}}
  plan |= {'secrets': [], 'directory': '', 'logs': str(tmp_path), 'restarts': 5}
  plan |= {'pause_secs': 0, 'peer_secs': 1, 'save_secs': 1}
  path = tmp_path / 'job.json'
  path.write_text(json.dumps(plan))
  assert local.main([str(path)]) == 2
  assert 'nothing' in capfd.readouterr().err


def test_cores_are_shared(monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  shares = local._share_devices(2)
  cores = [set(share['MOVINET_CORES'].split(',')) for share in shares]
  assert len(os.sched_getaffinity(0)) < 2 or not cores[0] & cores[1]


def test_gpus_are_one_each(monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,3')
  assert [s['CUDA_VISIBLE_DEVICES'] for s in local._share_devices(2)] == ['2', '3']
  assert local._share_devices(1) == [{}]
  with pytest.raises(ValueError, match='3 processes for 2 GPUs'):
    local._share_devices(3)


@pytest.mark.parametrize(
  ('code', 'expected'),
  [(75, True), (-9, True), (137, True), (143, True)] + [(code, False) for code in job.PERMANENT],
)
def test_which_codes_may_be_retried(code, expected):
  assert is_retriable(code) == expected
