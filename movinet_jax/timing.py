"""How long compiled programs take on the device at hand."""

import contextlib
import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import flax.linen as nn
import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from movinet_jax import models

_WARM_UP_SHARE = 0.2  # of the time that a measurement may take
_LEAST_ROUNDS = 3
_MOST_TIMES = 10  # longer than asked may a measurement take for the sake of the least rounds
_MOST_QUEUED = 200  # calls between two synchronisations


@dataclasses.dataclass(frozen=True)
class Times:
  """Milliseconds of one call.

  Attributes:
    median_ms, p10_ms, p90_ms: the median, and what a tenth of the calls were below and above.
    calls: how many were measured, those that warm up apart.
  """

  median_ms: float
  p10_ms: float
  p90_ms: float
  calls: int


def compile_program(function: Callable, *args, **options) -> tuple[Callable, float]:
  """Compiles for these arguments, not from a cache: (program, seconds).

  Options are those of jax.jit.
  """
  lowered = jax.jit(function, **options).lower(*args)
  with without_cache():
    began = time.perf_counter()
    return lowered.compile(), time.perf_counter() - began


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
  """Compiles without JAX's cache on disk, which it would otherwise decide on only once."""
  name = 'jax_enable_compilation_cache'
  before = getattr(jax.config, name)
  jax.config.update(name, False)
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    jax.config.update(name, before)
    compilation_cache.reset_cache()


def measure_call(call: Callable[[], object], secs: float = 3.0, period: int = 1) -> Times:
  """Times a call again and again, after a fifth of the time to warm up.

  A slow call is made three times, unless these would take ten times as long as asked.

  Args:
    call: what it returns is waited for.
    secs: how long to measure.
    period: so many calls are one round, whose mean counts. For calls that differ in turns, such
      as those of an ensemble whose members see every second frame.
  """

  def time_round() -> float:
    began = time.perf_counter()
    for _ in range(period):
      jax.block_until_ready(call())
    return (time.perf_counter() - began) / period

  found: list[float] = []
  _repeat(time_round, secs * _WARM_UP_SHARE, least=1)
  found = _repeat(time_round, secs, least=_LEAST_ROUNDS)
  median, low, high = 1e3 * np.percentile(found, (50, 10, 90))
  return Times(float(median), float(low), float(high), period * len(found))


def _repeat(time_round: Callable[[], float], secs: float, least: int) -> list[float]:
  """The seconds of rounds, until the time is over."""
  found, began = [], time.perf_counter()
  while True:
    found.append(time_round())
    spent = time.perf_counter() - began
    if spent > _MOST_TIMES * secs or (spent > secs and len(found) >= least):
      return found


def time_in_turns(
  calls: Mapping[str, Callable[[], object]], rounds: int = 20, budget_secs: float = 20
) -> dict[str, float]:
  """Median milliseconds of each call, one after the other in every round.

  Taking turns makes a machine that slows down slow all of them; rounds end early when the
  budget is spent, but never before three.
  """
  for call in calls.values():
    jax.block_until_ready(call())
  times = {name: [] for name in calls}
  began = time.perf_counter()
  for n in range(rounds):
    for name, call in calls.items():
      start = time.perf_counter()
      jax.block_until_ready(call())
      times[name].append(1e3 * (time.perf_counter() - start))
    if n >= 2 and time.perf_counter() - began > budget_secs:
      break
  return {name: statistics.median(t) for name, t in times.items()}


def queue_in_turns(
  calls: Mapping[str, Callable[[int], object]],
  *,
  rounds: int = 5,
  queue_secs: float = 0.05,
  budget_secs: float = 20,
  wait: Callable[[object], object] = jax.block_until_ready,
) -> dict[str, float]:
  """Median milliseconds of each call, many of which are queued before each synchronisation.

  An accelerator is given its next program while it runs the one before, as in training.
  Waiting for every call would add the way to the device and back, 0.1 ms and more.

  Args:
    calls: each is given its own number, counted from 0, so that it can rotate its inputs.
    rounds: in each of them, every call is queued in turn. Rounds end early when the budget is
      spent, but never before three.
    queue_secs: about how long the calls between two synchronisations run.
    budget_secs: for all rounds.
    wait: synchronises with what the last call returned.
  """
  numbers = {name: itertools.count() for name in calls}

  def time_queue(name: str, count: int) -> float:
    began, found = time.perf_counter(), None
    for _ in range(count):
      found = calls[name](next(numbers[name]))
    wait(found)
    return (time.perf_counter() - began) / count

  counts = {}
  for name in calls:
    time_queue(name, 1)  # warms up
    counts[name] = max(1, min(_MOST_QUEUED, round(queue_secs / time_queue(name, 2))))
  times, began = {name: [] for name in calls}, time.perf_counter()
  for n in range(rounds):
    for name, count in counts.items():
      times[name].append(1e3 * time_queue(name, count))
    if n + 1 >= _LEAST_ROUNDS and time.perf_counter() - began > budget_secs:
      break
  return {name: statistics.median(t) for name, t in times.items()}


def draw_weights(model: nn.Module, seed: int = 0) -> Mapping:
  """Draws weights to time a network with.

  Nothing is compiled, which initialising a network does for every shape. Values are such that
  activations are neither zeros nor too small or too large for a float.
  """
  shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0), (1, 1, 32, 32, 3)))
  return draw_like(shapes, seed)


def draw_like(shapes: Mapping, seed: int = 0) -> Mapping:
  """Draws the same for any module, of which these are the shapes of its weights."""
  rng = np.random.default_rng(seed)

  def draw(leaf) -> np.ndarray:
    if leaf.ndim < 2:  # scales, offsets and statistics
      return rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
    fan_in = math.prod(leaf.shape[:-1])
    return (rng.standard_normal(leaf.shape) / math.sqrt(fan_in)).astype(leaf.dtype)

  return jax.tree.map(draw, shapes)
