"""A dataset that `movinet build-data` built: ArrayRecord files in tfds's layout.

Reading needs neither TensorFlow nor the code that built it.
"""

import functools
import json
import os

import numpy as np
import tensorflow_datasets as tfds

from movinet_jax.data import source as sources
from movinet_jax.data.source import Record, Source, SourceError
from movinet_jax.names import suggest

# All texts in the features.json of such a dataset, but for the number of classes.
_FEATURES = frozenset(
  f'tensorflow_datasets.core.features.{name}'
  for name in (
    'features_dict.FeaturesDict',
    'class_label_feature.ClassLabel',
    'text_feature.Text',
  )
)


def open_source(
  directory: str,
  split: str = 'train',
  labels: str | tuple[str, ...] | None = None,
) -> Source:
  """Opens one split.

  Args:
    directory: the folder with dataset_info.json, `…/kinetics/600/1.0.0`.
    split: such as train.
    labels: the label map to number classes by; default: the dataset's own.

  Raises:
    SourceError: no dataset there, no such split, no labels, or classes not in the map.
  """
  builder = open_builder(directory)
  if split not in builder.info.splits:
    known = suggest(split, builder.info.splits)
    raise SourceError(f'{directory} has no split {split!r}{known}')
  own = tuple(builder.info.features['label'].names)
  metadata = builder.info.metadata or {}
  if split not in metadata.get('digests', {}):
    raise SourceError(
      f'split {split!r} of {directory} has no labels, so it can neither be trained on nor '
      f'evaluated; those that have: {", ".join(metadata.get("digests", {})) or "none"}'
    )
  names = sources.read_labels(labels) or own
  numbers = {name: number for number, name in enumerate(names)}
  renumbered = tuple(sources.find_label(name, numbers, f'classes of {directory}') for name in own)
  records = _BuiltRecords(directory, split, renumbered)
  digest = sources.make_digest([(metadata['digests'][split], 0)], names)
  return Source(records, names, digest, short_side=metadata.get('short_side'))


class _BuiltRecords:
  """Records read from ArrayRecord as they are asked for; pickles without open files."""

  def __init__(self, directory: str, split: str, renumbered: tuple[int, ...]):
    self._directory, self._split, self._renumbered = directory, split, renumbered

  @functools.cached_property
  def _rows(self):
    return open_builder(self._directory).as_data_source(split=self._split)

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> Record:
    row = self._rows[index]
    label = self._renumbered[int(row['label'])]
    return Record(bytes(row['video']), label, row['name'].decode())

  def list_labels(self) -> list[int]:
    """The class number of each record: from the file that the build left, which is quick.

    Datasets built before there was one are read whole, videos and all.

    Raises:
      SourceError: the file is of other records.
    """
    path = _name_labels(self._directory, self._split)
    if not os.path.exists(path):
      return [record.label for record in self]
    own = np.load(path, allow_pickle=False)
    if own.shape != (len(self),):
      raise SourceError(
        f'{path} has the shape {own.shape}, wanted ({len(self)},): remove it, and run the '
        '`movinet build-data` command of this dataset again'
      )
    return [self._renumbered[number] for number in own.tolist()]

  def __iter__(self):
    return (self[index] for index in range(len(self)))

  def __getstate__(self):
    return {key: value for key, value in vars(self).items() if key != '_rows'}


def write_labels(directory: str):
  """Writes the class numbers of each split with labels beside its records, unless they are there.

  Reads all records once, because only they know their order.
  """
  builder = open_builder(directory)
  for split in (builder.info.metadata or {}).get('digests', {}):
    path = _name_labels(directory, split)
    if not os.path.exists(path):
      numbers = [int(row['label']) for row in builder.as_data_source(split=split)]
      with open(f'{path}.part', 'wb') as file:
        np.save(file, np.array(numbers, np.int32))
      os.replace(f'{path}.part', path)


def _name_labels(directory: str, split: str) -> str:
  return os.path.join(directory, f'labels-{split}.npy')


def open_builder(directory: str) -> tfds.core.DatasetBuilder:
  """tfds's reader of a dataset that was built here.

  Raises:
    SourceError: it is none.
  """
  try:
    _check_features(directory)
    return tfds.builder_from_directory(directory)
  except Exception as error:
    raise SourceError(
      f'{directory} is no built dataset (wanted the folder that holds dataset_info.json): {error}'
    ) from error


def _check_features(directory):
  """A dataset is data: tfds would import whatever module its features.json names."""
  with open(os.path.join(directory, 'features.json'), encoding='utf-8') as file:
    for text in _list_texts(json.load(file)):
      if text not in _FEATURES and not text.isdecimal():
        raise ValueError(
          f'features.json says {text[:80]!r}, which no dataset of `movinet build-data` does'
        )


def _list_texts(node) -> list[str]:
  """All texts in JSON, but for names of fields."""
  if isinstance(node, dict):
    node = list(node.values())
  if isinstance(node, list):
    return [text for child in node for text in _list_texts(child)]
  return [node] if isinstance(node, str) else []
