"""Kinetics from official CSV files and fixture videos, with all the traps at once."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from movinet_jax import data
from movinet_jax.data import EvalClip, SourceError, kinetics, pictures

TRAIN = """\
label,youtube_id,time_start,time_end,split,is_cc
"arm wrestling, indoors",-abcdefghij,10,20,train,0
abseiling,AAAAAAAAAAA,0.0,10.0,train,0
abseiling,BBBBBBBBBBB,1.0,2.0,train,1
 zumba ,CCCCCCCCCCC,0,10,train,0
zumba,D_DDDD-DDDD,0,10,train,0
zumba,GGGGGGGGGGG,500,510,train,0
"""
# Another order of columns, as the releases differ.
VALIDATE = """\
youtube_id,time_start,time_end,split,label
EEEEEEEEEEE,0,5,val,zumba
"""
TEST = """\
youtube_id,time_start,time_end,split
FFFFFFFFFFF,0,6,test
"""


@pytest.fixture(scope='module')
def official(videos, tmp_path_factory):
  """(annotations, videos): a clip, a clip of another type, a whole video, …"""
  root = tmp_path_factory.mktemp('kinetics')
  (root / 'csv').mkdir()
  for name, text in (('train', TRAIN), ('validate', VALIDATE), ('test', TEST)):
    (root / 'csv' / f'{name}.csv').write_text(text)
  (root / 'videos' / 'arm wrestling').mkdir(parents=True)
  for name, place in (
    ('h264_10bit.mp4', 'arm wrestling/-abcdefghij_000010_000020.mp4'),
    ('h265.mp4', 'AAAAAAAAAAA_000000_000010.mp4'),
    ('long_test_h264.mp4', 'BBBBBBBBBBB.mp4'),  # whole: to be cut from 1 to 2 s
    ('h265.mp4', 'GGGGGGGGGGG.mp4'),  # whole, but much shorter than 500 s
    ('av1.mkv', 'EEEEEEEEEEE_000000_000005.mkv'),
    ('short_test.avi', 'FFFFFFFFFFF_000000_000006.avi'),
  ):
    shutil.copy(videos / name, root / 'videos' / place)
  (root / 'videos' / 'CCCCCCCCCCC_000000_000010.mp4').write_text('404')
  return str(root / 'csv'), str(root / 'videos')


COUNTS = {
  'train': {'listed': 6, 'found': 5, 'missing': 1, 'undecodable': 2, 'good': 3},
  'validation': {'listed': 1, 'found': 1, 'missing': 0, 'undecodable': 0, 'good': 1},
  'test': {'listed': 1, 'found': 1, 'missing': 0, 'undecodable': 0, 'good': 1},
}


def counts(report):
  return {
    split: {name: row.get(name, 0) for name in COUNTS[split]}
    for split, row in report.counts.items()
  }


@pytest.fixture(scope='module')
def prepared(official, tmp_path_factory):
  out = str(tmp_path_factory.mktemp('prepared'))
  report = kinetics.prepare(*official, out, workers=2, progress=False)
  return out, report


@pytest.fixture(scope='module')
def built(prepared, tmp_path_factory):
  return kinetics.build(prepared[0], str(tmp_path_factory.mktemp('built')), '600')


def test_report_and_label_map(prepared):
  out, report = prepared
  assert counts(report) == COUNTS
  assert report.empty_classes == ('zumba',)
  with open(os.path.join(out, 'labels.txt')) as file:
    assert file.read() == 'abseiling\narm wrestling, indoors\nzumba\n'


def test_rerun_does_only_what_is_new(official, prepared, videos, monkeypatch):
  out, _ = prepared
  given = []
  run = kinetics.run_limited
  monkeypatch.setattr(
    kinetics,
    'run_limited',
    lambda work, jobs, **k: given.extend(jobs) or run(work, jobs, **k),
  )
  report = kinetics.prepare(*official, out, progress=False)
  assert not given
  assert counts(report) == COUNTS


def test_resumes_after_a_kill(official, tmp_path):
  out = str(tmp_path)
  whole = kinetics.prepare(*official, out, short_side=64, progress=False)
  manifest = tmp_path / 'clips.csv'
  lines = manifest.read_text().splitlines(keepends=True)
  # Killed while it wrote the fourth row; and somebody removed a clip.
  manifest.write_text(''.join(lines[:4]) + lines[4][:9])
  os.remove(next((tmp_path / 'clips').rglob('*AAAA*.mp4')))
  again = kinetics.prepare(*official, out, short_side=64, progress=False)
  assert again == whole
  assert len(kinetics.read_prepared(out)['train']) == 3
  with pytest.raises(SourceError, match=r'prepared otherwise: its prepare\.json'):
    kinetics.prepare(*official, out, short_side=32, progress=False)


def test_reencoding_shrinks_and_cuts(official, tmp_path):
  kinetics.prepare(*official, str(tmp_path), short_side=64, progress=False)
  found = {}
  for rows in kinetics.read_prepared(str(tmp_path)).values():
    for name, _, path in rows:
      assert path.startswith(str(tmp_path))
      found[name[-25:-14]] = data.probe(path)
  assert {min(info.width, info.height) for info in found.values()} == {64}
  assert found['BBBBBBBBBBB'].duration_secs == pytest.approx(1.0, abs=0.05)
  assert found['EEEEEEEEEEE'].frames == 125


def test_built_set_reads_back(built, prepared, official, videos):
  source = data.open_source('tfds', directory=built, split='train')
  assert source.labels == ('abseiling', 'arm wrestling, indoors', 'zumba')
  rows = {record.name: record for record in source.records}
  assert {name: row.label for name, row in rows.items()} == {
    'train/-abcdefghij_000010_000020': 1,
    'train/AAAAAAAAAAA_000000_000010': 0,
    'train/BBBBBBBBBBB_000001_000002': 0,
  }
  original = (videos / 'h264_10bit.mp4').read_bytes()
  assert rows['train/-abcdefghij_000010_000020'].video == original
  clip = EvalClip(8, 32, stride=1)
  with data.make_batches(source, clip, batch_size=3, train=False, workers=1) as batches:
    (batch,) = batches
  assert batch['mask'].all()
  direct, _ = data.read_clip(original, clip.plan)
  place = batch['name'].tolist().index('train/-abcdefghij_000010_000020')
  np.testing.assert_array_equal(batch['video'][place], direct)


def test_reading_needs_no_tensorflow(built):
  """In a process of its own, as others here may have imported it."""
  code = f"""
