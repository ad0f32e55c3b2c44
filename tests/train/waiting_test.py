"""Devices that wait, and devices that do not although the loop does."""

import threading
import time

import jax
import numpy as np
import pytest

from movinet_jax.train import precise_norm
from movinet_jax.train.evaluation import evaluate, evaluate_frames, make_predict
from movinet_jax.train.mesh import make_mesh, shard_step
from movinet_jax.train.waiting import DeviceClock, InputWatch, run_ahead
from tests.train.toy import make_batch


class Output:
  """What a step gives, there when it is told so."""

  def __init__(self):
    self._event = threading.Event()

  def end(self):
    self._event.set()
    time.sleep(0.02)  # the clock's thread takes note

  def block_until_ready(self):
    self._event.wait()


def test_only_what_is_left_of_a_wait_after_a_step_is_idle():
  with DeviceClock() as clock:
    output, began = Output(), time.perf_counter()
    clock.follow(output, began)
    time.sleep(0.1)
    assert clock.count_idle_secs(began) == 0  # the step runs
    output.end()
    time.sleep(0.05)
    assert 0.04 < clock.count_idle_secs(began) < time.perf_counter() - began - 0.09
    assert clock.busy_secs > 0.09
    # The next step waits for nothing; what was called earlier began when the one before ended.
    again = Output()
    clock.follow(again, began)
    again.end()
    assert clock.busy_secs < time.perf_counter() - began


def test_a_step_that_fails_does_not_end_the_clock():
  class Failed:
    def block_until_ready(self):
      raise RuntimeError('of the device')

  with DeviceClock() as clock:
    for output in (Failed(), np.float32(0)):
      clock.follow(output, time.perf_counter())
    while clock.count_idle_secs(0) == 0:
      time.sleep(0.001)


class Advised:
  def __init__(self):
    self.asked = []

  def advise(self, step_secs):
    self.asked.append(step_secs)
    return 'take more'


def watch(*shares, secs=12.0, steps=30):
  """What is told after each line with such a share of waiting."""
  batches = Advised()
  watch = InputWatch(batches)
  told = [watch.add(steps, secs, share * secs, steps * 0.1) for share in shares]
  assert all(step_secs == pytest.approx(0.1) for step_secs in batches.asked)
  return [bool(one) for one in told]


def test_one_note_and_another_only_if_it_gets_much_worse():
  assert watch(0.9, 0.9, 0.9, 0.9) == [False, True, False, False]  # the first has the compiler
  assert watch(0.0, 0.05, 0.09, 0.3, 0.45, 0.05, 0.4, 0.6) == [False] * 3 + [True] + [False] * 3 + [
    True
  ]


def test_short_lines_are_judged_together():
  assert watch(0.9, 0.9, 0.9, 0.9, secs=4.0) == [False, False, False, True]
  assert watch(0.9, 0.9, 0.9, secs=12.0, steps=10) == [False, False, True]


def test_a_note_tells_the_share_and_what_the_input_advises(monkeypatch):
  told = InputWatch(Advised())
  told.add(1, 1.0, 0.0, 0.0)
  note = told.add(30, 12.0, 3.6, 3.0)
  for word in ('30%', '12 s', 'take more', 'same cores'):
    assert word in note
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  told = InputWatch(Advised())
  told.add(1, 1.0, 0.0, 0.0)
  assert 'same cores' not in told.add(30, 12.0, 3.6, 3.0)
  nothing = InputWatch(object())  # batches that cannot advise
  assert [nothing.add(30, 12.0, 11.0, 1.0) for _ in range(3)] == [''] * 3


def test_the_next_step_is_dispatched_before_the_last_is_read():
  order = []

  def batches():
    for number in range(3):
      order.append(('batch', number))
      yield number

  for batch, found in run_ahead(lambda n: order.append(('step', n)) or n * 10, batches()):
    assert found == batch * 10
    order.append(('read', batch))
  assert order == [
    ('batch', 0), ('step', 0), ('batch', 1), ('step', 1), ('read', 0),
    ('batch', 2), ('step', 2), ('read', 1), ('read', 2),
  ]  # fmt: skip
  assert list(run_ahead(str, [])) == []


def test_an_evaluation_asks_for_batches_ahead():
  order = []

  class Logits:
    def __init__(self, number):
      self.number = number

    def __array__(self, dtype=None, copy=None):
      order.append(('read', self.number))
      return np.zeros((8, 1, 2, 4)) if frames else np.zeros((8, 4))

  def predict(variables, batch):
    number = int(batch['name'][0].partition('_')[0])
    order.append(('step', number))
    return Logits(number)

  for frames in (False, True):
    order.clear()
    score = (lambda *a: evaluate_frames(*a, kinds=['alone'])) if frames else evaluate
    score(predict, None, [make_batch(n) for n in range(3)])
    assert [entry for entry in order if entry[0] == 'step'] == [('step', n) for n in range(3)]
    assert order.index(('step', 1)) < order.index(('read', 0))
    assert order.index(('step', 2)) < order.index(('read', 1))


def test_pixels_cross_to_the_devices_as_bytes(monkeypatch):
  """Those of training, of a search's second stream, of evaluation and precise statistics."""
  seen, mesh = {}, make_mesh()

  def step(state, batch):
    seen.update(train=batch['video'].dtype, valid=batch['valid']['video'].dtype)
    return state, {}

  shard_step(step, mesh)(np.float32(0), {**make_batch(), 'valid': make_batch(1)})

  def eval_step(variables, video):
    seen['eval'] = video.dtype
    return video.mean((1, 2, 3))

  make_predict(eval_step, mesh)({}, make_batch())

  def make_moments(model):
    return lambda variables, video: {'mean': video.mean((0, 1, 2)), 'var': see(video)}

  def see(video):
    seen['norm'] = video.dtype
    return video.var((0, 1, 2))

  monkeypatch.setattr(precise_norm, 'make_moments', make_moments)
  precise_norm.make_estimate(None, mesh)({}, [make_batch()])
  assert seen == dict.fromkeys(('train', 'valid', 'eval', 'norm'), np.uint8)
