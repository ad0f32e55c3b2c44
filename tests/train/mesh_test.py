"""One device and eight agree. Devices are fixed at start, so each has its process."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from movinet_jax.train.losses import make_loss
from movinet_jax.train.mesh import make_mesh, read_local_rows, shard_batch, shard_step
from movinet_jax.train.optimizers import make_optimizer
from movinet_jax.train.precise_norm import make_estimate
from movinet_jax.train.state import make_state
from movinet_jax.train.steps import make_train_step
from tests.train.toy import Toy, make_batch, make_variables

ROOT = Path(__file__).parents[2]


def _train():
  """Three steps with accumulation, in which every clip passes through batch norm."""
  model, mesh = Toy(dropout=0.3), make_mesh()
  tx = make_optimizer(batch_size=16, total_steps=10, learning_rate=30.0)
  step = make_train_step(model, tx, make_loss(), seed=0, accumulate=2)
  step = shard_step(step, mesh)
  state = make_state(make_variables(model), tx)
  for number in range(3):
    batch = make_batch(number, clips=16)
    batch['mask'][-3:] = 0
    state, metrics = step(state, batch)
  precise = make_estimate(model, mesh)(state.ema, [make_batch(3, clips=16)])
  tree = {
    **{'params': state.params, 'stats': state.batch_stats, 'metrics': metrics},
    'precise': precise,
  }
  return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]


def _train_on(devices, path):
  subprocess.run(
    [sys.executable, '-m', 'tests.train.mesh_test', path],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices),
    },
    check=True,
  )
  with np.load(path) as file:
    assert file['devices'] == devices
    return [file[name] for name in file.files if name != 'devices']


@pytest.mark.slow
def test_one_device_and_eight_agree(tmp_path):
  one = _train_on(1, tmp_path / 'one.npz')
  eight = _train_on(8, tmp_path / 'eight.npz')
  assert len(one) == len(eight) > 10
  for a, b in zip(one, eight, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


class _Devices:
  """A mesh of so many devices, as far as a check needs one."""

  def __init__(self, count):
    self.local_devices = [None] * count


def test_a_batch_that_does_not_divide_is_an_error():
  from movinet_jax.train.mesh import check_batch

  check_batch({'video': 16}, _Devices(8))
  with pytest.raises(ValueError, match=r'12 clips .* 8 devices .* take 8 or 16'):
    check_batch({'video': 12}, _Devices(8))
  with pytest.raises(ValueError, match='different lengths'):
    check_batch({'video': 8, 'label': 7}, _Devices(1))


def test_names_stay_with_the_host():
  batch = make_batch()
  placed = shard_batch(batch, make_mesh())
  assert sorted(placed) == ['label', 'mask', 'video']
  np.testing.assert_array_equal(read_local_rows(placed['video']), batch['video'])


if __name__ == '__main__':
  np.savez(sys.argv[1], *_train(), devices=len(jax.devices()))
