"""Classes of a run: several labels a video, uneven classes, one class, those of other weights."""

import csv
import json
import pathlib
import shlex
import shutil

import numpy as np
import pytest

from launch.config import load_config, merge_config
from launch.runs import harvest, outcome, search, study, sweep, training, trial
from launch.runs.trained import load_trained
from launch.verbs import evaluate, train
from movinet_jax import data
from movinet_jax.train import checkpoint
from movinet_jax.train.workdir import CHECKPOINTS, ConfigMismatch

SHORT = {'loop.total_steps': 1, 'optimizer.warmup_steps': 0}


@pytest.fixture(scope='module')
def tables(motion_videos, tmp_path_factory):
  """Makes a CSV file of a split's videos: `add` gives the labels of the n-th video of a class."""

  def make(split, add):
    path = tmp_path_factory.mktemp('tables') / f'{split}.csv'
    rows = []
    for folder in sorted(pathlib.Path(motion_videos, split).iterdir()):
      for n, video in enumerate(sorted(folder.iterdir())):
        rows.append([str(video), add(folder.name, n)])
    with open(path, 'w', newline='') as file:
      csv.writer(file).writerows([['path', 'label'], *rows])
    return str(path)

  return make


@pytest.fixture(scope='module')
def several(tables):
  return tables('train', lambda name, n: f'{name};moving' if n % 2 else name)


@pytest.fixture(scope='module')
def single(tables):
  """A table in which no row happens to have two labels."""
  return tables('val', lambda name, n: name)


def by_sigmoid(train_path, **changed):
  return {
    **{'data.train': None, 'data.train.name': 'csv', 'data.train.path': train_path},
    **{'loss.name': 'sigmoid', 'loss.label_smoothing': 0.0, 'checkpoints.best_metric': 'mAP'},
    **SHORT,
    **changed,
  }


def by_table(path):
  return {'data.eval': None, 'data.eval.name': 'csv', 'data.eval.path': path}


def run(train_command, workdir, config):
  return train.main(train_command(workdir, **config)[1:])


@pytest.mark.parametrize('kind', ['csv', 'folder'])
def test_an_evaluation_has_several_labels_as_its_training(
  kind, several, single, train_command, tmp_path, capsys
):
  place = by_table(single) if kind == 'csv' else {}
  assert run(train_command, tmp_path / 'run', by_sigmoid(several, **place)) == 0
  _, meta = checkpoint.load_variables(tmp_path / 'run' / CHECKPOINTS)
  assert 0 < meta['metrics']['mAP'] <= 1
  file, _ = tmp_path / 'found.csv', capsys.readouterr()
  assert evaluate.main([f'--checkpoint={tmp_path}/run', f'--predictions={file}']) == 0
  printed = capsys.readouterr().out
  assert 'mAP' in printed
  assert 'top1' not in printed
  rows = list(csv.DictReader(file.open(newline='')))
  assert len(rows) == 8
  assert {row['labels'] for row in rows} == {f'["{n}"]' for n in ('down', 'left', 'right', 'up')}
  assert set(rows[0]) >= {'label_5', 'score_5'}  # all classes, of which mAP is


def test_a_run_of_the_version_before_is_completed(
  several, single, train_command, tmp_path, monkeypatch
):
  """It evaluated such a table as of one label, and failed behind its last step."""
  config = by_sigmoid(several, **by_table(single))
  with monkeypatch.context() as patch:
    patch.setattr(
      training,
      'open_eval',
      lambda section, labels, classes, multi_label: training.open_split(
        {'labels': labels, **section}, 'eval'
      ),
    )
    with pytest.raises(ValueError, match="best_metric is 'mAP', but"):
      run(train_command, tmp_path / 'run', config)
  assert run(train_command, tmp_path / 'run', config) == 0
  _, meta = checkpoint.load_variables(tmp_path / 'run' / CHECKPOINTS)
  assert meta['metrics']['mAP'] > 0
  assert evaluate.main([f'--checkpoint={tmp_path}/run']) == 0


def test_videos_of_which_none_has_a_label_are_refused_before_the_first_step(
  tables, train_command, tmp_path
):
  given = {'data.train.multi_label': True, 'data.train.labels': "('a', 'b')"}
  config = by_sigmoid(tables('train', lambda name, n: ''), **given)
  with pytest.raises(data.SourceError, match=r'none of [0-9]+ training videos has a label'):
    run(train_command, tmp_path / 'run', config)
  assert not (tmp_path / 'run').exists()


