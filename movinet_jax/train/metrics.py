"""Metrics as sums that merge: make one per batch, merge them, compute once.

Averages of averages are wrong for uneven batches and shards, so what travels is counts.
Ties have one rule everywhere: of equal scores the lower class index ranks first.
"""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np

from movinet_jax.names import suggest

# Which values of an evaluation's metrics are best. Counts have no best.
DIRECTIONS = {
  'loss': 'min',
  'mean_class_accuracy': 'max',
  'mAP': 'max',
  'hit1': 'max',
  'classes_with_positives': 'count',
  'missing': 'count',
  'evaluated': 'count',
  'views': 'count',
}
WORDS = {'max': 'higher is better', 'min': 'lower is better', 'count': 'a count, which has no best'}


def find_direction(name: str) -> str | None:
  """Returns 'max', 'min' or 'count'; None for a metric that no evaluation of ours has."""
  return 'max' if re.fullmatch(r'top\d+', name) else DIRECTIONS.get(name)


def choose_mode(name: str, mode: str | None = None) -> str:
  """Returns which value of a metric is best: 'max' or 'min'.

  Args:
    name: of the metric, called best_metric in messages.
    mode: what the caller wants, called best_mode; None for the metric's own direction.

  Raises:
    ValueError: the metric is a count, its own direction is not the mode, or it is none of an
      evaluation's and has no mode.
  """
  own = find_direction(name)
  if own == 'count':
    raise ValueError(f'best_metric {name!r} is {WORDS[own]}: take another, such as top1 or loss')
  if own is None and mode is None:
    near = suggest(name, ['top1', 'top5', *(k for k, v in DIRECTIONS.items() if v != 'count')])
    raise ValueError(
      f'best_metric {name!r} is no metric of an evaluation, so it needs best_mode, max or min{near}'
    )
  if own and mode and own != mode:
    raise ValueError(
      f'best_mode is {mode!r}, but of {name} {WORDS[own]}: leave best_mode out, or say {own!r}'
    )
  return own or mode


def count_correct(logits, label, mask, k: int = 1):
  """Clips whose label is among the k best classes, in a compiled step.

  A clip with a NaN logit is never correct: comparisons with NaN are all false, and
  would otherwise rank the label first.

  Args:
    logits: [B, N].
    label: [B] int, or [B, N] of 0 and 1, where one present class among the k counts.
    mask: [B].
  """
  ranked = jnp.argsort(-logits, axis=-1, stable=True)[:, :k]  # [B, k]
  if label.ndim == 2:
    hit = jnp.take_along_axis(label, ranked, axis=-1).max(axis=-1) > 0
  else:
    hit = (ranked == label[:, None]).any(axis=-1)
  hit &= ~jnp.isnan(logits).any(axis=-1)
  return jnp.sum(hit * (mask > 0))


@dataclasses.dataclass(frozen=True)
class Classification:
  """Sums for one class per video.

  Attributes:
    count: videos.
    loss: sum of -log p(label).
    correct: {k: videos whose label is among the k best}.
    confusion: [N, N] int64, videos by (label, predicted class).
  """

  count: int
  loss: float
  correct: dict[int, int]
  confusion: np.ndarray

  @classmethod
  def get(cls, scores, label, mask=None, *, topk=(1, 5)) -> 'Classification':
    """Sums over a batch.

    Args:
      scores: [B, N] logits, or logarithms of averaged probabilities.
      label: [B] int in [0, N).
      mask: [B], 0 for rows to leave out; None keeps all.
      topk: the k of top-k; a k above N counts everything as correct.

    Raises:
      ValueError: for a score that is not a number, or a label outside [0, N).
    """
    scores, label = _unmasked(scores, label, mask)
    _check_labels(label, scores.shape[-1])
    ranked = np.argsort(-scores, axis=-1, kind='stable')
    hit = ranked == label[:, None]
    confusion = np.zeros((scores.shape[-1],) * 2, np.int64)
    np.add.at(confusion, (label, ranked[:, 0]), 1)
    return cls(
      count=len(label),
      loss=float(-_log_softmax(scores)[np.arange(len(label)), label].sum()),
      correct={k: int(hit[:, :k].sum()) for k in topk},
      confusion=confusion,
    )

  def merge(self, other: 'Classification') -> 'Classification':
    return Classification(
      count=self.count + other.count,
      loss=self.loss + other.loss,
      correct={k: n + other.correct[k] for k, n in self.correct.items()},
      confusion=self.confusion + other.confusion,
    )

  def compute(self) -> dict[str, float]:
    """{'top1': ..., 'loss': ..., 'mean_class_accuracy': ...}; NaN without a video."""
    n = self.count
    result = {f'top{k}': c / n if n else np.nan for k, c in self.correct.items()}
    result['loss'] = self.loss / n if n else np.nan
    result['mean_class_accuracy'] = _mean_of_known(self.class_accuracy())
    return result

  def class_accuracy(self) -> np.ndarray:
    """[N], the share of each class's videos that got it; NaN without a video."""
    total = self.confusion.sum(axis=1)
    right = np.diagonal(self.confusion)
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


