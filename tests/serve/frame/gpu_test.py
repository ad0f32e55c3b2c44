"""A stream's next frame on a GPU: the same answers, in half as many kernels."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax import inference, serve, timing
from movinet_jax.ops.cuda import dense, squeeze
from movinet_jax.serve.frame import FrameStep
from movinet_jax.serve.frame import step as step_module
from tests.ops.cuda import plain
from tests.serve.frame import streams


@pytest.fixture
def as_on_gpu(monkeypatch):
  """This CPU computes what a GPU would, the kernels by what they stand for."""
  find_form = step_module._find_form
  monkeypatch.setattr(step_module, '_find_form', lambda _, dtype: find_form('gpu', dtype))
  monkeypatch.setattr(inference, 'find_options', lambda platform: streams.QUICK)
  monkeypatch.setattr(dense, 'multiply', plain.multiply)
  monkeypatch.setattr(squeeze, 'squeeze', plain.squeeze)


SINGLE = [param for param in streams.find_causal() if param.values[1] not in streams.ALTERNATE]


@pytest.mark.parametrize('most', [0, squeeze.MOST_VALUES], ids=['means-apart', 'together'])
@pytest.mark.parametrize(('model', 'family'), SINGLE)
def test_a_frame_step_is_the_network(model, family, most, as_on_gpu, monkeypatch):
  monkeypatch.setattr(squeeze, 'MOST_VALUES', most)
  variables, frames = timing.draw_weights(model), streams.draw_frames()
  step = FrameStep(model, variables, streams.SIZE, jax.nn.softmax)
  found, wanted = streams.run_step(step, frames), streams.run_network(model, variables, frames)
  np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_in_bfloat16_it_is_as_near_as_the_network(as_on_gpu):
  model, variables = streams.make_stream(dtype=jnp.bfloat16)
  frames = streams.draw_frames()
  exact = streams.run_network(model.clone(dtype=jnp.float32), variables, frames)
  step = FrameStep(model, variables, streams.SIZE, jax.nn.softmax)
  ((kept, rest),), _ = step.begin()
  assert {one.dtype for frames in kept for one in frames} == {jnp.dtype(jnp.bfloat16)}
  assert {one.dtype for one in rest} == {jnp.dtype(jnp.float32)}
  ours = np.abs(streams.run_step(step, frames) - exact).max()
  theirs = np.abs(streams.run_network(model, variables, frames) - exact).max()
  assert 1e-5 < ours < 1.5 * theirs


@pytest.mark.parametrize('name', ['movinet-stream-hard', 'movinet-stream-placed'])
def test_everything_around_a_product_is_one_kernel(name, as_on_gpu):
  """Of networks as the published ones are."""
  ((model, _),) = [one.values for one in streams.find_causal() if one.id == name]
  step = FrameStep(model, timing.draw_weights(model), streams.SIZE, jax.nn.softmax)
  layers = sum(len(block.layers) for block in model.spec.blocks)
  ops = step.graph.count_ops()
  assert (ops['squeeze'], ops['part']) == (layers + 1, 2 * (layers + 1))  # and the head
  assert ops['concat'] == (1 if model.spec.positions else 0)  # of sines and cosines
  assert not ops['gated'] + ops['hard_swish'] + ops['relu6']
  given = [node.params for node, _ in step.graph.list_nodes() if node.op == 'dense']
  # Each layer's gate and the head's second product have what their first one lacks.
  assert sum('offset' in one['given'] for one in given) == layers + 1
  assert sum('gate' in one['given'] for one in given) == layers
  assert sum('shortcut' in one['given'] for one in given) == layers


def test_a_window_on_a_gpu(as_on_gpu):
  window, (model, variables) = serve.Window(secs=2, fps=2), streams.make_stream()
  step = FrameStep(model, variables, streams.SIZE, jax.nn.softmax, window)
  frames = streams.draw_frames()
  wanted = streams.run_step(FrameStep(model, variables, streams.SIZE, jax.nn.softmax), frames)
  found = streams.run_step(step, frames)
  np.testing.assert_allclose(found[:4], wanted[:4], atol=2e-6)
  assert np.abs(found[4:] - wanted[4:]).max() > 1e-3


@pytest.mark.skipif(
  importlib.util.find_spec('jax_cuda13_plugin') is None, reason='no compiler for GPUs is installed'
)
def test_a_frame_is_half_as_many_kernels():
  """In a process of its own: a compiler that gives up takes its process with it."""
  script = [sys.executable, 'benchmarks/frame_kernels.py', 'a0', 'x3d/s-stream']
  environment = dict(os.environ)
  environment.pop('PYTHONSAFEPATH', None)  # commands set it, and benchmarks import their neighbors
  done = subprocess.run(script, capture_output=True, text=True, check=False, env=environment)
  assert done.returncode == 0, done.stderr[-3000:]
  a0, x3d = map(json.loads, done.stdout.splitlines())
  assert a0['frame_kernels'] <= 95, a0
  assert a0['frame_kernels'] < 0.55 * a0['as_written_kernels'], a0
  assert x3d['frame_kernels'] < 0.8 * x3d['as_written_kernels'], x3d
