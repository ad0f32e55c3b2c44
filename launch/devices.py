"""Which device each worker of a sweep gets: an accelerator each, or a share of the cores."""

import contextlib
import glob
import itertools
import os
import pathlib
import platform

CORES = 'MOVINET_CORES'
# What libtpu would otherwise ask Google's metadata server, which is not there.
_ABSENT_TPU = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-1',
}


def count_accelerators() -> int:
  """GPUs or TPU chips that this process may use; 0 where JAX is told to use the CPU.

  Found without JAX, which would take their memory from the workers.
  """
  if os.environ.get('JAX_PLATFORMS') == 'cpu':
    return 0
  return len(_list_gpus()) or len(_list_tpus())


def make_environments(workers: int) -> list[dict[str, str]]:
  """Environment variables of each worker.

  Raises:
    ValueError: there are more workers than TPU chips, which cannot be shared.
  """
  if not count_accelerators():
    return [_share_cores(i, workers) for i in range(workers)]
  gpus, tpus = _list_gpus(), _list_tpus()
  if gpus:
    shared = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} if workers > len(gpus) else {}
    names = [gpus[i % len(gpus)] for i in range(workers)]
    return [{'CUDA_VISIBLE_DEVICES': name, **shared} for name in names]
  if workers > len(tpus):
    raise ValueError(f'{workers} workers for {len(tpus)} TPU chips; wanted one each')
  alone = {'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1', 'TPU_PROCESS_BOUNDS': '1,1,1'}
  return [{'TPU_VISIBLE_CHIPS': str(i), **alone} for i in range(workers)]


def quiet_libtpu():
  """Spares a machine without TPUs what libtpu, installed for preflight, says of that."""
  if not _list_tpus():
    for name, value in _ABSENT_TPU.items():
      os.environ.setdefault(name, value)


def keep_to_cores():
  """Keeps a worker to its share; before JAX starts, whose threads are as many as cores."""
  cores = os.environ.get(CORES)
  if cores and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, [int(core) for core in cores.split(',')])


def describe() -> str:
  """What a worker measures on: the kind of its device, and of a CPU also how many cores."""
  import jax  # not above: a worker's cores are chosen before

  device = jax.devices()[0]
  if device.platform != 'cpu':
    return device.device_kind
  return f'{_name_cpu()}, {len(os.sched_getaffinity(0))} cores'


def _name_cpu() -> str:
  with contextlib.suppress(OSError):
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()


def _share_cores(i: int, workers: int) -> dict[str, str]:
  if not hasattr(os, 'sched_getaffinity'):
    return {}
  cores = sorted(os.sched_getaffinity(0))
  mine = cores[i::workers] or [cores[i % len(cores)]]
  return {CORES: ','.join(map(str, mine))}


def _list_gpus() -> list[str]:
  given = os.environ.get('CUDA_VISIBLE_DEVICES')
  if given is not None:
    # As CUDA reads it: what follows a negative number is not visible.
    return list(itertools.takewhile(_is_visible, given.split(',')))
  return [str(i) for i in range(len(glob.glob('/proc/driver/nvidia/gpus/*')))]


def _is_visible(name: str) -> bool:
  return bool(name.strip()) and not name.strip().startswith('-')


def _list_tpus() -> list[str]:
  return glob.glob('/dev/accel[0-9]*') or glob.glob('/dev/vfio/[0-9]*')
