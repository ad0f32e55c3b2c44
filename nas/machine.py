"""What times are measured on: the device, the cores that a process may use, the versions."""

import contextlib
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jaxlib

CGROUPS = Path('/sys/fs/cgroup')


def describe() -> dict[str, str | int | float]:
  """Describes what this process measures on, as JSON; times of two descriptions do not compare.

  A CPU is identified by its name and by the cores that this process may use, another device by its
  kind and its runtime.
  """
  device = jax.devices()[0]
  found = {'device': device.device_kind, 'jax': jax.__version__, 'jaxlib': jaxlib.__version__}
  if device.platform == 'cpu':
    found |= {'device': _name_cpu(), 'cores': count_cores()}
  else:
    found['runtime'] = ' '.join(device.client.platform_version.split())
  if flags := os.environ.get('XLA_FLAGS', '').split():
    found['XLA_FLAGS'] = ' '.join(flags)
  return found


def make_digest(about: Mapping) -> str:
  """Makes eight letters that are equal for equal JSON."""
  return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]


def list_differences(was: Mapping, now: Mapping) -> list[str]:
  """Lists the keys of two descriptions that differ, each with both values: 'cores 2, now 1'."""
  return [
    f'{key} {was.get(key, "unknown")}, now {now.get(key, "unknown")}'
    for key in sorted({*was, *now})
    if was.get(key) != now.get(key)
  ]


def count_cores() -> int | float:
  """Counts the cores that this process may use.

  A container may have a share of the machine's time, such as 1.5 cores, on more of its cores.
  """
  may_use = getattr(os, 'sched_getaffinity', None)
  cores = len(may_use(0)) if may_use else os.cpu_count() or 1
  share = min(_list_quotas(), default=math.inf)
  return cores if share >= cores else share


def _list_quotas() -> Iterator[float]:
  """Yields the most cores that each control group of this process allows, of those that say."""
  with contextlib.suppress(OSError):
    lines = Path('/proc/self/cgroup').read_text().splitlines()
    # A container sees its own group as the root; elsewhere all groups above count as well.
    own = next((line[3:].strip('/') for line in lines if line.startswith('0::')), '')
    for group in (CGROUPS / own, *(CGROUPS / own).parents):
      if group.is_relative_to(CGROUPS):
        yield from _read_quota(group / 'cpu.max')
  first = CGROUPS / 'cpu'  # of the first version, which many containers still have
  yield from _read_quota(first / 'cpu.cfs_quota_us', first / 'cpu.cfs_period_us')


def _read_quota(*paths: Path) -> Iterator[float]:
  """Yields microseconds of work over microseconds of time; nothing where there is no limit."""
  with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
    work, time = (int(word) for path in paths for word in path.read_text().split())
    if work > 0:
      yield work / time


def _name_cpu() -> str:
  with contextlib.suppress(OSError):
    for line in Path('/proc/cpuinfo').read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()
