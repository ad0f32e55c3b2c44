"""A run that is killed or stopped, and started again, ends as if it never had been."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest

from movinet_jax.train.checkpoint import count_steps
from tests.train import toy

TOTAL = 45


def _start(workdir, pause_secs=0.0):
  return toy.start('tests.train.toy_run', workdir, TOTAL, pause_secs)


def _finish(process):
  output, _ = process.communicate(timeout=120)
  return process.returncode, output


def _read_final(workdir):
  with np.load(workdir / 'final.npz') as file:
    return [file[name] for name in file.files]


def _logged_steps(workdir):
  path = workdir / 'metrics.jsonl'
  text = path.read_text() if path.exists() else ''
  return [json.loads(line)['step'] for line in text.splitlines(keepends=True)
          if line.endswith('\n')]  # fmt: skip


def _is_writing(workdir):
  folder = workdir / 'checkpoints'
  return folder.exists() and any('tmp' in p.name for p in folder.iterdir())


def _wait_for(process, ready):
  until = time.monotonic() + 60
  while not ready():
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < until
    time.sleep(0.0005)


def _kill_when(process, ready):
  _wait_for(process, ready)
  process.kill()
  process.communicate()


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('whole')
  code, output = _finish(_start(workdir))
  assert code == 0, output
  return _read_final(workdir)


def _check_same(workdir, want):
  got = _read_final(workdir)
  assert len(got) == len(want) > 10
  for a, b in zip(got, want, strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def _latest(workdir):
  return max(count_steps(workdir / 'checkpoints'), default=0)


@pytest.mark.slow
def test_killed_at_random_moments_and_while_writing(tmp_path, uninterrupted):
  rng = random.Random(0)
  begun = 0
  for number in range(4):
    process = _start(tmp_path, pause_secs=0.05)
    if number == 0:
      _kill_when(process, lambda: _is_writing(tmp_path))
    else:
      _wait_for(process, lambda b=begun: _latest(tmp_path) > b)
      if number == 1:
        _kill_when(process, lambda: _is_writing(tmp_path))
      else:
        time.sleep(rng.uniform(0, 0.2))
        _kill_when(process, lambda: True)
    # Nothing that was whole before is lost.
    assert _latest(tmp_path) >= begun
    begun = _latest(tmp_path)
  assert 0 < begun < TOTAL
  assert not (tmp_path / 'final.npz').exists()
  code, output = _finish(_start(tmp_path))
  assert code == 0, output
  # It went on, and did not begin again.
  steps = _logged_steps(tmp_path)
  assert steps[-(TOTAL - begun) :] == list(range(begun + 1, TOTAL + 1))
  _check_same(tmp_path, uninterrupted)


@pytest.mark.slow
def test_sigterm_saves_and_exits_retriable(tmp_path, uninterrupted):
  process = _start(tmp_path, pause_secs=0.05)
  _wait_for(process, lambda: len(_logged_steps(tmp_path)) >= 7)
  process.send_signal(signal.SIGTERM)
  code, output = _finish(process)
  assert code == os.EX_TEMPFAIL == 75, output
  stopped = _logged_steps(tmp_path)[-1]
  assert 7 <= stopped < TOTAL
  assert count_steps(tmp_path / 'checkpoints')[-1] == stopped
  code, output = _finish(_start(tmp_path))
  assert code == 0, output
  assert _logged_steps(tmp_path) == list(range(1, TOTAL + 1))
  _check_same(tmp_path, uninterrupted)
