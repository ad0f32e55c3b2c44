"""The sbatch script, run by bash under an srun that starts real processes."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess

import pytest

from launch.pods import job
from launch.pods.targets import slurm
from tests.launch.pods import fake_srun, stand_in
from tests.launch.pods.jobs import HOSTILE, JOBS, find_program, make
from tests.launch.pods.stand_in import wait_for

SHELLCHECK = find_program('shellcheck')


@pytest.fixture
def make_script(tmp_path):
  """The script of a job whose `movinet` does as a plan says."""

  def make_one(plan, words=('train',), **changed):
    environment = stand_in.install(tmp_path / 'env', tmp_path / 'seen', plan)
    changed = {'environment': environment, 'directory': str(tmp_path), **changed}
    known = make(words, str(tmp_path / 'run'), **changed)
    return slurm.render(known).files[slurm.FILE]

  return make_one


def read_output(folder) -> str:
  return (folder / 'output.txt').read_text()


@pytest.mark.parametrize('name', JOBS['slurm'])
@pytest.mark.skipif(SHELLCHECK is None, reason='shellcheck is not installed')
def test_shellcheck(name, tmp_path):
  path = tmp_path / 'job.sh'
  path.write_text(slurm.render(JOBS['slurm'][name]).files[slurm.FILE])
  done = subprocess.run([SHELLCHECK, path], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


def test_words_and_environment_arrive_as_they_are(make_script, tmp_path):
  words = ('train', *HOSTILE)
  env = tuple((f'V{i}', word) for i, word in enumerate(HOSTILE))
  plan = {'0': [{'code': 0}], '1': [{'code': 0}]}
  script = make_script(plan, words, env=env)
  assert fake_srun.run_job(script, tmp_path, tasks=2) == [0], read_output(tmp_path)
  starts = stand_in.read_starts(tmp_path / 'seen')
  assert set(starts) == {'0.1', '1.1'}
  for seen in starts.values():
    assert seen['words'] == [*words, f'--workdir={tmp_path}/run']
    assert [seen['env'][f'V{i}'] for i in range(len(HOSTILE))] == list(HOSTILE)
    assert seen['env']['PATH'].startswith(f'{tmp_path}/env/bin:')
  assert not list(tmp_path.rglob('planted'))


def test_a_stopped_run_is_queued_again_and_goes_on(make_script, tmp_path):
  stopped, done = {'code': 75}, {'code': 0}
  script = make_script({'0': [stopped, stopped, done], '1': [stopped, stopped, done]})
  assert fake_srun.run_job(script, tmp_path, tasks=2) == [75, 75, 0]
  assert set(stand_in.read_starts(tmp_path / 'seen')) == {
    f'{process}.{start}' for process in (0, 1) for start in (1, 2, 3)
  }


@pytest.mark.parametrize('code', [c for c in job.PERMANENT if c != 1])
def test_a_permanent_code_wins_and_is_not_queued_again(make_script, tmp_path, code):
  """Whoever else ended with 75, for it had lost its peer."""
  script = make_script({'0': [{'code': 75}], '1': [{'code': code}], '2': [{'code': 75}]})
  assert fake_srun.run_job(script, tmp_path, tasks=3) == [code]
  assert f'process 1 ended with code {code}' in read_output(tmp_path)


def test_a_fault_of_the_program_is_not_queued_again(make_script, tmp_path):
  script = make_script({'0': [{'code': 75}], '1': [{'code': 1}]})
  assert fake_srun.run_job(script, tmp_path, tasks=2) == [3]


def test_a_killed_process_is_queued_again(make_script, tmp_path):
  script = make_script(
    {
      '0': [{'code': 75}, {'code': 0}],
      '1': [{'code': 0, 'signal': signal.SIGKILL}, {'code': 0}],
    }
  )
  assert fake_srun.run_job(script, tmp_path, tasks=2) == [75, 0]


def test_restarts_are_bounded(make_script, tmp_path):
  script = make_script({'0': [{'code': 75}]}, restarts=2)
  assert fake_srun.run_job(script, tmp_path, tasks=1) == [75, 75, 75]
  assert 'not started again' in read_output(tmp_path)


def test_a_cancelled_job_stays_cancelled(make_script, tmp_path):
  script = make_script({'0': [{'code': 75}]})
  codes = fake_srun.run_job(script, tmp_path, tasks=1, FAKE_STATE='COMPLETING')
  assert codes == [75]


def test_a_task_of_an_array_is_queued_again_alone(make_script, tmp_path):
  """Also the first, whose own number is that of the whole array."""
  script = make_script({'0': [{'code': 75}, {'code': 0}]}, ('sweep',), nodes=3)
  array = {'SLURM_ARRAY_JOB_ID': '4711', 'SLURM_ARRAY_TASK_ID': '0'}
  codes = fake_srun.run_job(script, tmp_path, tasks=1, FAKE_ID='4711_0', **array)
  assert codes == [75, 0], read_output(tmp_path)


def test_verbs_of_one_process_are_one_task():
  known = {'nodes': 1, 'gpus': 4, 'directory': '/h', 'environment': '/e'}
  words = ('stream', '--source=a.mp4')
  assert '--ntasks-per-node=1\n' in slurm.render(make(words, '/w', **known)).files['job.sh']
  train = make(('train',), '/w', **known)
  assert '--ntasks-per-node=4\n' in slurm.render(train).files['job.sh']


def test_a_limit_leaves_time_to_save():
  known = {'time': '0:01:59', 'directory': '/h', 'environment': '/e'}
  with pytest.raises(ValueError, match='more than the 120 seconds'):
    slurm.render(make(('train',), '/w', **known))


def test_a_signal_lets_the_run_save(make_script, tmp_path):
  """To the shell alone, to srun's tasks, or to all at once, as Slurm does it."""
  script = make_script({'0': [{'save': 0.5}], '1': [{'save': 0.5}]})
  for aim in ('shell', 'all'):
    shutil.rmtree(tmp_path / 'seen' / 'old', ignore_errors=True)
    for seen in (tmp_path / 'seen').glob('*.*.json'):
      seen.unlink()
    process = fake_srun.start(script, tmp_path, tasks=2)
    with fake_srun.ending(process):
      wait_for(lambda: len(stand_in.read_starts(tmp_path / 'seen')) == 2)
      send = os.kill if aim == 'shell' else os.killpg
      send(process.pid, signal.SIGTERM)
      assert process.wait(20) == 75
    assert fake_srun.take_requeue(tmp_path)
  assert read_output(tmp_path).count('saved') == 4


