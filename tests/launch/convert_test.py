"""`movinet convert` on a checkpoint as TensorFlow writes it."""

import json
import pathlib

import numpy as np
import pytest

import movinet_jax as mj
from launch import convert
from movinet_jax.convert import ConversionError

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'movinet'


@pytest.fixture
def tiny(monkeypatch):
  """Registers the golden files' network under a name for the length of a test."""
  from movinet_jax.models import movinet

  blocks = (
    movinet.Block(8, 2, (movinet.Layer((1, 5, 5), 24), movinet.Layer((3, 3, 3), 16))),
    movinet.Block(
      16,
      2,
      (
        movinet.Layer((5, 3, 3), 40),
        movinet.Layer((1, 5, 5), 32),
        movinet.Layer((3, 3, 3), 24),
      ),
    ),
    movinet.Block(24, 2, (movinet.Layer((3, 3, 3), 48), movinet.Layer((5, 3, 3), 56))),
  )
  spec = movinet.Spec(stem=8, blocks=blocks, project=40, head=32)
  monkeypatch.setitem(movinet.VARIANTS, 'tiny', spec)
  return 'movinet/tiny'


def test_checkpoint_to_npz_to_network(tiny, tmp_path, capsys):
  out = tmp_path / 'tiny.npz'
  weights = GOLDEN / 'ckpt_tiny_base_3d' / 'ckpt-1'
  options = [tiny, f'--weights={weights}', '--num-classes=12', f'--out={out}']
  assert convert.main(options) == 0
  assert 'missing: 0' in capsys.readouterr().out
  model = mj.create(tiny, 12)
  with np.load(GOLDEN / 'tiny_base_3d.npz') as golden:
    assert json.loads(str(golden['meta_json']))['num_classes'] == 12
    logits, _ = model.apply(mj.convert.load(out, model), golden['input'])
    np.testing.assert_allclose(logits, golden['logits'], atol=1e-4)
  with pytest.raises(FileExistsError):
    convert.main(options)


def test_weights_of_another_network_are_refused(tiny, tmp_path):
  weights = GOLDEN / 'tiny_stream.npz'
  options = [tiny, f'--weights={weights}', f'--out={tmp_path / "x"}']
  with pytest.raises(ConversionError, match='not in the file'):
    convert.main(options)
  assert not (tmp_path / 'x.npz').exists()
