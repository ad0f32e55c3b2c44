"""One device and eight agree. Devices are fixed at start, so each has its process."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from movinet_jax.train.losses import make_loss
from movinet_jax.train.mesh import (
  check_batch,
  check_clip,
  check_share,
  make_mesh,
  read_local_rows,
  shard_batch,
  shard_step,
  spread_step,
)
from movinet_jax.train.optimizers import make_optimizer
from movinet_jax.train.precise_norm import make_estimate
from movinet_jax.train.state import make_state
from movinet_jax.train.steps import make_train_step
from tests.train.toy import Toy, make_batch, make_variables

ROOT = Path(__file__).parents[2]


def _train(**parts):
  """Three steps with accumulation, in which every clip passes through batch norm."""
  model, mesh = Toy(dropout=0.3), make_mesh(**parts)
  tx = make_optimizer(batch_size=16, total_steps=10, learning_rate=30.0)
  step = make_train_step(model, tx, make_loss(), seed=0, accumulate=2)
  step = shard_step(spread_step(step, mesh), mesh)
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


def _train_on(path, devices, time=1, space=1):
  subprocess.run(
    [sys.executable, '-m', 'tests.train.mesh_test', path, str(time), str(space)],
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
  one = _train_on(tmp_path / 'one.npz', 1)
  layouts = ({}, {'time': 2, 'space': 2})
  for number, parts in enumerate(layouts):
    eight = _train_on(tmp_path / f'{number}.npz', 8, **parts)
    assert len(one) == len(eight) > 10
    for a, b in zip(one, eight, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class Device:
  """A device as far as a mesh looks at one."""

  id: int
  process_index: int = 0


def list_devices(count, processes=1):
  """Devices numbered across processes in turns, as on TPU slices."""
  return [Device(i, i % processes) for i in range(count)]


def test_a_batch_that_does_not_divide_is_an_error():
  mesh = make_mesh(list_devices(8))
  check_batch({'video': (16, 4, 8, 8, 3)}, mesh)
  check_share(16, mesh)
  with pytest.raises(ValueError, match=r'12 clips .* 8 devices .* take 8 or 16'):
    check_batch({'video': (12, 4, 8, 8, 3)}, mesh)
  with pytest.raises(ValueError, match=r'is 4, which 8 devices .* take 8$'):
    check_share(4, mesh)
  with pytest.raises(ValueError, match='different lengths'):
    check_batch({'video': (8, 4, 8, 8, 3), 'label': (7,)}, mesh)


def test_rows_of_a_process_follow_each_other():
  mesh = make_mesh(list_devices(8, processes=2), time=2)
  assert mesh.shape == {'data': 4, 'time': 2, 'space': 1}
  owners = [[d.process_index for d in row] for row in mesh.devices.reshape(4, 2)]
  assert owners == [[0, 0], [0, 0], [1, 1], [1, 1]]


def test_devices_that_cannot_be_cut_are_an_error():
  with pytest.raises(ValueError, match=r'multiple of 4 .* process 0 has 2'):
    make_mesh(list_devices(4, processes=2), time=2, space=2)
  with pytest.raises(ValueError, match='space is 0'):
    make_mesh(list_devices(4), space=0)
  mesh = make_mesh(list_devices(4), space=4)
  check_clip(mesh, frames=7, rows=8)
  with pytest.raises(ValueError, match=r'mesh.space is 4, .* 6 rows of pixels'):
    check_clip(mesh, frames=7, rows=6)


def test_names_stay_with_the_host():
  batch = make_batch()
  placed = shard_batch(batch, make_mesh())
  assert sorted(placed) == ['label', 'mask', 'video']
  np.testing.assert_array_equal(read_local_rows(placed['video']), batch['video'])


if __name__ == '__main__':
  time, space = map(int, sys.argv[2:])
  np.savez(sys.argv[1], *_train(time=time, space=space), devices=len(jax.devices()))
