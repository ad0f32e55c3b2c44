"""The processes of one run: they join once, and none waits for one that has failed."""

import functools
import multiprocessing
import os
import re
import sys
import threading
from collections.abc import Mapping

from launch import rendezvous
from launch.rendezvous import NotJoined

EXPLICIT = ('MOVINET_COORDINATOR', 'MOVINET_PROCESSES', 'MOVINET_PROCESS')
_SLURM = ('SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID')
_LOOPBACK = ('localhost', '127.0.0.1', '[::1]')
# At its end a process waits for the others, of which the first may have a search to
# conclude; those that fail do not come to that (`abandon`), so this can be long.
_SHUTDOWN_SECS = 24 * 3600
_JOIN_SECS = 300  # unless MOVINET_JOIN_SECS says otherwise
_LAST_SECS = 60  # for JAX to join processes that are all there; its heartbeat aborts after 100 s
# What starts processes for other programs: their number, and which of them this one is.
_FOREIGN = {
  'JAX_NUM_PROCESSES': 'JAX_PROCESS_ID',
  'OMPI_COMM_WORLD_SIZE': 'OMPI_COMM_WORLD_RANK',
  'MV2_COMM_WORLD_SIZE': 'MV2_COMM_WORLD_RANK',
  'PMI_SIZE': 'PMI_RANK',
  'JSM_NAMESPACE_SIZE': 'JSM_NAMESPACE_RANK',
  'FLUX_JOB_SIZE': 'FLUX_TASK_RANK',
  'HOROVOD_SIZE': 'HOROVOD_RANK',
  'WORLD_SIZE': 'RANK',
}


def connect():
  """Joins this process to the others of its run; alone, it does nothing.

  What runs `movinet` on many hosts says so in its environment: MOVINET_COORDINATOR,
  MOVINET_PROCESSES and MOVINET_PROCESS, a Slurm step of several tasks, or a TPU slice of
  several hosts. MOVINET_CLUSTER=auto lets JAX look for what else it knows, and
  MOVINET_CLUSTER=none keeps a process alone. MOVINET_JOIN_SECS limits the wait for the others.

  Safe to repeat, and silent in data workers, which import what started them.

  Raises:
    NotJoined: see there.
    ValueError: a variable is missing or wrong, or a port is taken.
  """
  import jax  # late: verbs that need no devices should not wait for it

  if multiprocessing.parent_process() is not None or jax.distributed.is_initialized():
    return
  secs = find_limit(os.environ)
  arguments = find_arguments(os.environ)
  if arguments is None:
    _tell_once(describe_ignored(os.environ))
    return
  _join(arguments, secs)
  index, count = jax.process_index(), jax.process_count()
  held = f'{jax.local_device_count()} of {jax.device_count()} devices'
  print(f'Process {index} of {count} has {held}', file=sys.stderr)
  if index:  # what all would print, the first one does
    sys.stdout = open(os.devnull, 'w', encoding='utf-8', errors='backslashreplace')  # noqa: SIM115


def _join(arguments: Mapping, secs: float):
  """Meets the other processes, then lets JAX join them."""
  group = find_group(arguments, os.environ)
  if group is None:  # only JAX knows where the hosts of a TPU are
    wait = 'this process waits for JAX to find the others'
    try:
      _initialize(arguments, rendezvous.Patience(secs), wait)
    except ValueError as error:
      wanted = ', '.join(EXPLICIT)
      raise ValueError(f'JAX finds no other processes here ({error}): set {wanted}') from error
    return
  rendezvous.meet(group, rendezvous.Patience(secs))
  arguments = {**arguments, 'coordinator_address': group.address}
  wait = f'{group} waits for JAX to join all processes at {group.address}'
  _initialize(arguments, rendezvous.Patience(_LAST_SECS, option=''), wait)


def _initialize(arguments: Mapping, patience: rendezvous.Patience, wait: str):
  """Lets JAX join the processes, in a thread: the rendezvous says what JAX does when it cannot.

  After a rendezvous, it may still be that a process dies, or a proxy stops JAX's messages.
  """
  import jax

  errors = []

  def initialize():
    try:
      jax.distributed.initialize(
        **arguments,
        initialization_timeout=2 * _SHUTDOWN_SECS,  # never: it would abort this process
        shutdown_timeout_seconds=_SHUTDOWN_SECS,
      )
    except Exception as error:
      errors.append(error)

  thread = threading.Thread(target=initialize, daemon=True)
  thread.start()
  while thread.is_alive():
    patience.check(wait)
    thread.join(timeout=0.1)
  for error in errors:
    if isinstance(error, RuntimeError):
      raise NotJoined(f'cannot join the other processes: {error}') from error
    raise error


@functools.cache
def _tell_once(text: str):
  if text:
    print(f'movinet: {text}', file=sys.stderr, flush=True)


def is_joined() -> bool:
  """Whether this process is one of several."""
  jax = sys.modules.get('jax')  # a verb that has not imported it has joined nothing
  return jax is not None and jax.distributed.is_initialized()


