"""Processes prepare side by side, measure alone, and fail without the others."""

import importlib
import os
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
READY = 'from turns import tell, wait_for_turn\nimport os, sys, time\n'


@pytest.fixture
def turns(monkeypatch):
  monkeypatch.syspath_prepend(str(BENCHMARKS))
  monkeypatch.setenv('PYTHONPATH', str(BENCHMARKS))
  yield importlib.import_module('turns')
  del sys.modules['turns']


def run(turns, scripts, secs=20.0, jobs=4):
  commands = {name: [sys.executable, '-c', READY + code] for name, code in scripts.items()}
  return list(turns.run_in_turns(commands, secs=secs, jobs=jobs))


def test_who_measures_is_alone_and_pauses_are_told(turns, tmp_path):
  # Writes the time as often as it can; while another measures there must be a gap.
  busy = f"""
began = time.perf_counter()
with open({str(tmp_path / 'ticks')!r}, 'w', buffering=1) as file:
  while time.perf_counter() - began < 2.0:
    print(time.perf_counter(), file=file)
    time.sleep(0.005)
tell('row', {{'pauses': wait_for_turn()}})
"""
  quick = """
time.sleep(0.5)
wait_for_turn()
began = time.perf_counter()
time.sleep(0.6)
tell('row', {'span': (began, time.perf_counter())})
"""
  found = dict(run(turns, {'busy': busy, 'quick': quick}))
  start, end = found['quick']['span']
  ticks = [float(line) for line in (tmp_path / 'ticks').read_text().splitlines()]
  assert min(ticks) < start
  assert max(ticks) > end
  assert not [tick for tick in ticks if start + 0.05 < tick < end - 0.05]
  ((paused, resumed),) = found['busy']['pauses']
  assert paused < start
  assert resumed > end
  assert turns.subtract_pauses((start, end + 1), [(paused, resumed)]) < 1.0


def test_a_process_that_aborts_ends_only_itself(turns):
  abort = 'print("Check failed: 3136 vs 112", file=sys.stderr, flush=True); os.abort()'
  scripts = {'first': abort, 'second': 'wait_for_turn(); tell("row", {"ms": 1})'}
  found = dict(run(turns, scripts))
  assert found['second'] == {'ms': 1}
  assert found['first'] == {'failed': 'signal 6: Check failed: 3136 vs 112'}


def test_a_process_may_prepare_once_more(turns):
  again = 'wait_for_turn(); tell("row", {"n": 1}); tell("preparing"); '
  found = run(turns, {'one': again + 'wait_for_turn(); tell("row", {"n": 2})'})
  assert found == [('one', {'n': 1}), ('one', {'n': 2})]


def test_what_the_time_does_not_suffice_for_is_named(turns, monkeypatch, tmp_path):
  monkeypatch.setattr(turns, '_LEAST_SECS', 0)
  place = tmp_path / 'pid'
  slow = f'open({str(place)!r}, "w").write(str(os.getpid())); time.sleep(60)'
  found = dict(run(turns, {'slow': slow, 'never': 'pass'}, secs=1.0, jobs=1))
  assert found == {
    'slow': {'not_measured': 'no time left (preparing)'},
    'never': {'not_measured': 'no time left (not begun)'},
  }
  time.sleep(0.1)
  with pytest.raises(ProcessLookupError):
    os.kill(int(place.read_text()), 0)
