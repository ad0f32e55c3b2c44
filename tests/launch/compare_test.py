"""A comparison of two trainings: killed, resumed, changed, and what its files and picture say."""

import csv
import io
import json
import pathlib
import re
import shutil
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from launch.config import load_config
from launch.runs import comparison, results, training
from launch.runs.trained import load_trained
from launch.verbs import compare, evaluate
from movinet_jax.train.saved_steps import count_steps
from movinet_jax.train.workdir import ConfigMismatch, read_config
from tests.launch.conftest import SMALL, start

CONFIG = """
from configs.movinet import quickstart

def get_config():
  base = quickstart.get_config()
  few = {
    'model': {'spec': {'blocks': base.model.spec.blocks[:1]}},
    'clip': {'train': {'frames': 2}, 'eval': {'frames': 2}},
    'loop': {'total_steps': 2},
  }
  return {
    'base': base,
    'trainings': {'run10': few, 'run9': {}},
    'evaluations': {'own': {}, 'several': {'clips': 2, 'frames': 3, 'trainings': ('run10',)}},
    'plot': {'x': 'seen', 'series': ('train_frames', 'mode'), 'label': 'clips'},
  }
"""


@pytest.fixture(scope='module')
def command(tmp_path_factory, motion_videos):
  """Makes the command line of a small comparison; run9 is the run that other tests share."""
  file = tmp_path_factory.mktemp('config') / 'small.py'
  file.write_text(CONFIG)
  roots = {f'data.{split}.root': motion_videos for split in ('train', 'eval')}

  def make(workdir, **changed):
    base = {f'base.{key}': value for key, value in {**SMALL, **roots}.items()}
    words = (f'--config.{key}={value}' for key, value in {**base, **changed}.items())
    return ['compare', f'--config={file}', f'--workdir={workdir}', *words]

  return make


@pytest.fixture(scope='module')
def compared(tmp_path_factory, command, trained):
  """The workdir of a comparison that resumed what a kill leaves of its first training."""
  folder = tmp_path_factory.mktemp('compared')
  shutil.copytree(trained, folder / 'run9')
  shutil.rmtree(folder / 'run9' / 'checkpoints' / '6')
  assert count_steps(folder / 'run9' / 'checkpoints') == [4]
  assert compare.main(command(folder)[1:]) == 0
  return folder


def read_rows(folder):
  return json.loads((folder / 'results.json').read_text())


