import json
import math
import os
import subprocess
import sys

import pytest

from launch.pods.topology import GENERATIONS, find_topology, list_topologies


@pytest.mark.parametrize(
  ('name', 'chips', 'hosts', 'accelerator_type', 'gke'),
  [
    # Rows of the tables that launch/pods/topology.py names.
    ('v5e:1x1', 1, 1, 'v5litepod-1', 'tpu-v5-lite-podslice'),
    ('v5e:2x4', 8, 1, 'v5litepod-8', 'tpu-v5-lite-podslice'),
    ('v5e:4x4', 16, 4, 'v5litepod-16', 'tpu-v5-lite-podslice'),
    ('v5e:16x16', 256, 64, 'v5litepod-256', 'tpu-v5-lite-podslice'),
    ('v6e:4x8', 32, 8, 'v6e-32', 'tpu-v6e-slice'),
    ('v4:2x2x1', 4, 1, 'v4-8', 'tpu-v4-podslice'),
    ('v4:4x4x4', 64, 16, 'v4-128', 'tpu-v4-podslice'),
    ('v5p:16x16x24', 6144, 1536, 'v5p-12288', 'tpu-v5p-slice'),
  ],
)
def test_published_rows(name, chips, hosts, accelerator_type, gke):
  found = find_topology(name)
  assert (found.chips, found.hosts) == (chips, hosts)
  assert found.accelerator_type == accelerator_type
  assert found.gke_labels == {
    'cloud.google.com/gke-tpu-accelerator': gke,
    'cloud.google.com/gke-tpu-topology': name.partition(':')[2],
  }


@pytest.mark.parametrize('name', list_topologies())
def test_every_topology_adds_up(name):
  found = find_topology(name)
  assert found.name == name
  assert found.chips == math.prod(found.shape) == found.hosts * found.chips_per_host
  assert found.chips_per_host in (1, 4, 8)
  # Larger hosts than four chips are only ever alone.
  assert found.hosts == 1 or found.chips_per_host == 4
  assert list(found.shape) == sorted(found.shape) or found.shape == (2, 2, 1)
  assert 15 << 30 < found.memory_bytes < 96 << 30


def test_names_for_gcloud_are_unambiguous():
  types = [find_topology(name).accelerator_type for name in list_topologies()]
  assert len(set(types)) == len(types)


def test_case_and_blanks_do_not_matter():
  assert find_topology(' V5E:4x4 ') == find_topology('v5e:4x4')


@pytest.mark.parametrize(
  ('name', 'hint'),
  [
    ('v5e:8x4', 'did you mean v5e:4x8'),
    ('v5e:3x3', 'the nearest are v5e:2x4 or v5e:4x4'),
    ('v5e:32x32', 'the nearest are v5e:16x16 (shapes'),
    ('v5e', 'v5e:SHAPE'),
    ('v5e:', 'v5e:SHAPE'),
    ('v5e:4by4', 'v5e:SHAPE'),
    ('v5litepod-256', 'v5e:16x16'),
    ('v4-128', 'v4:4x4x4'),
    ('v5:4x4', "'v5e:4x4'"),
    ('v9', ', '.join(GENERATIONS)),
    ('', ', '.join(GENERATIONS)),
  ],
)
def test_unknown_topologies_name_the_nearest(name, hint):
  with pytest.raises(ValueError) as caught:
    find_topology(name)
  assert hint in str(caught.value)


def test_libtpu_knows_the_names_and_counts_the_same():
  """Against the compiler itself, where it is installed."""
  pytest.importorskip('libtpu', reason='libtpu is not installed')
  names = ['v5e:4x4', 'v5e:4x8', 'v6e:4x4', 'v5p:2x2x2']
  program = (
    'import json, sys\n'
    'from jax.experimental import topologies as t\n'
    'for name in sys.argv[1:]:\n'
    '  d = t.get_topology_desc(platform="tpu", topology_name=name).devices\n'
    '  print(json.dumps([len(d), len({x.process_index for x in d})]))\n'
  )
  quiet = {'TPU_SKIP_MDS_QUERY': '1', 'TPU_WORKER_HOSTNAMES': 'localhost'}
  kind = {'JAX_PLATFORMS': 'cpu', 'TPU_ACCELERATOR_TYPE': 'v5litepod-16'}
  # Or it would wait for no other user of libtpu on this machine, and fail.
  kind['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
  done = subprocess.run(
    [sys.executable, '-c', program, *names],
    env={**os.environ, **quiet, **kind},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
  counts = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
  known = [find_topology(name) for name in names]
  assert counts == [(topology.chips, topology.hosts) for topology in known]
