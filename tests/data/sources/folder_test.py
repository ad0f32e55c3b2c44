"""Folders of videos as people have them."""

import json
import os

import numpy as np
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


def test_what_systems_leave_in_folders_is_no_video(root):
  home = root / 'train'
  for place in ('__MACOSX', '@eaDir', '$RECYCLE.BIN', 'System Volume Information', 'lost+found'):
    for folder in (home / place, home / 'run' / place):
      folder.mkdir()
      (folder / 'a.mp4').write_bytes(b'x')
  for name in ('._a.mp4', '.DS_Store', 'Thumbs.db', 'desktop.ini'):
    (home / 'run' / name).write_bytes(b'x')
    (home / name).write_bytes(b'x')
  source = open_source('folder', root=str(root), split='train')
  assert source.labels == ('run', 'walk')
  assert [r.name for r in source.records] == ['run/a.mp4', 'walk/a.AVI', 'walk/b.mp4']
  assert source.notes == ()


def test_files_that_may_be_videos_are_told_of(root):
  home = root / 'train'
  for name in ('a.foo', 'b.FOO', 'c.bar', 'd', 'x.MTS', 'poster.jpg', 'a.srt'):
    (home / 'walk' / name).write_bytes(b'x')
  (home / 'e.foo').write_bytes(b'x')
  source = open_source('folder', root=str(root), split='train')
  assert len(source) == 4
  assert source.notes == (
    f'5 of 9 files in {home} are not taken, because they have no suffix of a video '
    '(.foo 3, .bar 1, no suffix 1), such as e.foo, walk/a.foo, walk/b.FOO',
  )


def test_one_file_that_may_be_a_video_is_told_of(root):
  (root / 'train' / 'walk' / 'a.foo').write_bytes(b'x')
  (note,) = open_source('folder', root=str(root), split='train').notes
  assert note.endswith('is not taken, because it has no suffix of a video (.foo 1): walk/a.foo')


def test_names_that_do_not_print(root):
  home = os.fsencode(root / 'train')
  for name in (b'caf\xe9.mp4', b'a\rb.mp4', b'a\\rb.mp4', b'a\nb.mp4', b'\x1b[1m.mp4'):
    with open(home + b'/run/' + name, 'wb') as file:
      file.write(b'x')
  source = open_source('folder', root=str(root), split='train')
  names = [r.name for r in source.records if r.label == 0]
  assert sorted(names) == [
    r'run/\x1b[1m.mp4',
    'run/a.mp4',
    r'run/a\\rb.mp4',
    r'run/a\nb.mp4',
    r'run/a\rb.mp4',
    r'run/caf\xe9.mp4',
  ]
  assert all(os.path.isfile(record.video) for record in source.records)
  assert np.array(names).tolist() == json.loads(json.dumps(names)) == names
  os.mkdir(home + b'/caf\xe9')
  with pytest.raises(SourceError, match=r'caf.* has no videos'):
    open_source('folder', root=str(root), split='train')
  with open(home + b'/caf\xe9/a.mp4', 'wb') as file:
    file.write(b'x')
  source = open_source('folder', root=str(root), split='train')
  assert source.labels == (r'caf\xe9', 'run', 'walk')
  assert source.records[0].name == r'caf\xe9/a.mp4'


def test_two_spellings_of_a_label_are_one(root):
  composed, apart = 'caf\xe9', 'cafe\u0301'
  for number, name in enumerate((composed, apart)):
    (root / 'train' / name).mkdir()
    (root / 'train' / name / f'{number}.mp4').write_bytes(b'x')
  source = open_source('folder', root=str(root), split='train')
  assert source.labels == (composed, 'run', 'walk')
  assert {r.name for r in source.records if r.label == 0} == {f'{composed}/0.mp4', f'{apart}/1.mp4'}
  given = open_source('folder', root=str(root), split='train', labels=(apart, 'run', 'walk'))
  assert given.labels == source.labels
  assert given.fingerprint() == source.fingerprint()


def test_classes_that_differ_in_case_are_told_of(root):
  (root / 'train' / 'Run').mkdir()
  (root / 'train' / 'Run' / 'a.mp4').write_bytes(b'x')
  source = open_source('folder', root=str(root), split='train')
  assert source.labels == ('Run', 'run', 'walk')
  assert len(source.notes) == 1
  assert "classes of their own: 'Run' and 'run'" in source.notes[0]
