"""Searches of which everything is killed at random end as those that nobody disturbs."""

import collections
import json
import sys

import pytest

from benchmarks.chaos import run_with_kills
from nas.trials.study import read_study
from tests.nas.trials import toy
from tests.nas.trials.engine_test import read_log

BUDGET = 40


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """The digest of a search by one worker on SQLite, that nobody kills."""
  folder = tmp_path_factory.mktemp('undisturbed')
  return toy.make_digest(toy.run(f'{folder}/a.db', folder, budget=BUDGET, workers=1, prune=True))


def make_command(storage, folder, **options) -> list[str]:
  options = {
    'storage': storage,
    'folder': str(folder),
    'arguments': {'secs': 0.4, 'log': f'{folder.parent}/log'},
    'budget': BUDGET,
    'prune': True,
    # However often the dice fall on the same one.
    'max_attempts': 1000,
    **options,
  }
  return [sys.executable, '-m', 'tests.nas.trials.toy', json.dumps(options)]


def check(storage, tmp_path, undisturbed):
  """None is lost, none is there twice, and all are what they would have been."""
  _, trials = read_study(storage, 'toy')
  assert [t.number for t in trials] == list(range(BUDGET))
  assert toy.make_digest(trials) == undisturbed
  log = read_log(tmp_path / 'log')
  begun = collections.Counter(number for what, number, *_ in log if what == 'begin')
  trained = [t for t in trials if not t.reason.startswith('as trial')]
  assert set(begun) == {str(t.number) for t in trained}


@pytest.mark.slow
def test_on_one_machine(tmp_path, undisturbed):
  storage = f'{tmp_path}/a.db'
  command = make_command(storage, tmp_path / '0', workers=2)
  kills = run_with_kills([command], every_secs=0.6, most=15, parents=0.2, cwd=toy.ROOT)
  assert kills['parents'] + kills['children'] > 3
  check(storage, tmp_path, undisturbed)


@pytest.mark.slow
def test_on_many_machines(postgres, tmp_path, undisturbed):
  opening = {'beat_secs': 1, 'silence_secs': 2}
  commands = [
    make_command(postgres, tmp_path / str(i), workers=2, opening=opening) for i in range(3)
  ]
  kills = run_with_kills(
    commands, every_secs=0.6, most=15, parents=0.2, stopped_secs=3, cwd=toy.ROOT
  )
  assert kills['parents'] + kills['children'] > 3
  check(postgres, tmp_path, undisturbed)
