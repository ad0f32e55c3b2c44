"""Weights of others become ours, and every array of the file is accounted for."""

import dataclasses
import json
import pathlib
import re

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import traverse_util

import movinet_jax as mj
from movinet_jax import convert
from movinet_jax.convert.families import movinet as movinet_names
from movinet_jax.models import ensemble
from movinet_jax.models.movinet import Block, Layer

FOLDER = pathlib.Path(__file__).parents[1] / 'golden' / 'movinet'
SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'
BACKBONE, HEAD = 'model/layer_with_weights-0/', 'model/layer_with_weights-1/'
BASE = mj.models.load_spec(FOLDER / 'tiny.json', 'movinet')
SPEC = dataclasses.replace(BASE, conv='2plus1d', se='2plus3d', causal=True, positions=True)
SMALL = dataclasses.replace(BASE, blocks=(Block(4, 2, (Layer((3, 1, 1), 8),)),))
CLASSIFIER = 'params/classifier/kernel', 'params/classifier/bias'


def read_golden(name):
  """The arrays of a golden file by their checkpoint keys."""
  with np.load(FOLDER / f'{name}.npz') as file:
    keys = [key for key in file.files if key.startswith('var/')]
    return {key.removeprefix('var/'): file[key] for key in keys}


def initialise(seed, num_classes=12):
  """Variables of the small network, by our own names."""
  model = make_model(num_classes, SMALL)
  variables = mj.init(model, jax.random.key(seed), (1, 1, 8, 8, 3))
  return traverse_util.flatten_dict(variables, sep='/')


STREAM, PLAIN = read_golden('tiny_stream_posenc'), read_golden('tiny_base_3d')


def make_model(num_classes=12, spec=SPEC):
  return mj.create('movinet', num_classes, spec=spec)


@pytest.fixture
def save(tmp_path):
  def save(arrays):
    path = tmp_path / 'weights.npz'
    np.savez(path, **arrays)
    return path

  return save


@pytest.fixture(scope='module')
def loaded():
  return convert.load(FOLDER / 'tiny_stream_posenc.npz', make_model())


def assert_same(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def rename(arrays, old, new):
  renamed = {key.replace(old, new): array for key, array in arrays.items()}
  assert renamed.keys() != arrays.keys()
  return renamed


def test_everything_is_loaded():
  _, report = convert.load_with_report(FOLDER / 'tiny_stream_posenc.npz', make_model())
  assert len(report.loaded) == len(STREAM)
  assert not (report.missing)
  assert not (report.mismatched)
  # The file also holds inputs and outputs of the reference, which no network has.
  assert {'input', 'logits'} <= set(report.unexpected)
  assert not [key for key in report.unexpected if key.startswith('var/')]


def test_a_checkpoint_has_nothing_unexpected():
  path = FOLDER / 'ckpt_tiny_base_3d'
  _, report = convert.load_with_report(path, make_model(spec=BASE))
  assert not report.unexpected
  assert report.skipped == ('save_counter' + SUFFIX,)


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    (BACKBONE, 'backbone/'),  # saved beside the model
    (HEAD, 'layer_with_weights-1/'),
    (SUFFIX, ''),
    ('/_conv/_conv/', '/_conv/'),  # without the wrapper of (2+1)D convolutions
  ],
)
def test_key_layouts(save, loaded, old, new):
  assert_same(convert.load(save(rename(STREAM, old, new)), make_model()), loaded)


def test_the_layouts_may_not_be_mixed_to_hold_a_variable_twice(save):
  stem = next(key for key in PLAIN if '_stem/_conv' in key)
  twice = {**PLAIN, stem.replace(BACKBONE, 'backbone/'): PLAIN[stem]}
  with pytest.raises(convert.ConversionError, match='both hold backbone/0/_stem'):
    convert.load(save(twice), make_model(spec=BASE))


def test_state_of_training_is_skipped(save, loaded):
  stem = next(key for key in STREAM if '_stem' in key)
  extra = [
    stem.replace(SUFFIX, '/.OPTIMIZER_SLOT/optimizer/rms' + SUFFIX),
    'save_counter' + SUFFIX,
    'optimizer/iter' + SUFFIX,
    'global_step' + SUFFIX,
    '_CHECKPOINTABLE_OBJECT_GRAPH',
  ]
  path = save({**STREAM, **dict.fromkeys(extra, np.ones(3))})
  variables, report = convert.load_with_report(path, make_model())
  assert report.skipped == tuple(sorted(extra))
  assert not report.unexpected
  assert_same(variables, loaded)


