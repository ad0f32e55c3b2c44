"""The devices that a step is compiled for, which need not be here."""

import dataclasses
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.experimental import topologies

from launch.pods.topology import Topology, find_topology

_HOSTS = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 4, 1)}  # chips of one, along each axis


@dataclasses.dataclass(frozen=True)
class Machine:
  """The machine that a step is compiled for.

  Attributes:
    name: for people.
    devices: of JAX.
    memory_bytes: of one; None where that cannot be known.
    hosts: which share the reading of a batch.
    here: whether programs can be run.
  """

  name: str
  devices: Sequence
  memory_bytes: int | None
  hosts: int
  here: bool


def find_machine(topology: str) -> Machine:
  """The devices of a topology, or those that are here."""
  if topology:
    found = find_topology(topology)
    devices = find_devices(found)
    name = f'{found.name}: {len(devices)} chips, {found.hosts} hosts'
    return Machine(name, devices, found.memory_bytes, found.hosts, here=False)
  devices = jax.devices()
  name = f'{len(devices)} x {devices[0].device_kind}, here'
  return Machine(name, devices, _find_memory(devices[0]), jax.process_count(), here=True)


def _find_memory(device) -> int | None:
  """Bytes that a program may use on a device of this machine."""
  if device.platform != 'cpu':
    return (device.memory_stats() or {}).get('bytes_limit')
  # Of all CPU devices together: what the kernel, or the container, allows.
  limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for path in (
    '/sys/fs/cgroup/memory.max',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes',
  ):
    if os.path.exists(path) and (text := Path(path).read_text().strip()).isdecimal():
      limits.append(int(text))
  return min(limits) // jax.local_device_count()


def find_devices(topology: Topology) -> list:
  """Devices of a TPU slice to compile for, of which none need be here.

  Raises:
    ValueError: there is no compiler for TPUs on this machine.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise ValueError(
      f'programs for {topology.name} are compiled by libtpu, which is not installed: '
      "pip install 'jax[tpu]'"
    )
  # libtpu would ask Google's metadata server what this machine is, and be alone on it.
  for name, value in {
    'TPU_SKIP_MDS_QUERY': '1',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
  }.items():
    os.environ.setdefault(name, value)
  os.environ['TPU_ACCELERATOR_TYPE'] = topology.accelerator_type
  found = topologies.get_topology_desc(
    platform='tpu',
    topology_name=topology.name,
    chips_per_host_bounds=_HOSTS[topology.chips_per_host],
  ).devices
  if len(found) != topology.chips:
    raise ValueError(
      f'the compiler shows {len(found)} devices for the {topology.chips} chips of '
      f'{topology.name}, so what it says is not of them; v5e, v5p and v6e it knows'
    )
  return list(found)
