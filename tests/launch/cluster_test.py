"""Runs on several real processes over loopback equal those of one process."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from launch import cluster
from launch.pods.job import Job
from launch.pods.targets import slurm
from movinet_jax.train import checkpoint
from movinet_jax.train.workdir import CHECKPOINTS
from tests.launch.pods import fake_srun

# One layer a block: each process of each run compiles its own program.
TRAINING = """
from configs.movinet import quickstart


def get_config():
  cfg = quickstart.get_config()
  cfg.model.spec.update(stem=8, project=16, head=16, resolution=16, frames=4, blocks=tuple(
    {'features': f, 'stride': 2, 'layers': ({'kernel': (3, 3, 3), 'expand': 16},)}
    for f in (8, 16)
  ))
  cfg.model.dropout, cfg.model.stochastic_depth = 0.2, 0.2
  cfg.batch_size = cfg.eval_batch_size = 8
  for clip in cfg.clip.values():
    clip.update(frames=4, size=16)
  cfg.optimizer.warmup_steps = 1
  cfg.loop.update(total_steps=6, log_every=2, save_every=2, eval_every=3)
  cfg.checkpoints.keep = 9
  return cfg
"""
SEARCHING = """
from configs.search import quickstart


def get_config():
  cfg = quickstart.get_config()
  cfg.candidates, cfg.batch_size, cfg.policy_batch_size = 4, 8, 8
  cfg.space.update(
    stem=8, widths=(8,), strides=(2,), depth=1, project=8, head=8, resolution=16,
    kernels=((1, 3, 3), (3, 1, 1)), expansions=(1.0, 2.0), multipliers=(1.0, 2.0),
  )
  cfg.clip.update(frames=4, size=16)
  cfg.search.target = 3e5
  cfg.loop.update(total_steps=6, log_every=2, save_every=2)
  cfg.checkpoints.keep = 9
  cfg.finalists.update(neighbours=2, control=2, band=0.5, batches=1)
  return cfg
