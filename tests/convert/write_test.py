"""Weights go out under the names and axes of published files, and come back bit for bit."""

import dataclasses
import pathlib
import sys
import types

import jax
import numpy as np
import pytest
from flax import traverse_util

import movinet_jax as mj
from movinet_jax import convert
from movinet_jax.convert.families import movinet as movinet_names
from movinet_jax.convert.families import x3d as x3d_names
from movinet_jax.models import ensemble, tsnet, tvn, x3d

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
BASE = mj.models.load_spec(GOLDEN / 'movinet' / 'tiny.json', 'movinet')
STREAM = dataclasses.replace(BASE, conv='2plus1d', se='2plus3d', causal=True, positions=True)
MOVINETS = {
  'tiny_base_3d': BASE,
  'tiny_base_2plus1d': dataclasses.replace(BASE, conv='2plus1d'),
  'tiny_base_3d_2plus1d': dataclasses.replace(BASE, conv='3d_2plus1d'),
  'tiny_stream_3d_2plus1d': dataclasses.replace(STREAM, conv='3d_2plus1d'),
  'tiny_stream_3d_se3d_swish': dataclasses.replace(BASE, causal=True),
  'tiny_stream_posenc': STREAM,
}
X3D = x3d.make_spec(4, 32, 5, width=1, depth=1)


def read_published(name, prefix):
  """The weights of a golden file, as the reference names them."""
  with np.load(GOLDEN / f'{name}.npz') as file:
    keys = [key for key in file.files if key.startswith(prefix)]
    return {key.removeprefix(prefix): file[key] for key in keys}


def draw(model, seed=0):
  """Random variables, of which no two arrays are alike."""
  random = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda: mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3)))
  return jax.tree.map(lambda leaf: np.float32(random.uniform(0.5, 1.5, leaf.shape)), shapes)


def name_arrays(names, variables, spec):
  """What a file holds."""
  leaves = traverse_util.flatten_dict(variables)
  keys = names.make_keys(names.make_names(list(leaves)), spec)
  return {key: names.write_array(key, np.asarray(leaves[path])) for path, key in keys.items()}


def assert_same(ours, theirs):
  assert ours.keys() == theirs.keys()
  for key, array in theirs.items():
    assert ours[key].dtype == array.dtype, key
    np.testing.assert_array_equal(ours[key], array, err_msg=key, strict=True)


@pytest.mark.parametrize('name', MOVINETS)
def test_movinets_have_the_keys_and_axes_of_the_reference(name):
  spec = MOVINETS[name]
  model, arrays = mj.create('movinet', 12, spec=spec), read_published(f'movinet/{name}', 'var/')
  variables, _ = convert.load_arrays(arrays, model)
  assert_same(name_arrays(movinet_names, variables, spec), arrays)


def test_x3ds_have_the_keys_and_axes_of_the_reference():
  """The golden files leave out what counts batches, which PyTorch can do without."""
  arrays = read_published('x3d/tiny_w1_d1_4x32', 'sd/')
  spec = x3d.make_spec(4, 32, 1, width=1, depth=1, hidden=64)
  variables, _ = convert.load_arrays(arrays, mj.create('x3d', 10, spec=spec))
  assert_same(name_arrays(x3d_names, variables, spec), arrays)


@pytest.mark.parametrize('shortcut_norm', [False, True])
def test_x3ds_come_back(shortcut_norm):
  """Those with every norm have SlowFast's names, as a reader of the file finds out."""
  spec = dataclasses.replace(X3D, shortcut_norm=shortcut_norm)
  model = mj.create('x3d', 5, spec=spec)
  variables = draw(model)
  arrays = name_arrays(x3d_names, variables, spec)
  first, *_ = arrays
  assert first.startswith('s' if shortcut_norm else 'blocks') or 'head' in first
  other = mj.create('x3d', 5, spec=dataclasses.replace(spec, shortcut_norm=not shortcut_norm))
  assert convert.find_fields(arrays, other) == {'shortcut_norm': shortcut_norm}
  found, report = convert.load_arrays(arrays, model)
  assert len(report.loaded) == len(arrays)
  assert_same(
    traverse_util.flatten_dict(found, sep='/'), traverse_util.flatten_dict(variables, sep='/')
  )