import json, sys
from movinet_jax.data import open_source
source = open_source('tfds', directory={built!r}, split='validation')
record = source.records[0]
print(json.dumps([len(source), record.label, len(record.video) > 10_000]))
assert 'tensorflow' not in sys.modules
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == [1, 2, True]


def test_building_again(built, prepared, official, tmp_path):
  data_dir = built.removesuffix('/kinetics/600/1.0.0')
  assert kinetics.build(prepared[0], data_dir, '600') == built
  kinetics.prepare(*official, str(tmp_path), short_side=64, progress=False)
  with pytest.raises(SourceError, match='built from other clips'):
    kinetics.build(str(tmp_path), data_dir, '600')
  with pytest.raises(SourceError, match="no version '60' of Kinetics; did you mean '600'"):
    kinetics.build(prepared[0], data_dir, '60')


def test_a_built_set_says_how_large_its_pictures_are(official, built, tmp_path):
  """And one that was built of originals, or before this was written down, does not."""
  assert data.open_source('tfds', directory=built).short_side is None
  kinetics.prepare(*official, str(tmp_path / 'prepared'), short_side=64, progress=False)
  small = kinetics.build(str(tmp_path / 'prepared'), str(tmp_path), '600')
  source = data.open_source('tfds', directory=small)
  assert source.short_side == 64
  part, _ = data.split_source(source, 0.4)
  assert part.short_side == 64
  info = tmp_path / 'kinetics/600/1.0.0/metadata.json'
  old = json.loads(info.read_text())
  del old['short_side']
  info.write_text(json.dumps(old))
  source = data.open_source('tfds', directory=small)
  assert source.short_side is None
  assert pictures.find_short_side(source) == 64
  assert kinetics.build(str(tmp_path / 'prepared'), str(tmp_path), '600') == small


