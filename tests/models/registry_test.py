"""Networks by name and by file."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import pytest

import movinet_jax as mj
from movinet_jax import models
from movinet_jax.models.movinet import VARIANTS, Block, Layer, Spec
from movinet_jax.spec import to_json

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


@pytest.mark.parametrize('family', models.families())
def test_every_family_tells_its_facts(family):
  module = models.find_family(family)
  assert type(module.NATIVE_FPS) is int
  assert module.NATIVE_FPS > 0
  assert type(module.NUM_CLASSES) is int
  assert mj.create(family, spec=next(iter(module.SMALL.values()))).num_classes == module.NUM_CLASSES
  assert module.SMALL
  for name, spec in module.SMALL.items():
    assert isinstance(spec, module.Spec), name
    assert min(spec.frames, spec.resolution, spec.frame_stride) > 0
    assert module.Spec(**vars(spec)) == spec
    model = mj.create(family, 3, spec=to_json(spec))
    assert model.spec == spec
    shapes = jax.eval_shape(lambda m=model: mj.init(m, jax.random.key(0), (1, 1, 32, 32, 3)))
    assert set(shapes) <= {'params', 'batch_stats'}
    paths = [[key.key for key in path] for path, _ in jax.tree.leaves_with_path(shapes)]
    heads = [path for path in paths if 'classifier' in path]
    # What a network for other classes begins anew, and what is trained alone.
    assert heads, name
    assert all(path[0] == 'params' for path in heads)


def test_published_facts():
  families = models.families()
  facts = {name: (m.NATIVE_FPS, m.NUM_CLASSES) for name, m in families.items()}
  assert facts['movinet'] == facts['ensemble'] == (25, 600)
  assert facts['x3d'] == facts['tsnet'] == (30, 400)
  assert facts['tvn'] == (25, 339)


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
    ('movinet/a0', {'num_classes': 0}, 'num_classes is 0; wanted a whole number, 1 or more'),
    ('movinet/a0', {'drop_out': 0.5}, "no option 'drop_out'; did you mean 'dropout'"),
    ('movinet/a0', {'parent': None}, "no option 'parent'"),
    ('movinet/A0-stream', {}, "did you mean 'a0-stream'"),
    ('movinet/a0', {'conv': '4d'}, "conv is '4d' .*2plus1d"),
    ('movinet/a0', {'causal': 'yes'}, "Spec.causal should be bool, got 'yes'"),
    ('movinet/a0', {'form': 'natve'}, "form 'natve'; did you mean 'native'"),
    ('movinet/a0', {'dtype': 'int32'}, "unknown dtype 'int32'"),
    ('movinet/a0', {'norm_group': 'abc'}, "norm_group should be int, got 'abc'"),
    ('movinet/a0', {'norm_group': 0}, 'norm_group is 0'),
    ('movinet/a0', {'dropout': 1.5}, 'dropout is 1.5; wanted a number, 0 or more and less than 1'),
    ('movinet/a0', {'stochastic_depth': 1}, 'stochastic_depth is 1'),
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


KIND = r'; such a file is the found\.json of a search, or JSON of the form {"family": '
TINY_JSON = to_json(TINY)


def _write(family='movinet', **changes):
  return json.dumps({'family': family, 'spec': {**TINY_JSON, **changes}})


def refuse(path, message):
  """Checks the answer of all who read a file: a line that names it and what is wanted."""
  for read in (models.read_spec, lambda path: mj.create('movinet', spec=path)):
    with pytest.raises(ValueError, match=message) as caught:
      read(path)
    assert re.match(re.escape(str(path)), str(caught.value))
    assert re.search(KIND, str(caught.value))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'Expecting value'),
    ('{', 'Expecting property name'),
    ('stem: 8', 'Expecting value'),
    ('\udcff', "can't decode"),
    ('[]', r'it holds \[\], wanted a table'),
    ('null', 'it holds None, wanted a table'),
    ('"movinet"', "it holds 'movinet', wanted a table"),
    ('{}', r"it has no 'family', but \[\]"),
    ('{"family": "movinet"}', r"it has no 'spec', but \['family'\]"),
    ('{"spec": {}}', r"it has no 'family', but \['spec'\]"),
    (json.dumps(TINY_JSON), r"it has no 'family', but \['version', 'stem', 'blocks',"),
    (
      '{"family": ["movinet"], "spec": {}}',
      r"'family' is \['movinet'\], wanted a name",
    ),
    ('{"family": null, "spec": {}}', "its 'family' is None, wanted a name"),
    ('{"family": "movinet", "spec": 5}', "its 'spec' is 5, wanted a table"),
    ('{"family": "movinet", "spec": null}', "its 'spec' is None, wanted a table"),
    (
      '{"family": "movinet", "spec": [["stem", 8]]}',
      "its 'spec' is .*, wanted a table",
    ),
    (_write('x4d'), "unknown family 'x4d'"),
    (_write('movinets'), "unknown family 'movinets'; did you mean 'movinet'"),
    (
      '{"family": "movinet", "spec": {"steam": 8}}',
      "field 'steam'; did you mean 'stem'",
    ),
    ('{"family": "movinet", "spec": {"stem": 8}}', "Spec lacks the field 'blocks'"),
    (_write(version=2), 'this spec has version 2, this code reads 1'),
    (_write(stem='8'), "Spec.stem should be int, got '8'"),
    (_write(stem=8.5), 'Spec.stem should be int, got 8.5'),
    (_write(stem=0), 'Spec.stem is 0'),
    (_write(blocks=3), 'Spec.blocks should be a list, got 3'),
    (_write(blocks=[]), r'Spec.blocks is \(\)'),
    (_write(blocks=[3]), r'Spec.blocks\[0\] should be a table, got 3'),
    (_write(causal=None), 'Spec.causal should be bool, got None'),
    (_write(activation='swich'), "Spec.activation is 'swich'; did you mean 'swish'"),
  ],
)
def test_files_that_are_no_specs(tmp_path, text, message):
  path = tmp_path / 'found.json'
  path.write_text(text, errors='surrogateescape')
  refuse(path, rf'found\.json is not an architecture file: .*{message}')


def test_files_that_cannot_be_read(tmp_path):
  refuse('nowhere.json', '^nowhere.json cannot be read: No such file or directory;')
  refuse(tmp_path, 'cannot be read: Is a directory;')
  refuse(tmp_path / ('x' * 300), 'cannot be read: File name too long;')


def test_the_found_json_of_a_search_is_one(tmp_path):
  """It says more than the network."""
  path = tmp_path / 'found.json'
  path.write_text(json.dumps({**json.loads(_write()), 'cost': {'macs': 3}, 'choices': []}))
  assert models.read_spec(path) == ('movinet', TINY)
  with pytest.raises(ValueError, match="spec of 'movinet', not of 'ensemble'"):
    models.load_spec(path, 'ensemble')


def test_parameters_do_not_depend_on_the_clip():
  model = mj.create('movinet', 5, spec=TINY)
  key = jax.random.key(0)
  small, large = (mj.init(model, key, s) for s in ((1, 1, 8, 8, 3), (2, 9, 40, 30, 3)))
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), small, large))
  other = mj.init(model, jax.random.key(1), (1, 1, 8, 8, 3))

  def stem(variables):
    return variables['params']['stem']['conv']['kernel']

  assert (stem(small) != stem(other)).any()
