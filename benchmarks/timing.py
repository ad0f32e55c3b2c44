"""What a compiler estimates of a program, and the machine that a benchmark ran on.

Programs that can run here are timed by movinet_jax.timing.
"""

import re
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from movinet_jax.cores import count_cores
from movinet_jax.timing import queue_in_turns

# An instruction that launches a kernel; those in a fusion's own computation are part of it.
_KERNEL = re.compile(r'= \S.*? (?:fusion|custom-call|copy|convolution|dot|reduce|sort)\(')


def estimate_program(function: Callable, topology: str, *args) -> dict:
  """Compiles for one chip of a TPU that is not here (`pip install libtpu`).

  Args:
    function: what to compile.
    topology: such as 'v5e:2x2'.
    *args: shapes of its arguments, jax.ShapeDtypeStruct.

  Returns:
    the compiler's roofline estimate in microseconds (None where it has none), the
    megabytes that it moves, and those of its temporary memory.
  """
  # Late: what it brings would be in the memory and the start of all that is timed here.
  from launch.pods.preflight.machine import find_devices
  from launch.pods.preflight.program import compile_for_others
  from launch.pods.topology import find_topology

  chip = find_devices(find_topology(topology))[0]
  place = jax.sharding.SingleDeviceSharding(chip)
  args = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place) for x in args]
  compiled = compile_for_others(jax.jit(function).lower(*args))
  cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
  secs = cost.get('optimal_seconds', -1)
  return {
    'estimate_us': round(1e6 * secs, 1) if secs > 0 else None,
    'moved_mb': round(cost['bytes accessed'] / 1e6, 1),
    'temporary_mb': round(memory.temp_size_in_bytes / 1e6, 1),
  }


def describe_machine() -> dict:
  """What a number of this run depends on."""
  device = jax.devices()[0]
  return {
    'date': time.strftime('%Y-%m-%d'),
    'device': f'{len(jax.devices())} x {device.device_kind} ({device.platform})',
    'cores': count_cores(),
    'jax': jax.__version__,
  }


def measure_copy_rate() -> float:
  """Bytes a second of an elementwise pass over a large array, counting what is read and written."""
  megabytes = 32 if jax.default_backend() == 'cpu' else 2048
  x = jnp.ones(megabytes * 2**19, jnp.bfloat16)
  copy = jax.jit(lambda x: x + 1)
  ms = queue_in_turns({'copy': lambda _: copy(x)})['copy']
  return 2 * x.nbytes / (1e-3 * ms)


def is_out_of_memory(error: Exception) -> bool:
  """Whether JAX or PyTorch says so of a program that a smaller batch may fit."""
  said = str(error)
  return 'RESOURCE_EXHAUSTED' in said or 'out of memory' in said.lower()


def count_kernels(program) -> int:
  """Counts the kernels of a compiled program's entry, without those of its loops and calls."""
  entry = program.as_text().split('\nENTRY ')[1].split('\n}')[0]
  return sum(bool(_KERNEL.search(line)) for line in entry.splitlines())
