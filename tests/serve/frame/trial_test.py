"""Before a GPU's first frame, the faster of two programs is found, and a wrong one is dropped."""

import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax import export, serve
from movinet_jax.serve import live as live_module
from movinet_jax.serve.frame import trial

SIZE = (4, 4)


class Counter:
  """Answers with how bright a frame is."""

  def __init__(self, secs: float = 0, wrong: float = 0):
    self.secs, self.wrong = secs, wrong

  def begin(self):
    return 0

  def __call__(self, frame, state):
    time.sleep(self.secs)
    share = float(frame.mean()) / 255 + self.wrong
    return np.array([share, 1 - share, 0], np.float32), state + 1


def fail():
  raise jax.errors.JaxRuntimeError('INVALID_ARGUMENT: no such custom call')


@pytest.mark.parametrize('ours', [0, 0.004])
def test_the_faster_one_is_taken(ours):
  network = Counter(0.002)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    found = trial.choose(lambda: Counter(ours), lambda: network, SIZE, 'float32')
  assert (found.step is network) == (ours > 0.002)
  assert found.ms['network'] >= 2
  assert found.ms['frame'] >= 1e3 * ours


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (fail, 'no such custom call'),
    (lambda: Counter(wrong=0.1), 'differ by 0.1'),
    (lambda: Counter(wrong=np.nan), 'differ by nan'),
  ],
)
def test_a_fault_is_told_and_the_network_runs(make, message):
  network = Counter(0.001)
  with pytest.warns(RuntimeWarning, match=message):
    found = trial.choose(make, lambda: network, SIZE, 'float32')
  assert found.step is network


def test_what_no_graph_can_say_is_no_fault_of_the_device():
  def refuse():
    raise export.ExportError('no graph can say top_k')

  with pytest.raises(export.ExportError):
    trial.choose(refuse, lambda: pytest.fail('compiled'), SIZE, 'float32')


def test_live_takes_what_the_trial_found(monkeypatch):
  from tests.serve.frame.streams import SIZE, draw_frames, make_stream

  monkeypatch.setattr(live_module.jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(live_module, 'FrameStep', lambda *_: Counter(wrong=1))
  model, variables = make_stream(dtype=jnp.bfloat16)
  with pytest.warns(RuntimeWarning, match='differ by'):
    live = serve.Live(model, variables, SIZE)
  assert isinstance(live.step, live_module.NetworkStep)
  assert live.tried == {}
  assert live(draw_frames()[0]).probabilities.shape == (3,)
