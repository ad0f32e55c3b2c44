"""The contract of every layer and model: streams are values.

    y, state = layer(x, state=None, *, train=False)

x is [B, T, H, W, C] with any T. `state` is a nested dict of arrays holding what the
layer remembers of earlier frames; None stands for the beginning of a video, and zeros of
`init_state` mean the same. A layer without memory returns {}. The law: a clip run whole
equals the clip run in consecutive chunks of any sizes, outputs and gradients.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

State = Mapping[str, Any]


class Thread:
  """Runs the parts of a module one after the other, threading their states.

      thread = Thread(state, train)
      x = thread(self.expand, x)
      x = thread(self.depthwise, x)
      return x, thread.after

  A part's state is kept under its module name; parts without memory leave no entry.
  """

  def __init__(self, state: State | None, train: bool):
    self.before = state or {}
    self.train = train
    self.after: dict[str, Any] = {}

  def __call__(self, part: nn.Module, x: jax.Array, call=None) -> jax.Array:
    """Runs `part` on x; `call(part, x, state)` may wrap it, to rematerialise it say."""
    before = self.before.get(part.name)
    _check_videos(before, x)
    if call is None:
      y, after = part(x, before, train=self.train)
    else:
      y, after = call(part, x, before)
    if after:
      self.after[part.name] = after
    return y


def rematerialise(train: bool):
  """A `call` for Thread that recomputes a part in the backward pass, not storing it."""

  def run(part, x, state):
    return part(x, state, train=train)

  return nn.remat(run)


def _check_videos(state, x):
  # Sums of one video would broadcast to many without a word.
  for leaf in jax.tree.leaves(state):
    if leaf.shape[0] != x.shape[0]:
      raise ValueError(
        f'a stream state of {leaf.shape[0]} videos cannot go on with {x.shape[0]}: begin '
        'anew, with state=None or init_state'
      )


def check_video(x: jax.Array, state: State | None, causal: bool):
  """Raises a ValueError for what is no video, or a state that a network does not have."""
  if x.ndim != 5 or x.shape[-1] != 3:
    raise ValueError(f'a network takes video [B, T, H, W, 3] with values in [0, 1], got {x.shape}')
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(f'video is floats in [0, 1], got {x.dtype}: divide bytes by 255')
  if state and not causal:
    raise ValueError(
      'this network is not causal, so it has no stream state: give it the whole clip, '
      'or build the stream variant'
    )


def init_state(
  module: nn.Module, batch: int, frame: tuple[int, int, int], dtype=jnp.float32
) -> dict[str, Any]:
  """Makes the state of a video that has not begun: zeros.

  Args:
    module: any layer or model of this contract.
    batch: B, the number of videos streamed side by side.
    frame: (H, W, C) of one frame.
    dtype: of the frames that will come.
  """
  # One frame shows what the state looks like; nothing is computed.
  x = jax.ShapeDtypeStruct((batch, 1, *frame), dtype)
  variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), x)
  _, state = jax.eval_shape(module.apply, variables, x)
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state)