def test_a_row_with_two_labels_is_named_before_the_first_step(tables, train_command, tmp_path):
  """Where training has one label a video."""
  odd = tables('val', lambda name, n: 'up;down' if (name, n) == ('right', 0) else name)
  train_path = tables('train', lambda name, n: name)
  config = by_sigmoid(train_path, **by_table(odd))
  config |= {'loss.name': 'softmax', 'checkpoints.best_metric': 'top1'}
  with pytest.raises(data.SourceError, match=r"'.*right/0000\d.mp4' .* has 'down', 'up'"):
    run(train_command, tmp_path / 'run', config)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('changed', 'words'),
  [
    ({'data.eval.multi_label': False}, 'data.eval has multi_label=False, but .* several'),
    (
      {'data.train.multi_label': False},
      r'line 3: wanted one label, got .*down.*moving',
    ),
  ],
)
def test_contradictions_are_found_before_the_first_step(
  changed, words, several, single, train_command, tmp_path
):
  config = by_sigmoid(several, **by_table(single), **changed)
  with pytest.raises(data.SourceError, match=words):
    run(train_command, tmp_path / 'run', config)
  assert not (tmp_path / 'run').exists()


def test_a_folder_can_be_trained_on_as_of_several_labels(motion_videos):
  splits = {'name': 'folder', 'root': motion_videos, 'multi_label': True}
  config = load_config('configs/movinet/quickstart.py').to_dict()
  config |= {
    'data': {'train': {**splits, 'split': 'train'}, 'eval': {**splits, 'split': 'val'}},
    'loss': {'name': 'sigmoid'},
    'checkpoints': {'best_metric': 'mAP'},
  }
  found = training.resolve(config)
  assert found.sources['train'].multi_label
  assert found.sources['eval'].multi_label
  del config['data']['eval']['multi_label']
  assert training.resolve(config).sources['eval'].multi_label
  del config['data']['train']['multi_label']
  with pytest.raises(ValueError, match=r'softmax.*data\.train\.multi_label=True'):
    training.resolve(config)


@pytest.fixture(scope='module')
def uneven(motion_videos, tmp_path_factory):
  """Videos of which `up` has 8 a class, the others one."""
  root = tmp_path_factory.mktemp('uneven')
  for split in ('train', 'val'):
    for folder in pathlib.Path(motion_videos, split).iterdir():
      to = root / split / folder.name
      to.mkdir(parents=True)
      for n in range(12 if folder.name == 'up' else 1):
        videos = sorted(folder.iterdir())
        shutil.copy(videos[n % len(videos)], to / f'{n}.mp4')
  return str(root)


def find(root):
  return {f'data.{split}.root': root for split in ('train', 'eval')}


def test_uneven_classes_are_told_and_balanced(uneven, train_command, tmp_path, capsys):
  plain = {**SHORT, **find(uneven)}
  assert train.main(train_command(tmp_path / 'plain', **plain)[1:]) == 0
  told = capsys.readouterr().err
  assert '15 training videos: 4 classes (up 12, down 1, left 1, right 1)' in told
  for words in ("'up' has 12 videos", '12 : 1', '--config.sampling.name=', 'loss.class_weights='):
    assert words in told
  balanced = {**plain, 'sampling.name': 'balanced', 'loop.total_steps': 2}
  assert train.main(train_command(tmp_path / 'run', **balanced)[1:]) == 0
  told = capsys.readouterr().err
  assert '4 classes (up 12' in told
  assert '12 : 1' not in told
  _, meta = checkpoint.load_variables(tmp_path / 'run' / CHECKPOINTS)
  assert meta['position']['sampling'] == {'name': 'balanced', 'power': 1.0}
  assert train.main(train_command(tmp_path / 'run', **balanced)[1:]) == 0
  named = {**plain, 'sampling.power': 1.0, 'loop.total_steps': 2}  # the same, by defaults
  assert train.main(train_command(tmp_path / 'run', **named)[1:]) == 0
  for changed in ({'sampling.power': 0.5}, {'sampling': None}, {'loss.class_weights': 'balanced'}):
    with pytest.raises(ConfigMismatch, match=next(iter(changed))):
      train.main(train_command(tmp_path / 'run', **{**balanced, **changed})[1:])


def test_weights_of_classes_are_of_the_training_videos(uneven, train_command, tmp_path, capsys):
  changed = {**SHORT, **find(uneven), 'loss.class_weights': 'balanced'}
  assert train.main(train_command(tmp_path / 'run', **changed)[1:]) == 0
  assert '12 : 1' not in capsys.readouterr().err
  source = data.open_source('folder', root=uneven, split='train')
  loss = training.make_loss({'name': 'softmax', 'class_weights': 'balanced'}, source)
  np.testing.assert_allclose(loss.keywords['weights'], 15 / (4 * np.array([1, 1, 1, 12])))
  compiled = training.make_loss({'class_weights': 'effective', 'beta': 0.9}, None)
  assert compiled.keywords['weights'] is None


