"""`movinet evaluate`: each mode, on good and broken videos."""

import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
import re
import shutil
import warnings

import jax
import numpy as np
import pytest
from PIL import Image

from launch.runs.evaluation import make_evaluate, make_evaluate_frames
from launch.runs.pictures import draw_confusion
from launch.runs.trained import load_trained
from launch.runs.training import open_eval
from launch.verbs import evaluate
from movinet_jax.data import LoaderOptions, make_batches
from movinet_jax.models import create, find_family
from movinet_jax.train import checkpoint
from movinet_jax.train.evaluation import Evaluation
from movinet_jax.train.predictions import Predictions
from movinet_jax.train.workdir import CHECKPOINTS


@pytest.fixture(scope='module')
def summaries(trained, tmp_path_factory):
  """What each mode wrote, by mode; its predictions are beside it."""
  folder, found = tmp_path_factory.mktemp('evaluations'), {}
  for mode in ('clip', 'stream', 'multiclip'):
    out = folder / mode
    options = [f'--mode={mode}', f'--out={out}', f'--predictions={out}.jsonl']
    clips = ['--clips=3'] if mode == 'multiclip' else []
    assert evaluate.main([f'--checkpoint={trained}', *options, *clips]) == 0
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
  monkeypatch.setattr(evaluate, 'load_given', lambda *_, **__: run)
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


def read_lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize('mode', ['clip', 'stream', 'multiclip'])
def test_predictions_of_videos_are_those_of_the_metrics(mode, summaries):
  summary, out = summaries[mode]
  rows = read_lines(out.with_suffix('.jsonl'))
  assert [row['name'] for row in rows] == [f'{c}/0000{n}.mp4' for c, n in NAMED]
  assert np.mean([row['right'] for row in rows]) == summary['top1']
  for row in rows:
    assert row['label'] == row['name'].partition('/')[0]
    assert row['right'] == (row['top'][0]['label'] == row['label'])
    assert row['views'] == (3 if mode == 'multiclip' else 1)
    scores = [one['score'] for one in row['top']]
    assert sorted(scores, reverse=True) == scores
    assert sum(scores) == pytest.approx(1)  # of all four classes
  losses = [-np.log(next(o['score'] for o in r['top'] if o['label'] == r['label'])) for r in rows]
  assert np.mean(losses) == pytest.approx(summary['loss'])


NAMED = [(label, number) for label in ('down', 'left', 'right', 'up') for number in (0, 1)]


def test_mistakes_are_printed_and_videos_that_failed_are_in_the_file(
  trained, motion_videos, tmp_path, capsys
):
  videos, file = tmp_path / 'videos', tmp_path / 'found.csv'
  shutil.copytree(motion_videos, videos)
  (videos / 'val' / 'up' / '00001.mp4').rename(videos / 'val' / 'up' / 'a,"b" 日.mp4')
  (videos / 'val' / 'up' / '00000.mp4').write_text('not a video')
  options = [f'--checkpoint={trained}', f'--out={tmp_path / "out"}', '--set', f'root={videos}']
  assert evaluate.main([*options, f'--predictions={file}', '--topk=2']) == 0
  rows = {row['name']: row for row in csv.DictReader(file.open(newline='', encoding='utf-8'))}
  assert len(rows) == 8
  bad = rows.pop('up/00000.mp4')
  assert bad['failure']
  assert (bad['label'], bad['right'], bad['label_1'], bad['score_2']) == ('up', '', '', '')
  assert rows['up/a,"b" 日.mp4']['label'] == 'up'
  assert list(rows['up/a,"b" 日.mp4'])[-4:] == ['label_1', 'score_1', 'label_2', 'score_2']
  summary = json.loads((tmp_path / 'out.json').read_text())
  right = [row['right'] == 'true' for row in rows.values()]
  assert np.mean(right) == pytest.approx(summary['top1'])
  printed = capsys.readouterr().out
  wrong = [row for row in rows.values() if row['right'] == 'false']
  assert f'mistakes ({len(wrong)}):' in printed
  said = printed.partition(f'mistakes ({len(wrong)}):\n')[2].splitlines()
  assert len(said) == len(wrong) > 0
  wrong.sort(key=lambda row: -float(row['score_1']))
  for line, row in zip(said, wrong, strict=True):
    taken = f'{row["label_1"]} ({100 * float(row["score_1"]):.1f} %)'
    assert line == f'  {row["name"]}: {row["label"]}, predicted {taken}'


