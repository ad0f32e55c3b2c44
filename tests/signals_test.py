import errno
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from movinet_jax import signals

STOPPING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize('number', STOPPING)
def test_a_signal_asks_until_the_end(number):
  before, asked = signal.getsignal(number), []
  with signals.listening(asked.append):
    for _ in range(2):
      os.kill(os.getpid(), number)
  assert asked == [number] * 2
  assert signal.getsignal(number) is before


def test_what_listened_before_listens_again_after_an_error():
  before = [signal.getsignal(number) for number in STOPPING]
  with pytest.raises(KeyError), signals.listening(print):
    raise KeyError
  assert [signal.getsignal(number) for number in STOPPING] == before


def test_under_nohup_a_closed_terminal_is_no_reason_to_stop():
  before, asked = signal.signal(signal.SIGHUP, signal.SIG_IGN), []
  try:
    with signals.listening(asked.append):
      os.kill(os.getpid(), signal.SIGHUP)
      os.kill(os.getpid(), signal.SIGTERM)
  finally:
    signal.signal(signal.SIGHUP, before)
  assert asked == [signal.SIGTERM]


def test_a_thread_listens_to_none():
  before, within = [signal.getsignal(number) for number in STOPPING], []

  def listen():
    with signals.listening(print):
      within.extend(map(signal.getsignal, STOPPING))

  thread = threading.Thread(target=listen)
  thread.start()
  thread.join()
  assert within == before


CHILD = """
import os, time
from movinet_jax import signals
signals.leave_to_parent()
print('ready', flush=True)
time.sleep(60)
"""


def test_a_child_heeds_only_its_parent():
  """Of the signals that a terminal or a batch system sends to all of a group."""
  child = subprocess.Popen([sys.executable, '-c', CHILD], stdout=subprocess.PIPE)
  with child:
    assert child.stdout.readline() == b'ready\n'
    for number in STOPPING:
      # From somebody else: a shell is the child's sister here.
      subprocess.run(['kill', f'-{number.value}', str(child.pid)], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
      child.wait(0.5)
    child.terminate()
    assert child.wait(10) == 143


RUN = """
import os, time
from movinet_jax import signals
asked = []
with signals.listening(asked.append):
  print('ready', flush=True)
  while not asked:
    try:
      print('a line for the terminal', flush=True)
    except OSError as error:  # as a shell has it, that is told first
      signals.survive(error)
  print('a line for the terminal', flush=True)
  open(os.environ['SAVED'], 'w').write(str(asked))
"""


def test_a_run_outlives_its_terminal_to_save(tmp_path):
  saved = tmp_path / 'saved'
  child, terminal = pty.fork()
  if not child:
    os.environ['SAVED'] = str(saved)
    os.execv(sys.executable, [sys.executable, '-c', RUN])
  assert b'ready' in os.read(terminal, 100)
  os.close(terminal)
  assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
  assert saved.read_text() == f'[{signal.SIGHUP.value}]'


def test_other_errors_than_of_a_terminal_are_not_survived():
  with pytest.raises(BrokenPipeError):
    signals.survive(BrokenPipeError(errno.EPIPE, 'the reader has gone'))
