"""The classes of a dataset: some of them, how many videos each has, several a video."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from movinet_jax.data.source import Part, Record, Source, SourceError, is_listed, list_labels
from movinet_jax.data.spelling import spell_label
from movinet_jax.names import show, suggest
from movinet_jax.schema import Range, Seed

_ALL, _ENDS = 20, 3  # classes that are shown: up to so many all, else of each end
_EVEN = 10  # videos of the largest class for one of the smallest: above that, a note
_WIDTH = 40  # letters of a name that are shown


@dataclasses.dataclass(frozen=True)
class Classes:
  """The classes that are taken of a dataset: some at random, those named, or by default all.

  MiniKinetics-100 is such a part: 100 random classes of Kinetics-400.

  Attributes:
    count: classes to draw at random.
    seed: of the draw; 0 by default.
    names: of the classes, in place of a draw.

  Raises:
    ValueError: both count and names, or a seed and nothing to draw; a name twice, or one alone.
  """

  count: Annotated[int, Range(2)] | None = None
  seed: Seed | None = None
  names: tuple[str, ...] | None = None

  def __post_init__(self):
    names = self.names
    if self.count is not None and names is not None:
      raise ValueError(
        f'classes has both count={self.count} and {len(names)} names: say count to draw '
        'classes, or names to choose them'
      )
    if self.count is None and self.seed is not None:
      raise ValueError(f'classes has seed={self.seed} and no count: say how many to draw')
    if names is not None and len(names) < 2:
      raise ValueError(f'classes.names is {names}: name 2 classes or more')
    if names is not None and len(set(names)) < len(names):
      twice = next(name for name in names if names.count(name) > 1)
      raise ValueError(f'classes.names holds {twice!r} twice: name each class once')

  def __len__(self) -> int:
    """How many classes it takes; 0 stands for all."""
    return self.count or len(self.names or ())

  def choose(self, labels: Sequence[str]) -> tuple[str, ...]:
    """The names that it takes, in the order of `labels`, those of all classes.

    A draw depends on the seed and on the set of names alone. One of 50 is part of that of 100.

    Raises:
      SourceError: more classes than there are, or an unknown name.
    """
    if self.names is None:
      wanted = self._draw(labels)
    else:
      names = tuple(map(spell_label, self.names))
      wanted = set(names)
      for name in names:
        if name not in labels:
          raise SourceError(f'classes.names: unknown class {name!r}{suggest(name, labels)}')
    return tuple(label for label in labels if label in wanted)

  def _draw(self, labels) -> set[str]:
    if self.count > len(labels):
      raise SourceError(
        f'classes.count is {self.count}, but the data has {len(labels)} classes: take '
        f'{len(labels)} or fewer'
      )
    # By hash rather than by a generator, whose streams may change with NumPy's version.
    lots = {
      label: hashlib.sha256(f'{self.seed or 0} {label}'.encode()).digest() for label in labels
    }
    return set(sorted(labels, key=lots.get)[: self.count])


def take_classes(source: Source, names: Sequence[str]) -> Source:
  """The videos of some classes, which are numbered in the order of `names`.

  A class may have no video, as in a small evaluation split. No video is read for it, where the
  source lists its labels.

  Raises:
    SourceError: videos have several labels, or none is of these classes.
  """
  if source.multi_label:
    raise SourceError(
      'classes are taken with all of their videos, but videos of this data have several '
      'labels: leave data.classes out'
    )
  names = tuple(map(spell_label, names))
  renumbered = {
    source.labels.index(name): number for number, name in enumerate(names) if name in source.labels
  }
  labels = list_labels(source.records)
  numbers = tuple(i for i, label in enumerate(labels) if label in renumbered)
  if not numbers:
    raise SourceError(
      f'none of {len(source)} videos is of the {len(names)} classes that are taken, such as '
      f'{names[0]!r}{suggest(names[0], source.labels)}: where videos have numbers, '
      'data.eval.labels names them, as data.train.labels does'
    )
  digest = hashlib.sha256(json.dumps([source.digest, *names]).encode()).hexdigest()[:32]
  records = _Renumbered(Part(source.records, numbers), renumbered)
  return dataclasses.replace(source, records=records, labels=names, digest=digest)


@dataclasses.dataclass(frozen=True)
class _Renumbered(Sequence):
  """Records with other class numbers; none is read before it is asked for."""

  records: Sequence[Record]
  renumbered: dict[int, int]

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Record:
    record = self.records[index]
    return dataclasses.replace(record, label=self.renumbered[record.label])

  def list_labels(self) -> list[int]:
    return [self.renumbered[label] for label in list_labels(self.records)]

  @property
  def is_listed(self) -> bool:
    return is_listed(self.records)


def allow_several(source: Source) -> Source:
  """The same videos, whose labels are tuples: of one class each, where they had one.

  So videos with one label can be evaluated by a network that gives several.
  """
  if source.multi_label:
    return source
  digest = hashlib.sha256(f'{source.digest} several labels'.encode()).hexdigest()[:32]
  records = _Several(source.records)
  return dataclasses.replace(source, records=records, multi_label=True, digest=digest)


@dataclasses.dataclass(frozen=True)
class _Several(Sequence):
  """Records whose one label is a tuple; none is read before it is asked for."""

  records: Sequence[Record]

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Record:
    record = self.records[index]
    return dataclasses.replace(record, label=(record.label,))

  def list_labels(self) -> list[tuple[int, ...]]:
    return [(label,) for label in list_labels(self.records)]

  @property
  def is_listed(self) -> bool:
    return is_listed(self.records)


def count_videos(source: Source) -> np.ndarray:
  """How many videos each class has, int64 [N]. A video with several labels counts for each.

  No video is read, where the source lists its labels.
  """
  labels = list_labels(source.records)
  if source.multi_label:
    labels = [label for several in labels for label in several]
  return np.bincount(np.asarray(labels, np.int64), minlength=len(source.labels))


@dataclasses.dataclass(frozen=True)
class Balance:
  """How evenly the videos of a dataset are spread over its classes.

  Attributes:
    labels: the name of each class.
    counts: videos of each class.
    videos: of the dataset, where they have several labels; None where each has one.
  """

  labels: tuple[str, ...]
  counts: tuple[int, ...]
  videos: int | None = None

  def describe(self) -> str:
    """The classes with their numbers of videos: all, or of many the largest and the smallest."""
    ranked = sorted(zip(self.counts, self.labels, strict=True), key=lambda row: -row[0])
    shown = [f'{show(label, _WIDTH)} {count:,}' for count, label in ranked]
    if len(shown) <= _ALL:
      return f'{len(shown)} class{"es" * (len(shown) != 1)} ({", ".join(shown)})'
    middle = statistics.median(self.counts)
    ends = ', '.join(shown[:_ENDS]), ', '.join(shown[-_ENDS:])
    return f'{len(shown)} classes (largest {ends[0]}; median {middle:,g}; smallest {ends[1]})'

  def list_notes(self, weighs: bool, draws: bool, place: str = 'config') -> list[str]:
    """What a person should know before training on such classes, a sentence or two each.

    Args:
      weighs, draws: whether the loss weighs classes, and whether they are sampled evenly.
      place: of the sections `sampling` and `loss`, as a command line says it.
    """
    notes, there = [], [row for row in zip(self.counts, self.labels, strict=True) if row[0]]
    # Of several labels, a class that some videos lack can be told from none.
    if len(there) == 1 and self.videos in (None, there[0][0]):
      always = len(self.labels) == 1 and self.videos is None
      notes.append(
        f'all training videos are of one class, {show(there[0][1], _WIDTH)!r}: there is nothing to '
        'tell apart, so nothing is learned' + ', and every accuracy will be 100 %' * always
      )
    if empty := [show(n, _WIDTH) for c, n in zip(self.counts, self.labels, strict=True) if not c]:
      more = f' and {len(empty) - _ENDS} more' if len(empty) > _ENDS else ''
      notes.append(f'no training video is of {", ".join(map(repr, empty[:_ENDS]))}{more}')
    if len(there) < 2:
      return notes
    if weighs and draws:
      notes.append(
        'sampling and loss.class_weights both balance the classes, so rare ones count twice over: '
        'one of them is enough'
      )
    (most, large), (least, small) = max(there), min(there)
    if most > _EVEN * least and not (weighs or draws):
      notes.append(
        f'{show(large, _WIDTH)!r} has {most:,} videos and {show(small, _WIDTH)!r} {least:,}, '
        f'{_show_ratio(most / least)} : 1, so the rare class may never be predicted: balance them '
        f'with --{place}.sampling.name=balanced, or with --{place}.loss.class_weights=balanced'
      )
    return notes


def _show_ratio(ratio: float) -> str:
  return f'{ratio:.3g}' if ratio < 100 else f'{ratio:,.0f}'
