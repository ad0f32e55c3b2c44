"""Pooling layers: downsampling in space, and everything seen so far in time."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from movinet_jax import ops


class AveragePool(nn.Module):
  """Spatial average pooling that leaves padding out of the mean."""

  window: tuple[int, int] = (3, 3)
  stride: tuple[int, int] = (2, 2)

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return ops.average_pool(x, self.window, self.stride), {}


class MaxPool(nn.Module):
  """Largest value of spatial windows."""

  window: tuple[int, int] = (3, 3)
  stride: tuple[int, int] = (2, 2)

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return ops.max_pool(x, self.window, self.stride), {}


class GlobalPool(nn.Module):
  """Mean over space and over all frames so far, [B, T, H, W, C] -> [B, 1, 1, 1, C].

  Streaming keeps a sum and a count per video, both in full precision: a sum of an hour's
  frames in bfloat16 would stop growing after a few seconds. With `causal` False a clip
  is all there is and nothing is remembered.
  """

  causal: bool = False

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return ops.global_mean(x, state, causal=self.causal)

  def each_frame(self, x):
    """Mean of each frame over space, [B, T, H, W, C] -> [B, T, 1, 1, C]."""
    return ops.spatial_mean(x).astype(x.dtype)


class SlidingPool(nn.Module):
  """Means over all places of a window (frames, height, width): X3D's head on large clips.

  Streaming, all frames so far are the window in time; a sum and a count per video stay.
  """

  window: tuple[int, int, int]
  causal: bool = False

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    if not self.causal:
      return ops.sliding_mean(x, self.window).astype(x.dtype), {}
    mean, after = ops.total_mean(self._pool_space(x), state)
    return mean.astype(x.dtype), after

  def each_frame(self, x):
    """Means over windows of each frame, [B, T, H, W, C] -> [B, T, H', W', C]."""
    return self._pool_space(x).astype(x.dtype)

  def _pool_space(self, x):
    return ops.sliding_mean(x, (1, *self.window[1:]))


class TemporalSoftmaxPool(nn.Module):
  """Frame logits weighted by their own softmax over time, [B, T, 1, 1, N] -> [B, 1, 1, 1, N].

  For labels that hold during a part of a video (Charades): MoViNet supplement B.1 after
  AssembleNet, which softens logits by sqrt(frames). A stream does not know how many
  frames will come, so `frames` is the length trained with (64 for Charades) and stays.
  """

  frames: int = 64

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    logits = x.astype(jnp.float32)
    scores = logits / self.frames**0.5
    peak = scores.max(1, keepdims=True)
    if state:
      begun = (state['count'] > 0)[:, None, None, None, None]
      peak = jnp.where(begun, jnp.maximum(peak, state['peak']), peak)
    # The shift cancels in the ratio; keeping it out of the gradient keeps that exact.
    peak = jax.lax.stop_gradient(peak)
    weights = jnp.exp(scores - peak)
    mass = weights.sum(1, keepdims=True)
    total = (weights * logits).sum(1, keepdims=True)
    count = jnp.full(x.shape[:1], x.shape[1])
    if state:
      decay = jnp.where(begun, jnp.exp(state['peak'] - peak), 0)
      mass, total = mass + decay * state['mass'], total + decay * state['total']
      count = count + state['count']
    after = {'peak': peak, 'mass': mass, 'total': total, 'count': count}
    return (total / mass).astype(x.dtype), after

  def each_frame(self, x):
    """The logits of each frame as they are."""
    return x


class SpatialPool(nn.Module):
  """Mean of each frame, [B, T, H, W, C] -> [B, T, 1, 1, C]."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return ops.spatial_mean(x).astype(x.dtype), {}
