"""Shared memory for loader workers: what they need is known, and named where it is missing."""

import errno
import json
import mmap
import os
import subprocess
import sys

import pytest

from launch.errors import ExitCode, explain, find_exit_code
from launch.runs.evaluation import make_evaluate
from movinet_jax import data, models
from movinet_jax.data import (
  EvalClip,
  LoaderOptions,
  SharedMemoryFull,
  TrainClip,
  WorkerDied,
  shared_memory,
)

CLIP = TrainClip(frames=4, size=64, stride=1)
OPTIONS = {'batch_size': 8, 'train': True}
MIB = 2**20


@pytest.fixture(scope='module')
def source(motion_root):
  return data.open_source('folder', root=motion_root, split='val')  # 16 videos


@pytest.fixture
def free(monkeypatch):
  """Says how many bytes are free."""

  def say(number):
    monkeypatch.setattr(shared_memory, 'find_free_bytes', lambda: number)

  return say


def count_need(source, workers, clip=CLIP, **options):
  options = {**OPTIONS, **options}
  return data.check_shared_memory(source, clip, workers=workers, **options).count_bytes(workers)


def test_what_is_needed_is_of_one_process_and_grows_with_workers(source, free):
  free(None)
  pixels = 8 * 4 * 64 * 64 * 3
  for workers, batches in ((1, 6), (2, 10), (4, 18)):
    need = count_need(source, workers)
    assert batches * pixels < need < 1.1 * batches * pixels + workers * 30 * mmap.PAGESIZE
  half = count_need(source, 2, shard=(1, 2))
  assert half == pytest.approx(count_need(source, 2) / 2, rel=0.2)
  views = count_need(source, 4, EvalClip(4, 64, stride=1, clips=10), train=False)
  assert views == pytest.approx(2 * 10 * pixels, rel=0.2)  # 16 videos are two batches
  assert count_need(source, 0) == 0


def test_too_little_is_named_with_what_fits(source, free):
  free(count_need(source, 2))
  with pytest.raises(SharedMemoryFull) as error:
    data.make_batches(source, CLIP, workers=4, **OPTIONS)
  words = '/dev/shm', 'loader.workers=4', 'loader.workers=2', '18 x 404 KiB', '--ipc=host'
  for word in (*words, '--shm-size=1g', 'medium: Memory'):
    assert word in str(error.value)
  assert '\n' not in str(error.value)
  data.make_batches(source, CLIP, workers=2, **OPTIONS).close()
  free(count_need(source, 2) - 1)
  with pytest.raises(SharedMemoryFull, match=r'loader\.workers=2 needs .* take loader\.workers=1'):
    data.make_batches(source, CLIP, workers=2, **OPTIONS)
  free(0)
  with pytest.raises(SharedMemoryFull, match=r'has 0 KiB free.* take loader\.workers=0'):
    data.make_batches(source, CLIP, workers=1, **OPTIONS)
  data.make_batches(source, CLIP, workers=0, **OPTIONS).close()


def test_memory_that_cannot_be_written_is_named(source, free, monkeypatch):
  free(64 * MIB)
  monkeypatch.setattr(shared_memory.os, 'access', lambda path, mode: path != '/dev/shm')
  with pytest.raises(SharedMemoryFull, match=r'/dev/shm cannot be written.*loader\.workers=0'):
    data.make_batches(source, CLIP, workers=1, **OPTIONS)
  data.make_batches(source, CLIP, workers=0, **OPTIONS).close()


def test_a_large_need_is_said_in_whole_gigabytes(source, free):
  free(64 * MIB)
  views = EvalClip(50, 172, stride=1, clips=10)
  with pytest.raises(SharedMemoryFull, match=r'64\.0 MiB free.*2\.1 GiB.*1 x 2\.1 GiB.*-size=4g'):
    data.make_batches(source, views, workers=4, batch_size=50, train=False)


def test_streams_that_wait_are_counted_together(source, free):
  one = count_need(source, 1)
  free(2 * one - 1)
  first = data.make_batches(source, CLIP, workers=1, **OPTIONS)
  with pytest.raises(SharedMemoryFull, match=r'6 x .* and 6 x'):
    data.make_batches(source, CLIP, workers=1, **OPTIONS)
  first.close()
  data.make_batches(source, CLIP, workers=1, **OPTIONS).close()
  free(2 * one)
  with (
    data.make_batches(source, CLIP, workers=1, **OPTIONS) as first,
    data.make_batches(source, CLIP, workers=1, **OPTIONS) as second,
    data.PairedBatches(first, second),
  ):
    pass


def test_an_evaluation_is_counted_before_the_first_step(source, free):
  model = models.create('movinet/a0', num_classes=4)
  clip, loader = EvalClip(4, 64, stride=1), LoaderOptions(workers=1)
  free(count_need(source, 1))
  make_evaluate(model, source, clip, loader, 8)
  with (
    data.make_batches(source, CLIP, workers=1, **OPTIONS),
    pytest.raises(SharedMemoryFull, match=r'6 x .* and 2 x'),
  ):
    make_evaluate(model, source, clip, loader, 8)


