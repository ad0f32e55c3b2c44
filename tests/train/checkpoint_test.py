import errno
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from movinet_jax.train import checkpoint
from movinet_jax.train.checkpoint import Checkpointer
from movinet_jax.train.optimizers import make_optimizer
from movinet_jax.train.state import make_state
from tests.train.toy import Toy, make_variables, max_difference


def _state(step=0, model=None, tx=None):
  tx = tx or make_optimizer(batch_size=8, total_steps=10)
  state = make_state(make_variables(model), tx)
  params = jax.tree.map(lambda x: x + step, state.params)
  return state.replace(step=jnp.int32(step), params=params)


def test_what_was_saved_comes_back(tmp_path):
  state, meta = _state(3), {'labels': ['run', 'jump'], 'position': {'batches': 3}}
  with Checkpointer(tmp_path) as saver:
    saver.save(state, meta)
  with Checkpointer(tmp_path) as reader:
    got, got_meta = reader.restore(_state())
  assert max_difference(got, state) == 0
  assert jax.tree.structure(got) == jax.tree.structure(state)
  assert got_meta == {**meta, 'step': 3, 'metrics': {}}
  assert checkpoint.read_meta(tmp_path) == got_meta
  # Weights alone, by who knows nothing of the optimizer.
  for ema, want in ((True, state.ema['params']), (False, state.params)):
    variables, _ = checkpoint.load_variables(tmp_path, ema=ema)
    assert max_difference(variables['params'], want) == 0
    assert max_difference(variables['batch_stats'], state.batch_stats) == 0


def test_a_save_that_failed_is_known_before_the_next_one(tmp_path, monkeypatch):
  class Failed:
    is_over = False

    def is_saving_in_progress(self):
      return not self.is_over

    def wait_until_finished(self):
      # As what writes arrays says it.
      raise ValueError("RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']")

  with Checkpointer(tmp_path) as saver:
    with monkeypatch.context() as patch:
      patch.setattr(saver, '_manager', Failed())
      saver.check()  # does not wait
      saver._manager.is_over = True
      with pytest.raises(OSError, match='No space left') as error:
        saver.check()
    assert error.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(error.value)
    saver.check()


def test_an_error_of_one_process_alone_is_no_lost_process(monkeypatch):
  gone = ValueError('UNKNOWN: Gloo AllGather failed: Connection reset by peer')
  assert not checkpoint.is_of_a_lost_process(gone)
  monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
  assert checkpoint.is_of_a_lost_process(gone)
  full = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory')
  assert not checkpoint.is_of_a_lost_process(full)
  assert not checkpoint.is_of_a_lost_process(ValueError('batch_size is 7'))
  assert not checkpoint.is_of_a_lost_process(None)


@pytest.mark.parametrize(('mode', 'best'), [('max', 2), ('min', 5)])
def test_the_latest_and_the_best_are_kept(tmp_path, mode, best):
  scores = {1: 0.3, 2: 0.8, 3: float('nan'), 5: 0.1, 6: 0.8, 7: 0.2, 9: 0.2}
  options = {'keep': 2, 'best_metric': 'score', 'best_mode': mode}

  def save_scored(saver, step):
    saver.save(_state(step), {})
    if step in scores:
      saver.add_metrics(step, {'score': scores[step]})

  with Checkpointer(tmp_path, **options) as saver:
    for step in (1, 2, 3, 4, 5):
      save_scored(saver, step)
  # The scores outlive the process.
  with Checkpointer(tmp_path, **options) as saver:
    for step in (6, 7, 8, 9):
      save_scored(saver, step)
    assert saver.best_step() == best
    got, _ = saver.restore(_state(), 'best')
    assert got.step == best
  assert checkpoint.count_steps(tmp_path) == [best, 8, 9]
  assert checkpoint.find_step(tmp_path, 'best', 'score', mode) == best
  assert checkpoint.read_meta(tmp_path, 8)['metrics'] == {}


