"""`movinet submit`: dry runs, what is really called, and what it says."""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import pytest

from launch import main
from launch.config import load_config
from launch.pods.check import check_job, list_unmounted
from launch.pods.job import Job, Mount
from launch.pods.topology import find_topology
from launch.runs import search, training
from launch.verbs import submit
from movinet_jax import schema
from tests.launch.pods import stand_in
from tests.launch.pods.jobs import TRAIN
from tests.launch.pods.stand_in import wait_for

ROOT = pathlib.Path(__file__).parents[2]
COMMAND = ['train', f'--config={TRAIN}']
CLOUD = ['--image=us-docker.pkg.dev/p/r/movinet', '--mount=gs://b=/data']
OPTIONS = {
  'local': ['--processes=2'],
  'slurm': ['--nodes=2', '--gpus=8'],
  'gke': ['--topology=v5e:4x4', *CLOUD],
  'tpu-vm': ['--topology=v5e:4x4', '--zone=z', *CLOUD],
}
TOOLS = ('sbatch', 'kubectl', 'gcloud')


@pytest.fixture
def here(tmp_path, monkeypatch):
  """An empty working directory, where none of the tools is installed."""
  environment = stand_in.install(tmp_path / 'env', tmp_path / 'seen', {})
  work = tmp_path / 'work'
  work.mkdir()
  monkeypatch.chdir(work)
  monkeypatch.setenv('PATH', f'{tmp_path}/tools:/usr/bin:/bin')
  monkeypatch.setattr(submit.shutil, 'which', find_tool(tmp_path / 'tools'))
  monkeypatch.setattr(submit, 'find_environment', lambda: environment)
  return work


def find_tool(folder):
  """In place of shutil.which: only what the test has put there is found."""
  return lambda name: str(folder / name) if (folder / name).exists() else None


def put_tool(here, name, code=0):
  """A tool that notes its words and where it was called."""
  folder = here.parent / 'tools'
  folder.mkdir(exist_ok=True)
  lines = f'pwd >> {folder}/calls; printf "%s\\n" "$0" "$@" >> {folder}/calls'
  (folder / name).write_text(f'#!/bin/bash\n{lines}\nexit {code}\n')
  (folder / name).chmod(0o755)


def read_calls(here) -> list[str]:
  path = here.parent / 'tools' / 'calls'
  return path.read_text().splitlines() if path.exists() else []


def run(target, *more, workdir='/data/a2', words=()) -> int:
  command = [f'--on={target}', *OPTIONS[target], *more]
  return main.main(['submit', *command, '--', *COMMAND, f'--workdir={workdir}', *words])


@pytest.mark.parametrize('target', OPTIONS)
def test_a_dry_run_prints_and_does_nothing(target, here, capfd):
  for tool in TOOLS:
    put_tool(here, tool)
  assert (
    run(
      target,
      '--dry_run',
      workdir=str(here / 'a2') if target in ('local', 'slurm') else '/data/a2',
    )
    == 0
  )
  printed = capfd.readouterr().out
  assert 'Would write ' in printed
  assert 'Would run in ' in printed
  assert 'stop:' in printed
  assert f'--config={TRAIN}' in printed
  assert not list(here.iterdir())
  assert not read_calls(here)


@pytest.mark.parametrize('target', ['slurm', 'gke', 'tpu-vm'])
def test_without_the_tool_it_is_a_dry_run(target, here, capfd):
  assert run(target, workdir='/data/a2') == 0
  printed = capfd.readouterr()
  assert 'Would run in ' in printed.out
  assert 'is not installed here' in printed.err
  assert not list(here.iterdir())


@pytest.mark.parametrize(
  ('target', 'tool'), [('slurm', 'sbatch'), ('gke', 'kubectl'), ('tpu-vm', 'gcloud')]
)
def test_what_a_dry_run_prints_is_what_is_run(target, tool, here, capfd):
  put_tool(here, tool)
  workdir = str(here / 'a 2') if target == 'slurm' else '/data/a 2'
  assert run(target, '--dry_run', workdir=workdir) == 0
  promised = capfd.readouterr().out
  assert run(target, workdir=workdir) == 0
  said = capfd.readouterr().out
  folder, program, *words = read_calls(here)
  assert pathlib.Path(program).name == tool
  assert f'Would run in {folder}:' in promised
  assert f'  {shlex.join([tool, *words])}\n' in promised
  assert f'+ {shlex.join([tool, *words])}\n' in said
  (written,) = pathlib.Path(folder).iterdir()
  assert f'Would write {written}:\n\n{written.read_text()}' in promised
  assert f'wrote {written}' in said
  assert 'stop:' in said
  if target == 'slurm':
    assert pathlib.Path(workdir, 'logs').is_dir()  # Slurm makes no folders


