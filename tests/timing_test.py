"""Calls are timed as often as there is time, and programs are compiled anew."""

import time

import jax
import jax.numpy as jnp
import pytest

from movinet_jax import timing


def test_calls_are_timed_after_a_warm_up():
  delays = iter([0.05, *[0.002] * 1000])
  times = timing.measure_call(lambda: time.sleep(next(delays)), secs=0.2)
  assert 2 <= times.p10_ms <= times.median_ms <= times.p90_ms < 50
  assert 3 <= times.calls <= 100


def test_calls_that_take_turns_are_timed_in_rounds():
  made = []

  def call():
    time.sleep(0.02 * (len(made) % 2))
    made.append(None)

  times = timing.measure_call(call, secs=0.1, period=2)
  assert 10 <= times.p10_ms < 20  # between the two
  assert times.calls % 2 == 0


def test_slow_calls_are_few():
  made = []

  def call():
    time.sleep(0.05)
    made.append(None)

  assert timing.measure_call(call, secs=0.04).calls == 3
  assert timing.measure_call(call, secs=0.001).calls == 1
  assert len(made) == (1 + 3) + (1 + 1)


def test_queued_calls_are_waited_for_once_and_take_turns():
  made, waited = [], []

  def make_call(name, secs):
    def call(n):
      made.append((name, n))
      time.sleep(secs)
      return name

    return call

  calls = {'fast': make_call('fast', 0.002), 'slow': make_call('slow', 0.02)}
  times = timing.queue_in_turns(calls, rounds=3, queue_secs=0.02, wait=waited.append)
  assert 2 <= times['fast'] < 15
  assert 20 <= times['slow'] < 60
  numbers = [n for name, n in made if name == 'fast']
  assert numbers == list(range(len(numbers)))  # so that inputs can rotate
  assert waited == [*('fast', 'fast', 'slow', 'slow'), *('fast', 'slow') * 3]
  assert len(numbers) - 3 >= 2 * 3  # several a queue


@pytest.fixture
def events():
  """What JAX tells of its cache."""
  found = []
  listener = lambda event, **_: found.append(event)  # noqa: E731
  jax.monitoring.register_event_listener(listener)
  yield found
  jax.monitoring.unregister_event_listener(listener)


def test_programs_are_not_from_the_cache_and_it_is_used_again(events):
  used = '/jax/compilation_cache/compile_requests_use_cache'
  x = jnp.ones(3)
  jax.jit(lambda x: x + 41.0).lower(x).compile()
  assert used in events
  events.clear()
  program, secs = timing.compile_program(lambda x: x + 42.0, x)
  assert used not in events
  assert secs > 0
  assert program(x).tolist() == [43, 43, 43]
  jax.jit(lambda x: x + 43.0).lower(x).compile()
  assert used in events