@pytest.mark.parametrize(('metric', 'best'), [('loss', 1), ('top1', 2)])
def test_the_best_is_what_the_metric_says(tmp_path, metric, best):
  rows = {1: {'loss': 0.1, 'top1': 0.3}, 2: {'loss': 2.0, 'top1': 0.8}}
  rows |= {3: {'loss': 1.0, 'top1': 0.5}, 4: {'loss': 1.0, 'top1': 0.5}}
  with Checkpointer(tmp_path, keep=1, best_metric=metric) as saver:
    for step, row in rows.items():
      saver.save(_state(step), {})
      saver.add_metrics(step, row)
    assert saver.best_step() == best
    assert saver.restore(_state(), 'best')[0].step == best
  assert checkpoint.count_steps(tmp_path) == [best, 4]
  assert checkpoint.find_step(tmp_path, 'best', metric) == best
  assert checkpoint.read_meta(tmp_path, 'best', metric)['step'] == best
  assert checkpoint.load_variables(tmp_path, 'best', metric=metric)[1]['step'] == best
  worst = {'loss': 'max', 'top1': 'min'}[metric]
  with pytest.raises(ValueError, match=f"best_mode is '{worst}', but of {metric}"):
    checkpoint.load_variables(tmp_path, 'best', metric=metric, mode=worst)
  with pytest.raises(ValueError, match=f"best_mode is '{worst}', but of {metric}"):
    Checkpointer(tmp_path, best_metric=metric, best_mode=worst)
  with pytest.raises(ValueError, match=r"'mine' .* needs best_mode"):
    Checkpointer(tmp_path, best_metric='mine')


def test_metrics_are_added_to_what_is_saved(tmp_path):
  with Checkpointer(tmp_path) as saver:
    saver.save(_state(1), {'n': 1})
    saver.wait()
    assert (saver.read_metrics(1), saver.read_metrics(2)) == ({}, None)
    saver.add_metrics(1, {'top1': 0.5, 'loss': float('nan')})
    assert saver.read_metrics(1) == {'top1': 0.5, 'loss': None}
  meta = checkpoint.read_meta(tmp_path)
  assert (meta['n'], meta['step']) == (1, 1)


def test_saving_a_step_again_keeps_the_first(tmp_path):
  with Checkpointer(tmp_path) as saver:
    saver.save(_state(1), {'n': 1})
    saver.wait()
    saver.save(_state(1), {'n': 2})
  assert checkpoint.read_meta(tmp_path)['n'] == 1


def test_the_saved_arrays_are_those_of_the_moment(tmp_path):
  """A step that reuses the buffers right after a save must not reach the disk."""
  state = jax.jit(lambda s: s)(_state(1))
  bump = jax.jit(
    lambda s: s.replace(params=jax.tree.map(lambda x: x + 1.0, s.params)),
    donate_argnums=0,
  )
  want = jax.tree.map(np.array, state.params)
  with Checkpointer(tmp_path) as saver:
    saver.save(state, {})
    for _ in range(20):
      state = bump(state)
    jax.block_until_ready(state)
  got, _ = checkpoint.load_variables(tmp_path, ema=False)
  assert max_difference(got['params'], want) == 0


def test_half_written_checkpoints_are_not_seen(tmp_path):
  with Checkpointer(tmp_path) as saver:
    saver.save(_state(1), {})
    saver.save(_state(2), {})
  # As a kill leaves it while writing, and as a broken copy would.
  torn = tmp_path / '3.orbax-checkpoint-tmp-123'
  shutil.copytree(tmp_path / '2', torn)
  (tmp_path / '4' / 'state').mkdir(parents=True)
  assert checkpoint.count_steps(tmp_path) == [1, 2]
  with Checkpointer(tmp_path) as reader:
    assert reader.latest_step() == 2
    got, _ = reader.restore(_state())
  assert got.step == 2
  assert not torn.exists()


def test_differences_are_named(tmp_path):
  with Checkpointer(tmp_path) as saver:
    saver.save(_state(1), {})
    with pytest.raises(ValueError, match='another model or optimizer') as caught:
      saver.restore(_state(model=Toy(features=5)))
    assert 'params/classifier/kernel: saved float32[6, 4], wanted float32[5, 4]' in str(
      caught.value
    )
    adam = optax.adam(1e-3)
    with pytest.raises(ValueError, match=r'opt_state/0/mu/.*: saved nothing'):
      saver.restore(_state(tx=adam))


def test_absent_checkpoints_are_clear(tmp_path):
  with pytest.raises(FileNotFoundError, match='No checkpoint in'):
    checkpoint.read_meta(tmp_path)
  with Checkpointer(tmp_path, best_metric='top1') as saver:
    assert saver.latest_step() is None
    assert saver.best_step() is None
    saver.save(_state(4), {})
    saver.wait()
    with pytest.raises(FileNotFoundError, match=r'No checkpoint 3 .* there are \[4\]'):
      saver.restore(_state(), 3)
    with pytest.raises(FileNotFoundError, match="was evaluated for 'top1'"):
      saver.restore(_state(), 'best')
    with pytest.raises(ValueError, match='must be JSON'):
      saver.save(_state(5), {'key': np.ones(2)})
    with pytest.raises(ValueError, match="best_metric is 'top1'"):
      saver.add_metrics(4, {'top5': 0.1})
  assert json.loads((tmp_path / '4' / 'meta' / 'metadata').read_text())['step'] == 4


