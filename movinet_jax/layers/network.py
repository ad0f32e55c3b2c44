"""What the networks of all families have in common: parts in a row, from video to logits."""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from movinet_jax import schema
from movinet_jax.layers.stream import Thread, check_video, init_state, rematerialise
from movinet_jax.names import check_name
from movinet_jax.ops.depthwise import FORMS
from movinet_jax.schema import Count, Rate


class Network(nn.Module):
  """Runs the parts of a family, which says in `_parts` what they are.

  Args (fields):
    spec: the architecture; its `causal` says whether it is a stream.
    num_classes: N.
    dropout: before the classifier.
    norm_group: examples that share batch statistics, None for all (layers.BatchNorm).
    remat: recompute each block (`recomputed`) in the backward pass, not storing it.
    form: how depthwise convolutions are computed (ops.depthwise_conv3d).
    dtype: what is computed in; parameters, statistics and logits are float32.
  """

  spec: Any
  num_classes: Count
  dropout: Rate = 0.0
  norm_group: Count | None = None
  remat: bool = False
  form: str = 'auto'
  dtype: jnp.dtype = jnp.float32

  recomputed = ()  # the class of a family's blocks

  def __post_init__(self):
    check_name(self.form, FORMS, 'form')
    schema.verify(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, x, state=None, *, train=False, each_frame=False):
    """Classifies clips, or the next frames of streams.

    Args:
      x: [B, T, H, W, 3] in [0, 1].
      state: what the previous call returned, None at a video's beginning. A network
        that is not causal takes whole clips only.
      train: whether to use batch statistics, dropout and stochastic depth.
      each_frame: of a whole clip, whether to classify the features of each frame by themselves:
        they are pooled over space and not over time (MoViNet, supplement, C.5).

    Returns:
      logits [B, N] float32 of everything seen so far, or [B, T, N] with `each_frame`, and the
      state ({} if not causal, or with `each_frame`).

    Raises:
      ValueError: x is not a video, a state is given to a network that is not causal, or frames
        are to be classified that have no features of their own.
    """
    check_video(x, state, self.spec.causal)
    thread = Thread(state, train)
    again = rematerialise(train) if self.remat else None
    frames = x.shape[1]
    for part in self._parts():
      if each_frame and hasattr(part, 'each_frame'):
        x = part.each_frame(x)
      else:
        x = thread(part, x, again if isinstance(part, self.recomputed) else None)
    if each_frame:
      _check_frames(x, frames)
      return x[:, :, 0, 0].astype(jnp.float32), {}
    logits = x[:, 0, 0, 0].astype(jnp.float32)
    return logits, thread.after if self.spec.causal else {}

  def init_state(self, batch, size, dtype=jnp.float32):
    """State of streams that have not begun: zeros for `batch` videos of (height, width)."""
    return init_state(self, batch, (*size, 3), dtype)

  def _parts(self) -> Iterator[nn.Module]:
    """Modules in their order; the last gives [B, 1, 1, 1, N].

    Those that bring frames together have a method `each_frame`, which leaves frames apart.
    """
    raise NotImplementedError


def _check_frames(x, frames: int):
  if x.shape[1] != frames:
    raise ValueError(
      f'{frames} frames cannot be classified one by one: this network has '
      f'{x.shape[1]} of them left before its head, because it strides or pools over time earlier'
    )
