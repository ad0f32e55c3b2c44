"""The devices here: whether they are those asked for, and which a sweep's workers get."""

import glob
import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CORES = 'MOVINET_CORES'
_ROOT = Path(__file__).resolve().parents[1]
# What JAX calls the devices that JAX_PLATFORMS asks for.
_PLATFORMS = {'cuda': 'gpu', 'rocm': 'gpu'}
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


def check_platform():
  """Checks that JAX runs on the accelerator that JAX_PLATFORMS asks for first.

  JAX itself passes over `cuda` in `cuda,cpu` where it finds no GPU, and runs on the CPU.

  Raises:
    ValueError: JAX runs on another device; the message says what the machine has.
  """
  import jax  # late: a worker's cores are chosen before

  asked = jax.config.jax_platforms or ''
  wanted = next(filter(None, map(str.strip, asked.split(','))), asked)
  if not asked:
    return
  try:
    found = jax.local_devices()[0].platform
    said = f'would run on the {found.upper()} instead'
  except (RuntimeError, AssertionError) as error:
    found, reason = '', str(error).strip().partition('\n')[0].partition(' (set JAX_PLATF')[0]
    said = f'says: {reason.rstrip(".") or "no such device"}'
  if not found or found != _PLATFORMS.get(wanted, wanted):
    raise ValueError(
      f'JAX_PLATFORMS={asked} asks for {wanted!r}, which JAX does not find; it {said}. This '
      f'machine shows {len(_list_gpus())} NVIDIA GPUs and {len(_list_tpus())} TPU chips: install '
      "what drives them (pip install 'jax[cuda13]' or 'jax[tpu]'), or say JAX_PLATFORMS=cpu"
    )


def probe_platform():
  """As `check_platform`, in a process of its own: this one leaves accelerators to others.

  Raises:
    ValueError: see `check_platform`.
  """
  if os.environ.get('JAX_PLATFORMS', 'cpu') in ('', 'cpu'):
    return
  try:
    ask_process('from launch import devices; devices.check_platform()')
  except ChildProcessError as error:
    raise ValueError(str(error).removeprefix('ValueError: ')) from error


def ask_process(code: str, environment: Mapping[str, str] = {}) -> str:
  """Runs code in a process of its own, which may use devices that this one must not touch.

  Args:
    environment: variables laid over those of this process.

  Returns:
    the last line that it prints, '' for none.

  Raises:
    ChildProcessError: it fails; the message is the last line of its error.
  """
  # The folder that a command runs in is not searched for modules; this package's is.
  place = f'import sys; sys.path.insert(0, {str(_ROOT)!r}); '
  done = subprocess.run(
    [sys.executable, '-P', '-c', place + code],
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    raise ChildProcessError((done.stderr.strip().splitlines() or ['no word'])[-1])
  return (done.stdout.splitlines() or [''])[-1]


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


def limit_cores(count: int, option: str = '--cores'):
  """Keeps this process to so many of the cores that it may use; before JAX starts, as above.

  Args:
    option: the one that says how many, for the message of an error.

  Raises:
    ValueError: it may not use as many, or this system cannot limit them.
  """
  if not hasattr(os, 'sched_setaffinity'):
    raise ValueError(f'this system cannot keep a process to some of its cores: leave out {option}')
  cores = sorted(os.sched_getaffinity(0))
  if count > len(cores):
    raise ValueError(f'{option}={count}: this process may use {len(cores)}')
  os.sched_setaffinity(0, cores[:count])


def _share_cores(i: int, workers: int) -> dict[str, str]:
  """As many cores for each worker, or what they measure would not compare."""
  if not hasattr(os, 'sched_getaffinity'):
    return {}
  cores = sorted(os.sched_getaffinity(0))
  mine = cores[i::workers][: len(cores) // workers] or [cores[i % len(cores)]]
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
