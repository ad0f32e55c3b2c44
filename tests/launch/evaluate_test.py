"""`movinet evaluate`: each mode, on good and broken videos."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from launch import evaluate, parts
from movinet_jax.train import checkpoint
from movinet_jax.train.evaluation import Evaluation


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


def test_training_evaluates_the_averaged_weights(trained):
  """Its numbers are those of the average it saved, which the weights are still far from."""
  averaged, meta = checkpoint.load_variables(trained / parts.CHECKPOINTS)
  raw, _ = checkpoint.load_variables(trained / parts.CHECKPOINTS, ema=False)
  run = parts.load_trained(str(trained))
  source = parts.open_sources(run.config['data'], run.labels)['eval']
  evaluate_all = parts.make_evaluate(run.model, source, run.clip, {}, 8)
  losses = [evaluate_all(v)[0].metrics['loss'] for v in (averaged, raw)]
  np.testing.assert_allclose(meta['metrics']['loss'], losses[0], rtol=1e-5)
  assert abs(losses[1] / losses[0] - 1) > 1e-3


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


def test_another_evaluation_is_not_written_over(summaries, trained, capsys):
  summary, out = summaries['clip']
  assert (summary['of']['step'], summary['of']['data']['split']) == (6, 'val')
  options = [f'--checkpoint={trained}', f'--out={out}']
  with pytest.raises(FileExistsError, match='--out'):
    evaluate.main([*options, '--frames=3'])
  assert evaluate.main(options) == 0


def test_places_are_checked_before_the_work(trained, tmp_path):
  with pytest.raises(FileNotFoundError, match='no folder'):
    evaluate.main([f'--checkpoint={trained}', f'--out={tmp_path / "a" / "b"}'])
  with pytest.raises(FileNotFoundError, match='no workdir of a run'):
    evaluate.main([f'--checkpoint={trained / "checkpoints"}'])


def test_no_video_at_all_says_why(trained, tmp_path):
  (tmp_path / 'val' / 'up').mkdir(parents=True)
  (tmp_path / 'val' / 'up' / 'a.mp4').write_text('not a video')
  options = ['--set', f'root={tmp_path}', f'--out={tmp_path / "out"}']
  with pytest.raises(ValueError, match=r'no video could be decoded:\n  up/a.mp4: '):
    evaluate.main([f'--checkpoint={trained}', *options])


def test_absent_classes_come_last(capsys):
  scores = np.array([0.5, np.nan, 0.0])
  result = Evaluation('clip', {}, scores, np.eye(3), 3, 0, 3, 0.0)
  evaluate.print_table(result, {}, ['a', 'b', 'c'])
  rows = capsys.readouterr().out.splitlines()[-3:]
  assert [row[0] for row in rows] == ['c', 'a', 'b']
