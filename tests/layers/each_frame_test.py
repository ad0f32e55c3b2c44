"""Networks that classify the features of each frame by themselves."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax import models

VIDEO = np.random.default_rng(0).uniform(size=(2, 4, 16, 16, 3)).astype(np.float32)


def build(family, name, **changed):
  """A network with weights that were drawn, so that nothing has to be compiled for them."""
  spec = dataclasses.replace(models.find_family(family).SMALL[name], **changed)
  model, rng = mj.create(family, 3, spec=spec), np.random.default_rng(1)
  shapes = jax.eval_shape(lambda: mj.init(model, jax.random.key(0), (1, *VIDEO.shape[1:])))
  draw = lambda leaf: rng.uniform(-0.3, 0.7, leaf.shape).astype(leaf.dtype)  # noqa: E731
  variables = jax.tree.map(draw, shapes)
  return model, {**variables, 'batch_stats': jax.tree.map(np.abs, variables['batch_stats'])}


def classify(model, variables, video=VIDEO):
  logits, state = jax.jit(functools.partial(model.apply, each_frame=True))(variables, video)
  assert state == {}
  return np.asarray(logits)


def test_the_head_is_applied_to_the_features_of_each_frame():
  """Against the head of MoViNet in NumPy, on what comes out of the network's last convolution."""
  model, variables = build('movinet', 'base')
  capture = {'mutable': 'intermediates', 'capture_intermediates': lambda m, _: m.name == 'project'}
  _, found = jax.jit(functools.partial(model.apply, **capture))(variables, VIDEO)
  (features, _), *_ = found['intermediates']['project']['__call__']
  head, classifier = variables['params']['hidden']['conv'], variables['params']['classifier']
  pooled = np.asarray(features, np.float64).mean((2, 3))
  hidden = pooled @ np.asarray(head['kernel']).reshape(-1, 8) + head['bias']
  hidden = hidden / (1 + np.exp(-hidden))
  wanted = hidden @ np.asarray(classifier['kernel']).reshape(8, 3) + classifier['bias']
  assert wanted.std(1).min() > 1e-3  # frames differ
  np.testing.assert_allclose(classify(model, variables), wanted, rtol=1e-4, atol=1e-5)


def test_frames_of_a_temporal_softmax_make_up_the_clip():
  model, variables = build('movinet', 'base-softmax', frames=4)
  frames = classify(model, variables)
  weights = np.exp(frames / 2)
  wanted = (weights * frames).sum(1) / weights.sum(1)
  np.testing.assert_allclose(
    jax.jit(model.apply)(variables, VIDEO)[0], wanted, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize(
  ('family', 'name'),
  [('movinet', 'stream-2plus1d'), ('x3d', 'base-probabilities')],
)
def test_the_only_frame_so_far_is_the_clip(family, name):
  """Windows of X3D's head and its average of probabilities are those of the frame."""
  model, variables = build(family, name)
  video = VIDEO if model.spec.causal else VIDEO[:, :1]  # a stream's first frame sees no later one
  wanted, _ = jax.jit(model.apply)(variables, video[:, :1])
  found = classify(model, variables, video)
  assert found.shape == (*video.shape[:2], 3)
  np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-4, atol=1e-5)


def test_frames_without_features_of_their_own_are_refused():
  model, variables = build('tvn', 'base')
  with pytest.raises(ValueError, match=r'4 frames .* has 2 of them left'):
    jax.eval_shape(lambda x: model.apply(variables, x, each_frame=True), VIDEO)