def test_tensorflow_restores_what_is_written(tmp_path):
  """By the object graph, as it restores a model; and the file is as the reference saves it."""
  tf = pytest.importorskip('tensorflow')
  published = GOLDEN / 'movinet' / 'ckpt_tiny_stream_posenc' / 'ckpt-1'
  model = mj.create('movinet', 12, spec=STREAM)
  prefix = tmp_path / 'mine*[1]' / 'a.ckpt'
  prefix.parent.mkdir()
  convert.write_tensorflow(prefix, convert.load(published, model), model)
  files = sorted(path.name for path in prefix.parent.iterdir())
  assert files == ['a.ckpt.data-00000-of-00001', 'a.ckpt.index']
  assert_same(convert.read_arrays(prefix), convert.read_arrays(published))
  plain = tmp_path / 'plain'
  for name in files:
    (prefix.parent / name).rename(plain.with_name(name.replace('a.ckpt', 'plain')))
  root, wanted = tf.Module(), {}
  for key, array in convert.read_arrays(published).items():
    *path, last = key.removesuffix('/.ATTRIBUTES/VARIABLE_VALUE').split('/')
    if path[:1] == ['model']:
      node = root
      for name in path[1:]:
        if not hasattr(node, name):
          setattr(node, name, tf.Module())
        node = getattr(node, name)
      setattr(node, last, wanted.setdefault(key, tf.Variable(tf.zeros(array.shape))))
  tf.train.Checkpoint(model=root).restore(str(plain)).assert_consumed()
  arrays = convert.read_arrays(published)
  for key, variable in wanted.items():
    np.testing.assert_array_equal(variable.numpy(), arrays[key])


class _Torch(types.ModuleType):
  """As much of PyTorch as writes a file, where it is not installed."""

  from_numpy = staticmethod(lambda array: array)

  @staticmethod
  def save(value, path):
    with pathlib.Path(path).open('wb') as file:
      np.savez(file, **value['model_state'])


def test_pytorch_files(tmp_path, monkeypatch):
  model = mj.create('x3d', 5, spec=X3D)
  variables = draw(model)
  try:
    import torch

    path, read = tmp_path / 'x3d.pyth', lambda path: torch.load(path)['model_state']
  except ImportError:
    path, read = tmp_path / 'x3d.npz', np.load
    monkeypatch.setitem(sys.modules, 'torch', _Torch('torch'))
  convert.write_pytorch(path, variables, model)
  assert [p.name for p in tmp_path.iterdir()] == [path.name]
  found = {key: np.asarray(array) for key, array in read(path).items()}
  assert_same(found, name_arrays(x3d_names, variables, X3D))


def test_without_pytorch(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', None)
  model = mj.create('x3d', 5, spec=X3D)
  with pytest.raises(convert.ConversionError, match='pip install torch'):
    convert.write_pytorch(tmp_path / 'x3d.pyth', draw(model), model)


@pytest.mark.parametrize(
  ('write', 'family', 'spec', 'message'),
  [
    (convert.write_tensorflow, 'tvn', tvn.SMALL['base'], "'tvn'.*movinet for tensorflow"),
    (convert.write_pytorch, 'tsnet', tsnet.SMALL['sparse'], "'tsnet'.*x3d for pytorch"),
    (convert.write_pytorch, 'movinet', BASE, "pytorch is known that reads the family 'movinet'"),
    (convert.write_tensorflow, 'ensemble', ensemble.SMALL['base'], 'members one by one'),
    (convert.write_pytorch, 'x3d', dataclasses.replace(X3D, causal=True), 'no streams'),
    (convert.write_pytorch, 'x3d', x3d.SMALL['base'], 'has 2: write an .npz'),
    (
      convert.write_tensorflow,
      'movinet',
      dataclasses.replace(BASE, temporal_softmax=True),
      'no temporal softmax',
    ),
  ],
)
def test_networks_that_no_published_code_has(write, family, spec, message, tmp_path):
  model = mj.create(family, 5, spec=spec)
  with pytest.raises(convert.ConversionError, match=message):
    write(tmp_path / 'out', draw(model), model)
  assert not list(tmp_path.iterdir())
