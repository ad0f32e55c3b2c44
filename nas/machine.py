"""What times are measured on: the device, the cores that a process may use, the versions."""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import jax
import jaxlib

from movinet_jax.cores import count_cores


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


def _name_cpu() -> str:
  with contextlib.suppress(OSError):
    for line in Path('/proc/cpuinfo').read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()
