"""Whose end is seen: that of a process here which was killed, and of no other."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from nas.trials import owner
from nas.trials.owner import hold_name, is_gone

HOLD = """
import time
from nas.trials.owner import hold_name
with hold_name() as name:
  print(name, flush=True)
  time.sleep(1000)
"""


@pytest.fixture
def other():
  """(a process that holds a name, the name)."""
  process = subprocess.Popen([sys.executable, '-c', HOLD], stdout=subprocess.PIPE, text=True)
  name = process.stdout.readline().strip()
  yield process, name
  process.kill()
  process.communicate()
  owner._find_lock(name).unlink(missing_ok=True)


def test_names_are_new_and_tell_whose_they_are():
  with hold_name() as one, hold_name() as two:
    assert one != two
    assert one.split('/')[:2] == [os.uname().nodename, str(os.getpid())]
    assert not is_gone(one)
  assert not owner._find_lock(one).exists()


def test_who_was_killed_is_gone_and_nobody_before(other):
  process, name = other
  assert not is_gone(name)
  process.send_signal(signal.SIGSTOP)  # It may wake up.
  time.sleep(0.1)
  assert not is_gone(name)
  process.kill()
  process.wait()
  assert is_gone(name)
  assert is_gone(name)  # for whoever asks


def test_several_may_ask_at_once(other):
  process, name = other
  process.kill()
  process.wait()
  with owner._find_lock(name).open() as file:
    fcntl.flock(file, fcntl.LOCK_SH)
    assert is_gone(name)


def test_a_number_that_another_process_has_now_misleads_nobody(other):
  process, name = other
  process.kill()
  process.wait()
  reused = f'{os.uname().nodename}/{os.getpid()}/{name.rpartition("/")[2]}'
  assert is_gone(reused)


def test_of_another_machine_nothing_is_known(other, tmp_path, monkeypatch):
  """Though it has the same name, and there is no process of that number here."""
  process, name = other
  process.kill()
  process.wait()
  monkeypatch.setattr(owner, '_MEMORY', tmp_path)
  assert not is_gone(name)


def test_a_system_without_such_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(owner, '_MEMORY', tmp_path / 'none')
  with hold_name() as name:
    assert not is_gone(name)
  assert not is_gone(name)
