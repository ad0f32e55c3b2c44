"""`movinet evaluate`: each mode, on good and broken videos."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from launch import evaluate


@pytest.fixture(scope='module')
def summaries(trained, tmp_path_factory):
  """What each mode wrote, by mode."""
  folder, found = tmp_path_factory.mktemp('evaluations'), {}
  for mode in ('clip', 'stream', 'multiclip'):
    out = folder / mode
    options = [f'--mode={mode}', f'--out={out}', '--clips=3']
    assert evaluate.main([f'--checkpoint={trained}', *options]) == 0
    found[mode] = json.loads((folder / f'{mode}.json').read_text()), out
  return found


def test_every_video_once(summaries):
  for summary, _ in summaries.values():
    assert (summary['evaluated'], summary['missing']) == (8, 0)
  assert summaries['clip'][0]['views'] == 8
  assert summaries['multiclip'][0]['views'] == 24


def test_a_stream_equals_its_clip(summaries):
  clip, stream = summaries['clip'][0], summaries['stream'][0]
  assert clip['top1'] == stream['top1']
  np.testing.assert_allclose(clip['loss'], stream['loss'], rtol=1e-5)


def test_files(summaries):
  _, out = summaries['clip']
  with open(f'{out}-classes.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['class'] for row in rows] == ['down', 'left', 'right', 'up']
  assert sum(int(row['videos']) for row in rows) == 8
  with Image.open(f'{out}-confusion.png') as picture:
    assert min(picture.size) > 200
    assert np.asarray(picture).std() > 0


def test_broken_videos_are_counted_as_missing(trained, motion_videos, tmp_path, capsys):
  videos = tmp_path / 'videos'
  shutil.copytree(motion_videos, videos)
  (videos / 'val' / 'up' / '00001.mp4').write_text('not a video')
  options = ['--set', f'root={videos}', f'--out={tmp_path / "out"}']
  assert evaluate.main([f'--checkpoint={trained}', *options]) == 0
  summary = json.loads((tmp_path / 'out.json').read_text())
  assert (summary['evaluated'], summary['missing']) == (7, 1)
  assert list(summary['failures']) == ['up/00001.mp4']
  assert 'up/00001.mp4' in capsys.readouterr().out
