"""How many cores this process may use: what it was pinned to, and what its container may take."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path('/sys/fs/cgroup')


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
