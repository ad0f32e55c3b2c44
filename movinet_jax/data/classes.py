"""A part of a dataset's classes, such as MiniKinetics-100: 100 random ones of Kinetics-400."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated

from movinet_jax.data.source import Part, Record, Source, SourceError
from movinet_jax.names import suggest
from movinet_jax.schema import Range, Seed


@dataclasses.dataclass(frozen=True)
class Classes:
  """The classes that are taken of a dataset: some at random, those named, or by default all.

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
      wanted = set(self.names)
      for name in self.names:
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
  renumbered = {
    source.labels.index(name): number for number, name in enumerate(names) if name in source.labels
  }
  labels = _list_labels(source.records)
  numbers = tuple(i for i, label in enumerate(labels) if label in renumbered)
  if not numbers:
    raise SourceError(
      f'none of {len(source)} videos is of the {len(names)} classes that are taken, such as '
      f'{names[0]!r}{suggest(names[0], source.labels)}: where videos have numbers, '
      'data.eval.labels names them, as data.train.labels does'
    )
  digest = hashlib.sha256(json.dumps([source.digest, *names]).encode()).hexdigest()[:32]
  records = _Renumbered(Part(source.records, numbers), renumbered)
  return dataclasses.replace(source, records=records, labels=tuple(names), digest=digest)


def _list_labels(records) -> Sequence[int]:
  """The class number of each record."""
  if hasattr(records, 'list_labels'):
    return records.list_labels()
  return [record.label for record in records]


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