def abandon(code: int):
  """Ends a process that has failed, at once if others wait for it.

  An ordinary end waits for the other processes, which wait in a collective for this one.
  The connections that break now are how they learn of it.
  """
  if is_joined():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def find_arguments(environment: Mapping[str, str]) -> dict | None:
  """Arguments of jax.distributed.initialize that an environment asks for; None: alone.

  Raises:
    ValueError: see `connect`.
  """
  given = {name: environment[name] for name in EXPLICIT if environment.get(name)}
  if given:
    return _read_explicit(given)
  method = environment.get('MOVINET_CLUSTER', '')
  if method not in ('', 'auto', 'none'):
    raise ValueError(f"MOVINET_CLUSTER is {method!r}; wanted 'auto', 'none' or nothing")
  if method:
    return {} if method == 'auto' else None
  if all(name in environment for name in _SLURM) and environment['SLURM_NTASKS'] != '1':
    for name in ('SLURM_NTASKS', 'SLURM_PROCID'):
      if not environment[name].isdecimal():
        raise ValueError(f'{name} is {environment[name]!r}; wanted a whole number')
    return {'cluster_detection_method': 'slurm'}
  several = ',' in environment.get('TPU_WORKER_HOSTNAMES', '')
  return {} if several else None


def find_limit(environment: Mapping[str, str]) -> int:
  """Seconds that a process waits for the others of its run.

  Raises:
    ValueError: MOVINET_JOIN_SECS is no number of seconds.
  """
  given = environment.get(rendezvous.LIMIT) or str(_JOIN_SECS)
  if not (given.isdecimal() and 0 < int(given) <= _SHUTDOWN_SECS):
    raise ValueError(
      f'{rendezvous.LIMIT} is {given!r}; wanted whole seconds, from 1 to {_SHUTDOWN_SECS}'
    )
  return int(given)


def find_group(arguments: Mapping, environment: Mapping[str, str]) -> rendezvous.Group | None:
  """Where the processes of a run meet; None if only JAX can find out.

  Args:
    arguments: as of `find_arguments`.
  """
  if 'process_id' in arguments:
    address, setting = arguments['coordinator_address'], EXPLICIT[0]
    count, index = arguments['num_processes'], arguments['process_id']
  elif arguments.get('cluster_detection_method') == 'slurm':
    address, setting = _find_slurm_address(environment)
    count, index = int(environment['SLURM_NTASKS']), int(environment['SLURM_PROCID'])
  else:
    return None
  if address is None:
    return None
  _, port = rendezvous.split_address(address, setting)
  bind = arguments.get('coordinator_bind_address')
  bind = bind or environment.get('JAX_COORDINATOR_BIND_ADDRESS') or f'[::]:{port}'
  return rendezvous.Group(address, bind, count, index, setting)


def _find_slurm_address(environment) -> tuple[str | None, str]:
  """The address that JAX takes, and the variable that changes it.

  It is a port by the job's number, on the first host of `node[001-4],other`.
  """
  if environment.get('JAX_COORDINATOR_ADDRESS'):
    return environment['JAX_COORDINATOR_ADDRESS'], 'JAX_COORDINATOR_ADDRESS'
  setting, job = 'JAX_COORDINATOR_PORT', environment.get('SLURM_JOB_ID', '')
  if not job.isdecimal():
    return None, setting
  port = environment.get(setting) or int(job) % 2**12 + 2**16 - 2**12
  prefix, number = re.match(r'([^,[]*)\[?([^],-]*)', environment['SLURM_STEP_NODELIST']).groups()
  return f'{prefix}{number}:{port}', setting


def describe_ignored(environment: Mapping[str, str]) -> str:
  """What an environment says about other processes to other programs; '' if nothing.

  The processes that MPI or torchrun starts would each run alone, and all in one workdir.
  """
  if environment.get('MOVINET_CLUSTER'):
    return ''
  sizes = [name for name in _FOREIGN if environment.get(name, '').isdecimal()]
  size = next((name for name in sizes if int(environment[name]) > 1), None)
  names = ['JAX_COORDINATOR_ADDRESS', *((size, _FOREIGN[size]) if size else ())]
  names += ['MASTER_ADDR'] if size == 'WORLD_SIZE' else []
  found = {name: environment[name] for name in names if environment.get(name)}
  if not found:
    return ''
  host = found.get('MASTER_ADDR', 'HOST')  # torchrun itself listens at MASTER_PORT
  address = found.get('JAX_COORDINATOR_ADDRESS', f'{host}:PORT')
  values = (address, found.get(size, 'COUNT'), found.get(_FOREIGN.get(size), 'INDEX'))
  wanted = ' '.join(f'{name}={value}' for name, value in zip(EXPLICIT, values, strict=True))
  # JAX knows Open MPI by this variable, which its version 5 no longer sets.
  auto = ', or MOVINET_CLUSTER=auto' if 'OMPI_MCA_orte_hnp_uri' in environment else ''
  ignored = ', '.join(f'{name}={value}' for name, value in found.items())
  return (
    f'{ignored}: ignored, this process runs alone. To join it to others, set {wanted}{auto}. '
    'MOVINET_CLUSTER=none silences this note'
  )


def _read_explicit(given):
  missing = [name for name in EXPLICIT if name not in given]
  if missing:
    raise ValueError(
      f'{", ".join(given)} without {", ".join(missing)}: a run on several processes '
      f'needs all of {", ".join(EXPLICIT)}'
    )
  address, count, index = (given[name] for name in EXPLICIT)
  if not count.isdecimal() or not index.isdecimal() or not int(index) < int(count):
    raise ValueError(
      f'MOVINET_PROCESS={index} of MOVINET_PROCESSES={count}: wanted whole numbers, the '
      'first from 0 and below the second'
    )
  rendezvous.split_address(address, EXPLICIT[0])
  arguments = {
    'coordinator_address': address,
    'num_processes': int(count),
    'process_id': int(index),
  }
  if address.rpartition(':')[0] in _LOOPBACK:  # JAX would listen on all of this machine's addresses
    arguments['coordinator_bind_address'] = address
  return arguments
