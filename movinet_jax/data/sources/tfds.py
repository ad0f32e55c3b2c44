"""A dataset that `movinet build-data` built: ArrayRecord files in tfds's layout.

Reading needs neither TensorFlow nor the code that built it.
"""

import dataclasses
import errno
import functools
import json
import os
import re
import stat
from collections.abc import Mapping

import numpy as np
import tensorflow_datasets as tfds

from movinet_jax.data import source as sources
from movinet_jax.data.source import Record, Source, SourceError
from movinet_jax.data.spelling import spell_label
from movinet_jax.names import suggest
from movinet_jax.schema import LocalPath

# All texts in the features.json of such a dataset, but for the number of classes.
_FEATURES = frozenset(
  f'tensorflow_datasets.core.features.{name}'
  for name in (
    'features_dict.FeaturesDict',
    'class_label_feature.ClassLabel',
    'text_feature.Text',
  )
)
_FIELDS = {'video': 'Text', 'label': 'ClassLabel', 'name': 'Text'}
_BLOCK = 2**16  # bytes that the size of an ArrayRecord file is a multiple of
_REPAIR = 'copy it again, or remove the dataset and run its `movinet build-data` command again'


def open_source(
  directory: LocalPath,
  split: str = 'train',
  labels: LocalPath | tuple[str, ...] | None = None,
) -> Source:
  """Opens one split.

  Args:
    directory: the folder with dataset_info.json, `…/kinetics/600/1.0.0`.
    split: such as train.
    labels: the label map to number classes by; default: the dataset's own.

  Raises:
    SourceError: no dataset there, a damaged file, no such split, no labels, or classes not in
      the map.
  """
  builder = open_builder(directory)
  if split not in builder.info.splits:
    known = suggest(split, builder.info.splits)
    raise SourceError(f'{directory} has no split {split!r}{known}')
  own = _read_names(directory, builder)
  metadata = read_metadata(directory)
  if split not in metadata['digests']:
    raise SourceError(
      f'split {split!r} of {directory} has no labels, so it can neither be trained on nor '
      f'evaluated; those that have: {", ".join(metadata["digests"]) or "none"}'
    )
  _check_shards(directory, builder, split)
  names = sources.read_labels(labels) or own
  numbers = {name: number for number, name in enumerate(names)}
  renumbered = tuple(sources.find_label(name, numbers, f'classes of {directory}') for name in own)
  records = _BuiltRecords(directory, split, renumbered)
  digest = sources.make_digest([(metadata['digests'][split], 0)], names)
  return Source(records, names, digest, short_side=metadata['short_side'])


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
    record = _read_record(self._rows, index)
    return dataclasses.replace(record, label=self._renumbered[record.label])

  @property
  def is_listed(self) -> bool:
    """Whether the build left the class numbers in a file, so that no video is read for them."""
    return os.path.exists(_name_labels(self._directory, self._split))

  def list_labels(self) -> list[int]:
    """The class number of each record: from the file that the build left, which is quick.

    Datasets built before there was one are read whole, videos and all.

    Raises:
      SourceError: the file is of other records.
    """
    path = _name_labels(self._directory, self._split)
    if not os.path.exists(path):
      return [record.label for record in self]
    own, count = _load_numbers(path), len(self._renumbered)
    found = ''
    if own.shape != (len(self),):
      found = f'has the shape {own.shape}, wanted ({len(self)},)'
    elif own.dtype.kind not in 'iu' or not set(own.tolist()) <= set(range(count)):
      found = f'does not hold class numbers from 0 to {count - 1}'
    if found:
      raise SourceError(
        f'{path} {found}: remove it, and run the `movinet build-data` command of this dataset again'
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
  for split in read_metadata(directory)['digests']:
    path = _name_labels(directory, split)
    if not os.path.exists(path):
      _check_shards(directory, builder, split)
      rows = builder.as_data_source(split=split)
      numbers = [_read_record(rows, index).label for index in range(len(rows))]
      with open(f'{path}.part', 'wb') as file:
        np.save(file, np.array(numbers, np.int32))
      os.replace(f'{path}.part', path)


def _name_labels(directory: str, split: str) -> str:
  return os.path.join(directory, f'labels-{split}.npy')


def open_builder(directory: str) -> tfds.core.DatasetBuilder:
  """tfds's reader of a dataset that was built here.

  Raises:
    SourceError: it is none, or a file of it is damaged.
  """
  path = os.path.join(directory, 'dataset_info.json')
  if not os.path.exists(path):
    raise SourceError(
      f'{directory} is no built dataset: wanted the folder that holds dataset_info.json'
    )
  _read_object(path)
  _check_features(directory)
  try:
    builder = tfds.builder_from_directory(directory)
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
      raise ValueError(f'its records are in {builder.info.file_format}, wanted array_record')
    return builder
  except Exception as error:  # tfds raises many kinds.
    raise SourceError(f'{path} cannot be used ({_shorten(error)}): {_REPAIR}') from error


def _check_features(directory: str):
  """A dataset is data: tfds would import whatever module its features.json names."""
  path = os.path.join(directory, 'features.json')
  features = _read_object(path)
  for text in _list_texts(features):
    if text not in _FEATURES and not text.isdecimal():
      raise SourceError(f'{path} says {text[:80]!r}, which no dataset of `movinet build-data` does')
  try:
    fields = features['featuresDict']['features']
    found = {name: fields[name]['pythonClassName'].rpartition('.')[2] for name in _FIELDS}
  except (KeyError, TypeError, AttributeError):
    found = None
  if found != _FIELDS:
    wanted = ', '.join(f'{name} ({kind})' for name, kind in _FIELDS.items())
    raise SourceError(f'{path} does not describe the fields {wanted}: {_REPAIR}')


def _read_names(directory: str, builder: tfds.core.DatasetBuilder) -> tuple[str, ...]:
  """The names of the classes; tfds itself takes numbers for names that it cannot read."""
  path = os.path.join(directory, 'label.labels.txt')
  count = builder.info.features['label'].num_classes
  with sources.open_text(path, 'list of classes') as file:
    names = tuple(spell_label(name) for line in file if (name := line.strip()))
  if len(names) != count:
    raise SourceError(f'{path} names {len(names)} classes, features.json {count}: {_REPAIR}')
  return names


def read_metadata(directory: str) -> dict:
  """What the builder wrote down of a dataset.

  Returns:
    `digests`, a text for each split with labels; and `short_side`, None where the pictures kept
    their size or the dataset was built before this was written down.

  Raises:
    SourceError: the file is damaged.
  """
  path = os.path.join(directory, 'metadata.json')
  found = _read_object(path)
  digests, side = found.get('digests', {}), found.get('short_side')
  if not isinstance(digests, Mapping) or not all(isinstance(d, str) for d in digests.values()):
    raise SourceError(f'{path}: digests are {digests!r}, wanted a text by split: {_REPAIR}')
  if side is not None and (isinstance(side, bool) or not isinstance(side, int) or side < 1):
    raise SourceError(f'{path}: short_side is {side!r}, wanted a number of pixels: {_REPAIR}')
  return {'digests': digests, 'short_side': side}


def _read_object(path: str) -> dict:
  text = sources.open_text(path, 'file').read()
  try:
    found = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise SourceError(f'{path} is no JSON ({error}): {_REPAIR}') from error
  if not isinstance(found, dict):
    raise SourceError(f'{path} holds no JSON object: {_REPAIR}')
  return found


def _check_shards(directory: str, builder: tfds.core.DatasetBuilder, split: str):
  """Checks that the files of a split are there and were not cut short, without reading them."""
  try:
    builder.as_data_source(split=split)
    paths = [os.fspath(path) for path in builder.info.splits[split].filepaths]
  except Exception as error:  # tfds raises many kinds.
    path = os.path.join(directory, 'dataset_info.json')
    raise SourceError(f'{path} cannot be used ({_shorten(error)}): {_REPAIR}') from error
  for path in paths:
    try:
      found = os.stat(path)
    except FileNotFoundError as error:
      raise _explain(path, error.strerror) from error
    if not stat.S_ISREG(found.st_mode):
      raise _explain(path, 'it is no regular file')
    if not found.st_size or found.st_size % _BLOCK:
      whole = f'a whole one has a multiple of {_BLOCK}'
      raise _explain(path, f'it has {found.st_size} bytes, {whole}')


def _read_record(rows, index: int) -> Record:
  """Reads a record, with the dataset's own number of its class; an error names the file.

  Raises:
    SourceError: the file is damaged.
    OSError: the system could not read it.
  """
  try:
    row, classes = rows[index], rows.dataset_info.features['label'].num_classes
    record = Record(bytes(row['video']), int(row['label']), row['name'].decode())
    if record.label >= classes:
      raise ValueError(f'its label is {record.label}, outside 0 to {classes - 1}')
    return record
  except Exception as error:  # array_record knows RuntimeError only, tfds many kinds.
    path, number = _find_shard(rows, index)
    failed = re.match(r'\w+\(\) failed: ([^;]+)', str(error))
    for code in errno.errorcode if failed else ():
      if os.strerror(code) == failed[1]:
        raise OSError(code, failed[1], path) from error
    raise _explain(path, f'its record {number}: {_shorten(error)}') from error


def _find_shard(rows, index: int) -> tuple[str, int]:
  """The file of a record, and the record's number in it."""
  for part in rows.dataset_info.splits[rows.split].file_instructions:
    if index < part.take:
      return os.fspath(part.filename), part.skip + index
    index -= part.take
  return str(rows.dataset_info.data_dir), index


def _explain(path: str, why: str) -> SourceError:
  return SourceError(f'the ArrayRecord file {path} cannot be read ({why}): {_REPAIR}')


def _load_numbers(path: str) -> np.ndarray:
  try:
    with open(path, 'rb') as file:
      return np.lib.format.read_array(file, allow_pickle=False)
  except ValueError as error:
    raise SourceError(
      f'{path} is no NumPy array: remove it, and run the `movinet build-data` command of this '
      'dataset again'
    ) from error


def _shorten(error: Exception) -> str:
  """The first line of an error that may have many."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _list_texts(node) -> list[str]:
  """All texts in JSON, but for names of fields."""
  if isinstance(node, dict):
    node = list(node.values())
  if isinstance(node, list):
    return [text for child in node for text in _list_texts(child)]
  return [node] if isinstance(node, str) else []
