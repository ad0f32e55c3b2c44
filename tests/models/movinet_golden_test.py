"""MoViNets give the numbers of the TensorFlow reference: logits, layers, streams, states."""

import functools
import json
import pathlib
import re

import jax
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax import convert

FOLDER = pathlib.Path(__file__).parents[1] / 'golden' / 'movinet'
CASES = sorted(path.stem for path in FOLDER.glob('*.npz'))
TOLERANCE = 1e-5  # of the largest value; the reference's own noise is about 1e-6
TINY = FOLDER / 'tiny.json'
FIELDS = {  # The reference's names for the fields of a Spec.
  'causal': 'causal',
  'conv_type': 'conv',
  'se_type': 'se',
  'activation': 'activation',
  'gating_activation': 'gate',
  'pos': 'positions',
  'head_activation': 'head_activation',
}


def make_model(meta, **options):
  build = {**meta['stream_defaults'], **meta['build']}
  changed = {FIELDS[key]: value for key, value in build.items()}
  return mj.create('movinet', meta['num_classes'], spec=TINY, **changed, **options)


@pytest.fixture(scope='module', params=CASES)
def case(request):
  path = FOLDER / f'{request.param}.npz'
  with np.load(path) as arrays:
    golden = {k: arrays[k] for k in arrays.files if not k.startswith('var/')}
  model = make_model(json.loads(str(golden['meta_json'])))
  return golden, model, convert.load(path, model)


def assert_close(ours, theirs, what=''):
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  error = np.abs(ours - theirs).max() / np.abs(theirs).max()
  assert error < TOLERANCE, f'{what}: {error}'


def test_there_are_cases():
  assert len(CASES) == 8


def test_logits_and_layers(case):
  golden, model, variables = case
  apply = functools.partial(model.apply, capture_intermediates=True, mutable=['intermediates'])
  (logits, _), extra = jax.jit(apply)(variables, golden['input'])
  assert_close(logits, golden['logits'])
  layers = extra['intermediates']
  names = {k.partition('/')[2] for k in golden if k.startswith('endpoint/')}
  assert {'stem', 'head'} < names
  for name in names:
    ours = layers['pool' if name == 'head' else name]['__call__'][0][0]
    assert_close(ours, golden[f'endpoint/{name}'], name)


@pytest.mark.parametrize('chunk_frames', [1, 2])
def test_streams(case, chunk_frames):
  golden, model, variables = case
  if 'frame_logits' not in golden:
    pytest.skip('not a stream')
  step = jax.jit(model.apply)
  clip, state = golden['input'], model.init_state(2, golden['input'].shape[2:4])
  logits = []
  for start in range(0, clip.shape[1], chunk_frames):
    y, state = step(variables, clip[:, start : start + chunk_frames], state)
    logits.append(y)
  name = 'frame_logits' if chunk_frames == 1 else 'chunk2_logits'
  assert_close(np.stack(logits), golden[name])
  assert_states(state, golden, 'state/')


def test_whole_clip_leaves_the_same_state(case):
  golden, model, variables = case
  if 'frame_logits' not in golden:
    pytest.skip('not a stream')
  _, state = jax.jit(model.apply)(variables, golden['input'])
  assert_states(state, golden, 'state_fullclip/')


def assert_states(state, golden, prefix):
  """Compares our nested state with every tensor of the reference's flat one."""
  theirs = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
  assert theirs
  for name, value in theirs.items():
    ours = find_state(state, name)
    if name.endswith('frame_count'):  # one for the whole batch there, one a video here
      assert (np.asarray(ours) == value).all()
    else:
      assert_close(ours, value, name)


def find_state(state, name):
  if name.startswith('state_head_pool_'):
    return state['pool']['count' if name.endswith('count') else 'total']
  block, kind = re.match(r'state_(block\d_layer\d)_(.*)', name).groups()
  parts = state[block]
  if kind == 'stream_buffer':
    part = 'temporal' if 'temporal' in parts else 'depthwise'
    return parts[part]['conv']['buffer']
  return parts['se']['count' if kind.endswith('count') else 'total']


def test_checkpoints_load_like_archives():
  """Both ways of reading one network's weights give the same variables."""
  for name in ('tiny_base_3d', 'tiny_stream_posenc'):
    with np.load(FOLDER / f'{name}.npz') as arrays:
      model = make_model(json.loads(str(arrays['meta_json'])))
    archive = convert.load(FOLDER / f'{name}.npz', model)
    checkpoint = convert.load(FOLDER / f'ckpt_{name}' / 'ckpt-1', model)
    jax.tree.map(np.testing.assert_array_equal, archive, checkpoint)
