"""Generated videos as a data source: written once, and never over anything else."""

import pytest

from movinet_jax import data

SMALL = {'videos_per_class': 4, 'frames': 2, 'size': 16}


def test_videos_are_written_once_and_listed_by_split(tmp_path):
  root = tmp_path / 'videos'
  source = data.open_source('motion', root=str(root), split='train', **SMALL)
  assert len(source) == 16
  assert source.labels == ('down', 'left', 'right', 'up')
  written = {path: path.stat().st_mtime_ns for path in root.rglob('*.mp4')}
  val = data.open_source('motion', root=str(root), split='val', **SMALL)
  assert len(val) == 4
  assert written == {path: path.stat().st_mtime_ns for path in root.rglob('*.mp4')}
  assert source.fingerprint() != val.fingerprint()


def test_nothing_else_is_written_over(tmp_path):
  (tmp_path / 'mine.mp4').touch()
  with pytest.raises(data.SourceError, match='holds something else'):
    data.open_source('motion', root=str(tmp_path), split='train', **SMALL)


def test_other_arguments_want_another_folder(tmp_path):
  root = str(tmp_path / 'videos')
  data.open_source('motion', root=root, split='train', **SMALL)
  with pytest.raises(data.SourceError, match='holds something else'):
    data.open_source('motion', root=root, split='train', **{**SMALL, 'seed': 1})


def test_bad_arguments_and_splits_are_named(tmp_path):
  root = str(tmp_path / 'videos')
  with pytest.raises(data.SourceError, match='size must be even'):
    data.open_source('motion', root=root, split='train', **{**SMALL, 'size': 17})
  with pytest.raises(data.SourceError, match=r"no split 'vale'.*'val'"):
    data.open_source('motion', root=root, split='vale', **SMALL)
