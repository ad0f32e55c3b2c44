"""A built dataset with a damaged file: the error is one line, and names the file."""

import csv
import errno
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from movinet_jax import data
from movinet_jax.data import EvalClip, SourceError, kinetics, motion
from movinet_jax.data.sources import tfds

SHARD = 'kinetics-train.array_record-00000-of-00001'
OTHER = 'kinetics-validation.array_record-00000-of-00001'
CLIP = EvalClip(frames=2, size=16, stride=1)


def _name_clips(root: pathlib.Path):
  """Official CSV files and videos of eight small clips, of which two are for validation."""
  splits = (('all', 1.0),)
  motion.write_motion(str(root / 'motion'), videos_per_class=2, frames=6, size=32, splits=splits)
  videos = sorted((root / 'motion').rglob('*.mp4'))
  assert len(videos) == 8
  (root / 'clips').mkdir()
  rows = {'train': [], 'validate': []}
  for number, path in enumerate(videos):
    name = f'clip-{number:06}'
    shutil.copy(path, root / 'clips' / f'{name}_000000_000010.mp4')
    rows['validate' if number % 4 == 3 else 'train'].append((path.parent.name, name, 0, 10))
  (root / 'csv').mkdir()
  for split, lines in rows.items():
    with open(root / 'csv' / f'{split}.csv', 'w', newline='') as file:
      csv.writer(file).writerows([('label', 'youtube_id', 'time_start', 'time_end'), *lines])


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  root = tmp_path_factory.mktemp('kinetics')
  _name_clips(root)
  out = str(root / 'prepared')
  kinetics.prepare(str(root / 'csv'), str(root / 'clips'), out, workers=1, progress=False)
  return out


@pytest.fixture(scope='module')
def built(prepared, tmp_path_factory):
  return kinetics.build(prepared, str(tmp_path_factory.mktemp('built')), '400')


@pytest.fixture
def copy(built, tmp_path):
  """A copy of the dataset, in the folders that the builder gives it."""
  return pathlib.Path(shutil.copytree(built, tmp_path / 'kinetics/400/1.0.0'))


def read_all(folder, workers=0):
  source = data.open_source('tfds', directory=str(folder), split='train')
  data.take_classes(source, source.labels[:2])
  with data.make_batches(source, CLIP, batch_size=3, train=False, workers=workers) as batches:
    return [name for batch in batches for name in batch['name']]


def cut(path, size):
  path.write_bytes(path.read_bytes()[:size])


def flip(path, place, count=64):
  found = bytearray(path.read_bytes())
  found[place : place + count] = bytes(byte ^ 0x5A for byte in found[place : place + count])
  path.write_bytes(found)


def find_video(path):
  """Where the first video of a shard begins."""
  return path.read_bytes().index(b'ftyp')


def replace(path, old, new):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))


def put_folder(path):
  path.unlink()
  path.mkdir()


def put_archive(path):
  with path.open('wb') as file:
    np.savez(file, np.zeros(6))


