"""`movinet convert` on a checkpoint as TensorFlow writes it."""

import json
import pathlib

import jax
import numpy as np
import pytest

import movinet_jax as mj
from launch.verbs import convert
from movinet_jax import models
from movinet_jax.convert import ConversionError
from movinet_jax.models.x3d import make_spec
from tests.models.x3d_states import to_pytorch, to_pytorchvideo, to_slowfast

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'movinet'


TINY = GOLDEN / 'tiny.json'


def test_checkpoint_to_npz_to_network(tmp_path, capsys):
  out = tmp_path / 'tiny.npz'
  weights = GOLDEN / 'ckpt_tiny_base_3d' / 'ckpt-1'
  options = [
    'movinet',
    f'--spec={TINY}',
    f'--weights={weights}',
    '--num-classes=12',
    f'--out={out}',
  ]
  assert convert.main(options) == 0
  assert 'missing: 0' in capsys.readouterr().out
  model = mj.create('movinet', 12, spec=TINY)
  with np.load(GOLDEN / 'tiny_base_3d.npz') as golden:
    assert json.loads(str(golden['meta_json']))['num_classes'] == 12
    logits, _ = model.apply(mj.convert.load(out, model), golden['input'])
    np.testing.assert_allclose(logits, golden['logits'], atol=1e-4)
  with pytest.raises(FileExistsError):
    convert.main(options)


@pytest.mark.parametrize('published', [to_pytorchvideo, to_slowfast])
def test_published_x3ds_keep_their_classifier_and_slowfast_its_norm(published, tmp_path, capsys):
  """Of the 400 classes that they are published for, without a flag for either."""
  spec = make_spec(4, 32, 1, width=0.5, depth=1.0, hidden=8)
  models.save_spec(tmp_path / 'spec.json', 'x3d', spec)
  norm = published is to_slowfast
  model = mj.create('x3d', 400, spec=spec, shortcut_norm=norm)
  variables = mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3))
  np.savez(tmp_path / 'theirs.npz', **to_pytorch(variables, published))
  assert (
    convert.main(
      [
        'x3d',
        *(f'--spec={tmp_path / "spec.json"}', f'--weights={tmp_path / "theirs.npz"}'),
        f'--out={tmp_path / "ours.npz"}',
      ]
    )
    == 0
  )
  printed = capsys.readouterr().out
  assert 'mismatched: 0' in printed
  assert 'unexpected: 0' in printed
  assert ('--config.model.shortcut_norm=True' in printed) == norm
  loaded = mj.convert.load(tmp_path / 'ours.npz', model)
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  assert loaded['params']['classifier']['bias'].shape == (400,)
  assert ('norm' in loaded['params']['stage0_layer0']['shortcut']) == norm


def test_a_spec_that_is_no_json_is_named(tmp_path):
  spec = tmp_path / 'found.json'
  spec.write_bytes(b'\xff\xfe\x00')
  options = ['movinet', f'--spec={spec}', '--weights=x', f'--out={tmp_path / "x"}']
  with pytest.raises(ValueError, match=r'found\.json is not an architecture file'):
    convert.main(options)


def test_weights_of_another_network_are_refused(tmp_path):
  weights = GOLDEN / 'tiny_stream.npz'
  options = [
    'movinet',
    f'--spec={TINY}',
    f'--weights={weights}',
    f'--out={tmp_path / "x"}',
  ]
  with pytest.raises(ConversionError, match='not in the file'):
    convert.main(options)
  assert not (tmp_path / 'x.npz').exists()


@pytest.mark.parametrize('words', [[], ['--to=tensorflow']])
def test_a_folder_that_is_not_there_is_named_before_the_work(words, tmp_path):
  out = f'--out={tmp_path / "new" / "ckpt-1"}'
  with pytest.raises(FileNotFoundError, match=r'there is no folder .*new'):
    convert.main(['--weights=nowhere', out, *words])


@pytest.mark.parametrize(
  ('words', 'reason'),
  [
    (['movinet/a0', '--network=movinet/a1'], r'movinet/a0 and --network=movinet/a1 both'),
    (['movinet/a0', '--which=best'], r'--which=best is for workdirs'),
  ],
)
def test_what_would_do_nothing_is_refused(words, reason, tmp_path):
  with pytest.raises(ValueError, match=reason):
    convert.main([*words, '--weights=nowhere', f'--out={tmp_path / "a.npz"}'])
