"""`movinet convert` on a checkpoint as TensorFlow writes it."""

import json
import pathlib

import numpy as np
import pytest

import movinet_jax as mj
from launch.verbs import convert
from movinet_jax.convert import ConversionError

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
