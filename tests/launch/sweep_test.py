"""`movinet sweep`: real searches end to end, killed and resumed, and bad input."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.postgres import run_server
from launch import config, main
from launch.runs import harvest, study, sweep, training, trial
from launch.verbs import sweep as sweep_verb
from launch.verbs.sweep import print_found
from movinet_jax import data, models
from movinet_jax.train import workdir
from nas.history import Proposal, State, Trial
from nas.trials.database import parse_address, show_address
from nas.trials.engine import coordinate
from nas.trials.study import SavedStudy, read_study

NAME = 'quickstart-expand'  # of the study
SHIPPED = (
  *(f'configs/sweep/quickstart.py:{name}' for name in ('scale', 'expand', 'evolve')),
  *('configs/sweep/movinet.py', 'configs/sweep/x3d.py', 'configs/sweep/x3d.py:xxl'),
  *(f'configs/sweep/tvn.py:{name}' for name in ('1', '2-mobile', '4-random')),
)
# A space of four networks, a few training steps each.
TINY = {
  'space.frames': '(2,4)',
  'space.frame_stride': '(1,)',
  'space.resolution': '(16,)',
  'space.depth': '(0.2,1.0)',
  'space.width': '(0.7,)',
  'space.bottleneck': '(1.0,)',
  'space.hidden': 16,
  'recipe.loop.total_steps': 3,
  'recipe.batch_size': 8,
  'recipe.optimizer.warmup_steps': 1,
  'recipe.precise_norm.batches': 1,
  'recipe.precise_norm.batch_size': 8,
  'latency_repeats': 1,
  'workers': 2,
}


@pytest.fixture
def make_command(motion_videos):
  """The command line of a tiny sweep: an expansion of one step."""

  def make(folder, **changed):
    base = {'algorithm.targets.tiny': 2e5, **TINY, **changed}
    return [
      'sweep',
      '--config=configs/sweep/quickstart.py:expand',
      f'--workdir={folder}',
      '--config.data.train.name=folder',
      f'--config.data.train.root={motion_videos}',
      *(f'--config.{key}={value}' for key, value in base.items()),
    ]

  return make


@pytest.mark.parametrize('file', SHIPPED)
def test_every_shipped_sweep_fits_its_space_and_its_recipe(file):
  resolved = sweep.resolve(config.load_config(file).to_dict(), num_classes=400)
  first = resolved.algorithm.propose([], np.random.default_rng(0))
  spec = resolved.space.decode(first.choices)
  recipe = resolved.fit_recipe(spec, first.train)
  assert data.TrainClip(**recipe['clip']['train']).size == spec.resolution
  assert data.EvalClip(**recipe['clip']['eval']).frames == spec.frames
  classes = recipe['model'].get('num_classes', 4)
  assert training.make_model(recipe['model'], classes).spec == spec
  check_command(resolved, spec, recipe)


def check_command(resolved, spec, recipe):
  """What is printed for a network trains it whole, as trials did."""
  command = harvest.make_command(resolved, spec, Path('a.json'), Path('runs/a'))
  words = shlex.split(command)
  flags = [word for word in words if word.startswith('--config.')]
  whole = config.load_config(resolved.config.train_with, flags).to_dict()
  assert whole['clip']['train']['frames'] == spec.frames
  kinds = [one['optimizer'].get('name', 'rmsprop') for one in (whole, recipe)]
  assert kinds[0] == kinds[1]


@pytest.mark.parametrize('trained', [False, True])
def test_a_sweep_that_cannot_go_on_replaces_no_result(trained, make_command, tmp_path, monkeypatch):
  def refuse(opened, *args, **kwargs):
    if trained:
      opened.history.append(Trial(0, np.zeros(1, int), state=State.DONE, value=0.5))
    raise ValueError('a folder of another trial')

  monkeypatch.setattr(study, 'coordinate', refuse)
  monkeypatch.setattr(
    harvest, 'write', lambda sweep, home, *_: (home / 'found.json').write_text('')
  )
  (tmp_path / 'config.json').touch()
  _, cfg = sweep_verb.parse(make_command(tmp_path)[1:])
  (tmp_path / 'config.json').write_text(json.dumps(sweep.resolve(cfg).record))
  (tmp_path / 'found.json').write_text('kept')
  assert main.main(make_command(tmp_path)) == 2
  assert (tmp_path / 'found.json').read_text() == ('' if trained else 'kept')


@pytest.mark.parametrize(
  'changed', [{'study': 'other'}, {'seed': 5}, {'recipe.batch_size': 16}, {'held_out': 0.4}]
)
def test_a_workdir_with_trials_is_of_one_sweep(changed, make_command, tmp_path, capsys):
  """Or results of its networks would be taken for those of another study."""
  _, cfg = sweep_verb.parse(make_command(tmp_path)[1:])
  workdir.claim_workdir(tmp_path, sweep.resolve(cfg).record)
  (tmp_path / 'trials' / '0123456789abcdef').mkdir(parents=True)
  before = sorted(tmp_path.rglob('*'))
  assert main.main(make_command(tmp_path, **changed)) == 2
  (key,) = changed
  assert f'{key}: was ' in capsys.readouterr().err
  assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.slow
def test_a_sweep_survives_the_death_of_everybody(make_command, tmp_path, start_movinet):
  command, storage = make_command(tmp_path), f'sqlite:///{tmp_path}/study.db'
  process = start_movinet(command)
  wait_for(lambda: list(tmp_path.glob('trials/*/config.json')), process)
  workers = list_children(process.pid)
  assert workers
  os.kill(workers[0], signal.SIGKILL)
  wait_for(lambda: len(finished(storage)) >= 1, process)
  process.send_signal(signal.SIGKILL)
  process.wait()
  before = finished(storage)
  process = start_movinet(command)
  output, _ = process.communicate(timeout=400)
  assert process.returncode == 0, output
  trials = read_study(storage, NAME).trials
  assert [one.number for one in trials] == list(range(len(trials)))
  assert {one.state.value for one in trials} == {'done'}
  for one in before:  # what was finished stayed as it was
    assert trials[one.number].value == one.value
  assert len(list(tmp_path.glob('trials/*/trial.json'))) == len(trials)
  found = json.loads((tmp_path / 'found.json').read_text())
  assert found['family'] == 'x3d'
  assert found['trials'] == {'done': len(trials)}
  assert 'movinet train --config=configs/movinet/quickstart.py' in found['train']
  page = (tmp_path / 'report.html').read_text()
  assert 'quickstart-expand' in page
  assert 'optuna-dashboard' in page
  check_that_another_study_is_refused(make_command, tmp_path, start_movinet)
  check_that_the_found_network_trains(found, tmp_path, start_movinet)


@pytest.mark.slow
def test_machines_join_one_study(make_command, tmp_path, start_movinet):
  """Two coordinators, a database and a folder that they share; one is stopped."""
  with run_server() as storage:
    command = [*make_command(tmp_path, workers=1), f'--storage={storage}']
    processes = [start_movinet(command), start_movinet(command)]
    wait_for(lambda: finished(storage), processes[0])
    processes[1].terminate()  # leaves what it trained to whoever goes on
    assert processes[1].wait(60) in (0, os.EX_TEMPFAIL)
    processes[1] = start_movinet(command)
    for process in processes:
      output, _ = process.communicate(timeout=500)
      assert process.returncode == 0, output
    trials = read_study(storage, NAME).trials
  assert [one.number for one in trials] == list(range(len(trials)))
  assert {one.state.value for one in trials} == {'done'}
  assert len(list(tmp_path.glob('trials/*/trial.json'))) == len(trials)
  assert json.loads((tmp_path / 'found.json').read_text())['facts']['targets']


def test_workers_that_cannot_start_and_a_machine_with_other_rules(
  make_command, tmp_path, capsys, monkeypatch
):
  """A line and a code; then one that would call other trials failed may not join."""
  (tmp_path / 'numpy.py').write_text('raise ImportError("libcudart.so: no such file")')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  with run_server() as storage:

    def run(folder, **changed) -> tuple[int, str]:
      command = make_command(tmp_path / folder, **changed)
      code = main.main([*command, f'--storage={storage}'])
      return code, capsys.readouterr().err.strip()

    code, error = run('one')
    assert code == os.EX_UNAVAILABLE
    line = error.splitlines()[-1]
    assert line.startswith('movinet sweep: workers died 5 times in a row')
    assert '"ImportError: libcudart.so: no such file"' in line
    assert 'the same command goes on' in line
    assert {t.state.value for t in read_study(storage, NAME).trials} == {'running'}
    code, error = run('two', trial_secs=60)
    assert code == 2
    assert 'about.trial_secs: was 0, now 60' in error
    assert not list((tmp_path / 'two').iterdir())  # nothing was changed
    assert run('one')[0] == os.EX_UNAVAILABLE  # It goes on, as far as it can.


@pytest.fixture
def train_some(monkeypatch):
  """Replaces training: sets which trials are trained; the rest fail."""

  def train(good):
    def run(running, algorithm, objective, arguments, **options):
      name = 'tests.nas.trials.engine_test:make_picky'
      return coordinate(running, algorithm, name, {'good': list(good)}, **options)

    monkeypatch.setattr(study, 'coordinate', run)

  return train


def test_a_sweep_whose_trials_all_fail_says_why_and_goes_on(
  train_some, make_command, tmp_path, capsys
):
  repeats = {'algorithm.repeats': 9}
  train_some(())
  assert main.main(make_command(tmp_path, max_failures=3, **repeats)) == os.EX_UNAVAILABLE
  line = capsys.readouterr().err.strip().splitlines()[-1]
  assert line.startswith('movinet sweep: ')
  for fact in ('trials failed', 'RuntimeError: no device for', f'{tmp_path}/logs', 'goes on'):
    assert fact in line
  found = json.loads((tmp_path / 'found.json').read_text())
  assert found['trials']['failed'] in (3, 4)
  assert 'no device' in (tmp_path / 'report.html').read_text()
  train_some(range(99))
  assert main.main(make_command(tmp_path, max_failures=4, **repeats)) == 0
  assert 'failed' not in json.loads((tmp_path / 'found.json').read_text())['trials']


def check_that_another_study_is_refused(make_command, folder, start_movinet):
  process = start_movinet(make_command(folder, **{'space.width': '(0.7,1.4)'}))
  output, _ = process.communicate(timeout=100)
  assert process.returncode == 2
  assert 'space.width' in output


def check_that_the_found_network_trains(found, folder, start_movinet):
  _, *words = found['train'].split()
  few = (
    'loop.total_steps=1',
    'optimizer.warmup_steps=0',
    'batch_size=8',
    'eval_batch_size=8',
  )
  process = start_movinet([*words, *(f'--config.{each}' for each in few)])
  output, _ = process.communicate(timeout=200)
  assert process.returncode == 0, output
  assert list(folder.glob('trained-01/checkpoints/1'))


def finished(storage):
  try:
    trials = read_study(storage, NAME).trials
  except (OSError, ValueError):
    return []
  return [one for one in trials if one.finished]


def list_children(pid: int) -> list[int]:
  found = subprocess.run(['pgrep', '-P', str(pid)], capture_output=True, text=True)
  return [int(child) for child in found.stdout.split()]


def wait_for(condition, process, secs=300):
  end = time.monotonic() + secs
  while not condition():
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < end
    time.sleep(0.2)


BAD = {
  'no such algorithm': ({'algorithm.name': 'exapnd'}, "did you mean 'expand'"),
  'no such setting': ({'algorithm.growht': 2}, "did you mean 'growth'"),
  'no such limit': ({'limits.flops': 1}, "limits has no field 'flops'"),
  'limits where they do nothing': ({'limits.macs': 10}, 'for evolve and uniform'),
  'no such metric': ({'fitness': "('top2',)"}, "unknown metric of fitness 'top2'"),
  'a metric twice': ({'fitness': "('top1','top1')"}, 'fitness names top1 twice'),
  'metrics of both directions': (
    {'fitness': "('top1','loss')"},
    'top1 (higher is better), loss (lower is better)',
  ),
  'nothing held out': ({'held_out': 0}, 'held_out is 0'),
  'data of the recipe': ({'recipe.data.train.root': '/x'}, 'recipe.data is no section'),
  'no weights to begin with': ({'recipe.init': '/nothing'}, 'init: there is no /nothing'),
  'no such recipe': ({'train_with': 'configs/none.py'}, 'no config file'),
  'no such change': ({'recipe.loop.total_stpes': 3}, 'total_stpes'),
  'a target that the start passes': ({'algorithm.targets.tiny': 1.0}, 'start smaller'),
  'no such change of a schedule': (
    {'algorithm.schedule': "((0,{}),(8,{'optimzer.clip_norm':1}),)"},
    "no 'optimzer' to change; did you mean 'optimizer'",
  ),
  'pruning where nothing is evaluated': (
    {'pruning.steps': '(2,)'},
    'trials are evaluated at their end',
  ),
  'no growth': ({'algorithm.growth': 1.0}, 'algorithm.growth is 1.0; wanted a number, more than 1'),
  'a tolerance of all': ({'algorithm.tolerance': 1.0}, 'algorithm.tolerance is 1.0'),
  'nothing trained': ({'algorithm.repeats': 0}, 'algorithm.repeats is 0'),
  'a target of nothing': ({'algorithm.targets.tiny': 0.0}, 'algorithm.targets.tiny is 0.0'),
  'a schedule that goes back': (
    {'algorithm.schedule': '((8,{}),(0,{}))'},
    'algorithm.schedule is ((8, {}), (0, {})); wanted',
  ),
  'no such axis': ({'space.widht': '(1,2)'}, "'widht'; did you mean 'width'"),
  'an axis that descends': ({'space.width': '(2,1)'}, 'space.width is (2, 1); wanted numbers'),
  'a clip without frames': ({'space.frames': '(0,8)'}, 'space.frames[0] is 0'),
  'a field of another type': ({'space.causal': 3}, 'causal should be bool, got 3'),
  'rungs that descend': ({'pruning.steps': '(4,2)'}, 'pruning.steps is (4, 2); wanted numbers'),
  'a quantile of all': (
    {'pruning.steps': '(4,)', 'pruning.quantile': 1.0},
    'pruning.quantile is 1.0; wanted a number, more than 0 and less than 1',
  ),
  'a limit that is no number': ({'limits.params': '3k'}, "limits.params should be float, got '3k'"),
  'no number of workers': ({'workers': -1}, 'workers is -1'),
  'no time for a trial': ({'trial_secs': -1}, 'trial_secs is -1'),
  'a limit without measurements': (
    {'limits.latency_ns': 1e6, 'latency_repeats': 0},
    'set latency_repeats',
  ),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_configs_are_refused_before_anything_is_written(name, make_command, tmp_path, capsys):
  changed, message = BAD[name]
  folder = tmp_path / 'run'
  assert main.main(make_command(folder, **changed)) == 2
  assert message in capsys.readouterr().err
  assert not folder.exists()


@pytest.mark.parametrize(
  'fitness', [('mAP', 'classes_with_positives'), ('classes_with_positives',)]
)
def test_a_count_is_no_fitness(fitness):
  with pytest.raises(ValueError, match=r'classes_with_positives \(a count') as caught:
    sweep._check_fitness(fitness, 4, multi_label=True)
  assert 'of: mAP, hit1' in str(caught.value)


def resolve_scored_by(*fitness):
  cfg = config.load_config('configs/sweep/quickstart.py:evolve').to_dict()
  return sweep.resolve({**cfg, 'fitness': fitness}, num_classes=4)


def test_a_sweep_by_the_loss_finds_the_lowest_and_says_what_its_values_are(tmp_path, capsys):
  resolved = resolve_scored_by('loss')
  losses = (1.5, 0.25, 0.75)
  drawn = [resolved.space.space.sample(np.random.default_rng(n)) for n in range(3)]
  trials = [
    Trial(n, drawn[n], state=State.DONE, value=trial._score(('loss',), {'loss': loss}))
    for n, loss in enumerate(losses)
  ]
  found = harvest.write(resolved, tmp_path, trials, f'sqlite:///{tmp_path}/study.db')
  assert (found['trial'], found['measure'], found['value']) == (1, '-loss', -0.25)
  best = json.loads((tmp_path / 'found' / '01.json').read_text())
  assert (best['measure'], best['value']) == ('-loss', -0.25)
  assert '−loss' in (tmp_path / 'report.html').read_text()
  print_found(found, tmp_path)
  assert 'trial 1, -loss -0.2500' in capsys.readouterr().out


def test_values_of_a_loss_are_told_from_those_that_earlier_versions_maximized():
  by_loss, by_top1 = resolve_scored_by('loss'), resolve_scored_by('top1')
  assert (by_loss.scored, by_top1.scored) == ('-loss', ['top1'])
  first = Proposal(np.zeros(len(by_loss.space.space), np.int32))
  assert by_loss.make_key(first) != by_top1.make_key(first)


def test_a_report_of_another_fitness_is_refused(tmp_path, monkeypatch):
  saved = SavedStudy({'about': {'fitness': ['loss']}}, [])
  monkeypatch.setattr(study, 'read_study', lambda *_: saved)
  with pytest.raises(ValueError, match=r"fitness \['loss'\], and this config is of -loss"):
    study.redraw(resolve_scored_by('loss'), tmp_path)
  with pytest.raises(ValueError, match=r"of \['top1'\]"):
    study.redraw(resolve_scored_by('top1'), tmp_path)


@pytest.mark.parametrize(
  'storage',
  ['postgresql://nobody@127.0.0.1:9/none', 'mysql://host/db', 'sqlite:////proc/x.db'],
)
def test_a_database_that_cannot_be_reached_is_said_at_once(storage, make_command, tmp_path, capsys):
  command = [*make_command(tmp_path / 'run'), f'--storage={storage}']
  assert main.main(command) == 2
  assert len(capsys.readouterr().err.strip().splitlines()[-1]) > 20
  assert not (tmp_path / 'run' / 'trials').exists()


def test_no_combination_of_coefficients_meets_the_constraint(tmp_path, capsys):
  command = [
    'sweep',
    '--config=configs/sweep/quickstart.py',
    f'--workdir={tmp_path / "run"}',
    f'--config.data.train.root={tmp_path / "videos"}',
    '--config.space.tolerance=0.0001',
  ]
  assert main.main(command) == 2
  assert 'comes nearest' in capsys.readouterr().err
  assert not (tmp_path / 'run').exists()


def test_scaled_spaces_are_printed(tmp_path, capsys):
  assert main.main(['sweep', '--phi=2']) == 0  # by the published coefficients
  printed = capsys.readouterr().out
  assert 'depth 1.36, width 1.18, resolution 1.16, rate 1.24' in printed
  specs = [line for line in printed.splitlines() if line.startswith('{')]
  assert len(specs) == 3
  path = tmp_path / 'network.json'
  path.write_text(specs[0])
  assert models.read_spec(path)[1].resolution == 304
  assert main.main(['sweep', f'--workdir={tmp_path}', '--phi=1']) == 2
  assert 'no workdir of a run' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('changed', 'key'),
  [
    ({'recipe.model.dropout': 0.5}, 'training.model.dropout'),
    ({'recipe.clip.train.flip': True}, 'training.clip.train.flip'),
    ({'recipe.optimizer.learning_rate': 1.0}, 'training.optimizer.learning_rate'),
    ({'held_out': 0.5}, 'data held_out'),  # and with it what trials learn from
    ({'trial_secs': 60}, 'trial_secs'),
    ({'max_attempts': 1}, 'max_attempts'),
    ({'max_failures': 1}, None),
    ({'workers': 7}, None),
    ({'recipe.loop.log_every': 1}, None),
    ({'recipe.eval_batch_size': 3}, None),
    ({'data.train.root': 'ELSEWHERE'}, None),
  ],
)
def test_a_study_is_its_recipe_and_not_how_it_runs(changed, key, motion_videos, tmp_path):
  if 'data.train.root' in changed:
    changed = {'data.train.root': shutil.copytree(motion_videos, tmp_path / 'elsewhere')}
  file = 'configs/sweep/quickstart.py'

  def describe(changes):
    own = {k: v for k, v in changes.items() if '.' not in k}
    root = {'data.train.root': motion_videos, 'data.train.name': 'folder'}
    words = [f'--config.{k}={v}' for k, v in {**root, **changes}.items() if k not in own]
    cfg = config.load_config(file, words).to_dict()
    return sweep.resolve({**cfg, **own}).describe()

  lines = workdir.find_differences(describe({}), describe(changed))
  found = [line.partition(':')[0].replace("'", '') for line in lines]
  assert found == (key or '').split()


def test_a_password_is_not_shown():
  for storage in ('postgresql://u:secret@h/db', 'postgresql://h/db?password=secret'):
    assert 'secret' not in show_address(parse_address(storage))
