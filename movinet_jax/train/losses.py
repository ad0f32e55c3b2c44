"""Losses: (logits [B, N], label, mask [B]) -> the mean over unmasked clips, float32.

A loss is a mean so that it reads the same at any batch size; steps weight the means
of micro-batches by their mask sums, which makes accumulation exact.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from movinet_jax.names import find
from movinet_jax.schema import Rate, checked


def softmax_cross_entropy(logits, label, mask, *, label_smoothing: float = 0.0):
  """One class per clip; MoViNet trains with smoothing 0.1 (supplement, B.1).

  Args:
    logits: [B, N], any float type; computed in float32.
    label: [B] int. A padded clip may hold any label, -1 included.
    mask: [B], 1 for a clip and 0 for padding.
    label_smoothing: share of the target spread evenly over all N classes.
  """
  logits = logits.astype(jnp.float32)
  target = jax.nn.one_hot(label, logits.shape[-1])
  target = optax.smooth_labels(target, label_smoothing)
  return masked_mean(optax.softmax_cross_entropy(logits, target), mask)


def sigmoid_cross_entropy(logits, label, mask, *, label_smoothing: float = 0.0):
  """Many classes per clip, as for Charades (MoViNet supplement, B.1): mean over N.

  Args:
    logits: [B, N].
    label: [B, N], 1 where the class is present and 0 where it is not.
    mask: [B].
    label_smoothing: targets become label * (1 - s) + s / 2.
  """
  logits = logits.astype(jnp.float32)
  target = label.astype(jnp.float32) * (1 - label_smoothing) + label_smoothing / 2
  values = optax.sigmoid_binary_cross_entropy(logits, target)
  return masked_mean(values.mean(axis=-1), mask)


def masked_mean(values, mask):
  """Mean of values [B] where mask [B] is 1; 0 where all is masked.

  `where` and not a product: a padded clip whose value is NaN must not count.
  """
  mask = mask.astype(jnp.float32)
  total = jnp.sum(jnp.where(mask > 0, values * mask, 0.0))
  return total / jnp.maximum(jnp.sum(mask), 1.0)


LOSSES: dict[str, Callable] = {
  'softmax': softmax_cross_entropy,
  'sigmoid': sigmoid_cross_entropy,
}


@checked
def make_loss(name: str = 'softmax', *, label_smoothing: Rate = 0.0):
  """The loss of that name, with its smoothing fixed.

  Raises:
    ValueError: for an unknown name, or smoothing outside [0, 1).
  """
  loss = find(LOSSES, name, 'loss')
  return functools.partial(loss, label_smoothing=label_smoothing)
