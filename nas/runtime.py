"""How long compiled programs take on the device at hand, and files of such times."""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from movinet_jax import layers
from nas import machine

VERSION = 2


class Work(NamedTuple):
  """What is timed: one call of a network or of a part of one.

  Attributes:
    module: called with x, and with a stream's state if it has one.
    shape: of x, [B, T, H, W, C].
    dtype: of x.
  """

  module: nn.Module
  shape: tuple[int, ...]
  dtype: jnp.dtype = jnp.float32


class Latency(NamedTuple):
  """How long a network takes.

  Attributes:
    ns: nanoseconds of one call, the median of several measurements.
    noise: how far apart those were: (most - least) / median.
  """

  ns: int
  noise: float


def measure_latency(model: nn.Module, *, repeats: int = 5, most_ns: float | None = None) -> Latency:
  """Measures one call of a network on one clip of its spec, or on one frame of a stream.

  Args:
    repeats: measurements, of which the median counts.
    most_ns: a network that takes three times as long is measured by few calls.
  """
  spec = model.spec
  frames = 1 if getattr(spec, 'causal', False) else spec.frames
  shape = 1, frames, spec.resolution, spec.resolution, 3
  step, carry = make_step(model, shape, jnp.float32)
  if most_ns is not None and (about := time_calls(step, carry)) > 3 * most_ns:
    return Latency(about, 0.0)
  found = [measure_ns(step, carry) for _ in range(repeats)]
  middle = round(statistics.median(found))
  return Latency(middle, (max(found) - min(found)) / middle)


def time_calls(step: Callable, carry, calls: int = 3) -> int:
  """Nanoseconds of the fastest of a few calls, what it costs to start one included.

  The first, which gets the program its memory, does not count.
  """
  run, found = jax.jit(step).lower(carry).compile(), []
  for _ in range(1 + calls):
    began = time.perf_counter_ns()
    jax.block_until_ready(run(carry))
    found.append(time.perf_counter_ns() - began)
  return min(found[1:])


def make_step(module: nn.Module, shape: tuple[int, ...], dtype):
  """(step, carry) for measure_ns: one call of a network or a part of one.

  Args:
    module: called with x, and with a stream's state if it has one.
    shape: of x, [B, T, H, W, C].
  """
  x = jnp.full(shape, 0.5, dtype)
  shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), x)
  # Any weights will do, but neither zeros nor what would become tiny numbers.
  variables = jax.tree.map(lambda s: jnp.full(s.shape, 0.1, s.dtype), shapes)
  y, after = jax.eval_shape(module.apply, variables, x)
  state = layers.init_state(module, shape[0], shape[2:], dtype) if after else {}

  def step(carry):
    variables, x, state, _ = carry
    y, after = module.apply(variables, x, state or None)
    return variables, x, after if state else {}, y

  return step, (variables, x, state, jnp.zeros(y.shape, y.dtype))


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
  few, many = zip(*((time_ns(1), time_ns(1 + count)) for _ in range(rounds)), strict=True)
  return max(1, round((min(many) - min(few)) / count))


class Runtime:
  """Times what JAX compiles, on its first device.

  Attributes:
    about: what times depend on beside the machine: nothing that `machine.describe` does not say.
  """

  about: Mapping = {}

  def measure_part_ns(self, work: Work) -> int:
    """Nanoseconds of a part of a network, without what it costs to start a program."""
    return measure_ns(*make_step(*work))

  measure_network_ns = measure_part_ns


class TimesFile:
  """Times by name, a line each, as they are measured: what is there need not be again.

  The first line says what they are about, and each has a digest of that: lines of files that
  were put together are told apart.

  Attributes:
    times: name -> nanoseconds.
  """

  def __init__(self, path: Path, about: Mapping):
    """Opens a file of times, or begins one.

    Args:
      about: JSON, what all times of the file depend on: those of machine.describe, batch, …

    Raises:
      ValueError: the file is there and is about something else, or about several things.
    """
    about = json.loads(json.dumps(dict(about)))
    self._path, self._digest, self.times = path, machine.make_digest(about), {}
    if path.exists():
      found, lines, version = _read_lines(path)
      if version < VERSION:
        raise ValueError(explain_old(path))
      if differ := machine.list_differences(found, about):
        raise ValueError(
          f'{path} has times of something else ({"; ".join(differ)}): measure into another file'
        )
      self.times = _take_times(path, found, lines, version)
      return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'version': VERSION, 'about': about}) + '\n')

  def add(self, name: str, ns: int):
    with self._path.open('ab+') as file:
      if file.seek(-1, os.SEEK_END) and file.read(1) != b'\n':
        file.write(b'\n')  # after a line that a kill has torn
      row = {'part': name, 'ns': ns, 'about': self._digest}
      file.write(json.dumps(row).encode() + b'\n')
    self.times[name] = ns


def explain_old(path: Path | str) -> str:
  """Says what is wrong with a file of version 1, which only searches that began with it take."""
  return (
    f'{path} is of version 1, which does not tell on how many cores and by which jaxlib its times '
    'were measured: measure again, into another file'
  )


def read_times(path: Path) -> tuple[dict, dict[str, int]]:
  """What a file of times is about, and its times.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is none, or of another version; or its times are about several things.
  """
  about, lines, version = _read_lines(path)
  return about, _take_times(path, about, lines, version)


def _read_lines(path: Path) -> tuple[dict, list, int]:
  """Reads what a file's first line says its times are about, the lines after it, its version."""
  lines = [_parse(line) for line in path.read_text(errors='replace').splitlines()]
  head = lines[0] if lines else None
  if not isinstance(head, dict) or not isinstance(head.get('about'), dict):
    raise ValueError(f'{path} is no file of measured times')
  if head.get('version') not in (1, VERSION):
    raise ValueError(f'{path} has version {head.get("version")!r}, this code reads {VERSION}')
  return head['about'], lines[1:], head['version']


def _take_times(path: Path, about: Mapping, lines: Sequence, version: int) -> dict[str, int]:
  """Takes the times of lines, all of which must be about the same."""
  times, own = {}, machine.make_digest(about) if version > 1 else None
  for number, row in enumerate(lines, 2):
    if row is None:
      continue
    if isinstance(row, dict) and isinstance(row.get('about'), dict):  # another file's first line
      if differ := machine.list_differences(about, row['about']):
        raise ValueError(
          f'{path} was put together of files that do not compare, from line {number} on '
          f'({"; ".join(differ)}): measure all into one file'
        )
      continue
    if not isinstance(row, dict) or type(row.get('ns')) is not int or row['ns'] < 0:
      raise ValueError(f'{path} has a line that is no measured time: {row!r}')
    if row.get('about') != own:
      raise ValueError(
        f'{path}, line {number}: its time is about {row.get("about")}, and the first line about '
        f'{own}, so lines of several files were put together or changed: measure all into one file'
      )
    times[row['part']] = row['ns']
  return times


def _parse(line: str):
  """None for a torn line."""
  try:
    return json.loads(line)
  except json.JSONDecodeError:
    return None
