"""What a worker does with one network: limits, recipe, training, outcome."""

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
    key(0, 0, 0, 0, 0, 0, seed=1),
    key(0, 0, 0, 0, 0, 0, cfg={**cfg, 'held_out': 0.5}),
  ]
  assert len({key(0, 0, 0, 0, 0, 0), *others}) == 5
  elsewhere = tmp_path / 'elsewhere'
  shutil.copytree(cfg['data']['train']['root'], elsewhere)
  moved = {**cfg, 'data': {'train': {**cfg['data']['train'], 'root': str(elsewhere)}}}
  assert key(0, 0, 0, 0, 0, 0) == key(0, 0, 0, 0, 0, 0, cfg=moved)


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
  again, reported = run(cfg, tmp_path, job)
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