def test_a_tool_that_fails_is_an_error(here, capfd):
  put_tool(here, 'kubectl', code=1)
  assert run('gke') == 2
  assert 'kubectl create --filename=job.yaml ended with code 1' in capfd.readouterr().err


def test_paths_of_slurm_are_whole(here, capfd):
  assert run('slurm', workdir='runs/a2') == 0
  printed = capfd.readouterr().out
  assert f'#SBATCH --output={here}/runs/a2/logs/' in printed
  assert f'#SBATCH --chdir={here}' in printed
  assert '--workdir=runs/a2' in printed  # as it was typed, from there


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--on=slurm'], 'no command to run'),
    (['--on=slurm', '--'], 'no command to run'),
    (['--on=slurm', *COMMAND, '--workdir=/w'], 'no command to run'),
    (['--on=slrum', '--', *COMMAND, '--workdir=/w'], "did you mean 'slurm'"),
    (['--on=slurm', '--', *COMMAND], 'names no --workdir'),
    (['--on=slurm', '--', 'trian', '--workdir=/w'], "did you mean 'train'"),
    (
      ['--on=gke', '--topology=v5e:8x4', '--', *COMMAND, '--workdir=/w'],
      'did you mean v5e:4x8',
    ),
    (['--on=local', '--gpus=8', '--', *COMMAND, '--workdir=/w'], 'not for local'),
    (
      [
        '--on=slurm',
        '--',
        'sweep',
        '--config=configs/sweep/x3d.py',
        '--workdir=/w',
        '--storage=postgresql://me:hunter2@db/x',
      ],
      '--secret=PGPASSWORD',
    ),
  ],
)
def test_bad_input(argv, message, here, capfd):
  assert main.main(['submit', *argv]) == 2
  said = capfd.readouterr().err
  assert message in said
  assert 'hunter2' not in said


def list_examples() -> list[list[str]]:
  """Command lines of `movinet submit` and `movinet preflight` that people are shown."""
  found = []
  for path in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))):
    for block in re.findall(r'^```\n(.*?)^```', path.read_text(), re.DOTALL | re.M):
      lines = block.replace('\\\n', ' ').splitlines()
      shown = re.compile('movinet (submit|preflight) ')
      found += [shlex.split(x, comments=True) for x in lines if shown.match(x)]
  return [words for words in found if not re.search('…|TARGET', ' '.join(words))]


@pytest.mark.parametrize('words', list_examples(), ids=' '.join)
def test_examples_are_accepted(words, capfd, monkeypatch):
  monkeypatch.chdir(ROOT)
  _, verb, *argv = (w.replace('$IMAGE', 'a/b').replace('BUCKET', 'mine') for w in words)
  if verb == 'submit':
    assert main.main([verb, '--dry_run', *argv]) == 0, capfd.readouterr().err
    assert 'no --mount' not in capfd.readouterr().out
    return
  cut = argv.index('--')
  topology = find_topology(argv[0].removeprefix('--topology=')) if cut else None
  check_job(Job('a', (*argv[cut + 1 :], '--workdir=/w'), '/w', topology=topology))


def test_examples_are_found():
  assert len(list_examples()) > 6


def test_data_that_no_mount_has_is_said(here, capfd):
  assert run('gke', '--dry_run') == 0
  printed = capfd.readouterr().out
  assert 'no --mount is there: --config.data.' in printed
  assert 'data.train.directory=data/k600' in printed
  mounted = [f'--config.data.{part}.directory=/data/k600' for part in ('train', 'eval')]
  assert run('gke', '--dry_run', words=mounted) == 0
  assert 'no --mount' not in capfd.readouterr().out