def test_classes_are_taken_without_reading_videos(built, prepared, tmp_path, monkeypatch):
  source = data.open_source('tfds', directory=built)
  read = []
  get = type(source.records).__getitem__

  def count(records, index):
    read.append(index)
    return get(records, index)

  monkeypatch.setattr(type(source.records), '__getitem__', count)
  part = data.take_classes(source, ('arm wrestling, indoors', 'zumba'))
  assert (len(part), read) == (1, [])
  assert part.records[0].name == 'train/-abcdefghij_000010_000020'
  assert part.records[0].label == 0
  # A dataset that was built before its labels were kept is read whole, or completed.
  old = tmp_path / 'old'
  shutil.copytree(built, old / 'kinetics/600/1.0.0')
  for split in ('train', 'validation'):
    (old / f'kinetics/600/1.0.0/labels-{split}.npy').unlink()
  before = data.open_source('tfds', directory=str(old / 'kinetics/600/1.0.0'))
  read.clear()
  again = data.take_classes(before, part.labels)
  assert read == [0, 1, 2]
  assert again.fingerprint() == part.fingerprint()
  assert again.records[0] == part.records[0]
  kinetics.build(prepared[0], str(old), '600')
  read.clear()
  assert len(data.take_classes(before, part.labels)) == 1
  assert read == []
  np.save(old / 'kinetics/600/1.0.0/labels-train.npy', np.zeros(2, np.int32))
  with pytest.raises(SourceError, match=r'labels-train\.npy has the shape \(2,\), wanted \(3,\)'):
    data.take_classes(before, part.labels)


def test_identity_of_a_built_set(built):
  def fingerprint(**kwargs):
    return data.open_source('tfds', directory=built, **kwargs).fingerprint()

  same = fingerprint(split='train')
  assert same == fingerprint(split='train')
  others = [fingerprint(split='validation')]
  labels = ('x', 'zumba', 'abseiling', 'arm wrestling, indoors')
  others.append(fingerprint(split='train', labels=labels))
  assert len({same, *others}) == 3
  source = data.open_source('tfds', directory=built, split='validation', labels=labels)
  assert source.records[0].label == 1


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ({'split': 'test'}, "'test' .* has no labels"),
    ({'split': 'val'}, "no split 'val'; did you mean 'validation'"),
    ({'labels': ('zumba', 'abseiling')}, "unknown label 'arm wrestling, indoors'"),
  ],
)
def test_wrong_use_of_a_built_set(built, arguments, words):
  with pytest.raises(SourceError, match=words):
    data.open_source('tfds', directory=built, **arguments)


def test_no_built_set(tmp_path):
  with pytest.raises(SourceError, match='is no built dataset'):
    data.open_source('tfds', directory=str(tmp_path))


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('id,label,time_start,time_end\n', "no column 'youtube_id'"),
    ('youtube_id,time_start,time_end\n', "no column 'label'"),
    ('label,youtube_id,time_start,time_end\nx,A,1,soon\n', "line 2: .* '1' to 'soon'"),
    ('label,youtube_id,time_start,time_end\nx,A,5,5\n', 'line 2: .* got .A., 5, 5'),
    ('label,youtube_id,time_start,time_end\n,A,0,5\n', 'line 2: A has no label'),
    ('youtube_id,time_start,time_end,label\nA,0,5,"x\nB,0,5,x\n', 'line 2: .*not closed'),
    ('label,"youtube_id,time_start\nx,A,0,5\n', 'line 1: .*not closed'),
    (
      'label,youtube_id,time_start,time_end\nx,A,0,5\ny,A,0.0,5.0\n',
      'line 3: A_000000_000005 is in line 2 already',
    ),
  ],
)
def test_bad_annotations_name_the_line(tmp_path, text, words):
  (tmp_path / 'train.csv').write_text(text)
  with pytest.raises(SourceError, match=words):
    kinetics.read_annotations(str(tmp_path))


def test_wrong_folders(official, tmp_path):
  with pytest.raises(SourceError, match=r'none of the annotation files train\.csv'):
    kinetics.prepare(str(tmp_path), official[1], str(tmp_path / 'out'))
  with pytest.raises(SourceError, match=r'there is no folder .*nope of annotation files'):
    kinetics.prepare(str(tmp_path / 'nope'), official[1], str(tmp_path / 'out'))
  with pytest.raises(SourceError, match='cannot read the folder'):
    kinetics.prepare(official[0], str(tmp_path / 'none'), str(tmp_path / 'out'))
  (tmp_path / 'labels.txt').write_text('abseiling\nzumba\n')
  with pytest.raises(SourceError, match="unknown label 'arm wrestling, indoors'"):
    kinetics.prepare(*official, str(tmp_path / 'out'), labels=str(tmp_path / 'labels.txt'))