@dataclasses.dataclass(frozen=True)
class MultiLabel:
  """Scores and labels of videos with any number of classes, for mAP.

  Average precision needs the order of all scores, so all are kept: 4 bytes a class.

  Attributes:
    scores: [K, N] logits, or logarithms of averaged probabilities.
    labels: [K, N] bool.
  """

  scores: np.ndarray
  labels: np.ndarray

  @classmethod
  def get(cls, scores, label, mask=None) -> 'MultiLabel':
    """Keeps a batch: scores [B, N], label [B, N] of 0 and 1, mask [B] or None."""
    scores, label = _unmasked(scores, label, mask)
    if label.shape != scores.shape:
      raise ValueError(
        f'label has shape {label.shape}, wanted {scores.shape} as the scores have: '
        'one 0 or 1 for every class.'
      )
    return cls(scores, label > 0)

  def merge(self, other: 'MultiLabel') -> 'MultiLabel':
    return MultiLabel(
      np.concatenate([self.scores, other.scores]),
      np.concatenate([self.labels, other.labels]),
    )

  def class_precision(self) -> np.ndarray:
    """[N], average precision by class; NaN for a class without a positive."""
    pairs = zip(self.scores.T, self.labels.T, strict=True)
    return np.array([average_precision(s, y) for s, y in pairs])

  def compute(self) -> dict[str, float]:
    """{'mAP', 'classes_with_positives', 'hit1'}.

    mAP is the plain mean over the classes that have a positive; the official Charades
    code yields NaN for the others, PySlowFast drops them, and so does this. 'hit1' is
    the share of videos whose best class is one of theirs.
    """
    precision = self.class_precision()
    best = np.argmax(self.scores, axis=1) if len(self.scores) else np.zeros(0, int)
    hits = self.labels[np.arange(len(best)), best]
    return {
      'mAP': _mean_of_known(precision),
      'classes_with_positives': float(np.isfinite(precision).sum()),
      'hit1': float(hits.mean()) if len(hits) else np.nan,
    }


def average_precision(scores, positive) -> float:
  """Mean over the positives of the precision at their score, without interpolation.

  The rule of Charades' official evaluation. Equal scores are counted together,
  so that the result does not depend on the order in which videos arrive.

  Args:
    scores: [K].
    positive: [K] bool.

  Returns:
    In (0, 1], or NaN without a positive.
  """
  if not positive.any():
    return float('nan')
  everyone, chosen = np.sort(scores), np.sort(scores[positive])
  at_least = len(everyone) - np.searchsorted(everyone, chosen, side='left')
  right = len(chosen) - np.searchsorted(chosen, chosen, side='left')
  return float(np.mean(right / at_least))


def _unmasked(scores, label, mask):
  scores, label = np.asarray(scores, np.float64), np.asarray(label)
  if mask is not None:
    keep = np.asarray(mask) > 0
    scores, label = scores[keep], label[keep]
  if np.isnan(scores).any():
    rows = np.flatnonzero(np.isnan(scores).any(axis=-1)).tolist()
    raise ValueError(f'Scores of rows {rows[:8]} are NaN; they cannot be ranked.')
  return scores, label


def _check_labels(label, num_classes):
  if len(label) and not (label.min() >= 0 and label.max() < num_classes):
    raise ValueError(
      f'Labels range from {label.min()} to {label.max()}; the network has '
      f'{num_classes} classes, so wanted 0 to {num_classes - 1}.'
    )


def _log_softmax(scores):
  shifted = scores - scores.max(axis=-1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _mean_of_known(values):
  known = values[~np.isnan(values)]
  return float(known.mean()) if len(known) else float('nan')
