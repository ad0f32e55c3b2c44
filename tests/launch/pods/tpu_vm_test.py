"""The start-up script, run by bash with everything that it calls replaced."""

import dataclasses
import re
import subprocess

import pytest

from launch.pods.job import Mount
from launch.pods.targets import tpu_vm
from tests.launch.pods.jobs import HOSTILE, JOBS, find_program

SHELLCHECK = find_program('shellcheck')
# Every program writes down what it was called with; docker run ends as `codes` says.
FAKE = """#!/bin/bash
printf '%s\\0' "$(basename "$0")" "$@" >> {folder}/calls
echo >> {folder}/calls
case "$(basename "$0") $1" in
  'mountpoint -q') exit 1 ;;
  'gcloud secrets') echo hunter2 ;;
  'docker run')
    printf '%s' "${{PGPASSWORD:-}}" > {folder}/password
    read -r code rest < {folder}/codes
    echo "$rest" > {folder}/codes
    exit "$code" ;;
esac
"""
PROGRAMS = (
  *(
    'docker',
    'gcloud',
    'gcsfuse',
    'mount',
    'mount.nfs',
    'mountpoint',
    'mkdir',
    'sleep',
  ),
)


@pytest.fixture
def run_script(tmp_path):
  """Runs the script of a job: (code, the words of every call)."""

  def run(job, codes='0'):
    programs = tmp_path / 'bin'
    programs.mkdir(exist_ok=True)
    for name in PROGRAMS:
      (programs / name).write_text(FAKE.format(folder=tmp_path))
      (programs / name).chmod(0o755)
    (tmp_path / 'codes').write_text(f'{codes}\n')
    (tmp_path / 'calls').unlink(missing_ok=True)
    script = tpu_vm.render(job).files[tpu_vm.FILE]
    done = subprocess.run(
      ['bash', '-c', script],
      env={'PATH': f'{programs}:/usr/bin:/bin'},
      cwd=tmp_path,
      capture_output=True,
      text=True,
      timeout=60,
    )
    lines = (tmp_path / 'calls').read_text().split('\0\n')[:-1]
    return done.returncode, [line.split('\0') for line in lines]

  return run


def count_runs(calls) -> int:
  return sum(call[:2] == ['docker', 'run'] for call in calls)


@pytest.mark.parametrize('name', JOBS['tpu-vm'])
@pytest.mark.skipif(SHELLCHECK is None, reason='shellcheck is not installed')
def test_shellcheck(name, tmp_path):
  path = tmp_path / 'startup.sh'
  path.write_text(tpu_vm.render(JOBS['tpu-vm'][name]).files[tpu_vm.FILE])
  done = subprocess.run([SHELLCHECK, path], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


def test_words_and_environment_arrive_as_they_are(run_script, tmp_path):
  job = JOBS['tpu-vm']['train']
  env = tuple((f'V{i}', word) for i, word in enumerate(HOSTILE))
  words = (*job.words, *HOSTILE)
  code, calls = run_script(dataclasses.replace(job, words=words, env=env))
  assert code == 0
  (call,) = [call for call in calls if call[:2] == ['docker', 'run']]
  image = call.index(job.image)
  assert call[image + 1 :] == list(words)
  assert [w.removeprefix('--env=') for w in call[:image] if w.startswith('--env=V')] == [
    f'{key}={value}' for key, value in env
  ]
  assert not list(tmp_path.rglob('planted'))


def test_storage_is_mounted_before_the_run(run_script):
  _, calls = run_script(JOBS['tpu-vm']['train'])
  names = [call[0] for call in calls]
  assert ['gcsfuse', '--implicit-dirs', '--only-dir=runs', 'mine', '/data'] in calls
  assert ['mount', '-t', 'nfs', '10.0.0.2:/share', '/videos'] in calls
  assert max(names.index('gcsfuse'), names.index('mount')) < names.index('docker')


def test_stopped_runs_go_on_and_others_do_not(run_script):
  job = JOBS['tpu-vm']['train']
  code, calls = run_script(job, '75 137 0')
  assert (code, count_runs(calls)) == (0, 3)
  for permanent in (1, 2, 65, 69, 70, 74, 127):
    code, calls = run_script(job, f'75 {permanent} 0')
    assert (code, count_runs(calls)) == (permanent, 2)
  code, calls = run_script(dataclasses.replace(job, restarts=2), '75 75 75 75')
  assert (code, count_runs(calls)) == (75, 3)


def test_secrets_are_fetched_and_not_on_a_command_line(run_script, tmp_path):
  _, calls = run_script(JOBS['tpu-vm']['sweep'])
  assert (tmp_path / 'password').read_text() == 'hunter2'
  assert 'hunter2' not in str(calls)
  (run,) = [call for call in calls if call[:2] == ['docker', 'run']]
  assert '--env=PGPASSWORD' in run


def test_hosts_of_a_slice_find_each_other_and_single_ones_do_not_look(run_script):
  for name, expected in (('train', True), ('sweep', False)):
    _, calls = run_script(JOBS['tpu-vm'][name])
    (run,) = [call for call in calls if call[:2] == ['docker', 'run']]
    assert ('--env=MOVINET_CLUSTER=auto' in run) == expected


def test_gcloud_is_asked_for_the_slice():
  (command,) = tpu_vm.render(JOBS['tpu-vm']['train']).commands
  assert set(command) >= {
    *('--accelerator-type=v5litepod-256', '--runtime-version=v2-alpha-tpuv5-lite'),
    *('--spot', '--zone=us-west4-a', '--node-id=train-a2'),
    f'--metadata-from-file=startup-script={tpu_vm.FILE}',
  }
  (command,) = tpu_vm.render(JOBS['tpu-vm']['sweep']).commands
  assert set(command) >= {'--node-count=8', '--node-prefix=sweep-a2'}
  assert not [word for word in command if word.startswith(('--node-id', '--spot'))]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'topology': None}, 'needs --topology='),
    ({'zone': ''}, 'needs --zone='),
    ({'image': ''}, 'say --image='),
    (
      {'mounts': (Mount('claim', '/data'),)},
      'wanted gs://BUCKET[/FOLDER], HOST:/EXPORT',
    ),
    ({'mounts': (Mount('gs://b', '/else'),)}, 'lies in no --mount'),
    # It is a mount of the system's already, so the bucket would not be mounted.
    ({'mounts': (Mount('gs://b', '/run'),), 'workdir': '/run/a'}, "not the system's"),
  ],
)
def test_refused(changes, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    tpu_vm.render(dataclasses.replace(JOBS['tpu-vm']['train'], **changes))
