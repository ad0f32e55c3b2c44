"""Work that hangs, crashes or fails, and what is said of it."""

import os
import signal
import time

import pytest

from movinet_jax.data.limited import run_limited
from movinet_jax.data.reader import DecodeError


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
    case 'bug':
      raise KeyError('oops')


def test_every_job_ends_and_the_rest_goes_on():
  jobs = ['good 1', 'hang', 'crash', 'bad', 'hang in C', 'unreadable', 'good 2']
  start = time.monotonic()
  ended = dict(run_limited(work, jobs, workers=2, limit_secs=1.0))
  assert time.monotonic() - start < 20
  assert set(ended) == set(jobs)
  assert ended['good 1'] == ended['good 2'] == ''
  assert ended['hang'] == ended['hang in C'] == 'took more than 1 s'
  assert ended['crash'] == f'decoder crashed with exit code -{signal.SIGSEGV:d}'
  assert ended['bad'] == 'is bad'
  assert 'Permission denied' in ended['unreadable']


def test_a_bug_is_not_a_bad_file():
  with pytest.raises(RuntimeError, match=r"KeyError at 'bug': 'oops'"):
    list(run_limited(work, ['good', 'bug'], workers=1))


def test_nothing_to_do():
  assert list(run_limited(work, [], workers=4)) == []
