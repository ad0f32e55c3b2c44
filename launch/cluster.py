"""The processes of one run: they join once, and none waits for one that has failed."""

import multiprocessing
import os
import sys
from collections.abc import Mapping

EXPLICIT = ('MOVINET_COORDINATOR', 'MOVINET_PROCESSES', 'MOVINET_PROCESS')
_SLURM = ('SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID')
_LOOPBACK = ('localhost', '127.0.0.1', '[::1]')
# At its end a process waits for the others, of which the first may have a search to
# conclude; those that fail do not come to that (`abandon`), so this can be long.
_SHUTDOWN_SECS = 24 * 3600


class NotJoined(RuntimeError):
  """The other processes of a run could not be reached: they may be, another time."""


def connect():
  """Joins this process to the others of its run; alone, it does nothing.

  What runs `movinet` on many hosts says so in its environment: MOVINET_COORDINATOR,
  MOVINET_PROCESSES and MOVINET_PROCESS, a Slurm step of several tasks, or a TPU slice of
  several hosts. MOVINET_CLUSTER=auto lets JAX look for what else it knows, and
  MOVINET_CLUSTER=none keeps a process alone.

  Safe to repeat, and silent in data workers, which import what started them.

  Raises:
    NotJoined: see there.
    ValueError: the environment says a thing in part, or wrongly.
  """
  import jax  # late: verbs that need no devices should not wait for it

  if multiprocessing.parent_process() is not None or jax.distributed.is_initialized():
    return
  arguments = find_arguments(os.environ)
  if arguments is None:
    return
  try:
    jax.distributed.initialize(**arguments, shutdown_timeout_seconds=_SHUTDOWN_SECS)
  except RuntimeError as error:
    where = arguments.get('coordinator_address', 'the address that JAX found')
    raise NotJoined(f'cannot join the other processes at {where}: {error}') from error
  index, count = jax.process_index(), jax.process_count()
  held = f'{jax.local_device_count()} of {jax.device_count()} devices'
  print(f'Process {index} of {count} has {held}', file=sys.stderr)
  if index:  # what all would print, the first one does
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115


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
    return {'cluster_detection_method': 'slurm'}
  several = ',' in environment.get('TPU_WORKER_HOSTNAMES', '')
  return {} if several else None


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
  host, colon, port = address.rpartition(':')
  if not (host and colon and port.isdecimal()):
    raise ValueError(f'MOVINET_COORDINATOR is {address!r}; wanted HOST:PORT')
  arguments = {
    'coordinator_address': address,
    'num_processes': int(count),
    'process_id': int(index),
  }
  if host in _LOOPBACK:  # JAX would listen on all of this machine's addresses
    arguments['coordinator_bind_address'] = address
  return arguments
