"""Class-balanced sampling: which video each position of an endless training stream has.

The order is a function of the seed and the position alone, so a stream resumes at any position
and is the same for any number of workers and processes.

* In an epoch each class is drawn a fixed number of times, and the draws are shuffled anew.
* The draws of a class go through its videos in rounds, each shuffled anew. Each round of a class
  has every video once.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from movinet_jax.data.source import Source, list_labels
from movinet_jax.schema import Share

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # of SplitMix64, as are the numbers in _mix


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How often each class is drawn in training, in place of each video once an epoch.

  Attributes:
    name: 'balanced', of which there is only one kind.
    power: a class of n videos is drawn in proportion to n^(1 - power): 1 draws all classes
      equally often, 0 each as often as it has videos, 0.5 is square-root sampling.
  """

  name: Literal['balanced'] = 'balanced'
  power: Share = 1.0


class Order:
  """Position in an endless stream -> number of a record. Pickles small.

  Attributes:
    draws: int64 [G], how often each group of videos is drawn in an epoch.
    length: positions of an epoch.
  """

  def __init__(self, groups: Sequence[int], power: float, seed: int):
    """Divides records into groups that are drawn apart.

    Args:
      groups: the number of each record's group, such as its class.
      power: see Sampling.
      seed: of the order.
    """
    _, groups, counts = np.unique(groups, return_inverse=True, return_counts=True)
    parts = np.split(np.argsort(groups, kind='stable'), np.cumsum(counts)[:-1])
    self._members, self._seed = parts, seed
    self.draws = _count_draws(counts, power)
    self.length = int(self.draws.sum())
    self._epochs: dict[int, np.ndarray] = {}

  def __call__(self, position: int) -> int:
    epoch, index = divmod(int(position), self.length)
    found = self._epochs.get(epoch)
    if found is None:
      found = self.list_epoch(epoch)
      # Threads read near the end of one epoch and the beginning of the next.
      near = {n: order for n, order in self._epochs.items() if abs(n - epoch) == 1}
      self._epochs = {**near, epoch: found}
    return int(found[index])

  def list_epoch(self, epoch: int) -> np.ndarray:
    """The record at each position of an epoch, int64 [length]."""
    (shuffled,) = _shuffle(self.length, self._seed, 0, np.array([epoch]))
    groups = np.repeat(np.arange(len(self.draws)), self.draws)[shuffled]
    videos = np.empty(self.length, np.int64)
    drawn = [self._draw(group, epoch) for group in range(len(self.draws))]
    videos[np.argsort(groups, kind='stable')] = np.concatenate(drawn)
    return videos

  def _draw(self, group: int, epoch: int) -> np.ndarray:
    """The records of a group's draws in an epoch, in their order."""
    members, draws = self._members[group], int(self.draws[group])
    first = epoch * draws
    rounds = np.arange(first // len(members), -(-(first + draws) // len(members)))
    order = _shuffle(len(members), self._seed, 1 + group, rounds).reshape(-1)
    start = first - int(rounds[0]) * len(members)
    return members[order[start : start + draws]]

  def __getstate__(self):
    return {**vars(self), '_epochs': {}}


def make_order(source: Source, sampling: Sampling, seed: int) -> Order:
  """The order of a source's records in training.

  A video with several labels counts as one of its rarest; those without a label are a group by
  themselves. No video is read, where the source lists its labels.
  """
  labels = list_labels(source.records)
  if source.multi_label:
    labels = _find_rarest(labels, len(source.labels))
  return Order(labels, sampling.power, seed)


def _find_rarest(labels: Sequence[tuple[int, ...]], classes: int) -> list[int]:
  """The label of each video that the fewest videos have; `classes` for a video without one."""
  held = [label for several in labels for label in several]
  counts = np.bincount(np.asarray(held, np.int64), minlength=classes)
  return [min(several, key=lambda n: (counts[n], n), default=classes) for several in labels]


def _count_draws(counts: np.ndarray, power: float) -> np.ndarray:
  """Draws of each group in an epoch, about as many together as there are videos.

  Powers 0 and 1 are exact; between them a group is half a draw an epoch off, or less. Every group
  is drawn once at least.
  """
  weights = counts ** (1.0 - power)
  return np.maximum(np.rint(weights * (counts.sum() / weights.sum())), 1).astype(np.int64)


def _shuffle(count: int, seed: int, stream: int, rounds: np.ndarray) -> np.ndarray:
  """Permutations of 0 to count - 1, one for each round: int64 [len(rounds), count].

  By hash rather than by a generator, whose streams may change with NumPy's version.
  """
  key = np.zeros((1, 1), np.uint64)
  for part in (np.array([seed]), np.array([stream]), rounds):
    key = _mix(key + part.astype(np.uint64)[:, None] * _GOLDEN + _GOLDEN)
  lots = _mix(key + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)
  return np.argsort(lots, axis=1, kind='stable')


def _mix(x: np.ndarray) -> np.ndarray:
  """SplitMix64's finalizer (Steele et al. 2014, Fast Splittable Pseudorandom Number Generators)."""
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
