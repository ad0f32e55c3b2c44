"""What a worker does with one network: limits, recipe, training, outcome."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from launch import config
from launch.runs import recipe, sweep, training, trial
from movinet_jax import data
from movinet_jax.data import WorkerDied
from movinet_jax.models import x3d
from movinet_jax.train.loop import Preempted
from nas import spaces
from nas.history import Proposal
from nas.trials.outcome import Refused

SPACE = {
  'name': 'x3d',
  'frames': (2, 4),
  'frame_stride': (1, 1.5),
  'resolution': (16,),
  'depth': (0.2, 1.0),
  'width': (0.7,),
  'bottleneck': (1.0,),
  'num_classes': 4,
  'hidden': 16,
}
RECIPE = {
  'batch_size': 8,
  'optimizer': {'name': 'sgd', 'learning_rate': 1.0, 'warmup_steps': 1},
  'loop': {'total_steps': 4, 'eval_every': 2, 'save_every': 2},
}


@pytest.fixture
def cfg(motion_videos):
  """A sweep small enough to train in seconds."""
  return {
    'seed': 0,
    'study': 'test',
    'algorithm': {'name': 'uniform', 'budget': 2},
    'space': SPACE,
    'train_with': 'configs/movinet/quickstart.py',
    'recipe': RECIPE,
    'data': {'train': {'name': 'folder', 'root': motion_videos, 'split': 'train'}},
    'held_out': 0.25,
    'fitness': ['top1', 'mean_class_accuracy'],
    'latency_repeats': 1,
  }


def make_job(cfg, choices=(0, 0, 0, 0, 0, 0), **more):
  proposal = Proposal(np.array(choices), train=more.get('train', {}))
  key = sweep.resolve(cfg).make_key(proposal)
  base = {'choices': list(choices), 'train': {}, 'thresholds': {}}
  return {**base, 'key': key, 'number': 0, 'note': {}, 'attempt': 1, **more}


def run(cfg, folder, job):
  reported = []
  objective = trial.make_objective(cfg, str(folder))
  return objective(job, lambda *row: reported.append(row)), reported


def test_a_clip_is_the_networks_own():
  section = {'frames': 9, 'size': 100, 'short_side': 120, 'stride': 3, 'flip': True}
  spec = x3d.make_spec(4, 50, 2.0)
  fitted = {'frames': 4, 'size': 50, 'short_side': 60, 'stride': 2, 'flip': True}
  assert recipe.fit_clip(section, 'x3d', spec) == fitted
  spec = x3d.make_spec(32, 312, 2.5)
  fitted = recipe.fit_clip({**section, 'stride_jitter': 1}, 'x3d', spec)
  assert fitted['fps'] == 12
  assert not {'stride', 'stride_jitter'} & fitted.keys()
  # A recipe that takes clips by time does so for whole strides too.
  by_time = {'frames': 9, 'size': 100, 'fps': 10.0}
  fitted = recipe.fit_clip(by_time, 'x3d', x3d.make_spec(4, 50, 2.0))
  assert fitted == {'frames': 4, 'size': 50, 'fps': 15.0}
  # The range of a training clip grows with the picture, views stay as many as they are.
  fitted = recipe.fit_clip({**by_time, 'short_side': (114, 142)}, 'x3d', spec)
  assert fitted['short_side'] == (356, 443)
  fitted = recipe.fit_clip({**by_time, 'clips': 10, 'crops': 3}, 'x3d', spec)
  assert (fitted['clips'], fitted['crops']) == (10, 3)


def test_x3d_is_scored_by_ten_central_clips_of_its_own_size():
  cfg = config.load_config('configs/sweep/x3d.py').to_dict()
  resolved = sweep.resolve(cfg, num_classes=400)
  clips = resolved.fit_recipe(x3d.make_spec(4, 160, 12.0), {})['clip']
  found = data.EvalClip(**clips['eval'])
  assert (found.clips, found.crops, found.size, found.short_side) == (10, 1, 160, 183)
  assert data.TrainClip(**clips['train']).short_side == (183, 229)


def test_a_recipe_takes_what_the_search_changes(cfg):
  spec = spaces.create(**SPACE).decode(np.zeros(6, int))
  changes = {'batch_size': 4, 'model.stochastic_depth': 0.1}
  resolved = sweep.resolve(cfg)
  fitted = resolved.fit_recipe(spec, changes)
  assert fitted['batch_size'] == 4
  assert fitted['model'] == {**fitted['model'], 'name': 'x3d', 'stochastic_depth': 0.1}
  assert fitted['loop']['total_steps'] == 4
  # and the next trial begins with the recipe as it was
  assert resolved.fit_recipe(spec, {})['batch_size'] == 8


def test_a_change_of_a_section_that_is_not_there_is_named(cfg):
  spec = spaces.create(**SPACE).decode(np.zeros(6, int))
  with pytest.raises(ValueError, match=r"no 'modle' .*did you mean 'model'"):
    sweep.resolve(cfg).fit_recipe(spec, {'modle.dropout': 0.1})


def test_keys_tell_networks_and_recipes_apart_but_not_vectors(cfg, tmp_path):
  cfg = {**cfg, 'space': {**SPACE, 'depth': (0.1, 0.2, 1.0)}}
  space = spaces.create(**cfg['space'])

  def key(*choices, cfg=cfg, **changes):
    return sweep.resolve(cfg).make_key(Proposal(np.array(choices), train=changes))

  # Both depths round to one bottleneck a stage.
  assert space.decode([0, 0, 0, 0, 0, 0]) == space.decode([0, 0, 0, 1, 0, 0])
  assert key(0, 0, 0, 0, 0, 0) == key(0, 0, 0, 1, 0, 0)
  others = [
    key(0, 0, 0, 2, 0, 0),
    key(1, 0, 0, 0, 0, 0),
    key(0, 0, 0, 0, 0, 0, seed=2),
    *(key(0, 0, 0, 0, 0, 0, cfg=other) for other in make_others(cfg, tmp_path / 'other')),
  ]
  assert len({key(0, 0, 0, 0, 0, 0), *others}) == 1 + len(others)
  for same in make_same(cfg, tmp_path / 'same'):
    assert key(0, 0, 0, 0, 0, 0) == key(0, 0, 0, 0, 0, 0, cfg=same)


def move_data(cfg, root) -> dict:
  shutil.copytree(cfg['data']['train']['root'], root)
  return {**cfg, 'data': {'train': {**cfg['data']['train'], 'root': str(root)}}}


def make_others(cfg, root) -> list[dict]:
  """Sweeps whose trials are not those of another one."""
  fewer = move_data(cfg, root)
  next(root.glob('train/*/*.mp4')).unlink()
  return [
    fewer,
    {**cfg, 'seed': 1},  # and with it, what is held out
    {**cfg, 'held_out': 0.5},
    {**cfg, 'fitness': ['top1']},
    {**cfg, 'limits': {'macs': 10**9}},
    {**cfg, 'recipe': {**RECIPE, 'batch_size': 4}},
    {**cfg, 'recipe': {**RECIPE, 'seed': 1}},
    {**cfg, 'recipe': {**RECIPE, 'model': {'dropout': 0.25}}},
    {**cfg, 'recipe': {**RECIPE, 'clip': {'train': {'flip': True}}}},
  ]


def make_same(cfg, root) -> list[dict]:
  """Sweeps with the same trials."""
  return [
    move_data(cfg, root),
    {**cfg, 'workers': 7, 'max_failures': 2, 'study': 'renamed'},
    {**cfg, 'algorithm': {'name': 'uniform', 'budget': 9}},
    {**cfg, 'data': {**cfg['data'], 'eval': {'name': 'folder', 'root': 'x', 'split': 'y'}}},
    {**cfg, 'recipe': {**RECIPE, 'eval_batch_size': 3, 'model': {'remat': True}}},
  ]


@pytest.fixture
def trained(monkeypatch) -> list:
  """Thresholds of each trial that is trained, in no time."""
  calls = []

  def train(sweep, recipe, place, home, thresholds, report):
    calls.append(thresholds)
    return {'state': 'pruned' if thresholds else 'done', 'value': float(len(calls))}

  monkeypatch.setattr(trial, '_run', train)
  return calls


def test_a_result_is_taken_for_what_made_it_and_for_nothing_else(cfg, tmp_path, trained):
  home = tmp_path / 'home'
  first, _ = run(cfg, home, make_job(cfg))
  for same in make_same(cfg, tmp_path / 'same'):
    assert run(same, home, make_job(same))[0] == first
  assert len(trained) == 1
  others = make_others(cfg, tmp_path / 'other')
  for number, other in enumerate(others, 2):
    assert run(other, home, make_job(other))[0]['value'] == number
  assert len(list(home.glob('trials/*/trial.json'))) == 1 + len(others)


def test_a_result_is_taken_for_the_thresholds_that_it_was_held_against(cfg, tmp_path, trained):
  jobs = [make_job(cfg, thresholds=given) for given in ({'2': 0.5}, {'2': 0.5}, {'2': 0.25})]
  assert [run(cfg, tmp_path, job)[0]['value'] for job in jobs] == [1, 1, 2]


def test_a_failure_is_not_kept(cfg, tmp_path, monkeypatch):
  """The study may open its trial again."""
  values = iter((float('nan'), 0.5))
  make = lambda *arguments: {'state': 'done', 'value': next(values)}  # noqa: E731
  monkeypatch.setattr(trial, '_run', make)
  found = [run(cfg, tmp_path, make_job(cfg))[0]['value'] for _ in range(2)]
  assert np.isnan(found[0])
  assert found[1] == 0.5


def change(name: str):
  """How to make a folder of another seed by its file of a name."""

  def do(place):
    row = json.loads((place / name).read_text())
    (row['made'] if name == trial.OUTCOME else row)['seed'] = 1
    (place / name).write_text(json.dumps(row))

  return do


def change_outcome(place):
  found = json.loads((place / trial.OUTCOME).read_text())
  (place / trial.OUTCOME).write_text(json.dumps({**found, 'state': None}))


FOREIGN = {
  'by its description': (change(trial.MADE), r'made\.json.*\n  seed: was 1, now 0\n'),
  'by its outcome': (change(trial.OUTCOME), r'trial\.json.*\n  seed: was 1, now 0\n'),
  'an outcome of nothing': (
    lambda p: (p / trial.OUTCOME).write_text('{}'),
    '(?s)was absent.*more keys',
  ),
  'an outcome without its state': (change_outcome, r'trial\.json is damaged'),
  'an outcome that is cut': (lambda p: (p / trial.OUTCOME).write_text('{'), 'cannot be read'),
  'a run of unknown make': (
    lambda p: [(p / trial.MADE).rename(p / 'config.json'), (p / trial.OUTCOME).unlink()],
    r'no made\.json',
  ),
}


@pytest.mark.parametrize('name', FOREIGN)
def test_a_folder_of_another_trial_is_refused_with_the_difference(name, cfg, tmp_path, trained):
  make, message = FOREIGN[name]
  job = make_job(cfg)
  run(cfg, tmp_path, job)
  place = tmp_path / 'trials' / job['key']
  make(place)
  with pytest.raises(Refused, match=message) as error:
    run(cfg, tmp_path, job)
  assert str(place) in str(error.value)
  assert len(trained) == 1
  shutil.rmtree(place)
  assert run(cfg, tmp_path, job)[0]['value'] == 2


def test_a_key_of_a_study_is_no_path(cfg, tmp_path, trained):
  wanted = make_job(cfg)['key']
  for key in ('../../evil', '/evil', '', 'b2b9f728a4569b46'):
    run(cfg, tmp_path / 'home', make_job(cfg, key=key))
  assert [path.name for path in tmp_path.iterdir()] == ['home']
  assert [path.name for path in (tmp_path / 'home/trials').iterdir()] == [wanted]


@pytest.mark.slow
def test_a_network_is_trained_once_and_scored(cfg, tmp_path):
  job = make_job(cfg)
  outcome, reported = run(cfg, tmp_path, job)
  assert outcome['state'] == 'done'
  metrics = outcome['metrics']
  assert outcome['value'] == pytest.approx(sum(metrics[name] for name in cfg['fitness']))
  space = spaces.create(**SPACE)
  assert metrics['macs'] == space.macs(np.zeros(6, int))
  assert metrics['latency_ns'] > 0
  assert metrics['latency_noise'] >= 0
  assert [step for step, _ in reported] == [2, 4]
  assert outcome['curve'] == dict(reported)
  place = tmp_path / 'trials' / job['key']
  assert (place / 'checkpoints' / '4').is_dir()
  # Begun once more, by a worker that knows nothing of it: the same, and no training.
  again, reported = run(cfg, tmp_path, job)
  assert json.dumps(again) == json.dumps(outcome)
  assert not reported
  # Killed before it was written down, it is found trained.
  (place / 'trial.json').unlink()
  moved = {**cfg, 'data': {**cfg['data'], 'eval': {'name': 'folder', 'root': 'x', 'split': 'y'}}}
  again, reported = run(moved, tmp_path, job)
  for found in (again, outcome):
    assert found['metrics'].pop('secs') > 0  # of this attempt
  assert json.dumps(again) == json.dumps(outcome)
  assert not reported


@pytest.mark.slow
def test_a_trial_is_pruned_at_a_rung_and_only_below_its_threshold(cfg, tmp_path):
  job = make_job(cfg, thresholds={'2': 2.1})
  outcome, _ = run(cfg, tmp_path, job)
  assert outcome['state'] == 'pruned'
  assert 'at step 2, where 2.1000 was wanted' in outcome['reason']
  assert list(outcome['curve']) == [2]
  assert outcome['value'] == outcome['curve'][2] < 2.1


@pytest.mark.parametrize(
  ('fitness', 'threshold', 'value', 'pruned'),
  [
    (('top1', 'mean_class_accuracy'), 0.8, 0.75, True),
    (('top1', 'mean_class_accuracy'), 0.7, 0.75, False),
    (('loss',), -1.0, -1.5, True),  # others came to a loss of 1
    (('loss',), -2.0, -1.5, False),
  ],
)
def test_what_is_worse_than_a_threshold_is_pruned_in_either_direction(
  fitness, threshold, value, pruned
):
  metrics = {'top1': 0.5, 'mean_class_accuracy': 0.25, 'loss': 1.5}
  reported, caught = [], contextlib.nullcontext()
  if pruned:
    caught = pytest.raises(trial.Pruned, match=f'{fitness[-1]} {value:.4f} at step 2')
  with caught:
    trial._watch(fitness, {'2': threshold}, lambda *row: reported.append(row), 2, metrics)
  assert reported == [(2, value)]


@pytest.mark.parametrize('error', [Preempted(3), WorkerDied('killed')])
def test_a_trial_that_was_stopped_has_not_failed(cfg, tmp_path, monkeypatch, error):
  """Its worker ends, so that the coordinator begins it again and it goes on."""

  def stop(*arguments, **options):
    raise error

  monkeypatch.setattr(training, 'run', stop)
  with pytest.raises(SystemExit) as caught:
    run(cfg, tmp_path, make_job(cfg))
  assert caught.value.code == 75


def test_a_network_over_a_limit_is_not_trained(cfg, tmp_path):
  space = spaces.create(**SPACE)
  least = space.macs(np.zeros(6, int))
  cfg = {**cfg, 'limits': {'macs': least}}
  job = make_job(cfg, (1, 0, 0, 0, 0, 0))
  outcome, _ = run(cfg, tmp_path, job)
  assert outcome['state'] == 'discarded'
  assert outcome['reason'].endswith(f'at most {least:,} are allowed')
  assert outcome['metrics']['macs'] == space.macs(np.array(job['choices']))
  assert not (tmp_path / 'trials' / job['key'] / 'checkpoints').exists()


def test_limits_that_no_network_meets_are_found_before_any_job(cfg, tmp_path):
  for limits in ({'params': 1}, {'macs': 1}, {'latency_ns': 1}):
    with pytest.raises(ValueError, match=r'no network of the space .* of the smallest'):
      trial.make_objective({**cfg, 'limits': limits}, str(tmp_path))
  # A coordinator has no device to measure on.
  trial.check_networks(sweep.resolve({**cfg, 'limits': {'latency_ns': 1}}))
  with pytest.raises(ValueError, match='of the smallest, macs is'):
    trial.check_networks(sweep.resolve({**cfg, 'limits': {'macs': 1}}))


def test_trained_on_and_scored_on_are_apart(cfg):
  sources = sweep.resolve(cfg).sources
  names = [{record.name for record in sources[part].records} for part in sources]
  assert len(names[0] & names[1]) == 0
  assert len(names[1]) == 8  # a quarter of 32
  videos = Path(cfg['data']['train']['root'], 'train').glob('*/*.mp4')
  assert len(names[0] | names[1]) == len(list(videos))


def test_the_shipped_recipes_load_with_their_changes():
  for file in sorted(Path('configs/sweep').glob('*.py')):
    resolved = sweep.resolve(config.load_config(str(file)).to_dict(), num_classes=400)
    assert resolved.recipe['loop']['total_steps'] > 1
