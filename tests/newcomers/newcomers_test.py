"""The promise "one file and one config": newcomers are planted, and the smallest job of each runs.

Each file of `plants` is copied to a folder that its registry lists. No other file changes.
"""

import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import movinet_jax as mj
from launch import main
from movinet_jax import models
from movinet_jax.data import motion
from tests.layers import contract_test

PLANTS = pathlib.Path(__file__).parent / 'plants'
ROOT = pathlib.Path(__file__).parents[2]
REGISTRIES = {
  'models': 'movinet_jax.models',
  'sources': 'movinet_jax.data.sources',
  'spaces': 'nas.spaces',
  'algorithms': 'nas.algorithms',
  'supernets': 'nas.oneshot.supernets',
  'targets': 'launch.pods.targets',
  'verbs': 'launch.verbs',
}
# What a new Python process runs first: workers of a sweep must find the newcomers as well.
SITE = """
import importlib
for folder, package in {registries!r}.items():
  importlib.import_module(package).__path__.append({home!r} + '/' + folder)
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
  """The folder of the newcomers, from which commands are run."""
  shutil.copytree(PLANTS, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns('__*'))
  for folder, package in REGISTRIES.items():
    module = importlib.import_module(package)
    monkeypatch.setattr(module, '__path__', [*module.__path__, str(tmp_path / folder)])
  importlib.invalidate_caches()
  before = set(sys.modules)
  site = tmp_path / 'site'
  site.mkdir()
  text = SITE.format(registries=REGISTRIES, home=str(tmp_path))
  (site / 'sitecustomize.py').write_text(text)
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(site), str(ROOT)]))
  monkeypatch.chdir(tmp_path / 'configs')
  motion.write_motion('videos', videos_per_class=8, frames=8, size=24, seed=1)
  yield tmp_path
  for name in set(sys.modules) - before:
    if any(name.startswith(f'{package}.') for package in REGISTRIES.values()):
      sys.modules.pop(name)
      package, _, child = name.rpartition('.')
      vars(sys.modules.get(package, sys)).pop(child, None)


def read_rows(workdir):
  return [json.loads(line) for line in pathlib.Path(workdir, 'metrics.jsonl').open()]


def test_a_family_keeps_the_contract(planted):
  module = models.find_family('planted')
  model = mj.create('planted', spec=module.SMALL['narrow'])
  assert model.num_classes == module.NUM_CLASSES
  clip = contract_test.MODEL_CLIP
  contract_test.check_law(model, clip)
  contract_test.check_causality(model, clip)


def test_a_family_and_a_dataset_train(planted, capsys):
  assert main.main(['train', '--config=train.py', '--workdir=run']) == 0
  assert [row['step'] for row in read_rows('run') if 'loss' in row] == [1, 2]
  assert any('eval/top1' in row for row in read_rows('run'))
  assert main.main(['evaluate', '--checkpoint=run']) == 0
  assert main.main(['cost', 'planted/one']) == 0
  again = ['train', '--config=train.py', '--workdir=again', '--config.init=run']
  assert main.main(again) == 0
  assert 'Beginning with run' in capsys.readouterr().out


def test_a_one_shot_algorithm_searches(planted):
  command = ['search', '--config=search.py', '--workdir=run']
  assert main.main([*command, '--config.data.train.root=videos']) == 0
  assert [row['step'] for row in read_rows('run')] == [1, 2, 3]
  found = json.loads(pathlib.Path('run/found.json').read_text())
  assert found['family'] == 'movinet'
  assert '<html' in pathlib.Path('run/report.html').read_text()


def test_a_space_with_a_supernet_is_searched(planted, capsys):
  command = ['search', '--config=shared.py', '--workdir=run']
  assert main.main([*command, '--config.data.train.root=videos']) == 0
  found = json.loads(pathlib.Path('run/found.json').read_text())
  assert found['family'] == 'planted'
  assert f'width {found["spec"]["width"]}' in capsys.readouterr().out
  assert '<html' in pathlib.Path('run/report.html').read_text()


@pytest.mark.slow
def test_a_trial_space_and_a_trial_algorithm_sweep(planted):
  command = [sys.executable, '-m', 'launch.main', 'sweep', '--config=sweep.py', '--workdir=run']
  done = subprocess.run(command, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stdout + done.stderr
  found = json.loads(pathlib.Path('run/found.json').read_text())
  assert (found['search'], found['family']) == ('in_order', 'planted')
  assert found['trials'] == {'done': 4}
  assert '<html' in pathlib.Path('run/report.html').read_text()
  assert main.main(['sweep', '--config=sweep.py', '--workdir=run', '--report']) == 0


def test_a_target_renders_a_job(planted, capsys):
  job = ['--', 'train', '--config=train.py', '--workdir=run']
  assert main.main(['submit', '--on=planted', '--dry-run', *job]) == 0
  printed = capsys.readouterr().out
  assert 'planted.txt' in printed
  assert 'movinet train --config=train.py' in printed


def test_a_verb_runs_and_is_listed(planted, capsys):
  assert main.main(['--help']) == 0
  assert 'planted      Says how many parameters' in capsys.readouterr().out
  assert main.main(['planted', 'planted/one']) == 0
  assert capsys.readouterr().out.strip() == str(3 * 8 + 8 + 8 * 4 + 4)