def test_ten_mistakes_are_printed(capsys):
  scores = np.tile([[1.0, 0.0]], (12, 1)) * np.arange(12)[:, None]
  names = np.array([f'v{n}' for n in range(12)])
  found = Predictions(names, scores, np.ones(12, int), np.ones(12, int))
  evaluate.print_mistakes(found, ['a', 'x' * 100])
  lines = capsys.readouterr().out.splitlines()
  assert lines[1] == 'mistakes (the 10 most confident of 12):'
  assert [line.split()[0] for line in lines[2:]] == [f'v{n}:' for n in range(11, 1, -1)]
  assert max(map(len, lines)) < 80
  evaluate.print_mistakes(dataclasses.replace(found, labels=np.zeros(12, int)), ['a', 'b'])
  assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    (['--predictions=found.txt'], r"found.txt ends in '.txt': wanted .csv .*\.jsonl"),
    (['--topk=3'], '--topk=3 is for --predictions'),
  ],
)
def test_wrong_predictions_are_refused_before_anything_is_read(options, words, capsys):
  with pytest.raises((ValueError, SystemExit)) as error:
    evaluate.main(['--checkpoint=nowhere', *options])
  assert re.search(words, f'{error.value} {capsys.readouterr().err}')


def test_predictions_of_others_are_not_written_over(summaries, trained, tmp_path):
  _, out = summaries['clip']
  own, options = out.with_suffix('.jsonl'), [f'--checkpoint={trained}', f'--out={out}']
  before = own.read_bytes()
  assert evaluate.main([*options, f'--predictions={own}']) == 0  # the same again
  assert own.read_bytes() == before
  other = tmp_path / 'other.csv'
  other.write_text('mine')
  for file in (other, out.with_name('stream.jsonl')):
    with pytest.raises(FileExistsError, match='does not say that it is of this evaluation'):
      evaluate.main([*options, f'--predictions={file}'])
  with pytest.raises(FileExistsError, match='a file of --out'):
    evaluate.main([*options, f'--predictions={out}-classes.csv'])
  with pytest.raises(FileNotFoundError, match='there is no folder'):
    evaluate.main([*options, f'--predictions={tmp_path}/a/b.csv'])
  (tmp_path / 'folder.csv').mkdir()
  with pytest.raises(IsADirectoryError):
    evaluate.main([*options, f'--predictions={tmp_path}/folder.csv'])
  assert other.read_text() == 'mine'


def test_predictions_are_known_after_evaluations_without_them_and_with_others(trained, tmp_path):
  options = [f'--checkpoint={trained}', f'--out={tmp_path / "out"}', '--frames=2']
  for given in ('a.csv', None, 'a.csv', 'a.jsonl', 'a.csv'):
    assert evaluate.main([*options, *([f'--predictions={tmp_path / given}'] if given else [])]) == 0
  kept = json.loads((tmp_path / 'out.json').read_text())['predictions']
  assert kept == {
    str(file): hashlib.sha256(file.read_bytes()).hexdigest()
    for file in (tmp_path / 'a.csv', tmp_path / 'a.jsonl')
  }


@pytest.mark.parametrize('pipe', ['--predictions=pipe.csv', '--out=pipe'])
def test_a_pipe_is_refused_before_the_work(pipe, trained, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  os.mkfifo('pipe.csv' if 'csv' in pipe else 'pipe.json')
  with pytest.raises(OSError, match='is a pipe or a device'):
    evaluate.main([f'--checkpoint={trained}', '--out=out', pipe])


def test_files_are_written_although_nobody_reads_what_is_printed(trained, tmp_path, monkeypatch):
  class Closed(io.StringIO):
    def write(self, text):
      raise BrokenPipeError

  options = [f'--checkpoint={trained}', f'--out={tmp_path / "out"}', '--frames=2']
  with monkeypatch.context() as patch:
    patch.setattr('sys.stdout', Closed())
    with pytest.raises(BrokenPipeError):
      evaluate.main([*options, f'--predictions={tmp_path / "a.csv"}'])
  assert {file.name for file in tmp_path.iterdir()} == {
    *('a.csv', 'out.json', 'out-classes.csv', 'out-confusion.png')
  }


@pytest.mark.parametrize(
  ('given', 'want'),
  [
    (['multi_label=true'], {'name': 'folder', 'root': 'a', 'split': 'val', 'multi_label': True}),
    (['multi_label=False'], {'name': 'folder', 'root': 'a', 'split': 'val', 'multi_label': False}),
    (['split=1'], {'name': 'folder', 'root': 'a', 'split': '1'}),
    (['name=csv', 'path=b.csv'], {'name': 'csv', 'path': 'b.csv'}),
    (['name=folder', 'root=b'], {'name': 'folder', 'root': 'b', 'split': 'val'}),
  ],
)
def test_set_is_read_as_configs_are(given, want, trained):
  run = load_trained(str(trained))
  splits = dataclasses.replace(
    run.config.data, eval={'name': 'folder', 'root': 'a', 'split': 'val'}
  )
  run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=splits))
  words = [word for one in given for word in ('--set', one)]
  arguments = evaluate.make_arguments().parse_args(['--checkpoint=x', *words])
  assert evaluate._choose_data(run, arguments) == want