@pytest.mark.parametrize(
  ('loss', 'sampling', 'noted'),
  [
    ({}, data.Sampling(power=0.0), True),
    ({}, data.Sampling(power=0.1), False),
    ({'class_weights': (1.0, 1.0, 1.0, 1.0)}, None, True),
    ({'class_weights': {'up': 1.0}}, None, True),
    ({'class_weights': {'up': 0.5}}, None, False),
    ({'class_weights': 'effective', 'beta': 0.0}, None, True),
  ],
)
def test_uneven_classes_are_noted_where_nothing_balances_them(
  loss, sampling, noted, uneven, capsys
):
  source = data.open_source('folder', root=uneven, split='train')
  training.tell_classes(source, loss, sampling, 'config.recipe')
  told = capsys.readouterr().err
  assert ('12 : 1' in told) == noted
  assert ('--config.recipe.sampling.name=balanced' in told) == noted


def test_a_sweep_tells_of_its_classes_and_its_trials_do_not(uneven, tmp_path, capsys):
  place = {'train': {'name': 'folder', 'root': uneven, 'split': 'train'}}
  config = load_config('configs/sweep/quickstart.py').to_dict()
  short = {'loop': {'total_steps': 1}, 'optimizer': {'warmup_steps': 0}}
  changes = {'data': place, 'held_out': 0.1, 'latency_repeats': 0, 'recipe': short}
  config = merge_config(config, changes)
  found = sweep.resolve(config)
  study._print_start(found, tmp_path, f'sqlite:///{tmp_path}/a.db', [])
  told = capsys.readouterr().err
  assert 'training videos: 4 classes' in told
  assert '--config.recipe.sampling.name=balanced' in told
  spec = found.space.decode(np.zeros(len(found.space.space.sizes), np.int32))
  fitted = found.fit_recipe(spec, {})
  made = trial._run(found, fitted, tmp_path / 'trial', tmp_path, {}, lambda *_: None)
  assert made['state'] == 'done'
  assert 'training videos:' not in capsys.readouterr().err


def test_videos_with_several_labels_are_for_a_sweep_as_a_search_says(several):
  place = {'name': 'csv', 'path': several}
  config = load_config('configs/search/quickstart.py').to_dict()
  config = {**config, 'data': {'train': place}, 'loss': {'name': 'sigmoid'}}
  with pytest.raises(ValueError, match=r'a search cannot score: .*`movinet sweep`') as error:
    search.resolve(config)
  flags = [word.rstrip(',') for word in shlex.split(str(error.value)) if '--config.' in word]
  assert len(flags) == 3
  config = {**load_config('configs/sweep/quickstart.py', flags).to_dict(), 'data': {'train': place}}
  found = sweep.resolve(config)
  assert found.measure == 'mAP'
  assert training.resolve(found.fit_largest(), sources=found.sources).multi_label


def test_a_classifier_is_begun_by_names_in_any_normal_form(trained, monkeypatch, capsys):
  load = checkpoint.load_variables

  def load_old(folder):
    variables, meta = load(folder)
    return variables, {**meta, 'labels': ['cafe\u0301', *meta['labels'][1:]]}

  monkeypatch.setattr(training, 'load_variables', load_old)
  run = load_trained(str(trained))
  training.load_initial(run.model, 0, str(trained), ('caf\xe9', *run.labels[1:]))
  assert 'classifier' not in capsys.readouterr().out.splitlines()[-1]


def test_weights_by_name_are_of_one_class_in_any_normal_form():
  records = [data.Record('/x', 0, 'x'), data.Record('/y', 1, 'y')]
  source = data.make_source(records, ('caf\xe9', 'b'))
  loss = training.make_loss({'class_weights': {'cafe\u0301': 3.0}}, source)
  np.testing.assert_array_equal(loss.keywords['weights'], [3, 1])
  with pytest.raises(ValueError, match='twice: name each class once'):
    training.make_loss({'class_weights': {'cafe\u0301': 3.0, 'caf\xe9': 1.0}}, source)


