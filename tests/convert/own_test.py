"""A network of any family begins from our own files, without a file of names for it."""

import jax
import numpy as np
import pytest
from flax import traverse_util

import movinet_jax as mj
from movinet_jax import convert, models
from movinet_jax.convert import families
from movinet_jax.models import x3d

MEMBERS = [
  pytest.param(family, name, id=f'{family}-{name}')
  for family, module in models.families().items()
  for name in module.SMALL
]
# Kernels of as many inputs as outputs look the same transposed.
SQUARE = x3d.Spec(stem=8, stages=(x3d.Stage(8, 8, 1),), hidden=8, frames=2, resolution=8)


def make_shapes(model):
  variables = jax.eval_shape(lambda: mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3)))
  return traverse_util.flatten_dict(variables, sep='/')


def make_trained(model):
  """Random variables by path, as if the network had been trained."""
  random = np.random.default_rng(0)
  return {
    name: np.float32(random.uniform(0.5, 1.5, leaf.shape))
    for name, leaf in make_shapes(model).items()
  }


def check_begins(family, spec, path):
  """A finished run's arrays, as a tree and as a file, begin the same network for other classes."""
  trained = make_trained(mj.create(family, 7, spec=spec))
  np.savez(path, **trained)
  model = mj.create(family, 5, spec=spec)
  fresh = mj.init(model, jax.random.key(3), (1, 1, 32, 32, 3))
  fresh = traverse_util.flatten_dict(fresh, sep='/')
  kept = {name for name in trained if 'classifier' not in name.split('/')}
  assert kept < set(trained)
  tree = traverse_util.unflatten_dict(trained, sep='/')
  for found, report in (
    convert.load_with_report(path, model, seed=3),
    convert.fit(tree, model, seed=3),
  ):
    assert set(report.loaded) == kept
    assert (report.missing, report.unexpected, report.skipped) == ((), (), ())
    assert len(report.mismatched) == len(trained) - len(kept)
    for name, array in traverse_util.flatten_dict(found, sep='/').items():
      wanted = trained if name in kept else fresh
      np.testing.assert_array_equal(array, wanted[name], err_msg=name)


@pytest.mark.parametrize(('family', 'name'), MEMBERS)
def test_every_family_begins_from_its_own_arrays(family, name, tmp_path):
  check_begins(family, models.find_family(family).SMALL[name], tmp_path / 'run.npz')


def test_square_kernels_are_not_transposed(tmp_path):
  square = [
    name
    for name, leaf in make_shapes(mj.create('x3d', 5, spec=SQUARE)).items()
    if len(leaf.shape) > 1 and leaf.shape[-1] == leaf.shape[-2]
  ]
  assert len(square) >= 3
  check_begins('x3d', SQUARE, tmp_path / 'run.npz')


def test_a_planted_transposition_is_found(tmp_path, monkeypatch):
  def fill(arrays, variables, names):
    found, report = honest(arrays, variables, names)
    square = lambda x: x.ndim > 1 and x.shape[-1] == x.shape[-2]  # noqa: E731
    return jax.tree.map(lambda x: x.swapaxes(-1, -2) if square(x) else x, found), report

  honest = convert.fill
  monkeypatch.setattr(convert, 'fill', fill)
  with pytest.raises(AssertionError, match='kernel'):
    check_begins('x3d', SQUARE, tmp_path / 'run.npz')


def test_our_own_arrays_must_have_our_shape(tmp_path):
  """No axis is dropped or moved: such a file is not of this network."""
  arrays = make_trained(mj.create('x3d', 5, spec=SQUARE))
  name = 'params/stage0_layer0/expand/conv/kernel'
  np.savez(tmp_path / 'run.npz', **{**arrays, name: arrays[name][None]})
  with pytest.raises(convert.ConversionError, match=rf'{name}: found \(1, 8, 8\), wanted \(8, 8\)'):
    convert.load(tmp_path / 'run.npz', mj.create('x3d', 5, spec=SQUARE))


NEWCOMER = """
import dataclasses
import flax.linen as nn

NATIVE_FPS, NUM_CLASSES = 25, 3


@dataclasses.dataclass(frozen=True)
class Spec:
  width: int
  frames: int = 2
  resolution: int = 8
  frame_stride: int = 1
  causal = False


SMALL = VARIANTS = {'one': Spec(4)}


class Model(nn.Module):
  spec: Spec
  num_classes: int

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    x = nn.Dense(self.spec.width, name='hidden')(x.mean((1, 2, 3)))
    return nn.Dense(self.num_classes, name='classifier')(x), {}
"""


def test_a_family_of_one_file_begins_from_its_own_arrays(tmp_path, monkeypatch):
  (tmp_path / 'newcomer.py').write_text(NEWCOMER)
  monkeypatch.setattr(models, '__path__', [*models.__path__, str(tmp_path)])
  check_begins('newcomer', models.find_family('newcomer').SMALL['one'], tmp_path / 'run.npz')
  assert mj.create('newcomer/one').num_classes == 3
  assert 'newcomer' not in families.list_names()
  np.savez(tmp_path / 'theirs.npz', **{'blocks.0.weight': np.ones(3)})
  wanted = r"none of our own paths .*'newcomer' are unknown \(known: movinet, x3d\)"
  with pytest.raises(convert.ConversionError, match=wanted):
    convert.load(tmp_path / 'theirs.npz', mj.create('newcomer/one'))


def test_published_names_belong_to_families():
  assert set(families.list_names()) <= set(models.families())
  for family in models.families():
    names = families.find(family)
    assert (names is None) == (family not in families.list_names())
    if names is not None:
      assert {'find_name', 'make_names', 'fit_array'} <= set(vars(names))
