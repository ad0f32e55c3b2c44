"""The check of a dataset: it finds all that is bad, and goes on after a stop."""

import os
import pathlib
import shutil

import pytest

from movinet_jax.data import SourceError, check
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