def test_a_person_must_act_and_no_trial_fails():
  error = SharedMemoryFull('/dev/shm has 1 KiB free')
  assert find_exit_code(error) == ExitCode.MISUSE
  assert explain(error) == str(error) == '/dev/shm has 1 KiB free'
  assert error.errno == errno.ENOSPC  # which ends a sweep, not its trials


class Failing:
  """An iterator of grain's that fails."""

  def __init__(self, error):
    self._error = error

  def __next__(self):
    raise self._error

  def close(self):
    pass


@pytest.mark.parametrize(
  ('error', 'workers', 'wanted'),
  [
    (OSError(errno.ENOSPC, 'No space left on device'), 2, SharedMemoryFull),
    (RuntimeError('Worker process was terminated with exit code -7.'), 2, SharedMemoryFull),
    (RuntimeError('Worker process was terminated with exit code -9.'), 2, WorkerDied),
    (OSError(errno.ENOSPC, 'No space left on device'), 0, OSError),
    (OSError(errno.EIO, 'Input/output error', 'a.mp4'), 2, OSError),
  ],
)
def test_memory_that_runs_out_later_is_named(source, free, error, workers, wanted):
  free(10 * MIB)
  with data.make_batches(source, CLIP, workers=workers, **OPTIONS) as batches:
    batches._iterator.close()
    batches._iterator = Failing(error)
    with pytest.raises(wanted) as caught:
      next(batches)
  assert type(caught.value) is wanted
  if wanted is SharedMemoryFull:
    for word in ('/dev/shm is full', 'loader.workers=2', '--shm-size', '10.0 MiB'):
      assert word in str(caught.value)


# In a name space of its own, where /dev/shm may be mounted anew.
_SCRIPT = """
import gc, json, os, subprocess, sys, time
from movinet_jax import data
from movinet_jax.data import SharedMemoryFull, shared_memory
from nas.trials import owner

def mount(options, place='/dev/shm'):
  subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', place], check=True)

def count_used():
  found['peak'] = max(found['peak'], size - shared_memory.find_free_bytes())
  return found['peak']

def read(count, **options):
  with data.make_batches(source, clip, batch_size=8, **options) as batches:
    next(batches)
    until = time.monotonic() + 120
    while options['train'] and count_used() < 0.8 * size and time.monotonic() < until:
      time.sleep(0.01)
    for _ in range(count):
      next(batches, None)
      count_used()
  found['left'] += [name for name in os.listdir('/dev/shm') if name.startswith('psm')]

def fail(room):
  gc.collect()  # semaphores of streams that are over
  with open('/dev/shm/fill', 'wb') as file:
    os.posix_fallocate(file.fileno(), 0, shared_memory.find_free_bytes() - room)
  try:
    read(9, train=True, workers=1)
  except SharedMemoryFull as error:
    return str(error)
  finally:
    os.remove('/dev/shm/fill')

if __name__ == '__main__':
  source = data.open_source('folder', root=sys.argv[1], split='val')
  clip = data.TrainClip(frames=4, size=64, stride=1)
  found = {'left': [], 'peak': 0}
  mount('size=64m')
  need = data.check_shared_memory(source, clip, batch_size=8, workers=2, train=True)
  size = found['need'] = need.count_bytes(2)
  mount(f'remount,size={size}')
  read(12, train=True, workers=2)
  read(9, train=False, workers=1)
  mount('remount,size=4m')
  shared_memory.check_room = lambda needs: None  # as if others had come later
  found['refused'] = fail(40_000)
  found['killed'] = fail(250_000)
  owner._MEMORY = owner.Path(sys.argv[2])
  mount('size=16k,nr_inodes=1', owner._MEMORY)
  with owner.hold_name() as name:
    found['name'], found['gone'] = name, owner.is_gone(name)
  print(json.dumps(found))
"""


@pytest.fixture
def real(motion_root, tmp_path):
  """What the script found."""
  script = tmp_path / 'script.py'
  script.write_text(_SCRIPT)
  apart = 'unshare', '--user', '--mount', '--map-root-user'
  try:
    subprocess.run([*apart, 'mount', '-t', 'tmpfs', 'tmpfs', '/dev/shm'], check=True)
  except (OSError, subprocess.CalledProcessError) as error:
    pytest.skip(f'no file system can be mounted here: {error}')
  done = subprocess.run(
    [*apart, sys.executable, str(script), motion_root, str(tmp_path)],
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != 'linux', reason='mounts /dev/shm')
def test_real_workers_take_what_is_said_and_leave_nothing(real):
  assert 0.8 * real['need'] < real['peak'] <= real['need']
  assert real['left'] == []
  assert 'signal 7' in real['killed']
  assert 'no room for a file' in real['refused']
  for text in (real['killed'], real['refused']):
    assert '/dev/shm is full' in text
    assert '--shm-size=1g' in text
  assert real['name']
  assert real['gone'] is False
