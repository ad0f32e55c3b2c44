"""`movinet evaluate`: each mode, on good and broken videos."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from launch.runs.evaluation import make_evaluate
from launch.runs.trained import load_trained
from launch.runs.training import open_eval
from launch.verbs import evaluate
from movinet_jax.data import LoaderOptions
from movinet_jax.train import checkpoint
from movinet_jax.train.evaluation import Evaluation
from movinet_jax.train.workdir import CHECKPOINTS


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


@pytest.fixture
def watched(trained, monkeypatch):
  """A run whose config has training evaluate by six views of a larger picture."""
  run = load_trained(str(trained))
  clip = dataclasses.replace(run.clip, short_side=20, clips=2, crops=3)
  run = dataclasses.replace(run, clip=clip)
  monkeypatch.setattr(evaluate, 'load_trained', lambda *_: run)
  return run


def test_several_views_are_evaluated_by_their_mean(watched):
  source = open_eval(watched.config.data.eval, watched.labels)
  evaluate_all = make_evaluate(watched.model, source, watched.clip, LoaderOptions(), 8)
  result, _ = evaluate_all(watched.variables)
  assert (result.mode, result.evaluated, result.views) == ('multiclip', 8, 8 * 2 * 3)


@pytest.mark.parametrize(
  ('options', 'seen'),
  [
    (['--mode=clip'], (1, 1, 16)),
    (['--mode=multiclip', '--clips=3'], (3, 1, 16)),
    # Three squares cover the longer side if they take the whole of the shorter one.
    (['--mode=multiclip', '--clips=3', '--crops=3'], (3, 3, 20)),
  ],
)
def test_a_mode_chooses_its_own_views(watched, trained, tmp_path, options, seen):
  place = [f'--checkpoint={trained}', f'--out={tmp_path / "found"}']
  assert evaluate.main([*place, *options]) == 0
  summary = json.loads((tmp_path / 'found.json').read_text())
  clip = summary['of']['clip']
  assert (clip['clips'], clip['crops'], clip['size']) == seen
  assert summary['views'] == 8 * seen[0] * seen[1]


def test_crops_of_a_mode_without_views_are_refused_before_anything_is_read(capsys):
  with pytest.raises(SystemExit) as stopped:
    evaluate.main(['--checkpoint=nowhere', '--crops=3'])
  assert stopped.value.code == 2
  assert '--crops=3 is for --mode=multiclip' in capsys.readouterr().err


def test_a_stream_equals_its_clip(summaries):
  clip, stream = summaries['clip'][0], summaries['stream'][0]
  assert clip['top1'] == stream['top1']
  np.testing.assert_allclose(clip['loss'], stream['loss'], rtol=1e-5)


def test_training_evaluates_the_averaged_weights(trained):
  """Its numbers are those of the average it saved, which the weights are still far from."""
  averaged, meta = checkpoint.load_variables(trained / CHECKPOINTS)
  raw, _ = checkpoint.load_variables(trained / CHECKPOINTS, ema=False)
  run = load_trained(str(trained))
  source = open_eval(run.config.data.eval, run.labels)
  evaluate_all = make_evaluate(run.model, source, run.clip, LoaderOptions(), 8)
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