"""


COMPARED = {
  *('loss', 'top1', 'grad_norm', 'failed_decodes'),
  *('eval/loss', 'eval/top1', 'eval/missing'),
}


def find_port():
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    return probe.getsockname()[1]


def run(arguments, processes=1, devices=1, code=0):
  """Runs `movinet` as so many processes, which end with a code; what each printed."""
  address, started = f'localhost:{find_port()}', []
  for index in range(processes):
    joined = (address, str(processes), str(index)) if processes > 1 else ()
    environment = {
      **os.environ,
      **dict(zip(cluster.EXPLICIT, joined, strict=False)),
      **{'PYTHONPATH': os.getcwd(), 'JAX_NUM_CPU_DEVICES': str(devices)},
    }
    started.append(
      subprocess.Popen(
        [sys.executable, '-m', 'launch.main', *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
      )
    )
  try:
    outputs = [process.communicate(timeout=300)[0] for process in started]
  finally:
    for process in started:
      process.kill()
  assert {process.returncode for process in started} == {code}, '\n'.join(outputs)
  return outputs


@pytest.fixture(scope='module')
def make_command(tmp_path_factory, motion_videos):
  """Makes the command line of a verb on the small task."""
  configs = tmp_path_factory.mktemp('configs')

  def make(verb, workdir, **changed):
    path = configs / f'{verb}.py'
    path.write_text({'train': TRAINING, 'search': SEARCHING}[verb])
    splits = ('train', 'eval') if verb == 'train' else ('train',)
    values = {f'data.{split}.root': motion_videos for split in splits} | changed
    given = (f'--config.{key}={value}' for key, value in values.items())
    return [verb, f'--config={path}', f'--workdir={workdir}', *given]

  return make


@pytest.fixture(scope='module')
def trained(tmp_path_factory, make_command):
  """Workdirs of the same training on 1, 2 and 4 processes."""
  home = tmp_path_factory.mktemp('trained')
  for count in (1, 2, 4):
    run(make_command('train', home / str(count)), count)
  return home


def read_state(workdir, step):
  """All arrays of a checkpoint by path, on whatever devices they were."""
  path = workdir / CHECKPOINTS / str(step) / 'state'
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with ocp.StandardCheckpointer() as reader:
    shapes = ocp.StandardCheckpointHandler().metadata(path).tree
    wanted = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=here), shapes)
    tree = reader.restore(path, wanted)
  named = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path): np.asarray(value) for path, value in named}


def assert_close(left, right, **tolerance):
  assert left.keys() == right.keys()
  for name, value in left.items():
    np.testing.assert_allclose(value, right[name], err_msg=name, **tolerance)


def read_lines(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').open()]


def test_who_a_process_is(monkeypatch):
  alone = {'PATH': '/bin', 'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '4'}
  assert cluster.find_arguments(alone) is None  # a shell in an allocation is no step
  explicit = dict(zip(cluster.EXPLICIT, ('10.0.0.1:1234', '4', '3'), strict=True))
  assert cluster.find_arguments(explicit) == {
    'coordinator_address': '10.0.0.1:1234',
    'num_processes': 4,
    'process_id': 3,
  }
  step = {'SLURM_STEP_NODELIST': 'n[1-2]', 'SLURM_PROCID': '1', 'SLURM_LOCALID': '1'}
  slurm = cluster.find_arguments(alone | step)
  assert slurm == {'cluster_detection_method': 'slurm'}
  assert cluster.find_arguments(alone | step | {'SLURM_NTASKS': '1'}) is None
  assert cluster.find_arguments(alone | step | {'MOVINET_CLUSTER': 'none'}) is None
  assert cluster.find_arguments({'TPU_WORKER_HOSTNAMES': 'localhost'}) is None
  assert cluster.find_arguments({'TPU_WORKER_HOSTNAMES': 'a,b'}) == {}
  assert cluster.find_arguments({'MOVINET_CLUSTER': 'auto'}) == {}


def test_the_coordinator_of_one_machine_listens_to_that_machine_alone():
  values = ('localhost:1234', '2', '0')
  found = cluster.find_arguments(dict(zip(cluster.EXPLICIT, values, strict=True)))
  assert found['coordinator_bind_address'] == 'localhost:1234'


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (
      ('h:1', '4', ''),
      r'MOVINET_COORDINATOR, MOVINET_PROCESSES without MOVINET_PROCESS',
    ),
    (('h:1', '4', '4'), r'MOVINET_PROCESS=4 of MOVINET_PROCESSES=4'),
    (('h:1', 'four', '0'), r'wanted whole numbers'),
    (('h', '4', '0'), r"is 'h'; wanted HOST:PORT"),
  ],
)
def test_a_process_that_is_told_half_is_an_error(given, message):
  with pytest.raises(ValueError, match=message):
    cluster.find_arguments(dict(zip(cluster.EXPLICIT, given, strict=True)))


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
def test_training_on_several_processes_is_that_of_one(trained, count):
  one, several = trained / '1', trained / str(count)
  assert_close(read_state(several, 6), read_state(one, 6), atol=2e-5, rtol=1e-4)
  lines, alone = read_lines(several), read_lines(one)
  # Written by one process, and the same: evaluations too, of every video once.
  assert [line['step'] for line in lines] == [line['step'] for line in alone]
  for line, other in zip(lines, alone, strict=True):
    assert line.keys() == other.keys()
    for name in COMPARED & line.keys():
      assert line[name] == pytest.approx(other[name], rel=1e-4), name


@pytest.mark.slow
def test_a_run_goes_on_with_other_processes_and_devices(trained, make_command, tmp_path):
  """4 processes, then 2, then 8 devices of one: as if nothing had happened."""
  shutil.copytree(trained / '4', tmp_path, dirs_exist_ok=True)
  command = make_command('train', tmp_path)
  for kept, processes, devices in ((2, 2, 1), (4, 1, 8)):
    for step in checkpoint.count_steps(tmp_path / CHECKPOINTS):
      if step > kept:
        shutil.rmtree(tmp_path / CHECKPOINTS / str(step))
    assert f'Restored step {kept}' in run(command, processes, devices)[0]
  undisturbed = read_state(trained / '1', 6)
  assert_close(read_state(tmp_path, 6), undisturbed, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_every_video_is_evaluated_once(trained, motion_videos, tmp_path):
  """And those that cannot be decoded are named, whichever process has tried."""
  videos, found = shutil.copytree(motion_videos, tmp_path / 'videos'), []
  broken = sorted((videos / 'val').rglob('*.mp4'))[::3]
  for path in broken:
    path.write_bytes(b'no video')
  for processes in (1, 2, 4):
    out = tmp_path / f'found-{processes}'
    options = [f'--checkpoint={trained / "1"}', f'--out={out}', '--batch-size=12']
    options.append(f'--predictions={out}.jsonl')
    run(['evaluate', *options, f'--set=root={videos}'], processes)
    read = json.loads(out.with_name(f'{out.name}.json').read_text())
    read['classes'] = out.with_name(f'{out.name}-classes.csv').read_text()
    del read['predictions']  # the file's name
    rows = [json.loads(line) for line in out.with_suffix('.jsonl').read_text().splitlines()]
    assert np.mean([row['right'] for row in rows if not row['failure']]) == read['top1']
    read['videos'] = [(row['name'], row['label'], row['right'], row['failure']) for row in rows]
    found.append((read.pop('loss'), read))
  (loss, one), *several = found
  for other, read in several:
    assert other == pytest.approx(loss, rel=1e-6)
    assert read == one
  assert one['missing'] == len(broken) > 2
  assert {pathlib.Path(name).name for name in one['failures']} == {p.name for p in broken}
  assert one['evaluated'] % 12  # the last batch is padded


@pytest.mark.slow
def test_a_search_on_several_processes_is_that_of_one(make_command, tmp_path):
  for count in (1, 2, 4):
    home = tmp_path / str(count)
    run(make_command('search', home), count)
    states = [read_state(tmp_path / '1', 6), read_state(home, 6)]
    assert_close(*states, atol=2e-5, rtol=1e-4)
    samples = [read_samples(folder) for folder in (tmp_path / '1', home)]
    np.testing.assert_array_equal(*(tried['choices'] for tried in samples))
    np.testing.assert_array_equal(*(tried['accuracy'] for tried in samples))
    found = [json.loads((p / 'found.json').read_text()) for p in (tmp_path / '1', home)]
    assert found[0]['choices'] == found[1]['choices']


def read_samples(workdir):
  files = sorted((workdir / 'samples').glob('*.npz'))
  read = [dict(np.load(file)) for file in files]
  return {k: np.concatenate([r[k] for r in read]) for k in ('choices', 'accuracy')}


@pytest.mark.slow
def test_all_processes_refuse_a_workdir_of_another_config(trained, make_command):
  command = make_command('train', trained / '1', seed=3)
  outputs = run(command, 2, code=2)
  assert all('seed: was 0, now 3' in output for output in outputs)


@pytest.mark.slow
def test_a_job_of_local_processes_is_that_run(trained, make_command, tmp_path):
  command = make_command('train', tmp_path / 'run')
  output = run(['submit', '--on=local', '--processes=2', '--', *command])[0]
  assert 'eval/top1' in output  # what the first process says
  states = read_state(tmp_path / 'run', 6), read_state(trained / '2', 6)
  assert_close(*states, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_a_job_of_slurm_is_that_run(trained, make_command, tmp_path):
  """The script as it is submitted; only srun is not Slurm's."""
  workdir = str(tmp_path / 'run')
  job = Job(
    name='small',
    words=tuple(make_command('train', workdir)),
    workdir=workdir,
    environment=sys.prefix,
    directory=os.getcwd(),
  )
  script = slurm.render(job).files[slurm.FILE]
  codes = fake_srun.run_job(script, tmp_path, tasks=2, JAX_NUM_CPU_DEVICES='1')
  assert codes == [0], (tmp_path / 'output.txt').read_text()
  states = read_state(tmp_path / 'run', 6), read_state(trained / '2', 6)
  assert_close(*states, atol=1e-6, rtol=1e-5)
