"""A dataset whose classes are the folders of a split."""

import os

from movinet_jax.data.source import Record, Source, list_folder, make_source


def open_source(root: str, split: str, labels: tuple[str, ...] | None = None) -> Source:
  labels = labels or [entry.name for entry in list_folder(os.path.join(root, split))]
  records = [
    Record(entry.path, number, f'{label}/{entry.name}')
    for number, label in enumerate(labels)
    for entry in list_folder(os.path.join(root, split, label))
  ]
  return make_source(records, labels)
