"""A dataset that comes new is one file in `sources`: opened by name, and batches made of it."""

import importlib
import sys

import pytest

from movinet_jax import data
from movinet_jax.data import sources

SOURCE = """
import os

from movinet_jax.data.source import Record, Source, list_folder, make_source


def open_source(root: str, split: str, labels: tuple[str, ...] = ('left', 'right')) -> Source:
  records = [
    Record(entry.path, number, f'{label}/{entry.name}')
    for number, label in enumerate(labels)
    for entry in list_folder(os.path.join(root, split, label))
  ]
  return make_source(records, labels)
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
  (tmp_path / 'planted.py').write_text(SOURCE)
  monkeypatch.setattr(sources, '__path__', [*sources.__path__, str(tmp_path)])
  importlib.invalidate_caches()
  yield 'planted'
  sys.modules.pop(f'{sources.__name__}.planted', None)


def test_one_file_is_a_dataset(planted, motion_root):
  assert planted in data.list_sources()
  train, val = (data.open_source(planted, root=motion_root, split=s) for s in ('train', 'val'))
  assert (len(train), len(val), train.labels) == (40, 8, ('left', 'right'))
  clip = data.TrainClip(frames=2, size=16, stride=1)
  for workers in (0, 1):
    with data.make_batches(
      train, clip, batch_size=4, seed=0, train=True, workers=workers
    ) as batches:
      batch = next(batches)
    assert batch['video'].shape == (4, 2, 16, 16, 3)
    assert (batch['mask'] == 1).all()
    assert {name.partition('/')[0] for name in batch['name']} <= {'left', 'right'}
  views = data.EvalClip(frames=2, size=16, stride=1)
  with data.make_batches(val, views, batch_size=8, seed=0, train=False) as batches:
    assert sum(int(batch['mask'].sum()) for batch in batches) == 8


def test_its_arguments_are_checked_as_those_of_any_other(planted, motion_root):
  with pytest.raises(data.SourceError, match="no data source 'plantd'; did you mean 'planted'"):
    data.open_source('plantd', root=motion_root)
  with pytest.raises(data.SourceError, match="no argument 'splt'; did you mean 'split'"):
    data.open_source(planted, root=motion_root, splt='train')