@pytest.mark.parametrize(
  'labels',
  [
    ['$x^2$ and $', 'a $ b', r'$\frac{$'],
    ['日本語の踊り', '한국어', 'हिन्दी'],
    ['x' * 500, 'y' * 500, 'line\nend'],
  ],
)
def test_any_label_is_drawn(labels, tmp_path, capsys):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    draw_confusion(np.eye(3, dtype=int), labels, str(tmp_path / 'a.png'))
  with Image.open(tmp_path / 'a.png') as picture:
    assert max(picture.size) < 1500
  notes = capsys.readouterr().err.splitlines()
  assert len(notes) <= 1
  assert all('no font here has the letters' in note for note in notes)


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


def test_absent_classes_are_counted_last(capsys):
  scores = np.array([0.5, np.nan, 0.0])
  result = Evaluation('clip', {}, scores, np.eye(3), 3, 0, 3, 0.0)
  evaluate.print_table(result, {}, ['a', 'b', 'c'])
  rows = capsys.readouterr().out.splitlines()[-3:]
  assert [row[0] for row in rows[:2]] == ['c', 'a']
  assert rows[2].startswith('1 of 3 classes')


@pytest.fixture(scope='module')
def frames(trained, tmp_path_factory):
  """What mode frames wrote of a stream, drawn beside a network of two videos."""
  out = tmp_path_factory.mktemp('frames') / 'found'
  clip = dataclasses.asdict(load_trained(str(trained)).clip)
  other = {
    'mode': 'frames',
    'of': {'checkpoint': 'runs/$a_b$', 'clip': clip},
    'network': 'other',
    'frames': {'alone': {'accuracy': [0, 0.5, 1, 0.5], 'error': [0, 0.25, 0, 0.25]}},
    'evaluated': 2,
  }
  out.with_name('other.json').write_text(json.dumps(other))
  options = ['--mode=frames', f'--out={out}', f'--against={out.with_name("other.json")}']
  assert evaluate.main([f'--checkpoint={trained}', *options]) == 0
  return json.loads(out.with_suffix('.json').read_text()), out


def test_the_last_frame_of_a_stream_has_seen_all(frames, summaries):
  summary, out = frames
  assert (summary['mode'], summary['evaluated'], summary['missing']) == ('frames', 8, 0)
  assert list(summary['frames']) == ['alone', 'so_far']
  assert summary['frames']['so_far']['accuracy'][-1] == summaries['stream'][0]['top1']
  with open(f'{out}-frames.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['frame'] for row in rows] == ['1', '2', '3', '4']
  for kind, found in summary['frames'].items():
    for column, values in found.items():
      assert [float(row[f'{kind}_{column}']) for row in rows] == values
  with Image.open(f'{out}-frames.png') as picture:
    assert min(picture.size) > 200


def test_each_frame_alone_is_that_of_the_network(frames, trained):
  run = load_trained(str(trained))
  source = open_eval(run.config.data.eval, run.labels)
  with make_batches(source, run.clip, batch_size=8, train=False) as batches:
    (batch,) = batches
  classify = jax.jit(functools.partial(run.model.apply, each_frame=True))
  logits, _ = classify(run.variables, batch['video'].astype(np.float32) / 255)
  wanted = (np.argmax(logits, -1) == batch['label'][:, None]).mean(0)
  np.testing.assert_allclose(frames[0]['frames']['alone']['accuracy'], wanted)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({}, 'frames 4 and not 3'),
    ({'mode': 'clip'}, 'no evaluation of frames'),
    ({'of': None}, 'no evaluation of frames'),
  ],
)
def test_a_picture_has_frames_of_one_kind(changes, words, frames, trained, tmp_path):
  other = tmp_path / 'other.json'
  other.write_text(json.dumps({**frames[0], **changes}))
  options = ['--mode=frames', '--frames=3', f'--against={other}', f'--out={tmp_path / "out"}']
  with pytest.raises(ValueError, match=words):
    evaluate.main([f'--checkpoint={trained}', *options])
  assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    (['--against=a.json'], '--against=a.json is for --mode=frames'),
    (['--mode=frames', '--clips=7'], '--clips=7 is for --mode=multiclip'),
    (['--chunk=9'], '--chunk=9 is for --mode=stream'),
    (['--mode=frames', '--skip-members'], '--skip-members is for --mode=clip or --mode=stream'),
    (['--mode=frames', '--predictions=a.csv'], '--predictions=a.csv is for --mode=clip'),
    (['--crops=3'], '--crops=3 is for --mode=multiclip'),
  ],
)
def test_options_of_other_modes_are_refused(options, words, capsys):
  with pytest.raises(SystemExit) as stopped:
    evaluate.main(['--checkpoint=nowhere', *options])
  assert stopped.value.code == 2
  assert words in capsys.readouterr().err


def test_an_ensemble_has_the_frames_of_streams_alone():
  spec = find_family('ensemble').SMALL['base']
  with pytest.raises(ValueError, match='members are no streams'):
    make_evaluate_frames(create('ensemble', 4, spec=spec), None, None, None, 8)