def test_a_run_to_begin_with_that_no_mount_has_is_said():
  """Weights of training, and the search before a search."""
  job = Job(name='a', words=(), workdir='/data/a', mounts=(Mount('gs://mine', '/data'),))
  for kind, file, key in (
    (training, 'configs/movinet/folder.py', 'init'),
    (search, 'configs/search/quickstart.py', 'inherit'),
  ):
    read = {**load_config(file).to_dict(), key: 'runs/before'}
    said = f'--config.{key}=runs/before'
    assert said in list_unmounted(schema.build(kind.Config, read, ''), job)
    read[key] = '/data/before'
    found = list_unmounted(schema.build(kind.Config, read, ''), job)
    assert not any(line.startswith(f'--config.{key}') for line in found)


@pytest.mark.parametrize(('target', 'platforms'), [('slurm', 'cuda,cpu'), ('gke', 'tpu,cpu')])
def test_accelerators_that_are_not_there_are_missed(target, platforms, here, capfd):
  """JAX would go on without them, on the CPU."""
  workdir = str(here / 'a') if target == 'slurm' else '/data/a'
  assert run(target, '--dry_run', workdir=workdir) == 0
  assert platforms in capfd.readouterr().out
  chosen = run(target, '--dry_run', '--env=JAX_PLATFORMS=rocm', workdir=workdir)
  printed = capfd.readouterr().out
  assert chosen == 0
  assert 'rocm' in printed
  assert platforms not in printed


@pytest.mark.parametrize(
  ('mount', 'message'),
  [
    ('gs://=/x', 'gs://BUCKET'),
    ('gs:///x=/x', 'gs://BUCKET'),
    ('gs://Bucket_X=/x', 'gs://BUCKET'),
    ('gs://other=/data', 'another --mount'),
    ('gs://other=/movinet', 'the program itself'),
    ('gs://other=/usr/x', "the system's"),
  ],
)
def test_mounts_that_cannot_be(mount, message, here, capfd):
  assert run('gke', '--dry_run', f'--mount={mount}') == 2
  assert message in capfd.readouterr().err


def test_a_study_is_no_file_in_a_bucket(here, capfd):
  command = ['submit', '--on=tpu-vm', '--topology=v5e:1x1', '--zone=z', *CLOUD]
  sweep = ['sweep', '--config=configs/sweep/x3d.py', '--workdir=/data/a']
  assert main.main([*command, '--dry_run', '--', *sweep]) == 2
  assert 'a bucket cannot lock files' in capfd.readouterr().err


def test_a_misspelt_option_of_the_verb_is_found(here, capfd):
  with pytest.raises(SystemExit) as caught:
    run('slurm', '--dry_run', words=['--wrokers=3'])
  assert caught.value.code == 2
  assert 'unknown argument --wrokers=3' in capfd.readouterr().err


def test_help_teaches(capfd):
  with pytest.raises(SystemExit) as caught:
    main.main(['submit', '--help'])
  assert caught.value.code == 0
  printed = capfd.readouterr().out
  for target in OPTIONS:
    assert f'movinet submit --on={target} ' in printed


def start_submit(tmp_path, plan, *more) -> subprocess.Popen:
  environment = stand_in.install(tmp_path / 'env', tmp_path / 'seen', plan)
  argv = ['--on=local', '--processes=2', f'--environment={environment}', *more]
  argv += ['--', *COMMAND, f'--workdir={tmp_path}/run']
  return subprocess.Popen(
    [sys.executable, '-m', 'launch.main', 'submit', *argv],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def test_a_local_job_runs_to_its_end(tmp_path):
  plan = {'0': [{'code': 0}], '1': [{'code': 0}]}
  process = start_submit(tmp_path, plan)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 0, output
  assert 'process 0 start 1' in output
  assert 'TensorBoard:' in output
  assert len(stand_in.read_starts(tmp_path / 'seen')) == 2


def test_a_local_job_ends_with_the_code_of_its_run(tmp_path):
  plan = {'0': [{'code': 75}], '1': [{'code': 70}]}
  process = start_submit(tmp_path, plan)
  process.communicate(timeout=60)
  assert process.returncode == 70


def test_a_signal_to_the_command_reaches_the_run(tmp_path):
  plan = {'0': [{'save': 0.2}], '1': [{'save': 0.2}]}
  process = start_submit(tmp_path, plan)
  try:
    wait_for(lambda: len(stand_in.read_starts(tmp_path / 'seen')) == 2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
  finally:
    process.kill()
  assert process.returncode == 75
  assert 'saved' in output
