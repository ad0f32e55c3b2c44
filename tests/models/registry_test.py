"""Networks by name and by file."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

import movinet_jax as mj
from movinet_jax import models
from movinet_jax.models.movinet import VARIANTS, Block, Layer, Spec

TINY = Spec(stem=4, blocks=(Block(4, 2, (Layer((3, 3, 3), 8),)),), project=8, head=8)


def test_the_folder_is_the_registry():
  families = models.families()
  assert {'movinet', 'ensemble'} <= set(families)
  for name, module in families.items():
    assert dataclasses.is_dataclass(module.Spec), name
    assert module.Spec.__dataclass_params__.frozen, name
    assert all(isinstance(spec, module.Spec) for spec in module.VARIANTS.values())
    fields = list(module.Model.__dataclass_fields__)
    assert fields[:2] == ['spec', 'num_classes'], name


@pytest.mark.parametrize('name', models.variants())
def test_every_name_creates_its_spec(name):
  family, variant = name.split('/')
  model = mj.create(name, num_classes=7)
  module = models.families()[family]
  assert isinstance(model, module.Model)
  assert model.spec == module.VARIANTS[variant]
  assert model.num_classes == 7
  assert name.endswith('-stream') == model.spec.causal


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('movinets/a0', {}, "unknown family 'movinets'; did you mean 'movinet'"),
    ('movinet/a0-steam', {}, "variant of movinet 'a0-steam'; did you mean 'a0-stream'"),
    ('movinet', {}, 'needs a spec, or a variant: movinet/ a0, a1,'),
    ('movinet/a0', {'num_classes': 0}, 'at least 1 class'),
    ('movinet/a0', {'drop_out': 0.5}, "no option 'drop_out'; did you mean 'dropout'"),
    ('movinet/a0', {'parent': None}, "no option 'parent'"),
    ('movinet/A0-stream', {}, "did you mean 'a0-stream'"),
    ('movinet/a0', {'conv': '4d'}, "unknown conv '4d'"),
    ('movinet/a0', {'causal': 'yes'}, "Spec.causal should be bool, got 'yes'"),
    ('movinet/a0', {'form': 'natve'}, "form 'natve'; did you mean 'native'"),
    ('movinet/a0', {'dtype': 'int32'}, "unknown dtype 'int32'"),
    ('movinet/a0', {'norm_group': 'abc'}, "norm_group should be int, got 'abc'"),
    ('movinet/a0', {'norm_group': 0}, 'norm_group is at least 1, got 0'),
    ('movinet/a0', {'dropout': 1.5}, r'dropout is a rate in \[0, 1\), got 1.5'),
    ('movinet/a0', {'stochastic_depth': 1}, r'stochastic_depth is a rate'),
  ],
)
def test_near_misses_are_named(name, options, message):
  with pytest.raises(ValueError, match=message):
    mj.create(name, **options)


def test_options_reach_the_spec_or_the_model():
  model = mj.create('movinet/a0', causal=True, dropout=0.5, dtype='bfloat16')
  assert model.spec == dataclasses.replace(VARIANTS['a0'], causal=True)
  assert (model.dropout, model.dtype) == (0.5, jnp.bfloat16)
  assert not VARIANTS['a0'].causal


def test_spec_as_object_mapping_and_file(tmp_path):
  path = tmp_path / 'found.json'
  models.save_spec(path, 'movinet', TINY)
  as_data = json.loads(path.read_text())['spec']
  for spec in (TINY, as_data, path, str(path)):
    assert mj.create('movinet', spec=spec).spec == TINY
  assert models.load_spec(path, 'movinet') == TINY
  assert mj.create('movinet', spec=path, causal=True).spec.causal


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{', 'not an architecture file'),
    ('[]', 'not an architecture file'),
    ('\udcff', 'not an architecture file'),
    ('{"family": "movinet"}', "not an architecture file.*'spec'"),
    ('{"family": "x3d", "spec": {}}', r"found\.json: unknown family 'x3d'"),
    ('{"family": "movinet", "spec": {"steam": 8}}', r"found\.json: .*mean 'stem'"),
    ('{"family": "movinet", "spec": 5}', r'found\.json: '),
  ],
)
def test_files_that_are_no_specs(tmp_path, text, message):
  path = tmp_path / 'found.json'
  path.write_text(text, errors='surrogateescape')
  with pytest.raises(ValueError, match=message):
    mj.create('movinet', spec=path)


def test_missing_spec_files():
  with pytest.raises(FileNotFoundError):
    mj.create('movinet', spec='nowhere.json')


def test_parameters_do_not_depend_on_the_clip():
  model = mj.create('movinet', 5, spec=TINY)
  key = jax.random.key(0)
  small, large = (mj.init(model, key, s) for s in ((1, 1, 8, 8, 3), (2, 9, 40, 30, 3)))
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), small, large))
  other = mj.init(model, jax.random.key(1), (1, 1, 8, 8, 3))

  def stem(variables):
    return variables['params']['stem']['conv']['kernel']

  assert (stem(small) != stem(other)).any()