@pytest.mark.filterwarnings('ignore:overflow encountered in cast')
@pytest.mark.parametrize('value', [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_are_refused(save, value):
  """As float32: 1e300 is none. Few of very many names are shown."""
  arrays, model = initialise(0), make_model(spec=SMALL)
  name = 'params/stem/conv/kernel'
  bad = np.asarray(arrays[name], np.float64)
  bad.flat[-1] = value
  path = save({**arrays, name: bad})
  with pytest.raises(convert.ConversionError, match=f'^1 of .* weights: {name}. Take'):
    convert.load(path, model, partial=True)
  path = save({key: np.full(array.shape, value) for key, array in arrays.items()})
  with pytest.raises(convert.ConversionError, match=r'weights: \S+, \S+, \S+, …'):
    convert.load(path, model)


def test_a_missing_variable_is_refused(save):
  arrays, lost = initialise(0), 'params/block0_layer0/se/reduce/kernel'
  path = save({name: array for name, array in arrays.items() if name != lost})
  model = make_model(spec=SMALL)
  with pytest.raises(convert.ConversionError, match=f'1 variables .* first is {lost}'):
    convert.load(path, model)
  variables = convert.load(path, model, partial=True, seed=3)
  wanted = {**arrays, lost: initialise(3)[lost]}
  assert_same(traverse_util.flatten_dict(variables, sep='/'), wanted)


def test_a_checkpoint_of_another_variant_is_refused(save):
  with pytest.raises(convert.ConversionError, match=r'another variant \(base, stream\)'):
    convert.load(save(PLAIN), make_model())


@pytest.mark.parametrize('num_classes', [5, 12])
def test_the_classifier_may_be_new(save, num_classes):
  """Of other classes, or absent: as the seed initialises it; the rest is of the file."""
  arrays = initialise(0)
  if num_classes == 12:
    for name in CLASSIFIER:
      del arrays[name]
  path, model = save(arrays), make_model(num_classes, SMALL)
  variables = convert.load(path, model, seed=1)
  initial = initialise(1, num_classes)
  wanted = {**arrays, **{name: initial[name] for name in CLASSIFIER}}
  assert_same(traverse_util.flatten_dict(variables, sep='/'), wanted)


def test_a_classifier_of_other_classes_is_reported():
  path = FOLDER / 'tiny_base_3d.npz'
  arrays = convert.read_arrays(path)
  model = make_model(5, BASE)
  shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1, 8, 8, 3)))
  _, report = convert.fill(arrays, shapes, movinet_names)
  assert not report.missing
  bias, kernel = report.mismatched
  assert bias == 'params/classifier/bias: found (12,), wanted (5,)'
  assert re.match(r'params/classifier/kernel: found .*12\), wanted \(32, 5\)', kernel)
  report.check('classifier')
  with pytest.raises(convert.ConversionError):
    report.check('nothing')


def test_another_shape_is_refused_with_both(save):
  key = next(key for key in PLAIN if '_stem/_conv/kernel' in key)
  path = save({**PLAIN, key: PLAIN[key][..., :4]})
  wanted = r'params/stem/conv/kernel: found \(1, 3, 3, 3, 4\), wanted \(1, 3, 3, 3, 8\)'
  with pytest.raises(convert.ConversionError, match=wanted):
    convert.load(path, make_model(spec=BASE))


def test_axes_may_move_only_where_they_are_one(save):
  """A transposed kernel holds as many numbers, and they are not the same kernel."""
  key = next(key for key in PLAIN if '_expansion/_conv/kernel' in key)
  path = save({**PLAIN, key: np.swapaxes(PLAIN[key], -1, -2)})
  with pytest.raises(convert.ConversionError, match='expand/conv/kernel: found'):
    convert.load(path, make_model(spec=BASE))


@pytest.mark.parametrize(('old', 'new'), [('_stem', '_stemm'), ('model/', 'net/')])
def test_names_that_no_variable_has_are_reported(save, old, new):
  key = next(key for key in PLAIN if '_stem/_conv/kernel' in key)
  strange = key.replace(old, new)
  path = save({**PLAIN, strange: PLAIN[key]})
  _, report = convert.load_with_report(path, make_model(spec=BASE))
  assert report.unexpected == (strange,)
  assert strange in str(report)


def test_our_own_names_round_trip(save, loaded):
  flat = traverse_util.flatten_dict(loaded, sep='/')
  assert_same(convert.load(save(flat), make_model()), loaded)


def test_own_names_of_another_network_are_unexpected(save, loaded):
  flat = traverse_util.flatten_dict(loaded, sep='/')
  path = save({**flat, 'params/block9_layer9/rezero/scale': np.ones(())})
  _, report = convert.load_with_report(path, make_model())
  assert report.unexpected == ('params/block9_layer9/rezero/scale',)


def test_parameters_are_float32_whatever_the_file_holds(save, loaded):
  doubles = {key: np.float64(array) for key, array in STREAM.items()}
  variables = convert.load(save(doubles), make_model())
  assert_same(variables, loaded)
  assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {'float32'}


def test_an_ensemble_is_referred_to_its_members(save):
  spec = ensemble.Spec((ensemble.Member(BASE),))
  wanted = r"'ensemble' .* load each member, .* movinet_jax\.models\.ensemble\.join$"
  with pytest.raises(convert.ConversionError, match=wanted):
    convert.load(save(PLAIN), mj.create('ensemble', 12, spec=spec))


def test_published_names_need_a_family_that_knows_them(save):
  wanted = r"none of our own paths .*'linear' .*\(known: movinet, x3d\)$"
  with pytest.raises(convert.ConversionError, match=wanted):
    convert.load(save(PLAIN), nn.Dense(1))


def test_members_of_an_ensemble_convert_one_by_one():
  variables = convert.load(FOLDER / 'tiny_base_3d.npz', make_model(spec=BASE))
  spec = ensemble.Spec((ensemble.Member(BASE), ensemble.Member(BASE, offset=1)))
  model = mj.create('ensemble', 12, spec=spec, form='native')
  shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2, 8, 8, 3)))
  joined = ensemble.join([variables, variables])
  assert jax.tree.map(np.shape, joined) == jax.tree.map(lambda s: s.shape, shapes)


def test_the_golden_files_say_the_same_network():
  """The spec above is what these files were made of."""
  with np.load(FOLDER / 'tiny_stream_posenc.npz') as file:
    assert json.loads(str(file['meta_json']))['num_classes'] == 12
