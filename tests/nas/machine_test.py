"""What times are measured on: whatever changes them is told."""

import os

import jax
import pytest

from movinet_jax import cores as cores_module
from nas import machine


@pytest.fixture
def groups(tmp_path, monkeypatch):
  """Writes files of control groups; the process is on cores 0 to 3 and in no other group."""
  monkeypatch.setattr(cores_module, 'CGROUPS', tmp_path)
  monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1, 2, 3})

  def write(name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

  return write


def test_a_cpu_is_told_by_its_name_and_cores(groups, monkeypatch):
  monkeypatch.delenv('XLA_FLAGS', raising=False)
  found = machine.describe()
  assert found['cores'] == 4
  assert (found['jax'], found['jaxlib']) == (jax.__version__, jax.lib.__version__)
  assert 'cpu' not in found['device']
  assert 'XLA_FLAGS' not in found
  monkeypatch.setenv('XLA_FLAGS', ' --xla_a=1  --xla_b=2')
  flagged = machine.describe()
  assert flagged == {**found, 'XLA_FLAGS': '--xla_a=1 --xla_b=2'}
  assert machine.make_digest(flagged) != machine.make_digest(found)
  said = machine.list_differences(found, {**flagged, 'cores': 2})
  assert said == ['XLA_FLAGS unknown, now --xla_a=1 --xla_b=2', 'cores 4, now 2']


@pytest.mark.parametrize(
  ('files', 'cores'),
  [
    ({}, 4),
    ({'cpu.max': 'max 100000'}, 4),
    ({'cpu.max': '800000 100000'}, 4),
    ({'cpu.max': '200000 100000'}, 2),
    ({'cpu.max': '150000 100000'}, 1.5),
    ({'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, 4),
    ({'cpu/cpu.cfs_quota_us': '50000', 'cpu/cpu.cfs_period_us': '100000'}, 0.5),
    ({'cpu.max': ''}, 4),
  ],
)
def test_a_container_s_share_counts_where_it_is_less(files, cores, groups):
  for name, text in files.items():
    groups(name, text)
  assert machine.count_cores() == cores


def test_an_accelerator_is_told_by_its_kind_and_runtime(monkeypatch):
  class Device:
    platform, device_kind = 'gpu', 'NVIDIA H100 80GB HBM3'
    client = type('Client', (), {'platform_version': 'PJRT C API\ncuda 12090'})

  monkeypatch.setattr(jax, 'devices', lambda: [Device])
  found = machine.describe()
  assert found['device'] == 'NVIDIA H100 80GB HBM3'
  assert found['runtime'] == 'PJRT C API cuda 12090'
  assert 'cores' not in found
