"""Runs that version 0.1.0 began, and was stopped in, go on with the code of today."""

import json
import pathlib
import tarfile

import pytest

from launch import main
from movinet_jax.data import motion
from tests.fixtures.workdirs.make import SWEEP, TRAIN, read_rows

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'workdirs'
EXPECTED = json.loads((FIXTURES / 'expected.json').read_text())
SPEED = {'examples_per_sec', 'input_wait_share', 'failed_decodes'}
NEW = {'entropy_total', 'entropy_bound'}  # metrics that version 0.1.0 did not log


@pytest.fixture
def begin(tmp_path, monkeypatch):
  """Unpacks a workdir beside its videos; returns how to go on with it."""
  monkeypatch.chdir(tmp_path)
  motion.write_motion('videos', videos_per_class=8, frames=8, size=24, seed=1)

  def run(verb, config, values):
    with tarfile.open(FIXTURES / f'{verb}.tar.gz') as archive:
      archive.extractall(filter='data')
    flags = [f'--config.{key}={value}' for key, value in values.items()]
    command = [verb, f'--config={config}', f'--workdir={verb}', *flags]
    spec = json.loads((tmp_path / verb / 'config.json').read_text()).get('model')
    if spec:
      (tmp_path / 'spec.json').write_text(
        json.dumps({'family': spec['name'], 'spec': spec['spec']})
      )
      command.append('--spec=spec.json')
    assert main.main(command) == 0

  return run


def keep_results(rows):
  return [{k: v for k, v in row.items() if k not in SPEED | NEW} for row in rows]


def test_a_training_run(begin):
  begin('train', 'configs/movinet/quickstart.py', TRAIN)
  rows = [row for row in read_rows('train') if row['step'] > 4]
  for row, wanted in zip(keep_results(rows), keep_results(EXPECTED['train']), strict=True):
    # The average of weights forgets its beginning faster than it did in that version.
    assert row == pytest.approx(wanted, rel=1e-3 if 'eval/loss' in row else 1e-4)


def test_a_search(begin):
  begin('search', FIXTURES / 'small.py', {'data.train.root': 'videos'})
  rows = [row for row in read_rows('search') if row['step'] > 9]
  wanted = [row for row in EXPECTED['search']['rows'] if row['step'] > 9]
  for row, other in zip(keep_results(rows), keep_results(wanted), strict=True):
    assert row == pytest.approx(other, rel=1e-3)
  found = json.loads(pathlib.Path('search/found.json').read_text())
  for key in ('family', 'spec', 'choices', 'cost', 'target', 'train'):
    assert found[key] == EXPECTED['search']['found'][key], key


def test_a_sweep(begin):
  begin('sweep', 'configs/sweep/quickstart.py:expand', SWEEP)
  found = json.loads(pathlib.Path('sweep/found.json').read_text())
  wanted = EXPECTED['sweep']
  for key in ('family', 'spec', 'trial', 'choices', 'search', 'trials', 'path'):
    assert found[key] == wanted[key], key
  assert found['train'].replace('sweep/', '') == wanted['train'].replace('whole/', '')
  # The trial that was over before is not trained again.
  assert not list(pathlib.Path('sweep/trials').glob('b2b9f728a4569b46/checkpoints'))
