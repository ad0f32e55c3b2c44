"""Workers get an accelerator each, or a share of the cores."""

import os
import subprocess
import sys

import jax
import pytest

from launch import devices


@pytest.fixture
def machine(monkeypatch):
  """Pretends to be a machine with these accelerators and cores."""

  def make(gpus=(), tpus=(), cores=(0, 1, 2, 3)):
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setattr(devices, '_list_tpus', lambda: list(tpus))
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(cores))
    if gpus:
      monkeypatch.setenv('CUDA_VISIBLE_DEVICES', ','.join(gpus))
    return devices

  return make


def test_every_worker_has_a_gpu_of_its_own(machine):
  found = machine(gpus=('4', '7')).make_environments(2)
  assert found == [{'CUDA_VISIBLE_DEVICES': '4'}, {'CUDA_VISIBLE_DEVICES': '7'}]


def test_workers_that_share_a_gpu_do_not_take_all_of_its_memory(machine):
  found = machine(gpus=('0',)).make_environments(2)
  assert [e['XLA_PYTHON_CLIENT_PREALLOCATE'] for e in found] == ['false'] * 2


def test_tpu_chips_are_not_shared(machine):
  found = machine(tpus=('/dev/accel0', '/dev/accel1'))
  assert [e['TPU_VISIBLE_CHIPS'] for e in found.make_environments(2)] == ['0', '1']
  with pytest.raises(ValueError, match='3 workers for 2 TPU chips'):
    found.make_environments(3)


def test_cores_are_shared_out_and_none_is_idle(machine):
  found = [e[devices.CORES] for e in machine().make_environments(2)]
  assert sorted(','.join(found).split(',')) == ['0', '1', '2', '3']
  assert machine(cores=(3,)).make_environments(2) == [{devices.CORES: '3'}] * 2


@pytest.mark.parametrize(
  ('cores', 'workers', 'sizes'),
  [(3, 2, [1, 1]), (7, 3, [2, 2, 2]), (8, 3, [2, 2, 2]), (4, 4, [1] * 4), (2, 3, [1] * 3)],
)
def test_all_workers_have_as_many_cores(cores, workers, sizes, machine):
  found = machine(cores=range(cores)).make_environments(workers)
  shares = [each[devices.CORES].split(',') for each in found]
  assert [len(share) for share in shares] == sizes
  if workers <= cores:
    assert len({core for share in shares for core in share}) == sum(sizes)


def test_a_jax_told_to_use_the_cpu_has_no_accelerator(machine, monkeypatch):
  machine(gpus=('0', '1'))
  assert devices.count_accelerators() == 2
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  assert devices.count_accelerators() == 0


def test_a_worker_stays_on_its_cores():
  core = min(os.sched_getaffinity(0))
  code = 'from launch.devices import *; keep_to_cores(); print(os.sched_getaffinity(0))'
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, devices.CORES: str(core)},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == f'{{{core}}}'


@pytest.mark.parametrize(
  ('asked', 'wanted'), [('cuda,cpu', 'cuda'), ('cuda', 'cuda'), ('tpu', 'tpu'), ('xyz', 'xyz')]
)
def test_an_accelerator_that_is_not_there_is_an_error(asked, wanted, monkeypatch):
  """In a process of its own, as a sweep asks: JAX here has found its devices before."""
  if devices.count_accelerators():
    pytest.skip('this machine has an accelerator')
  monkeypatch.setenv('JAX_PLATFORMS', asked)
  with pytest.raises(ValueError, match=f"JAX_PLATFORMS={asked} asks for '{wanted}'") as error:
    devices.probe_platform()
  assert len(str(error.value).splitlines()) == 1
  assert '0 NVIDIA GPUs and 0 TPU chips' in str(error.value)


@pytest.mark.parametrize('asked', [None, '', 'cpu'])
def test_the_cpu_is_always_there(asked, monkeypatch):
  before = jax.config.jax_platforms
  jax.config.update('jax_platforms', asked)
  try:
    devices.check_platform()
  finally:
    jax.config.update('jax_platforms', before)