def test_printed_commands_balance_as_what_they_are_of(uneven):
  place = {'train': {'name': 'folder', 'root': uneven, 'split': 'train'}}
  given = {'sampling': {'power': 0.5}, 'loss': {'class_weights': 'balanced'}}
  config = load_config('configs/sweep/quickstart.py').to_dict()
  config = merge_config(config, {'data': place, 'held_out': 0.4})
  found = sweep.resolve({**config, 'recipe': {**config['recipe'], **given}})
  spec = found.space.decode(np.zeros(len(found.space.space.sizes), np.int32))
  command = harvest.make_command(found, spec, pathlib.Path('a.json'), pathlib.Path('runs/a'))
  config = load_config('configs/search/quickstart.py').to_dict()
  config = {**merge_config(config, {'data': place}), 'sampling': given['sampling']}
  config['loss'] = {**config['loss'], **given['loss']}
  changes = outcome._find_balance(search.resolve(config).config)
  assert changes == {
    'loss': {'class_weights': 'balanced'},
    'sampling': {'name': 'balanced', 'power': 0.5},
  }
  words = shlex.split(command)
  for word in ('sampling.power=0.5', 'loss.class_weights=balanced'):
    assert f'--config.{word}' in words


def test_searches_and_sweeps_balance_as_training_does(uneven):
  place = {'train': {'name': 'folder', 'root': uneven, 'split': 'train'}}
  given = {'sampling': {'name': 'balanced', 'power': 0.5}}
  config = load_config('configs/search/quickstart.py').to_dict()
  config = {**merge_config(config, {'data': place}), **given}
  config['loss'] = {**config['loss'], 'class_weights': 'balanced'}
  found = search.resolve(config)
  assert found.config.sampling == data.Sampling('balanced', 0.5)
  state_free = {key for key in search.FREE if key.startswith(('sampling', 'loss'))}
  assert not state_free
  config = load_config('configs/sweep/quickstart.py').to_dict()
  config = merge_config(config, {'data': place, 'held_out': 0.4})
  config['recipe'] = {**config['recipe'], **given, 'loss': {'class_weights': 'balanced'}}
  found = sweep.resolve(config)
  trial = training.resolve(found.fit_largest(), sources=found.sources)
  assert trial.config.sampling == data.Sampling('balanced', 0.5)
  assert found.describe()['training']['sampling.name'] == 'balanced'
  assert found.describe()['training']['loss.class_weights'] == 'balanced'


def test_one_class_is_nothing_to_learn(motion_videos, train_command, tmp_path, capsys):
  for split in ('train', 'val'):
    shutil.copytree(f'{motion_videos}/{split}/up', tmp_path / 'videos' / split / 'up')
  changed = {**SHORT, **find(tmp_path / 'videos')}
  assert train.main(train_command(tmp_path / 'run', **changed)[1:]) == 0
  told = capsys.readouterr().err
  assert "all training videos are of one class, 'up': there is nothing to tell" in told
  assert evaluate.main([f'--checkpoint={tmp_path}/run']) == 0
  printed = capsys.readouterr().out
  assert "All videos are of one class, 'up'" in printed
  assert 'top1' not in printed
  assert json.loads(next((tmp_path / 'run').glob('evaluation-*.json')).read_text())['top1'] == 1


@pytest.mark.parametrize(
  ('names', 'said'),
  [
    ({'data.train.labels': "('up', 'right', 'left', 'down')"}, 'put in order: its 4 classes'),
    ({'data.classes.names': "('down', 'left')"}, 'and drops 2 classes that this data does not'),
    (None, 'drawn anew: it is of other classes'),
  ],
)
def test_a_classifier_is_begun_by_the_names_of_classes(
  names, said, trained, motion_videos, train_command, tmp_path, capsys
):
  changed = {**SHORT, 'init': trained, 'optimizer.learning_rate': 1e-30}
  if names:
    changed |= names
  else:
    for split in ('train', 'val'):
      for folder in pathlib.Path(motion_videos, split).iterdir():
        shutil.copytree(folder, tmp_path / 'videos' / split / f'other-{folder.name}')
    changed |= find(tmp_path / 'videos')
  assert train.main(train_command(tmp_path / 'run', **changed)[1:]) == 0
  assert said in capsys.readouterr().out
  old, meta = checkpoint.load_variables(trained / CHECKPOINTS)
  new, now = checkpoint.load_variables(tmp_path / 'run' / CHECKPOINTS, ema=False)
  for name, was in old['params']['classifier'].items():
    have = new['params']['classifier'][name]
    if names:
      was = was[..., [meta['labels'].index(label) for label in now['labels']]]
      np.testing.assert_allclose(have, was, atol=1e-20, rtol=0)
    elif name == 'kernel':
      assert np.abs(have - was).max() > 1e-3
