import os
import signal
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


def test_a_child_may_leave_the_terminal_to_its_parent():
  if child := os.fork():
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    return
  try:
    signals.leave_to_parent()
    for number in (signal.SIGINT, signal.SIGHUP):
      os.kill(os.getpid(), number)
    os._exit(3)
  finally:
    os._exit(4)
