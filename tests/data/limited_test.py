"""Work that hangs, crashes or fails, and what is said of it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from movinet_jax.data.limited import go_on, run_limited
from movinet_jax.data.video import DecodeError


def work(job):
  match job:
    case 'hang':
      time.sleep(600)
    case 'hang in C':
      signal.sigwait({signal.SIGUSR2})
    case 'crash':
      os.kill(os.getpid(), signal.SIGSEGV)
    case 'bad':
      raise DecodeError('x.mp4', 'is bad')
    case 'unreadable':
      raise PermissionError(13, 'Permission denied')
    case 'group signals':  # they come from another process than the parent
      for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        os.kill(os.getpid(), number)
      time.sleep(0.2)
    case 'long':
      for _ in range(12):
        time.sleep(0.1)
        go_on()
    case 'stops':
      go_on()
      time.sleep(600)
    case 'bug':
      raise KeyError('oops')


def test_every_job_ends_and_the_rest_goes_on():
  jobs = ['good 1', 'hang', 'crash', 'bad', 'hang in C', 'unreadable', 'good 2']
  start = time.monotonic()
  ended = dict(run_limited(work, jobs, workers=2, limit_secs=1.0))
  assert time.monotonic() - start < 20
  assert set(ended) == set(jobs)
  assert ended['good 1'] == ended['good 2'] == ''
  assert ended['hang'] == ended['hang in C'] == 'stood still for 1 s (--limit-secs)'
  assert ended['crash'] == f'decoder crashed with exit code -{signal.SIGSEGV:d}'
  assert ended['bad'] == 'is bad'
  assert 'Permission denied' in ended['unreadable']


def test_work_that_goes_on_may_take_long():
  ended = dict(run_limited(work, ['long', 'stops', 'good'], workers=2, limit_secs=0.5))
  assert ended == {'long': '', 'stops': 'stood still for 0.5 s (--limit-secs)', 'good': ''}


def test_a_job_that_was_stopped_with_its_parent_does_not_stand_still():
  """As Ctrl-Z and fg do: the parent looks again after more than the limit."""
  ended = run_limited(work, ['good', 'long'], workers=2, limit_secs=0.6)
  assert next(ended) == ('good', '')
  for process in multiprocessing.active_children():
    os.kill(process.pid, signal.SIGSTOP)
  time.sleep(1.0)
  for process in multiprocessing.active_children():
    os.kill(process.pid, signal.SIGCONT)
  assert list(ended) == [('long', '')]


def test_a_bug_is_not_a_bad_file():
  with pytest.raises(RuntimeError, match=r"KeyError at 'bug': 'oops'"):
    list(run_limited(work, ['good', 'bug'], workers=1))


@pytest.mark.parametrize('job', ['crash', 'hang in C'])
def test_the_last_job_ends_quietly_and_at_once(job, capfd):
  """Nothing is printed, and no process is left, though one replaces the one that was killed."""
  start = time.monotonic()
  ((_, reason),) = run_limited(work, [job], limit_secs=0.2)
  assert reason
  assert time.monotonic() - start < 15
  assert multiprocessing.active_children() == []
  assert capfd.readouterr().err == ''


def test_a_run_that_is_left_early_leaves_no_process():
  ended = run_limited(work, ['good', 'hang', 'hang'], workers=2)
  assert next(ended) == ('good', '')
  assert len(multiprocessing.active_children()) == 2
  ended.close()
  assert multiprocessing.active_children() == []


def test_signals_to_the_whole_group_do_not_end_a_job():
  assert list(run_limited(work, ['group signals'])) == [('group signals', '')]


def test_a_script_without_a_guard_is_told_of_it(tmp_path):
  script = tmp_path / 'script.py'
  script.write_text(
    'from movinet_jax.data.limited import run_limited\n'
    'from tests.data.limited_test import work\n'
    "list(run_limited(work, ['good']))\n"
  )
  command, env = [sys.executable, script], {**os.environ, 'PYTHONPATH': os.getcwd()}
  ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
  assert ended.returncode == 1
  assert "if __name__ == '__main__':" in ended.stderr.splitlines()[-1]


def test_nothing_to_do():
  assert list(run_limited(work, [], workers=4)) == []
