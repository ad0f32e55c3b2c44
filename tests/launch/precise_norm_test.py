"""Training and evaluation with recomputed batch statistics, end to end."""

import json
import shutil

import jax
import numpy as np
import pytest

from launch import config
from launch.runs import training
from launch.runs.trained import load_trained
from launch.verbs import evaluate
from movinet_jax import data
from movinet_jax.train import checkpoint
from movinet_jax.train.workdir import CHECKPOINTS

SIZES = {'batches': 2, 'batch_size': 8}


@pytest.fixture(scope='module')
def make_config(train_command):
  """The small task of the other tests, with more sections."""

  def make(**changed):
    _, file, _, *overrides = train_command('unused', **{'loop.eval_every': 2})
    cfg = config.load_config(file.partition('=')[2], overrides).to_dict()
    return {**cfg, **changed}

  return make


@pytest.fixture(scope='module')
def recomputed(make_config, tmp_path_factory):
  """Workdir of a run that recomputes statistics for its evaluations."""
  folder = tmp_path_factory.mktemp('precise')
  training.run(training.resolve(make_config(precise_norm=SIZES)), str(folder))
  return folder


def read(workdir, **options):
  return checkpoint.load_variables(workdir / CHECKPOINTS, **options)


def assert_same_bits(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


def run_evaluate(workdir, out):
  assert evaluate.main([f'--checkpoint={workdir}', f'--out={out}']) == 0
  return json.loads(out.with_suffix('.json').read_text())


def test_training_goes_its_way_as_without(recomputed, trained):
  """Same weights and moving averages, to the bit, as the run that never recomputes."""
  assert_same_bits(read(recomputed, ema=False)[0], read(trained, ema=False)[0])
  params, averaged = (read(folder)[0]['params'] for folder in (recomputed, trained))
  assert_same_bits(params, averaged)


def test_resumed_it_ends_with_the_same_bits(recomputed, make_config, tmp_path):
  """Also from a checkpoint that has statistics of its own beside it."""
  folder = tmp_path / 'run'
  shutil.copytree(recomputed, folder)
  shutil.rmtree(folder / CHECKPOINTS / '6')
  assert checkpoint.has_statistics(folder / CHECKPOINTS, 4)
  training.run(training.resolve(make_config(precise_norm=SIZES)), str(folder))
  assert read(folder)[1]['metrics'] == read(recomputed)[1]['metrics']
  for ema in (True, False):
    assert_same_bits(read(folder, ema=ema)[0], read(recomputed, ema=ema)[0])


def test_what_is_evaluated_has_the_recomputed_statistics(recomputed, trained, tmp_path):
  variables, meta = read(recomputed)
  found = run_evaluate(recomputed, tmp_path / 'with')
  assert found['loss'] == pytest.approx(meta['metrics']['loss'], rel=1e-6)
  # The weights are the other run's, so what differs is the statistics.
  other = read(trained)[0]['batch_stats']
  gaps = jax.tree.map(lambda x, y: np.abs(x - y).max(), variables['batch_stats'], other)
  assert max(jax.tree.leaves(gaps)) > 0.1
  assert abs(found['loss'] / read(trained)[1]['metrics']['loss'] - 1) > 1e-4


def test_a_checkpoint_without_them_gets_the_same(recomputed, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(recomputed, folder)
  path = folder / CHECKPOINTS / '6' / 'statistics.npz'
  path.unlink()
  again = load_trained(str(folder)).complete()
  assert_same_bits(again['batch_stats'], read(recomputed)[0]['batch_stats'])
  assert not path.exists()  # To evaluate is to read.


def test_without_them_and_without_data_nothing_else_is_taken(recomputed, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(recomputed, folder)
  (folder / CHECKPOINTS / '6' / 'statistics.npz').unlink()
  loaded = load_trained(str(folder))
  loaded.config.data.train['root'] = str(tmp_path / 'nowhere')
  with pytest.raises(data.SourceError, match=r'step 6 .* never evaluated.*nowhere'):
    loaded.complete()


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    (
      {'precise_norm': {'batch': 2}},
      "precise_norm has no key 'batch'; did you mean .* or 'batches'",
    ),
    ({'precise_norm': {'batches': 0}}, r'precise_norm\.batches is 0; wanted a whole'),
    ({'train': {'freeze': 'batch_norm'}}, 'freeze=.batch_norm. keeps the batch stat'),
    ({'model': {'name': 'movinet/a0', 'norm_group': 3}}, r'model\.norm_group \(3\)'),
  ],
)
def test_what_cannot_work_is_found_early(make_config, changed, message):
  cfg = make_config(**{'precise_norm': SIZES, **changed})
  with pytest.raises(ValueError, match=message):
    training.resolve(cfg)


def test_without_evaluation_there_is_nothing_to_recompute_for(make_config):
  cfg = make_config(precise_norm=SIZES)
  del cfg['data']['eval']
  with pytest.raises(ValueError, match=r'there is no data\.eval'):
    training.resolve(cfg)
