"""A stream's next frame on a CPU: the same answers as the network, in fewer passes."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax import export, inference, serve, timing
from movinet_jax.export.graph import Graph, Tensor, add_node
from movinet_jax.export.program import Program
from movinet_jax.serve.frame import FrameStep, buffers, cpu, rules
from movinet_jax.serve.frame import step as step_module
from movinet_jax.serve.frame.branch import branch
from movinet_jax.serve.live import NetworkStep
from tests.serve.frame import streams


@pytest.fixture
def quick(monkeypatch):
  options = {**inference.find_options('cpu'), **streams.QUICK}
  monkeypatch.setattr(inference, 'find_options', lambda platform: options)


@pytest.mark.parametrize(('model', 'family'), streams.find_causal())
def test_a_frame_step_is_the_network(model, family, quick):
  """Of every causal network of the package whose frames are all alike."""
  variables, frames = timing.draw_weights(model), streams.draw_frames()
  if family in streams.ALTERNATE:
    with pytest.raises(export.ExportError, match='does the same every'):
      FrameStep(model, variables, streams.SIZE, jax.nn.softmax)
    return
  step = FrameStep(model, variables, streams.SIZE, jax.nn.softmax)
  found, wanted = streams.run_step(step, frames), streams.run_network(model, variables, frames)
  assert np.ptp(wanted, 0).max() > 1e-3  # frames differ, and what is remembered counts
  np.testing.assert_allclose(found, wanted, atol=2e-6)


def _reverse(buffer):
  return dataclasses.replace(buffer, frames=buffer.frames[::-1])


def _shift(buffer):
  return dataclasses.replace(buffer, frames=(buffer.frames[-1], *buffer.frames[:-1]))


@pytest.mark.parametrize('mistake', [_reverse, _shift])
def test_frames_in_wrong_places_are_seen(mistake, monkeypatch, quick):
  """The comparison above finds a mistake in the order of the frames."""
  model, variables = streams.make_stream()
  right = FrameStep(model, variables, streams.SIZE, jax.nn.softmax)
  split = step_module.split_buffers

  def split_wrongly(*given):
    graph, kept = split(*given)
    return graph, dataclasses.replace(kept, buffers=list(map(mistake, kept.buffers)))

  monkeypatch.setattr(step_module, 'split_buffers', split_wrongly)
  frames = streams.draw_frames()
  wrong = streams.run_step(FrameStep(model, variables, streams.SIZE, jax.nn.softmax), frames)
  assert np.abs(wrong - streams.run_step(right, frames)).max() > 1e-3


def test_a_frame_of_a0_is_few_passes(quick):
  """What made it fast: no buffer is copied, and norms are no passes of their own."""
  model = mj.create('movinet/a0-stream')
  variables, size = timing.draw_weights(model), (64, 64)
  step = FrameStep(model, variables, size, jax.nn.softmax)
  start = model.init_state(1, size)
  buffered = [one for one in jax.tree.leaves(start) if one.ndim == 5]
  kept = [one for one in buffered if one.shape[1] > 1]  # the others are sums
  assert [len(one.frames) for one in step.kept.buffers] == [one.shape[1] for one in kept]
  ((frames, (rest,)),), _ = step.begin()
  assert [one[0].size for one in frames] == [one[:, 0].size for one in kept]

  ops = step.graph.count_ops()
  assert ops['depthwise'] == sum(len(block.layers) for block in model.spec.blocks) + len(kept)
  assert 'conv' not in ops  # each has a kernel for its kind
  assert (ops['stem'], ops['average_pool'], ops['mean']) == (1, 4, 16)
  # A gate scales the matrix where that is the smaller: for 16 x 16 and 8 x 8 pixels here.
  layers = sum(len(block.layers) for block in model.spec.blocks)
  assert ops['gated'] == sum(len(block.layers) for block in model.spec.blocks[:2])
  assert ops['gated'] + ops['product'] == 4 * layers + 4 + 3  # with skips, and the head

  memory = step.program.memory_analysis()
  newest = sum(one[0].nbytes for one in frames)
  returned = newest + rest.nbytes + 4 * model.num_classes
  # Beside the arrays, a result has a table of pointers to them.
  assert memory.output_size_in_bytes <= returned + 8 * (len(frames) + 3)
  whole = NetworkStep(
    model, variables, size, jax.nn.softmax, frames=1, memory=serve.Exact(), start=start
  ).program
  text, plain = step.program.as_text(), whole.as_text()
  assert text.count(' fusion(') < 0.65 * plain.count(' fusion(')
  assert 'ynn' not in text
  assert 'ynn' in jax.jit(lambda x: x @ x).lower(jnp.ones((64, 64))).compile().as_text()
  # A buffer joined with a new frame would be an array of so many frames.
  for one in kept:
    frames, height, width, channels = one.shape[1:]
    assert f'[1,{(frames + 1) * height},{width},{channels}]' not in text


def test_live_takes_a_frame_step_where_it_can(quick):
  model, variables = streams.make_stream(dtype=jnp.bfloat16)
  live = serve.Live(model, variables, streams.SIZE)
  assert isinstance(live.step, FrameStep)
  frames = streams.draw_frames()
  wanted = streams.run_network(model.clone(dtype=jnp.float32), variables, frames)
  for _ in range(2):
    found = [live(frame).probabilities for frame in frames]
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    live.reset()
  other = live.fork()
  np.testing.assert_allclose(other(frames[0]).probabilities, wanted[0], atol=2e-6)
  assert live(frames[0]).probabilities == pytest.approx(wanted[0], abs=2e-6)


def test_a_stream_runs_on_the_device_that_jax_was_given():
  script = """
