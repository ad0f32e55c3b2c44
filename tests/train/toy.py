"""A tiny causal network that keeps the stream contract, and toy data for it."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

CLASSES = 4


class Norm(nn.Module):
  """Batch normalisation as the house's layers are called: `train` and not a flag."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    shape = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    var = self.variable('batch_stats', 'var', jnp.ones, shape)
    now = mean.value, var.value
    if train:
      now = x.mean(axis=(0, 1, 2, 3)), x.var(axis=(0, 1, 2, 3))
      mean.value = 0.9 * mean.value + 0.1 * now[0]
      var.value = 0.9 * var.value + 0.1 * now[1]
    return (x - now[0]) / jnp.sqrt(now[1] + 1e-3) * scale + bias


class Toy(nn.Module):
  """Two convolutions, the second over three frames, and a running mean over time.

  `(x [B, T, H, W, 3], state) -> (logits [B, 4], state)`, as movinet_jax.layers says.
  """

  features: int = 6
  dropout: float = 0.0

  def init_state(self, batch, size, dtype=jnp.float32):
    height, width = (-(-n // 2) for n in size)
    return {
      'conv': {'buffer': jnp.zeros((batch, 2, height, width, self.features), dtype)},
      'pool': {
        'sum': jnp.zeros((batch, self.features), dtype),
        'frames': jnp.zeros((1,), jnp.int32),
      },
    }

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    if state is None:
      state = self.init_state(x.shape[0], x.shape[2:4])
    x = nn.Conv(self.features, (1, 3, 3), (1, 2, 2), use_bias=False, kernel_init=_sane)(x)
    x = nn.relu(Norm()(x, train=train))
    full = jnp.concatenate([state['conv']['buffer'], x], axis=1)
    y = nn.Conv(
      self.features,
      (3, 3, 3),
      padding=((0, 0), (1, 1), (1, 1)),
      use_bias=False,
      kernel_init=_sane,
    )(full)
    y = nn.relu(Norm()(y, train=train))
    # One mask per clip, as stochastic depth has, so that chunks can share it.
    x = x + nn.Dropout(self.dropout, broadcast_dims=(1, 2, 3, 4))(y, deterministic=not train)
    total = state['pool']['sum'] + x.mean(axis=(2, 3)).sum(axis=1)
    frames = state['pool']['frames'] + x.shape[1]
    logits = nn.Dense(CLASSES, name='classifier')(total / frames)
    return logits, {
      'conv': {'buffer': full[:, -2:]},
      'pool': {'sum': total, 'frames': frames},
    }


def _sane(key, shape, dtype=jnp.float32):
  # Lecun, but drawn by numpy-free means in one dtype for every platform.
  fan = np.prod(shape[:-1])
  return jax.random.normal(key, shape, dtype) / np.sqrt(fan)


def make_variables(model=None, seed=0):
  model = model or Toy()
  return model.init(jax.random.key(seed), jnp.zeros((1, 2, 8, 8, 3)))


def make_batch(number=0, clips=8, frames=8, size=8):
  """Random clips whose class is the channel, or none, that grows brighter over time."""
  rng = np.random.default_rng(number)
  label = rng.integers(0, CLASSES, clips)
  video = rng.integers(0, 100, (clips, frames, size, size, 3))
  ramp = np.linspace(0, 150, frames)[:, None, None]
  for clip, channel in enumerate(label):
    if channel < 3:
      video[clip, ..., channel] += ramp.astype(int)
  return {
    'video': video.astype(np.uint8),
    'label': label.astype(np.int32),
    'mask': np.ones(clips, np.float32),
    'name': [f'{number}_{clip}.mp4' for clip in range(clips)],
  }


def device_batch(batch):
  return {k: jnp.asarray(v) for k, v in batch.items() if k != 'name'}


def max_difference(a, b):
  """Greatest absolute difference between two trees of the same structure."""
  gaps = jax.tree.map(lambda x, y: np.abs(np.asarray(x) - np.asarray(y)).max(), a, b)
  return max(jax.tree.leaves(gaps))


def start(module, *arguments, devices=1):
  """A process of its own that runs a module of the tests on so many CPU devices."""
  return subprocess.Popen(
    [sys.executable, '-m', module, *map(str, arguments)],
    cwd=Path(__file__).parents[2],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