def test_secrets_must_be_there(make_script, tmp_path):
  script = make_script({'0': [{'code': 0}]}, secrets=('PGPASSWORD_OF_TEST',))
  (code,) = fake_srun.run_job(script, tmp_path, tasks=1)
  assert code not in (0, 75)
  assert 'PGPASSWORD_OF_TEST: must be in the environment' in read_output(tmp_path)
  codes = fake_srun.run_job(script, tmp_path, tasks=1, PGPASSWORD_OF_TEST='x')
  assert codes == [0]


def test_tasks_are_gpus_or_machines():
  text = slurm.render(JOBS['slurm']['train']).files[slurm.FILE]
  assert read_options(text) >= {
    *('--nodes=2', '--ntasks-per-node=8', '--gpus-per-node=h100:8', '--requeue'),
    *('--cpus-per-task=12', f'--signal=TERM@{job.SAVE_SECS}', '--open-mode=append'),
  }
  text = slurm.render(JOBS['slurm']['sweep']).files[slurm.FILE]
  assert read_options(text) >= {
    *('--array=0-15', '--nodes=1', '--ntasks-per-node=1', '--gpus-per-node=4'),
  }


def test_paths_are_quoted_for_sbatch_and_its_patterns():
  known = dataclasses.replace(JOBS['slurm']['cpu'], workdir="/a b/50% it's")
  options = read_options(slurm.render(known).files[slurm.FILE])
  assert "--output='/a b/50%% it'\"'\"'s/logs/slurm-%j.out'" in options


def read_options(text) -> set[str]:
  return set(re.findall(r'^#SBATCH (.*)$', text, re.MULTILINE))
