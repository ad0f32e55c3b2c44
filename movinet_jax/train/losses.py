"""Losses: (logits [B, N], label, mask [B]) -> the mean over unmasked clips, float32.

A loss is a mean so that it reads the same at any batch size; steps weight the means
of micro-batches by their mask sums, which makes accumulation exact.

Weights of classes keep that: the mean is still over the number of clips, and not over the sum
of their weights. A mean over weights would count a clip for less in a micro-batch where other
clips weigh much. The weights of a class are of mean 1 over the training videos instead, so the
loss keeps its size, and with it the learning rate.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from movinet_jax.names import check_name, find
from movinet_jax.schema import NotNegative, Rate, checked

ClassWeights = (
  Literal['balanced', 'effective'] | tuple[NotNegative, ...] | Mapping[str, NotNegative]
)
BETA = 0.999  # of 'effective': one of the values that Cui et al. try


def softmax_cross_entropy(logits, label, mask, *, label_smoothing: float = 0.0, weights=None):
  """One class per clip; MoViNet trains with smoothing 0.1 (supplement, B.1).

  Args:
    logits: [B, N], any float type; computed in float32.
    label: [B] int. A padded clip may hold any label, -1 included.
    mask: [B], 1 for a clip and 0 for padding.
    label_smoothing: share of the target spread evenly over all N classes.
    weights: [N], a clip's loss is multiplied by that of its class; None for ones.
  """
  logits = logits.astype(jnp.float32)
  target = jax.nn.one_hot(label, logits.shape[-1])
  target = optax.smooth_labels(target, label_smoothing)
  values = optax.softmax_cross_entropy(logits, target)
  if weights is not None:
    values *= jnp.take(jnp.asarray(weights, jnp.float32), label, mode='clip')
  return masked_mean(values, mask)


def sigmoid_cross_entropy(logits, label, mask, *, label_smoothing: float = 0.0, weights=None):
  """Many classes per clip, as for Charades (MoViNet supplement, B.1): mean over N.

  Args:
    logits: [B, N].
    label: [B, N], 1 where the class is present and 0 where it is not.
    mask: [B].
    label_smoothing: targets become label * (1 - s) + s / 2.
    weights: [N], the loss of a class that is present is multiplied by that class's; None for
      ones. That of an absent class is not.
  """
  logits, label = logits.astype(jnp.float32), label.astype(jnp.float32)
  target = label * (1 - label_smoothing) + label_smoothing / 2
  values = optax.sigmoid_binary_cross_entropy(logits, target)
  if weights is not None:
    values *= 1 + label * (jnp.asarray(weights, jnp.float32) - 1)
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
def make_loss(
  name: str = 'softmax',
  *,
  label_smoothing: Rate = 0.0,
  class_weights: ClassWeights | None = None,
  beta: Rate | None = None,
  labels: Sequence | None = None,
  counts: Sequence | None = None,
  videos: int | None = None,
):
  """The loss of that name, with its smoothing and the weights of classes fixed.

  Args:
    name: 'softmax' or 'sigmoid'.
    label_smoothing: see the losses.
    class_weights: None; weights by number or by name, where classes that are not named weigh
      1; or how they are counted, see `count_weights`: 'balanced' or 'effective'.
    beta: of 'effective', 0.999 by default.
    labels: the names of the N classes, for weights by name and for messages.
    counts: training videos of each class, [N], for weights that are counted.
    videos: training videos; by default the sum of counts.

  Raises:
    ValueError: for an unknown name, smoothing outside [0, 1), or weights that do not fit.
  """
  loss = find(LOSSES, name, 'loss')
  if beta is not None and class_weights != 'effective':
    raise ValueError('loss.beta is for loss.class_weights=effective: leave it out')
  weights = None
  if isinstance(class_weights, str):
    if counts is None:
      raise ValueError(f'class_weights={class_weights!r} needs counts, the videos of each class')
    decay = None if class_weights == 'balanced' else BETA if beta is None else beta
    weights = count_weights(name, counts, videos, decay)
  elif class_weights is not None:
    weights = _read_weights(class_weights, labels, counts)
  return functools.partial(loss, label_smoothing=label_smoothing, weights=weights)


def count_weights(name: str, counts, videos: int | None = None, beta: float | None = None):
  """The weights of classes by their numbers of training videos, float64 [N].

  Softmax: in proportion to 1 / n of a class of n videos, with a mean of 1 over the videos. So
  every class has the same weight in all.

  Sigmoid: negatives / positives of the class, which PyTorch's BCEWithLogitsLoss calls
  `pos_weight`. So the videos with the class weigh as much as those without it.

  With beta, each number n is replaced by the effective number (1 - beta^n) / (1 - beta) of Cui
  et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", equation 2: videos
  resemble each other, so more of them add less and less. (Cui et al. have a mean of 1 over
  classes, and one weight a video for both losses.)

  A class without a training video is never a target: it weighs 0 in softmax, 1 in sigmoid.

  Args:
    name: of the loss.
    counts: [N].
    videos: their number; by default the sum of counts.
    beta: None for n itself, which is the limit of beta = 1.
  """
  counts = np.asarray(counts, np.float64)
  there = counts > 0
  held = _count_effective(np.maximum(counts, 1), beta)
  if name == 'sigmoid':
    videos = counts.sum() if videos is None else videos
    others = _count_effective(np.maximum(videos - counts, 1), beta)
    return np.where(there, others / held, 1.0)
  weights = np.where(there, 1 / held, 0.0)
  return weights * counts.sum() / (weights * counts).sum()


def _count_effective(counts, beta: float | None):
  if beta is None:
    return counts
  # 1 - beta^n loses its digits where beta is near 1.
  return -np.expm1(counts * np.log(beta)) / (1 - beta) if beta else np.ones_like(counts)


def _read_weights(given, labels, counts) -> np.ndarray:
  """The weights that a config lists, float64 [N]."""
  if isinstance(given, Mapping):
    if labels is None:
      raise ValueError('class_weights by name need labels, the names of the classes')
    for key in given:
      check_name(key, labels, 'class in class_weights')
    given = [given.get(name, 1.0) for name in labels]
  sizes = [len(known) for known in (labels, counts) if known is not None]
  if sizes and len(given) != sizes[0]:
    raise ValueError(
      f'class_weights has {len(given)} numbers, but there are {sizes[0]} classes: give one for '
      'each, in the order of the classes, or weights by name'
    )
  if not any(given):
    raise ValueError('class_weights are all 0: nothing would be learned')
  return np.asarray(given, np.float64)