DAMAGES = {
  'half': (SHARD, lambda path: cut(path, path.stat().st_size // 2**17 * 2**16)),
  'tail': (SHARD, lambda path: cut(path, path.stat().st_size - 100)),
  'empty': (SHARD, lambda path: cut(path, 0)),
  'text': (SHARD, lambda path: path.write_text('I am a shard\n' * 400)),
  'zeros': (SHARD, lambda path: path.write_bytes(bytes(path.stat().st_size))),
  'gone': (SHARD, pathlib.Path.unlink),
  'folder': (SHARD, put_folder),
  'video': (SHARD, lambda path: flip(path, find_video(path))),
  'first chunk': (SHARD, lambda path: flip(path, 100)),
  'last block': (SHARD, lambda path: flip(path, path.stat().st_size - 2**16, 2000)),
  'other shard': (SHARD, lambda path: shutil.copy(path.with_name(OTHER), path)),
  'info empty': ('dataset_info.json', lambda path: cut(path, 0)),
  'info cut': ('dataset_info.json', lambda path: cut(path, path.stat().st_size // 2)),
  'info binary': ('dataset_info.json', lambda path: path.write_bytes(b'\xff\x00' * 50)),
  'info list': ('dataset_info.json', lambda path: path.write_text('[]')),
  'info gone': ('dataset_info.json', pathlib.Path.unlink),
  'info key': ('dataset_info.json', lambda path: replace(path, '"splits"', '"splots"')),
  'info number': ('dataset_info.json', lambda path: replace(path, '"6"', '"many"')),
  'info format': ('dataset_info.json', lambda path: replace(path, '"array_', '"tf')),
  'info name': ('dataset_info.json', lambda path: replace(path, '{DATASET}', '{NONE}')),
  'features empty': ('features.json', lambda path: cut(path, 0)),
  'features list': ('features.json', lambda path: path.write_text('[]')),
  'features deep': ('features.json', lambda path: path.write_text('[' * 100_000)),
  'features gone': ('features.json', pathlib.Path.unlink),
  'features label': ('features.json', lambda path: replace(path, '"label"', '"lebal"')),
  'features video': ('features.json', lambda path: replace(path, '"video"', '"vid"')),
  'metadata cut': ('metadata.json', lambda path: cut(path, path.stat().st_size // 2)),
  'metadata gone': ('metadata.json', pathlib.Path.unlink),
  'metadata list': ('metadata.json', lambda path: path.write_text('{"digests": ["train"]}')),
  'metadata side': ('metadata.json', lambda path: replace(path, 'null', '"x"')),
  'classes empty': ('label.labels.txt', lambda path: cut(path, 0)),
  'classes gone': ('label.labels.txt', pathlib.Path.unlink),
  'labels text': ('labels-train.npy', lambda path: path.write_text('hi')),
  'labels empty': ('labels-train.npy', lambda path: cut(path, 0)),
  'labels archive': ('labels-train.npy', put_archive),
  'labels range': ('labels-train.npy', lambda path: np.save(path, np.full(6, 9))),
  'labels halves': ('labels-train.npy', lambda path: np.save(path, np.full(6, 0.5))),
}


def test_whole_dataset_is_read(copy):
  assert len(read_all(copy)) == 6


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_file_is_named(copy, damage):
  name, spoil = DAMAGES[damage]
  spoil(copy / name)
  with pytest.raises(SourceError) as error:
    read_all(copy)
  assert name in str(error.value)
  assert str(copy) in str(error.value)
  assert '\n' not in str(error.value)


def test_a_damaged_record_is_named_by_workers_too(copy):
  flip(copy / SHARD, find_video(copy / SHARD))
  with pytest.raises(SourceError, match=rf'{SHARD} cannot be read \(its record \d'):
    read_all(copy, workers=1)


@pytest.mark.parametrize(
  'damage', ['tail', 'video', 'gone', 'info cut', 'info format', 'metadata cut', 'features empty']
)
def test_building_again_names_a_damaged_file(copy, prepared, tmp_path, damage):
  (copy / 'labels-train.npy').unlink()  # or no record would be read
  name, spoil = DAMAGES[damage]
  spoil(copy / name)
  with pytest.raises(SourceError) as error:
    kinetics.build(prepared, str(tmp_path), '400')
  assert name in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('said', 'code'),
  [
    ('read() failed: Input/output error; reading PATH; at byte 0', errno.EIO),
    ('pread() failed: Stale file handle; reading PATH', errno.ESTALE),
    ('open() failed: Permission denied; opening PATH', errno.EACCES),
  ],
)
def test_a_disk_that_fails_is_no_damaged_file(copy, said, code):
  class Rows:
    dataset_info = tfds.open_builder(str(copy)).info
    split = 'train'

    def __getitem__(self, index):
      raise RuntimeError(said)

  with pytest.raises(OSError) as error:
    tfds._read_record(Rows(), 4)
  assert error.value.errno == code
  assert error.value.filename == str(copy / SHARD)


def test_a_split_without_labels_is_no_damage(copy):
  path = copy / 'metadata.json'
  found = json.loads(path.read_text())
  del found['digests']['train']
  path.write_text(json.dumps(found))
  with pytest.raises(SourceError, match=r"'train' of .* has no labels.*: validation$"):
    data.open_source('tfds', directory=os.fspath(copy), split='train')
