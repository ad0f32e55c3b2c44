"""Folders of videos as people have them."""

import os

import pytest

from movinet_jax.data import SourceError, open_source


@pytest.fixture
def root(tmp_path):
  for path in (
    'walk/b.mp4',
    'walk/a.AVI',
    'run/a.mp4',
    'run/.DS_Store',
    'run/notes.txt',
  ):
    (tmp_path / 'train' / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'train' / path).write_bytes(b'x')
  return tmp_path


def test_classes_and_names(root):
  source = open_source('folder', root=str(root), split='train')
  assert source.labels == ('run', 'walk')
  rows = [(record.name, record.label) for record in source.records]
  assert rows == [('run/a.mp4', 0), ('walk/a.AVI', 1), ('walk/b.mp4', 1)]
  assert all(os.path.isfile(record.video) for record in source.records)
  same = open_source('folder', root=str(root / 'train'))
  assert same.fingerprint() == source.fingerprint()


def test_evaluation_uses_the_map_of_training(root):
  (root / 'val' / 'walk').mkdir(parents=True)
  (root / 'val' / 'walk' / 'x.mp4').write_bytes(b'x')
  train = open_source('folder', root=str(root), split='train')
  val = open_source('folder', root=str(root), split='val', labels=train.labels)
  assert val.labels == train.labels
  assert val.records[0].label == 1
  (root / 'val' / 'wlak').mkdir()
  with pytest.raises(SourceError, match=r"unknown label 'wlak'; did you mean 'walk'"):
    open_source('folder', root=str(root), split='val', labels=train.labels)


def test_empty_class(root):
  (root / 'train' / 'swim').mkdir()
  with pytest.raises(SourceError, match=r'swim has no videos: it holds nothing'):
    open_source('folder', root=str(root), split='train')
  (root / 'train' / 'swim' / 'a.zip').write_bytes(b'x')
  with pytest.raises(SourceError, match=r'only \.zip'):
    open_source('folder', root=str(root), split='train')


def test_split_forgotten_or_misspelt(root):
  with pytest.raises(SourceError, match="pass split='train'"):
    open_source('folder', root=str(root))
  with pytest.raises(SourceError, match="no split 'trian'; did you mean 'train'"):
    open_source('folder', root=str(root), split='trian')


def test_unreadable_folders(root, monkeypatch):
  with pytest.raises(SourceError, match='No such file'):
    open_source('folder', root=str(root / 'nowhere'))
  with pytest.raises(SourceError, match='Not a directory'):
    open_source('folder', root=str(root / 'train' / 'run' / 'a.mp4'))
  scan = os.scandir

  def refuse(path):
    if str(path).endswith('walk'):
      raise PermissionError(13, 'Permission denied')
    return scan(path)

  monkeypatch.setattr(os, 'scandir', refuse)  # file modes do not stop root
  with pytest.raises(SourceError, match=r'walk: Permission denied'):
    open_source('folder', root=str(root), split='train')


def test_videos_outside_classes(root):
  (root / 'train' / 'stray.mp4').write_bytes(b'x')
  with pytest.raises(SourceError, match=r"outside class folders, such as 'stray.mp4'"):
    open_source('folder', root=str(root), split='train')
