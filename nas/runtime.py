"""How long compiled programs take on the device at hand, and files of such times."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from jax import lax

VERSION = 1


def measure_ns(step: Callable, carry, *, rounds: int = 5, round_secs: float = 0.02):
  """Nanoseconds of `carry = step(carry)`, without what it costs to start a program.

  The program repeats the step in a loop on the device. Its time for few repetitions is
  taken from that for many, each the least of several rounds: other work on a machine only
  ever adds.

  Args:
    step: pure; returns a carry of the same shapes.
    carry: what it begins with. What is not used of it would not be computed.
    rounds: measurements of each.
    round_secs: about how long one takes.
  """

  @jax.jit
  def repeat(carry, count):
    # The barrier keeps what does not change inside of the loop.
    body = lambda _, carry: step(lax.optimization_barrier(carry))  # noqa: E731
    return lax.fori_loop(0, count, body, carry)

  def time_ns(count) -> int:
    began = time.perf_counter_ns()
    jax.block_until_ready(repeat(carry, count))
    return time.perf_counter_ns() - began

  time_ns(1)  # compiles
  once = min(time_ns(1) for _ in range(3))
  count = int(min(max(1e9 * round_secs / once, 2), 10_000))
  few, many = zip(
    *((time_ns(1), time_ns(1 + count)) for _ in range(rounds)), strict=True
  )
  return max(1, round((min(many) - min(few)) / count))


class TimesFile:
  """Times by name, a line each, as they are measured: what is there need not be again.

  Attributes:
    times: name -> nanoseconds.
  """

  def __init__(self, path: Path, about: Mapping):
    """Opens a file of times, or begins one.

    Args:
      about: JSON, what all times of the file depend on: device, batch, …

    Raises:
      ValueError: the file is there and is about something else.
    """
    self._path, self.times = path, {}
    if path.exists():
      found, self.times = read_times(path)
      for key in sorted({*found, *about}):
        if found.get(key) != about.get(key):
          raise ValueError(
            f'{path} has times of another {key}: {found.get(key)!r}, now '
            f'{about.get(key)!r}; take another file'
          )
      return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'version': VERSION, 'about': dict(about)}) + '\n')

  def add(self, name: str, ns: int):
    with self._path.open('ab+') as file:
      if file.seek(-1, os.SEEK_END) and file.read(1) != b'\n':
        file.write(b'\n')  # after a line that a kill has torn
      file.write(json.dumps({'part': name, 'ns': ns}).encode() + b'\n')
    self.times[name] = ns


def read_times(path: Path) -> tuple[dict, dict[str, int]]:
  """What a file of times is about, and its times.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is none, or of another version.
  """
  lines = [_parse(line) for line in path.read_text(errors='replace').splitlines()]
  head = lines[0] if lines else None
  if not isinstance(head, dict) or not isinstance(head.get('about'), dict):
    raise ValueError(f'{path} is no file of measured times')
  if head.get('version') != VERSION:
    raise ValueError(
      f'{path} has version {head.get("version")!r}, this code reads {VERSION}'
    )
  times = {}
  for row in filter(None, lines[1:]):
    if not isinstance(row, dict) or type(row.get('ns')) is not int or row['ns'] < 0:
      raise ValueError(f'{path} has a line that is no measured time: {row!r}')
    times[row['part']] = row['ns']
  return head['about'], times


def _parse(line: str):
  """None for a torn line."""
  try:
    return json.loads(line)
  except json.JSONDecodeError:
    return None
