"""The check of a dataset: it finds all that is bad, and goes on after a stop."""

import os
import pathlib
import shutil

import pytest
from PIL import Image

from movinet_jax.data import FrameFolder, SourceError, check, limited, open_source
from movinet_jax.data.reader import count_frames
from movinet_jax.data.source import Record, make_source, read_bad_names


@pytest.fixture
def records(broken, videos):
  files = sorted(broken.iterdir()) + sorted(videos.glob('*264*'))
  return [Record(str(path), 0, path.name) for path in files if path.name[0] != 'l']


def test_finds_all_bad_and_goes_on(records, tmp_path, no_hang):
  manifest = str(tmp_path / 'bad.csv')
  found = check.check_videos(records, manifest, workers=2, progress=False)
  good = {r.name for r in records if r.name.endswith('264.mp4') or '10bit' in r.name}
  assert set(found.bad) == {r.name for r in records} - good
  assert (found.videos, found.known) == (len(records), 0)
  assert read_bad_names(manifest) == set(found.bad)
  source = make_source(records, ['x'], skip=manifest)
  assert {record.name for record in source.records} == good
  assert set(source.skipped) == set(found.bad)

  whole = pathlib.Path(manifest).read_text()
  again = check.check_videos(records, manifest, progress=False)
  assert (again.known, again.bad) == (len(records), found.bad)
  assert pathlib.Path(manifest).read_text() == whole

  # Killed while it wrote its fifth row.
  lines = whole.splitlines(keepends=True)
  with open(manifest, 'w') as file:
    file.write(''.join(lines[:5]) + lines[5][:7])
  resumed = check.check_videos(records, manifest, workers=2, progress=False)
  assert resumed.known == 4
  assert resumed.bad == found.bad
  text = pathlib.Path(manifest).read_text()
  assert sorted(text.splitlines(keepends=True)) == sorted(lines)


def test_mended_file_is_checked_again(videos, tmp_path):
  path = tmp_path / 'a.mp4'
  path.write_bytes(b'no')
  records, manifest = [Record(str(path), 0, 'a.mp4')], str(tmp_path / 'bad.csv')
  assert check.check_videos(records, manifest, progress=False).bad
  shutil.copy(videos / 'h265.mp4', path)
  found = check.check_videos(records, manifest, progress=False)
  assert (found.known, found.bad) == (0, {})
  assert read_bad_names(manifest) == frozenset()
  assert os.path.exists(path)


def test_will_not_write_over_something_else(tmp_path):
  path = tmp_path / 'train.csv'
  path.write_text('path,label\na.mp4,x\n')
  with pytest.raises(SourceError, match='something else'):
    check.check_videos([], str(path), progress=False)
  assert path.read_text() == 'path,label\na.mp4,x\n'


def test_names_that_do_not_print_are_checked_once_and_left_out(videos, tmp_path):
  home, manifest = tmp_path / 'v' / 'a', str(tmp_path / 'bad.csv')
  home.mkdir(parents=True)
  for name in (b'caf\xe9.mp4', b'a\rb.mp4', b'plain.mp4'):
    shutil.copy(videos / 'h265.mp4', os.fsencode(home) + b'/' + name)
  for name in (b'bad\xe9.mp4', b'bad\r.mp4'):
    with open(os.fsencode(home) + b'/' + name, 'wb') as file:
      file.write(b'no video')
  source = open_source('folder', root=str(tmp_path / 'v'))
  found = check.check_videos(source.records, manifest, workers=2, progress=False)
  assert set(found.bad) == {r'a/bad\xe9.mp4', r'a/bad\r.mp4'}
  again = check.check_videos(source.records, manifest, progress=False)
  assert (again.known, again.bad) == (5, found.bad)
  left = open_source('folder', root=str(tmp_path / 'v'), skip=manifest)
  assert set(left.skipped) == set(found.bad)
  assert len(left) == 3


def test_folders_of_pictures(tmp_path):
  for clip, numbers in (('a', (1, 2, 3)), ('b', (1, 3))):
    for number in numbers:
      path = tmp_path / clip / f'{number}.png'
      path.parent.mkdir(exist_ok=True)
      Image.new('RGB', (16, 16)).save(path)
  records = [Record(FrameFolder(str(tmp_path / clip), 5.0), 0, clip) for clip in 'ab']
  manifest = str(tmp_path / 'bad.csv')
  found = check.check_videos(records, manifest, progress=False)
  assert found.bad == {'b': 'frame 2 of 1..3 is missing'}
  assert check.check_videos(records, manifest, progress=False).known == 2
  Image.new('RGB', (16, 16)).save(tmp_path / 'b' / '2.png')
  mended = check.check_videos(records, manifest, progress=False)
  assert (mended.known, mended.bad) == (1, {})


def test_each_frame_is_a_step_of_the_work(videos, tmp_path, monkeypatch):
  """So a video may take longer than the limit, as long as frames come."""
  steps = [0]
  monkeypatch.setattr(limited, '_steps', steps)
  path = str(videos / 'h264_10bit.mp4')
  check._decode(('a', path))
  assert steps[0] >= count_frames(path) > 1
  Image.new('RGB', (16, 16)).save(tmp_path / '1.png')
  steps[0] = 0
  check._decode(('a', FrameFolder(str(tmp_path), 1.0)))
  assert steps[0] == 1


def test_a_manifest_with_something_else_for_a_size_is_named(tmp_path):
  path = tmp_path / 'm.csv'
  path.write_text('name,bytes,reason\na.mp4,many,x\n')
  with pytest.raises(SourceError, match=r"row of 'a\.mp4' has 'many' bytes"):
    check.check_videos([], str(path), progress=False)
