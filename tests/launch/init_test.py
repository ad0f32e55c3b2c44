"""`movinet train --config.init=` begins any family from a finished run, workdir or `.npz`."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from launch.verbs import train
from movinet_jax import models
from movinet_jax.models import tvn, x3d
from movinet_jax.train import checkpoint

CLIP = {'frames': 4, 'resolution': 16, 'frame_stride': 1}
# With kernels of as many inputs as outputs, which look the same transposed.
SPECS = {
  'x3d': x3d.Spec(stem=8, stages=(x3d.Stage(8, 8, 1),), hidden=8, **CLIP),
  'tvn': tvn.Spec((tvn.Block(8, 1, 1, tvn.Op('conv', 3, 2), tvn.Op('max', 2, 2)),), **CLIP),
}


@pytest.mark.parametrize('family', SPECS)
def test_a_run_begins_where_another_ended(family, train_command, tmp_path):
  """With hardly a learning rate its weights stay what they were at its beginning."""
  spec = tmp_path / 'spec.json'
  models.save_spec(spec, family, SPECS[family])

  def run(name, **changed):
    values = {'loop.total_steps': 1, 'optimizer.warmup_steps': 0, **changed}
    _, *arguments = train_command(tmp_path / name, **values)
    assert train.main([*arguments, f'--spec={spec}']) == 0
    return lambda ema: checkpoint.load_variables(tmp_path / name / 'checkpoints', ema=ema)[0]

  first = run('first', **{'loop.total_steps': 2})(ema=True)
  np.savez(tmp_path / 'first.npz', **traverse_util.flatten_dict(first, sep='/'))
  for init in ('first', 'first.npz'):
    still = {'init': tmp_path / init, 'optimizer.learning_rate': 1e-30, 'seed': 1}
    found = run(f'from-{init}', **still)(ema=False)
    for a, b in zip(*map(jax.tree.leaves, (found['params'], first['params'])), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-20, rtol=0)