@struct.dataclass
class Search:
  """What a search saves: shared weights and a policy, no averages."""

  step: jax.Array
  params: dict
  opt_state: dict
  policy: dict
  settings: dict


@pytest.mark.parametrize('ema', [True, False])
def test_the_shared_weights_of_a_search_are_no_network(tmp_path, monkeypatch, ema):
  one = jnp.ones(2)
  parts = {'opt_state': {'m': one}, 'policy': {'z': one}, 'settings': {'beta': one}}
  with Checkpointer(tmp_path) as saver:
    saver.save(Search(jnp.int32(3), {'stem': one}, **parts), {'labels': ['a', 'b']})
  # Known before the arrays, which may be large, are read.
  monkeypatch.setattr(checkpoint.ocp, 'StandardCheckpointer', None)
  with pytest.raises(ValueError, match='holds no trained network') as caught:
    checkpoint.load_variables(tmp_path, ema=ema)
  text = str(caught.value)
  assert str(tmp_path / '3') in text
  assert '(it has: opt_state, params, policy, settings, step)' in text
  assert text.endswith('--spec=FOLDER_OF_THE_SEARCH/found.json')
  assert '\n' not in text


def test_recomputed_statistics_are_of_the_averages_and_change_no_state(tmp_path):
  state, stats = _state(3), jax.tree.map(lambda x: x + 5.0, _state().batch_stats)
  with Checkpointer(tmp_path) as saver:
    saver.save(state, {})
    assert not checkpoint.has_statistics(tmp_path, 3)
    saver.add_statistics(3, stats)
    got, _ = saver.restore(_state())
  assert checkpoint.has_statistics(tmp_path, 3)
  assert max_difference(got, state) == 0
  averaged, _ = checkpoint.load_variables(tmp_path)
  raw, _ = checkpoint.load_variables(tmp_path, ema=False)
  assert max_difference(averaged['batch_stats'], stats) == 0
  assert max_difference(averaged['params'], state.ema['params']) == 0
  assert max_difference(raw['batch_stats'], state.batch_stats) == 0


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'is no JSON'),
    ('{"step": 3', 'is no JSON'),
    ('[3]', 'wanted a table'),
    ('{"metrics": {}}', 'wanted a table'),
    ('{"step": 4, "metrics": {}}', 'not of checkpoint 3'),
    ('{"step": 3}', 'wanted a table'),
    ('{"step": 3, "metrics": [1]}', 'wanted a table'),
    ('{"step": 3, "metrics": {"top1": "best"}}', "the metric top1 'best'"),
    ('{"step": 3, "metrics": {"top1": Infinity}}', 'the metric top1 inf'),
  ],
)
def test_a_meta_that_is_none_is_named(tmp_path, text, message):
  with Checkpointer(tmp_path) as saver:
    saver.save(_state(3), {})
    path = tmp_path / '3' / 'meta' / 'metadata'
    saver.wait()
    path.write_text(text)
    for read in (
      lambda: checkpoint.read_meta(tmp_path),
      lambda: checkpoint.load_variables(tmp_path),
      lambda: saver.restore(_state()),
      lambda: Checkpointer(tmp_path, best_metric='top1'),
    ):
      with pytest.raises(ValueError, match=message) as error:
        read()
      assert str(path) in str(error.value)


@pytest.mark.parametrize('kind', ['more', 'fewer', 'shape', 'array'])
def test_statistics_of_another_network_are_refused(tmp_path, kind):
  with Checkpointer(tmp_path) as saver:
    saver.save(_state(3), {})
    saver.add_statistics(3, _state(3).batch_stats)
  path = tmp_path / '3' / 'statistics.npz'
  arrays = dict(np.load(path))
  name = sorted(arrays)[0]
  if kind == 'fewer':
    del arrays[name]
  elif kind == 'array':
    np.save(tmp_path / 'one.npy', arrays[name])
    (tmp_path / 'one.npy').replace(path)
  else:
    arrays[f'{name}2' if kind == 'more' else name] = np.zeros((77,), np.float32)
  if kind != 'array':
    np.savez(path, **arrays)
  wanted = 'no archive of arrays' if kind == 'array' else 'is of another network'
  with pytest.raises(ValueError, match=rf'statistics\.npz.*{wanted}'):
    checkpoint.load_variables(tmp_path)
