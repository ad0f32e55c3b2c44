"""Before a GPU's first frame, the faster of two programs is found, and a wrong one is dropped."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax import export, serve
from movinet_jax.serve import live as live_module
from movinet_jax.serve.frame import trial

SIZE = (4, 4)


class Clock:
  """Stands still but for what `Counter` takes."""

  now = 0.0

  def perf_counter(self):
    return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch):
  monkeypatch.setattr(trial, 'time', Clock())


class Counter:
  """Answers with how bright a frame is."""

  def __init__(self, ms: float = 0, wrong: float = 0, fault: Exception | None = None):
    self.secs, self.wrong, self.fault = ms / 1e3, wrong, fault

  def begin(self):
    return 0

  def __call__(self, frame, state):
    if self.fault:
      raise self.fault
    trial.time.now += self.secs
    share = float(frame.mean()) / 255 + self.wrong
    return np.array([share, 1 - share, 0], np.float32), state + 1


FAULT = jax.errors.JaxRuntimeError('INVALID_ARGUMENT: no such custom call')


def fail():
  raise FAULT


@pytest.mark.parametrize(('ours', 'taken'), [(1, True), (1.97, False), (4, False)])
def test_the_faster_one_is_taken(ours, taken):
  network = Counter(2)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    found = trial.choose(lambda: Counter(ours), lambda: network, SIZE, 'float32')
  assert (found.step is not network) == taken
  assert found.ms == pytest.approx({'frame': ours, 'network': 2})


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (fail, 'no such custom call'),
    (lambda: Counter(fault=FAULT), 'no such custom call'),
    (lambda: Counter(wrong=0.1), 'differ by 0.1'),
    (lambda: Counter(wrong=np.nan), 'differ by nan'),
  ],
)
def test_a_fault_is_told_and_the_network_runs(make, message):
  network = Counter(1)
  with pytest.warns(RuntimeWarning, match=message):
    found = trial.choose(make, lambda: network, SIZE, 'float32')
  assert found.step is network


def test_what_no_graph_can_say_is_no_fault_of_the_device():
  def refuse():
    raise export.ExportError('no graph can say top_k')

  with pytest.raises(export.ExportError):
    trial.choose(refuse, lambda: pytest.fail('compiled'), SIZE, 'float32')


@pytest.mark.parametrize('wrong', [0, 1])
def test_live_takes_what_the_trial_found(wrong, monkeypatch):
  from tests.serve.frame.streams import SIZE, draw_frames, make_stream

  monkeypatch.setattr(live_module.jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(live_module, 'can_run', lambda *_: True)
  monkeypatch.setattr(live_module, 'FrameStep', lambda *_: Counter(wrong=wrong))
  if not wrong:  # it answers as the network does
    monkeypatch.setattr(live_module, 'NetworkStep', lambda *_, **__: Counter(2))
  model, variables = make_stream(dtype=jnp.bfloat16)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    live = serve.Live(model, variables, SIZE)
  assert ['differ by' in str(one.message) for one in caught] == [True] * wrong
  assert isinstance(live.step, Counter) != wrong
  assert live.tried == pytest.approx({} if wrong else {'frame': 0, 'network': 2})
  # The trial's frames are none of the stream's.
  assert live(draw_frames()[0]).frame == 0
  assert wrong or live._state == 1
