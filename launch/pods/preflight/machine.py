"""The devices that a step is compiled for, which need not be here."""

import dataclasses
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.experimental import topologies

from launch.pods.gpus import KINDS, Gpus, find_gpus
from launch.pods.topology import GENERATIONS, Topology, find_topology

_HOSTS = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 4, 1)}  # chips of one, along each axis
# What JAX takes of a GPU's memory, and the variables that change it, the old name last:
# docs.jax.dev/en/latest/201/gpu-memory.html
_SHARE, _SHARE_NAMES = '0.75', ('XLA_CLIENT_MEM_FRACTION', 'XLA_PYTHON_CLIENT_MEM_FRACTION')


@dataclasses.dataclass(frozen=True)
class Machine:
  """The machine that a step is compiled for.

  Attributes:
    name: for people.
    devices: of JAX.
    memory_bytes: of one; None where that cannot be known.
    hosts: which share the reading of a batch.
    here: whether programs can be run.
    topology: the name that finds these devices again; '' for those that are here.
    refuses: whether its compiler itself refuses a program that is too large.
  """

  name: str
  devices: Sequence
  memory_bytes: int | None
  hosts: int
  here: bool
  topology: str = ''
  refuses: bool = False


def find_machine(topology: str) -> Machine:
  """The devices of a topology, or those that are here.

  Raises:
    ValueError: there is no such topology, or no compiler for it.
  """
  if not topology:
    devices = jax.devices()
    name = f'{len(devices)} x {devices[0].device_kind}, here'
    return Machine(name, devices, _find_memory(devices[0]), jax.process_count(), here=True)
  found = find_chips(topology)
  devices = find_devices(found)
  hosts = f'{found.hosts} host{"s" if found.hosts > 1 else ""}'
  options = {'devices': devices, 'hosts': found.hosts, 'here': False, 'topology': found.name}
  if isinstance(found, Topology):
    name = f'{found.name}: {len(devices)} chips, {hosts}'
    return Machine(name, memory_bytes=found.memory_bytes, refuses=True, **options)
  share = float(next(filter(None, map(os.environ.get, _SHARE_NAMES)), _SHARE))
  name = f'{found.name}: {len(devices)} x {KINDS[found.kind].name}, {hosts}'
  name += f'; JAX takes {share:.0%} of their memory ({_SHARE_NAMES[0]})'
  return Machine(name, memory_bytes=int(share * found.memory_bytes), **options)


def find_chips(name: str) -> Topology | Gpus:
  """The TPU slice or the GPUs of a name: 'v5e:16x16', 'h100:8'.

  Raises:
    ValueError: there is neither.
  """
  kind = name.strip().lower().partition(':')[0]
  if kind in KINDS:
    return find_gpus(name)
  try:
    return find_topology(name)
  except ValueError as error:
    if kind in GENERATIONS:
      raise
    raise ValueError(f'{error}. GPUs are {", ".join(KINDS)}, such as h100:8') from None


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


def find_devices(chips: Topology | Gpus) -> list:
  """Devices of a TPU slice or of GPUs to compile for, of which none need be here.

  Raises:
    ValueError: there is no compiler for them on this machine.
  """
  found = list(_list_gpus(chips) if isinstance(chips, Gpus) else _list_tpus(chips))
  if len(found) != chips.chips:
    raise ValueError(
      f'the compiler shows {len(found)} devices for the {chips.chips} chips of '
      f'{chips.name}, so what it says is not of them; v5e, v5p and v6e it knows'
    )
  return found


def _list_tpus(topology: Topology) -> Sequence:
  _check_compiler(topology.name, ('libtpu',), 'tpu')
  # libtpu would ask Google's metadata server what this machine is, and be alone on it.
  for name, value in {
    'TPU_SKIP_MDS_QUERY': '1',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
  }.items():
    os.environ.setdefault(name, value)
  os.environ['TPU_ACCELERATOR_TYPE'] = topology.accelerator_type
  return topologies.get_topology_desc(
    platform='tpu',
    topology_name=topology.name,
    chips_per_host_bounds=_HOSTS[topology.chips_per_host],
  ).devices


def _list_gpus(gpus: Gpus) -> Sequence:
  _check_compiler(gpus.name, ('jax_cuda13_plugin', 'jax_cuda12_plugin'), 'cuda13')
  return topologies.get_topology_desc(
    platform='cuda',
    topology_name=gpus.name,
    topology=gpus.shape,
    target_config=gpus.describe(),
  ).devices


def _check_compiler(name: str, packages: Sequence[str], extra: str):
  """Checks that one of the packages that compile for such devices is installed."""
  if not any(importlib.util.find_spec(package) for package in packages):
    raise ValueError(
      f'programs for {name} are compiled by {packages[0]}, which is not installed: '
      f"pip install 'jax[{extra}]'"
    )