import jax
jax.config.update('jax_default_device', jax.devices()[1])
from movinet_jax import serve
from tests.serve.frame import streams
live = serve.Live(*streams.make_stream(), streams.SIZE)
live(streams.draw_frames()[0])
print({device.id for one in jax.tree.leaves(live._state[0]) for device in one.devices()})
"""
  flags = '--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0'
  done = subprocess.run(
    [sys.executable, '-c', script],
    env={**os.environ, 'XLA_FLAGS': flags, 'PYTHONPATH': os.getcwd()},
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.stdout.strip() == '{1}', done.stderr[-2000:]


def test_a_window_runs_two_streams_in_one_program(quick):
  """Answers of the same window as of the network, and the stem is computed once."""
  window = serve.Window(secs=2, fps=2)  # 4 frames: a stream begins anew every 2
  model, variables = streams.make_stream()
  live = serve.Live(model, variables, streams.SIZE, memory=window)
  assert isinstance(live.step, FrameStep)
  start = model.init_state(1, streams.SIZE)
  plain = NetworkStep(
    model, variables, streams.SIZE, jax.nn.softmax, frames=1, memory=window, start=start
  )
  frames = streams.draw_frames()
  found = [live(frame).probabilities for frame in frames]
  np.testing.assert_allclose(found, streams.run_step(plain, frames), atol=2e-6)
  exact = streams.run_network(model, variables, frames)
  np.testing.assert_allclose(found[:4], exact[:4], atol=2e-6)
  assert np.abs(found[4:] - exact[4:]).max() > 1e-3

  count = branch(live.step.graph).count_ops()
  ops = live.step.graph.count_ops()
  assert (count['stem'], count['depthwise']) == (1, 2 * ops['depthwise'] - 1)


@pytest.mark.parametrize(
  'options', [{'frames': 2}, {'memory': serve.Forgetting(2, 2)}], ids=['chunk', 'forget']
)
def test_live_runs_the_network_for_everything_else(options):
  live = serve.Live(*streams.make_stream(), streams.SIZE, **options)
  assert isinstance(live.step, NetworkStep)


def test_a_network_that_no_graph_can_say_is_told(monkeypatch):
  def refuse(*_):
    raise export.ExportError('no graph can say top_k')

  monkeypatch.setattr('movinet_jax.serve.live.FrameStep', refuse)
  with pytest.warns(UserWarning, match='top_k'):
    live = serve.Live(*streams.make_stream(), streams.SIZE)
  assert isinstance(live.step, NetworkStep)


def test_constants_are_no_frames():
  """A constant joined with pixels is neither a buffer nor a part to pick."""
  image, zeros = Tensor((1, 4, 4, 2)), np.zeros((1, 4, 4, 2), np.float32)
  joined = add_node('concat', zeros, image, axis=1)
  cut = {'limit': (1, 4, 4, 2), 'stride': (1,) * 4}
  first = add_node('slice', joined, start=(0,) * 4, **cut)
  graph = Graph({'image': image}, {'logits': joined, 'first': first})
  program = Program(graph, frames=1, batch=1, free=True, states={}, turn=1)
  split, kept = buffers.split_buffers(program)
  assert (kept.buffers, kept.following) == ([], {})
  rewritten = rules.rewrite(split)
  given = np.ones((1, 4, 4, 2), np.float32)
  whole, part = cpu.emit(rewritten)(given)
  np.testing.assert_array_equal(np.reshape(whole, (2, -1)), [[0] * 32, [1] * 32])
  np.testing.assert_array_equal(part, zeros)


def test_live_runs_a_network_that_is_not_of_the_package():
  from flax import linen as nn

  class Last(nn.Module):
    """Remembers the last frame's corner, by an operation that no graph has."""

    @nn.compact
    def __call__(self, x, state=None, *, train=False):
      corner = x[:, -1, 0, 0]
      before = state['corner'] if state else jnp.zeros_like(corner)
      return jax.lax.top_k(before + corner, 2)[0], {'corner': corner}

    def init_state(self, batch, size):
      return {'corner': jnp.zeros((batch, 3))}

  live = serve.Live(Last(), {}, streams.SIZE)
  assert isinstance(live.step, NetworkStep)
  assert live(streams.draw_frames()[0]).probabilities.shape == (2,)


def test_a_jax_without_the_option_still_compiles(monkeypatch):
  assert not inference.find_options('tpu')
  monkeypatch.setattr(inference, '_CPU', {'xla_of_some_other_day': ''})
  inference._are_known.cache_clear()
  try:
    assert not inference.find_options('cpu')
  finally:
    inference._are_known.cache_clear()
