"""What holds for every target; a new file in launch/pods is found by itself.

Golden files are what a person would review: after a change that is meant,

  REFRESH_GOLDEN=1 pytest tests/launch/pods/contract_test.py

writes them anew, and `git diff` shows what changed.
"""

import dataclasses
import json
import os
import pathlib
import shlex

import pytest

from launch import pods
from launch.pods.check import check_job
from launch.pods.targets import find_target, list_targets
from launch.verbs.submit import describe
from tests.launch.pods.jobs import ALL, HOSTILE, JOBS

GOLDEN = pathlib.Path(__file__).parent / 'golden'


def test_every_target_has_jobs():
  assert set(JOBS) == set(list_targets())


@pytest.mark.parametrize(('target', 'name'), ALL)
def test_jobs_are_good(target, name):
  check_job(JOBS[target][name])


@pytest.mark.parametrize(('target', 'name'), ALL)
def test_golden(target, name):
  job = JOBS[target][name]
  text = describe(pods.render(job, target), pathlib.Path('/folder')) + '\n'
  path = GOLDEN / f'{target}-{name}.txt'
  if os.environ.get('REFRESH_GOLDEN'):
    path.write_text(text)
  assert text == path.read_text(), f'{path} differs; see the top of this file'


def test_no_golden_file_is_left_over():
  assert {f.stem for f in GOLDEN.iterdir()} == {'-'.join(each) for each in ALL}


@pytest.mark.parametrize(('target', 'name'), ALL)
def test_rendering_is_pure(target, name, tmp_path, monkeypatch):
  """The same anywhere, for anybody, with nothing installed; and nothing is written."""
  job = JOBS[target][name]
  before = pods.render(job, target)
  monkeypatch.chdir(tmp_path)
  for variable in ('PATH', 'HOME', 'USER'):
    monkeypatch.setenv(variable, '/nowhere')
  assert pods.render(job, target) == before
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('target', 'name'), ALL)
def test_a_target_says_how_to_go_on(target, name):
  rendered = pods.render(JOBS[target][name], target)
  told = [what for what, _ in rendered.follow_ups]
  board = 'dashboard' if name == 'sweep' else 'TensorBoard'
  assert {'stop', board} < set(told)
  assert {'log', 'logs'} & set(told)
  for command in rendered.commands:
    assert all(isinstance(word, str) for word in command)


@pytest.mark.parametrize(('target', 'name'), ALL)
def test_the_tool_is_what_is_called(target, name):
  module = find_target(target)
  command = pods.render(JOBS[target][name], target).commands[-1]
  assert pathlib.Path(command[0]).name == (module.TOOL or 'python')


@pytest.mark.parametrize('target', list(JOBS))
def test_secrets_are_names_only(target, monkeypatch):
  monkeypatch.setenv('PGPASSWORD', 'hunter2')
  job = dataclasses.replace(JOBS[target]['sweep'], secrets=('PGPASSWORD', 'WANDB_API_KEY'))
  rendered = pods.render(job, target)
  everything = json.dumps([rendered.files, rendered.commands, rendered.follow_ups])
  assert 'hunter2' not in everything
  assert 'WANDB_API_KEY' in everything


@pytest.mark.parametrize('target', list(JOBS))
def test_what_a_target_does_not_know_is_refused(target):
  job = JOBS[target]['train']
  given = {'queue': 'q', 'zone': 'z', 'time': '1:00:00', 'processes': 2, 'spot': True}
  takes = find_target(target).TAKES
  unknown = [key for key in given if key not in takes]
  assert unknown
  for key in unknown:
    with pytest.raises(ValueError, match=rf'--{key} is not for {target}, which takes --'):
      pods.render(dataclasses.replace(job, **{key: given[key]}), target)


@pytest.mark.parametrize('target', list(JOBS))
def test_hostile_words_stay_inside_the_files(target):
  """Commands are lists, which no shell reads, and of words that were checked."""
  job = JOBS[target]['train']
  hostile = dataclasses.replace(job, words=(*job.words, *HOSTILE), env=(('NOTE', '$(x)\n"'),))
  assert pods.render(hostile, target).commands == pods.render(job, target).commands


def test_unknown_targets_name_the_nearest():
  with pytest.raises(ValueError, match=r"unknown target 'slurmm'; did you mean 'slurm'"):
    find_target('slurmm')


def test_follow_ups_are_shell_lines():
  for target, known in JOBS.items():
    for job in known.values():
      for what, line in pods.render(job, target).follow_ups:
        if not (target == 'local' and what == 'stop'):  # a sentence, for a person
          assert shlex.split(line)[0].isidentifier() or '-' in shlex.split(line)[0]
