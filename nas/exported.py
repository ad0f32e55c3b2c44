"""How long parts of networks take in the runtime that they will live in, as exported files.

A call of a runtime costs microseconds by itself, as long as small parts take. A network pays that
once, so it is taken off: a file that does nothing is called in turns with the part's. And a part
stands in its file in several copies, each with its own inputs, states and weights. Alone, it would
find all of these in the fastest cache, which in a network they share with the other parts.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from movinet_jax import export, timing
from movinet_jax.export import formats
from movinet_jax.export.artifact import name_runtime
from nas.runtime import Work

# The format of the files that each runtime runs.
FORMATS = {'litert': 'tflite', 'onnxruntime': 'onnx'}
# Of a part in its file. Of 1, 2, 4 and 8 copies in LiteRT, 4 predict networks best: for 30 of the
# quickstart's space, Kendall's tau was 0.85, 0.88, 0.91 and 0.90, timed in turns in one run
# (benchmarks/latency.py --copies times one of them).
COPIES = 4


class Empty(nn.Module):
  """What takes no time but that of a call."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return x + 1, {}


class Runtime:
  """Times parts in one runtime, on the CPU and in float32.

  Attributes:
    about: what times depend on beside the machine: the runtime with its version, and its threads.
  """

  def __init__(self, name: str, threads: int):
    """Takes a runtime.

    Args:
      name: one of FORMATS.
      threads: that it may use.

    Raises:
      ExportError: it is not installed; says how to.
    """
    self._form, self._threads = formats.load(FORMATS[name]), threads
    export.check_installed((*self._form.NEEDS, *self._form.RUNS))
    self.about = {'runtime': name_runtime(self._form.RUNS), 'threads': threads}
    self._empty: dict[int, Callable] = {}

  def measure_part_ns(self, work: Work) -> int:
    """Nanoseconds of a part within a network, without what a call costs by itself.

    Raises:
      ExportError: no file can say it; names the module and the primitive.
    """
    return self.prepare(work, COPIES).measure_ns()

  def measure_network_ns(self, work: Work) -> int:
    """The same of a network, which is alone in its file."""
    return self.prepare(work, 1).measure_ns()

  def prepare(self, work: Work, copies: int) -> 'Prepared':
    """Writes and loads copies of a network or a part of one, of float32.

    Raises:
      ExportError: no file can say it; names the module and the primitive.
    """
    return Prepared(self.open(plan(work).repeat(copies)), self._open_empty(copies), copies)

  def open(self, part: export.Part) -> Callable[[], None]:
    """Writes a part to a file of this runtime, and loads that: a call to repeat."""
    with tempfile.TemporaryDirectory() as folder:
      path = Path(folder) / self._form.FILE
      interface = self._form.write(part, path)
      session = self._form.make_session(path, interface, 1, self._threads)
    given = set(interface.inputs) - set(interface.states)
    zeros = {name: interface.inputs[name].make_zeros() for name in given}
    return session.make_call({name: zero + np.float32(0.5) for name, zero in zeros.items()})

  def _open_empty(self, copies: int) -> Callable[[], None]:
    if copies not in self._empty:
      self._empty[copies] = self.open(plan(Work(Empty(), (1, 1, 1, 1, 4))).repeat(copies))
    return self._empty[copies]


def plan(work: Work) -> export.Part:
  """A call with drawn weights."""
  module, shape, dtype = work
  x = jax.ShapeDtypeStruct(shape, dtype)
  shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), x)
  return export.plan_part(module, timing.draw_like(shapes), shape)


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A file that is ready to be timed.

  Attributes:
    call: a call of it.
    empty: one of a file that does nothing, and takes and returns as many arrays.
    copies: of a part in both.
  """

  call: Callable[[], None]
  empty: Callable[[], None]
  copies: int

  def measure_ns(self, *, rounds: int = 5, round_secs: float = 0.02) -> int:
    """Nanoseconds of one copy, without what a call costs by itself.

    Args:
      rounds: measurements of each in turns. The least counts: other work on a machine only adds.
      round_secs: about how long one takes.
    """
    whole, empty = self.time_ns(rounds, round_secs)
    return max(1, round((whole - empty) / self.copies))

  def time_ns(self, rounds: int, round_secs: float) -> list[float]:
    """Nanoseconds of a call, and of an empty one."""
    calls = self.call, self.empty
    counts = [_count(call, round_secs) for call in calls]
    found = [[_time(call, n) for call, n in zip(calls, counts, strict=True)] for _ in range(rounds)]
    return [min(times) for times in zip(*found, strict=True)]


def _count(call, round_secs: float) -> int:
  once = min(_time(call, 1) for _ in range(3))
  return int(min(max(1e9 * round_secs / once, 1), 10_000))


def _time(call, count: int) -> float:
  began = time.perf_counter_ns()
  for _ in range(count):
    call()
  return (time.perf_counter_ns() - began) / count