def look(folder):
  """When each file that a result is in was written."""
  files = [*folder.glob('evaluations/*/*.json'), *folder.glob('*/checkpoints/*')]
  return {path.relative_to(folder): path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_a_comparison_that_is_killed_goes_on(compared, command, tmp_path):
  process = start(command(tmp_path))
  while not count_steps(tmp_path / 'run9' / 'checkpoints'):
    assert process.poll() is None, process.communicate()[0]
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert compare.main(command(tmp_path)[1:]) == 0
  assert read_rows(tmp_path) == read_rows(compared)


def test_what_was_killed_ends_as_what_was_not(compared, trained, tmp_path):
  """Against a training of the same config, and `movinet evaluate` of that."""
  a, b = (load_trained(str(place)).variables for place in (compared / 'run9', trained))
  jax.tree.map(np.testing.assert_array_equal, a, b)
  assert evaluate.main([f'--checkpoint={trained}', f'--out={tmp_path / "own"}']) == 0
  wanted = json.loads((tmp_path / 'own.json').read_text())
  first, *_ = read_rows(compared)
  assert (first['top1'], first['loss']) == (wanted['top1'], wanted['loss'])


def test_rows_say_what_was_evaluated(compared):
  rows = read_rows(compared)
  found = [
    (row['training'], row['evaluation'], row['train_frames'], row['seen'], row['mode'])
    for row in rows
  ]
  assert found == [
    ('run9', 'own', 4, 4, 'clip'),
    ('run10', 'own', 2, 2, 'clip'),
    ('run10', 'several', 2, 6, 'multiclip'),
  ]
  for row in rows:
    assert row['top1_error'] == pytest.approx((row['top1'] * (1 - row['top1']) / 8) ** 0.5)
    assert (row['evaluated'], row['missing']) == (8, 0)
  # Multiply-adds of a video: two clips of three frames are as many as three of two.
  assert rows[2]['gmacs'] == pytest.approx(3 * rows[1]['gmacs'], rel=0.02)
  table = list(csv.DictReader(io.StringIO((compared / 'results.csv').read_text())))
  assert [float(row['top1']) for row in table] == [row['top1'] for row in rows]
  with Image.open(compared / 'comparison.png') as picture:
    assert picture.format == 'PNG'


def test_nothing_is_done_twice(compared, command, capsys):
  before, changed = look(compared), {'base.loop.log_every': 1, 'base.eval_batch_size': 4}
  assert compare.main(command(compared, **changed)[1:]) == 0
  assert look(compared) == before
  # What may change reaches trainings that have ended: evaluations read it there.
  assert read_config(compared / 'run9')['eval_batch_size'] == 4
  said = capsys.readouterr()
  assert 'Starting' not in said.out
  assert re.search(r'^run10 +several .* multiclip .*±', said.out, re.MULTILINE)


def test_only_what_has_changed_is_evaluated_again(compared, command):
  before, rows = look(compared), read_rows(compared)
  changed = compared / 'evaluations' / 'run10' / 'several.json'
  for frames in (2, 3):
    again = command(compared, **{'evaluations.several.frames': frames})
    assert compare.main([*again[1:], '--training=run10']) == 0
    now = look(compared)
    assert {path for path in now if now[path] != before[path]} == {changed.relative_to(compared)}
    assert read_rows(compared)[2]['frames'] == frames
  assert read_rows(compared) == rows


@pytest.mark.parametrize(
  ('key', 'value', 'reason'),
  [
    ('base.seed', 7, r'base\.seed: was 0, now 7'),
    ('trainings.run9.seed', 7, r'trainings\.run9\.seed: was absent, now 7'),
    ('base.loop.total_steps', 9, r'base\.loop\.total_steps: was 6, now 9'),
  ],
)
def test_another_config_is_refused(key, value, reason, compared, command):
  before = look(compared)
  with pytest.raises(ConfigMismatch, match=reason):
    compare.main(command(compared, **{key: value})[1:])
  assert look(compared) == before


@pytest.mark.parametrize(
  ('key', 'value', 'reason'),
  [
    ('trainings.run9.modle.dropout', 1, r"trainings\.run9 has no section 'modle'.*'model'"),
    ('trainings.run10.loop.total_steps', 0, r'trainings\.run10: loop\.total_steps is 0'),
    ('trainings.run9.data.eval', 'None', r'trainings\.run9.*data\.eval'),
    ('trainings.evaluations.seed', 1, r"the name 'evaluations'"),
    ('evaluations.own.frmes', 3, r"evaluations\.own has no field 'frmes'.*'frames'"),
    ('evaluations.own.fps', -1, r'evaluations\.own\.fps'),
    (
      'evaluations.several.mode',
      'clip',
      r"evaluations\.several: mode 'clip' takes one view .* clips=2",
    ),
    ('evaluations.several.trainings', '("run8",)', r"'run8'.*run10, run9"),
    ('plot.x', 'frame', r"plot\.x is 'frame'.*'frames'"),
    ('plot.y', 'top5', r"unknown metric in plot\.y 'top5'"),
  ],
)
def test_a_config_is_checked_before_anything_begins(key, value, reason, command, tmp_path):
  with pytest.raises(ValueError, match=reason):
    compare.main(command(tmp_path / 'new', **{key: value})[1:])
  assert not (tmp_path / 'new').exists()


def refuse_data(*_):
  raise AssertionError('opened, which may write it first')


def test_only_streams_are_evaluated_as_streams(command, tmp_path, monkeypatch):
  monkeypatch.setattr(training, 'open_sources', refuse_data)
  changed = {'evaluations.own.mode': 'stream', 'trainings.run9.model.spec.causal': False}
  with pytest.raises(ValueError, match=r'evaluations\.own .* trainings\.run9 is no stream'):
    compare.main(command(tmp_path / 'new', **changed)[1:])
  assert not (tmp_path / 'new').exists()


def test_a_training_must_be_there(command, tmp_path, monkeypatch):
  monkeypatch.setattr(training, 'open_sources', refuse_data)
  with pytest.raises(ValueError, match=r"'run8'.*run10, run9"):
    compare.main([*command(tmp_path)[1:], '--training=run8'])
  with pytest.raises(ValueError, match=r"plot\.y 'topp'"):
    compare.main(command(tmp_path, **{'plot.y': 'topp'})[1:])


@pytest.mark.parametrize(
  'changed',
  [
    *({key: None} for key in ('of', 'metrics', 'evaluated', 'macs', 'missing')),
    {'metrics': {'loss': 1.0}},
    {'metrics': [0.5]},
    {'evaluated': 'many'},
    {'macs': None, 'evaluated': None},
  ],
)
def test_a_damaged_evaluation_is_named(changed, compared, command, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(compared, folder)
  path = folder / 'evaluations' / 'run10' / 'several.json'
  summary = json.loads(path.read_text())
  for key, value in changed.items():
    if value is None:
      del summary[key]
    else:
      summary[key] = value
  path.write_text(json.dumps(summary))
  with pytest.raises(FileExistsError, match=r'several\.json is no evaluation .* remove it'):
    compare.main(command(folder)[1:])


# Trainings and evaluations of each shipped config and variant.
SHIPPED = {
  'frame_rate.py': (18, 18),
  'views.py': (3, 25),
  'views.py:stream': (3, 25),
  'views.py:x3d': (4, 20),
  'duration.py': (5, 30),
  'duration.py:stream': (5, 30),
  'quickstart.py': (3, 15),
}


def test_all_shipped_comparisons_are_known():
  files = {path.name for path in pathlib.Path('configs/compare').glob('*.py')}
  assert files == {file.partition(':')[0] for file in SHIPPED}


@pytest.mark.parametrize('file', SHIPPED)
def test_every_shipped_comparison_resolves(file):
  cfg, configs = comparison.read(load_config(f'configs/compare/{file}').to_dict())
  trainings, evaluations = SHIPPED[file]
  assert len(configs) == trainings
  assert sum(len(one.trainings) or trainings for one in cfg.evaluations.values()) == evaluations
  for one in configs.values():
    training.resolve(one, num_classes=one['model'].get('num_classes', 4))


@pytest.mark.parametrize('file', ['frame_rate', 'views', 'duration', 'quickstart'])
def test_an_unknown_variant_is_named(file):
  with pytest.raises(ValueError, match="no variant 'foo'; there"):
    load_config(f'configs/compare/{file}.py:foo')


def test_figure_1_takes_frames_by_time():
  _, configs = comparison.read(load_config('configs/compare/frame_rate.py').to_dict())
  cfg = training.read(configs['a4-12fps'])
  for clip in (cfg.clip.train, cfg.clip.eval):
    assert (clip.frames, clip.fps, clip.stride, clip.size) == (120, 12, None, 290)


def test_words_and_other_metrics_are_drawn():
  rows = [
    results.Row({'training': name, 'seed': seed}, {'mAP': 0.1 * seed}, 10, 0)
    for name in ('a$b$', 'b')
    for seed in (0, 1)
  ]
  picture = results.draw(rows, results.Plot('training', 'mAP', ('seed',), title='A title'))
  with Image.open(io.BytesIO(picture)) as image:
    assert image.size == (960, 600)


def make_rows(series, seeds=(0, 1, 2)):
  facts = dict.fromkeys(results.FACTS, 1) | {'mode': 'clip'}
  return [
    results.Row({**facts, 'frames': 8, 'train_frames': n, 'seed': seed}, {'top1': 0.5}, 10, 0)
    for n in series
    for seed in seeds
  ]


def draw(monkeypatch, rows, plot):
  """The axes of a picture and the names in it."""
  seen = []
  monkeypatch.setattr(
    results, 'write_names', lambda figure, panels, **_: seen.append((figure, *panels[0]))
  )
  results.draw(rows, plot)
  return seen[0]


def test_only_evaluations_have_marks(monkeypatch):
  """A mean of several seeds is a line, or it would look like one more seed."""
  plot = results.Plot('frames', series=('train_frames',), label='seed')
  _, axes, names = draw(monkeypatch, make_rows([4]), plot)
  own = [line for line in axes.lines if line.get_marker() == 'o' and len(line.get_xdata())]
  assert len(own) == 3
  assert [name.text for name in names] == ['seed 0', 'seed 1', 'seed 2']


def test_one_clip_and_one_crop_have_no_label(monkeypatch):
  for label in ('clips', 'crops'):
    assert draw(monkeypatch, make_rows([4]), results.Plot('frames', label=label))[2] == []
  for label in ('size', 'train_frames', 'evaluation'):
    names = draw(monkeypatch, make_rows([1], [0]), results.Plot('frames', label=label))[2]
    assert [name.text for name in names] == [results.say_fact(label, 1)]


def test_lines_are_told_apart(monkeypatch):
  plot = results.Plot('frames', series=('train_frames',))
  figure, *_ = draw(monkeypatch, make_rows(range(1, 14), [0]), plot)
  lines = figure.legends[0].get_lines()
  assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(lines) == 13
