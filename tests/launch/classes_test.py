"""`data.classes`: the same part of the classes in a run, its resumption, and what it finds."""

import json
import shlex
from pathlib import Path

import pytest

from launch.config import load_config, merge_config
from launch.pods.check import list_unmounted
from launch.pods.job import Job, Mount
from launch.runs import command, search, sweep, training
from launch.verbs import evaluate, train
from movinet_jax import data
from movinet_jax.train.workdir import ConfigMismatch

LABELS = ('down', 'left', 'right', 'up')
DRAWN = data.Classes(count=2, seed=3).choose(LABELS)
TAKEN = {'data.classes.count': 2, 'data.classes.seed': 3}
SEARCH = 'configs/search/quickstart.py'
# A recipe for the whole of another dataset, of which it takes a part itself.
RECIPE = """
from configs.movinet import quickstart


def get_config():
  cfg = quickstart.get_config()
  cfg.model['num_classes'] = 400
  cfg.data['classes'] = {'count': 100, 'seed': 0}
  return cfg
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory, train_command):
  """Workdir of a run on two of the four classes."""
  workdir = tmp_path_factory.mktemp('classes')
  assert train.main(train_command(workdir, **TAKEN)[1:]) == 0
  return workdir


@pytest.fixture
def recipe(tmp_path):
  path = tmp_path / 'recipe.py'
  path.write_text(RECIPE)
  return str(path)


def find(config, videos):
  """A config, with its data in this folder."""
  changes = {'train': {'name': 'folder', 'root': videos, 'split': 'train'}}
  return merge_config(config, {'data': changes})


def test_a_run_keeps_the_names_that_were_drawn(run):
  config = json.loads((run / 'config.json').read_text())
  assert config['data']['classes'] == {'names': list(DRAWN)}
  assert config['model']['num_classes'] == 2


def test_a_run_is_evaluated_on_its_classes(run, tmp_path):
  assert evaluate.main([f'--checkpoint={run}', f'--out={tmp_path}/e']) == 0
  found = json.loads((tmp_path / 'e.json').read_text())
  assert (found['evaluated'], found['missing']) == (4, 0)  # of 8 videos
  rows = (tmp_path / 'e-classes.csv').read_text().splitlines()[1:]
  assert [row.partition(',')[0] for row in rows] == list(DRAWN)
  assert [row.rpartition(',')[2] for row in rows] == ['2', '2']


@pytest.mark.parametrize('names', [None, DRAWN, DRAWN[::-1]])
def test_the_same_classes_resume(names, run, train_command, capsys):
  given = {'data.classes.names': names} if names else TAKEN
  assert train.main(train_command(run, **given)[1:]) == 0
  assert 'All 6 steps' in capsys.readouterr().out


@pytest.mark.parametrize('changed', [{}, {'data.classes.count': 3}])
def test_other_classes_are_refused(changed, run, train_command):
  with pytest.raises(ConfigMismatch, match=r'data\.classes.*: was'):
    train.main(train_command(run, **changed)[1:])


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'count': 5}, 'classes.count is 5, but the data has 4 classes: take 4 or fewer'),
    ({'names': "('up', 'donw')"}, "unknown class 'donw'; did you mean 'down'"),
    ({'count': 1}, 'data.classes.count is 1; wanted a whole number, 2 or more'),
    ({'count': 2, 'names': "('up', 'down')"}, 'classes has both count=2 and 2 names'),
    ({'cuont': 2}, "data.classes has no field 'cuont'; did you mean 'count'"),
  ],
)
def test_wrong_classes_are_found_before_the_first_step(changed, message, train_command, tmp_path):
  changed = {f'data.classes.{key}': value for key, value in changed.items()}
  with pytest.raises(ValueError, match=message):
    train.main(train_command(tmp_path / 'run', **changed)[1:])
  assert not (tmp_path / 'run').exists()


def test_the_printed_command_trains_on_the_classes_of_the_search(motion_videos, recipe, tmp_path):
  config = find(load_config(SEARCH, ['--config.data.classes.count=2']).to_dict(), motion_videos)
  found = search.resolve({**config, 'train_with': recipe})
  assert found.num_classes == 2
  assert found.record['data']['classes'] == {'names': found.sources[0].labels}
  read = read_command(found.config.train_with, found.config.data)
  assert training.resolve(read).labels == found.sources[0].labels
  # A search of all classes is of all of them, whatever its recipe takes.
  whole = read_command(recipe, training.Splits(**config['data'] | {'classes': None}))
  assert 'names' not in whole['data']['classes']
  assert set(whole['data']['classes'].values()) == {None}
  del whole['model']['num_classes']
  assert training.resolve(whole).labels == LABELS


def read_command(train_with, splits):
  """The config of the command that is printed for a search on this data."""
  words = shlex.split(command.make_train_command(train_with, splits, Path('a'), Path('b')))
  flags = [word for word in words if word.startswith('--config.')]
  return load_config(train_with, flags).to_dict()


def test_trials_of_a_sweep_are_of_its_classes(motion_videos, recipe):
  config = load_config('configs/sweep/quickstart.py', ['--config.data.classes.count=2']).to_dict()
  found = sweep.resolve({**find(config, motion_videos), 'train_with': recipe})
  names = found.sources['train'].labels
  assert len(names) == found.num_classes == 2
  assert found.record['data']['classes'] == {'names': names}
  trial = training.resolve(found.fit_largest(), sources=found.sources)
  assert trial.num_classes == 2
  assert trial.record['data']['classes']['names'] == names
  assert sweep.resolve(found.record).record == found.record  # as a worker resolves it


def test_a_job_of_some_classes_is_asked_for_its_folders_only():
  read = load_config('configs/movinet/folder.py', ['--config.data.classes.count=3']).to_dict()
  job = Job(name='a', words=(), workdir='/data/a', mounts=(Mount('gs://mine', '/data'),))
  found = list_unmounted(training.read(read), job)
  assert found == [
    f'--config.data.{split}.root={read["data"][split]["root"]}' for split in ('train', 'eval')
  ]
