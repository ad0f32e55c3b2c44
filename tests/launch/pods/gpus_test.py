import dataclasses
import importlib.util
import os
import subprocess
import sys

import pytest

from launch.pods.gpus import KINDS, Gpus, find_gpus
from launch.pods.preflight.machine import find_chips
from launch.pods.topology import find_topology

needs_compiler = pytest.mark.skipif(
  importlib.util.find_spec('jax_cuda13_plugin') is None,
  reason="jax_cuda13_plugin is not installed: pip install 'jax[cuda13]' (Linux)",
)


@pytest.mark.parametrize(
  ('name', 'gigabytes', 'terabytes_per_sec'),
  [
    # What NVIDIA's data sheets say of the SXM form.
    ('a100', 80, 2.04),
    ('h100', 80, 3.35),
    ('h200', 141, 4.8),
    ('b200', 180, 8),
  ],
)
def test_facts_are_those_that_are_sold(name, gigabytes, terabytes_per_sec):
  kind = KINDS[name]
  # A gigabyte is 1e9 bytes on some data sheets and 2**30 on others.
  assert kind.memory_bytes == pytest.approx(gigabytes * 1e9, rel=0.08)
  assert kind.bandwidth_bytes == pytest.approx(terabytes_per_sec * 1e12, rel=0.05)
  assert name in kind.name.lower()


@pytest.mark.parametrize(
  ('name', 'chips', 'hosts', 'shape'),
  [
    ('h100:1', 1, 1, '1x1x1'),
    ('a100:4', 4, 1, '1x1x4'),
    ('H100:8 ', 8, 1, '1x1x8'),
    ('b200:16', 16, 2, '2x1x8'),
    ('h200:256', 256, 32, '32x1x8'),
  ],
)
def test_hosts_have_eight(name, chips, hosts, shape):
  found = find_gpus(name)
  assert (found.chips, found.hosts, found.shape) == (chips, hosts, shape)
  assert find_gpus(found.name) == found == find_chips(name)


@pytest.mark.parametrize(
  ('name', 'hint'),
  [
    ('h100', 'h100:8'),
    ('h100:', 'h100:8'),
    ('h100:0', 'h100:8'),
    ('h100:eight', 'h100:8'),
    ('h100:2x4', 'h100:8'),
    ('h100:12', 'h100:8 or h100:16'),
    ('h10:8', ', '.join(KINDS)),
  ],
)
def test_unknown_gpus_name_the_nearest(name, hint):
  for find in (find_gpus, find_chips):
    with pytest.raises(ValueError) as caught:
      find(name)
    assert all(word in str(caught.value) for word in hint.split(', '))


def test_a_name_is_a_slice_or_gpus():
  assert find_chips('v5e:4x4') == find_topology('v5e:4x4')
  with pytest.raises(ValueError, match='v5e:2x4 or v5e:4x4'):
    find_chips('v5e:3x3')


@pytest.mark.parametrize('kind', KINDS)
def test_the_description_holds_every_fact(kind):
  text = Gpus(kind, 8, 1).describe()
  facts = dataclasses.asdict(KINDS[kind])
  major, minor = facts.pop('capability')
  assert f'major: {major}' in text
  assert f'minor: {minor}' in text
  assert all(str(fact) in text for fact in facts.values())
  assert text.count('{') == text.count('}')


@needs_compiler
def test_the_compiler_takes_the_names():
  program = (
    'import sys\n'
    'from launch.pods.preflight.machine import find_chips, find_devices\n'
    'for name in sys.argv[1:]:\n'
    '  found = find_devices(find_chips(name))\n'
    '  print(len(found), len({x.process_index for x in found}), found[0].device_kind)\n'
  )
  names = [f'{kind}:{count}' for kind in KINDS for count in (1, 8, 16)]
  done = subprocess.run(
    [sys.executable, '-c', program, *names],
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  known = [find_gpus(name) for name in names]
  told = [f'{gpus.chips} {gpus.hosts} {KINDS[gpus.kind].name}' for gpus in known]
  assert done.stdout.splitlines() == told
