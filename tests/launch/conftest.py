"""One small trained run that the verbs' tests share."""

import os
import signal
import subprocess
import sys

import pytest

from movinet_jax.data import motion

# Small enough to train in seconds; everything else is the quickstart's.
SMALL = {
  'batch_size': 8,
  'clip.train.size': 16,
  'clip.eval.size': 16,
  'clip.train.frames': 4,
  'clip.eval.frames': 4,
  'loop.total_steps': 6,
  'loop.log_every': 2,
  'loop.save_every': 2,
  'optimizer.warmup_steps': 1,
}


@pytest.fixture(scope='session')
def motion_videos(tmp_path_factory):
  root = tmp_path_factory.mktemp('videos') / 'motion'
  motion.write_motion(str(root), videos_per_class=8, frames=8, size=24, seed=1)
  return str(root)


@pytest.fixture(scope='session')
def train_command(motion_videos):
  """Makes the command line of `movinet train` on the small task."""

  def make(workdir, **changed):
    roots = {f'data.{split}.root': motion_videos for split in ('train', 'eval')}
    values = {**SMALL, **roots, **changed}
    return [
      'train',
      '--config=configs/movinet/quickstart.py',
      f'--workdir={workdir}',
      *(f'--config.{key}={value}' for key, value in values.items()),
    ]

  return make


def start(arguments):
  """Starts `movinet` in a process of its own."""
  return subprocess.Popen(
    [sys.executable, '-m', 'launch.main', *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
  )


@pytest.fixture
def start_movinet():
  """Starts `movinet`; what still runs after the test is killed."""
  processes = []

  def start_one(arguments):
    processes.append(start(arguments))
    return processes[-1]

  yield start_one
  for process in processes:
    process.send_signal(signal.SIGKILL)


@pytest.fixture
def run_movinet(start_movinet):
  """Runs `movinet` to its end: (exit code, what it printed)."""

  def run(arguments):
    process = start_movinet(arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output

  return run


@pytest.fixture(scope='session')
def trained(tmp_path_factory, train_command):
  """Workdir of a finished small run."""
  workdir = tmp_path_factory.mktemp('run')
  process = start(train_command(workdir))
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return workdir
