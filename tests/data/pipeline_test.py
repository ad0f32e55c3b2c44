"""The stream of batches: one and the same however it is read, and nothing hidden."""

import collections
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from movinet_jax import data
from movinet_jax.data import (
  DecodeError,
  EvalClip,
  PairedBatches,
  TooManyFailures,
  TrainClip,
)
from movinet_jax.data.source import Record, make_source, split_source

TRAIN = TrainClip(frames=3, size=24, stride=2, colour=0.3, autoaugment=True)
EVAL = EvalClip(frames=3, size=24, stride=2)


@pytest.fixture(scope='module')
def source(motion_root):
  return data.open_source('folder', root=motion_root, split='val')  # 16 videos


def read(source, count=None, clip=TRAIN, **kwargs):
  kwargs = {'batch_size': 6, 'seed': 5, 'train': clip is TRAIN, **kwargs}
  with data.make_batches(source, clip, **kwargs) as batches:
    return list(itertools.islice(batches, count))


def assert_equal_streams(ones, others):
  assert len(ones) == len(others)
  for one, other in zip(ones, others, strict=True):
    assert one.keys() == other.keys()
    for key in one:
      np.testing.assert_array_equal(one[key], other[key], err_msg=key)


class PickyReader:
  def __init__(self, bad):
    self.bad = bad

  def __call__(self, video, choose, *, name=''):
    if name in self.bad:
      raise DecodeError(name, 'planted')
    return data.read_clip(video, choose, name=name)


def test_batch_is_as_described(source):
  (batch,) = read(source, 1)
  assert {k: (v.shape, v.dtype.kind) for k, v in batch.items()} == {
    'video': ((6, 3, 24, 24, 3), 'u'),
    'label': ((6,), 'i'),
    'mask': ((6,), 'f'),
    'failed': ((6,), 'b'),
    'name': ((6,), 'U'),
  }
  assert batch['label'].dtype == np.int32
  assert batch['mask'].dtype == np.float32
  assert batch['mask'].all()
  for name, label in zip(batch['name'], batch['label'], strict=True):
    assert name.startswith(source.labels[label] + '/')


@pytest.mark.parametrize('workers', [1, 2])
def test_workers_change_nothing(source, workers):
  assert_equal_streams(read(source, 7), read(source, 7, workers=workers))


def test_threads_change_nothing(source):
  assert_equal_streams(read(source, 7), read(source, 7, threads=3))


@pytest.mark.parametrize('start', [1, 2, 3, 5, 11])
def test_resume_is_exact_at_any_batch(source, start):
  assert_equal_streams(read(source, 14)[start:], read(source, 14 - start, start=start))


def test_resume_is_exact_with_other_workers(source):
  wanted = read(source, 9)[4:]
  assert_equal_streams(wanted, read(source, 5, start=4, workers=2))


def test_position_is_what_resumes(source):
  with data.make_batches(source, TRAIN, batch_size=6, seed=5, train=True) as batches:
    for _ in range(3):
      next(batches)
    position = batches.position
  with data.make_batches(source, TRAIN, batch_size=6, seed=5, train=True, start=position) as again:
    assert again.position == 3
    assert_equal_streams([next(again)], read(source, 4)[3:])


def test_batches_of_one_clip(source):
  assert [len(batch['name']) for batch in read(source, 3, batch_size=1)] == [1] * 3


@pytest.mark.parametrize('count', [2, 3, 6])
@pytest.mark.parametrize('clip', [TRAIN, EVAL])
def test_processes_share_the_same_global_batches(source, clip, count):
  """Together they have just the rows of one process: names, labels and pixels."""
  whole = read(source, 5, clip=clip)
  parts = [read(source, 5, clip=clip, shard=(index, count)) for index in range(count)]
  assert {len(part) for part in parts} == {len(whole)}
  for step, batch in enumerate(whole):
    assert all(len(part[step]['name']) == 6 // count for part in parts)
    # Process i has the i-th part: side by side they are the batch, in its order.
    for key in ('name', 'label', 'mask', 'video'):
      merged = np.concatenate([part[step][key] for part in parts])
      if key == 'video':  # of padding the pixels mean nothing
        mask = batch['mask'] > 0
        np.testing.assert_array_equal(merged[mask], batch[key][mask])
      else:
        np.testing.assert_array_equal(merged, batch[key], err_msg=key)


@pytest.mark.parametrize('count', [1, 2, 3])
def test_evaluation_has_each_record_once(source, count):
  seen = collections.Counter()
  lengths = set()
  for index in range(count):
    batches = read(source, clip=EVAL, shard=(index, count))
    lengths.add(len(batches))
    for batch in batches:
      assert ((batch['name'] != '') == (batch['mask'] == 1)).all()
      seen.update(batch['name'][batch['mask'] > 0].tolist())
  assert seen == {record.name: 1 for record in source.records}
  assert lengths == {3}  # 16 records in batches of 6


def test_training_has_each_record_once_an_epoch_in_a_new_order(source):
  names = np.concatenate([b['name'] for b in read(source, 16, batch_size=3)])
  epochs = names.reshape(3, 16)
  for epoch in epochs:
    assert len(set(epoch)) == 16
  assert (epochs[0] != epochs[1]).any()
  other = np.concatenate([b['name'] for b in read(source, 16, batch_size=3, seed=6)])
  assert (names != other).any()


def test_augmentation_differs_between_epochs(source):
  batches = read(source, 16, batch_size=2)
  first = {n: v for b in batches[:8] for n, v in zip(b['name'], b['video'], strict=True)}
  again = {n: v for b in batches[8:] for n, v in zip(b['name'], b['video'], strict=True)}
  assert sum((first[n] != again[n]).any() for n in first) >= 14


def test_views_are_an_axis(source):
  many = read(source, 1, clip=EvalClip(3, 24, stride=2, clips=4))[0]['video']
  assert many.shape == (6, 4, 3, 24, 24, 3)
  first = read(source, 1, clip=EvalClip(3, 24, stride=2, clips=2))[0]['video']
  np.testing.assert_array_equal(many[:, 0], first[:, 0])
  np.testing.assert_array_equal(many[:, 3], first[:, 1])


@pytest.fixture
def gradients(encode, tmp_path):
  """Two videos whose red is the place on the longer side and whose blue is the frame."""
  folder = tmp_path / 'val' / 'gradient'
  folder.mkdir(parents=True)
  frames = np.zeros((6, 48, 80, 3), np.uint8)
  frames[..., 0] = 3 * np.arange(80)
  frames[..., 2] = 40 * np.arange(6)[:, None, None]
  both = {'a_wide': frames, 'b_tall': frames.swapaxes(1, 2)}
  for name, seen in both.items():
    encode(folder / f'{name}.mkv', seen, pix_fmt='bgr0', codec='ffv1')
  return data.open_source('folder', root=str(tmp_path), split='val')


def test_crops_of_a_video_are_views_of_it(gradients):
  clip = EvalClip(2, 48, stride=1, clips=3, crops=3)
  (batch,) = read(gradients, clip=clip, batch_size=2)
  assert batch['video'].shape == (2, 9, 2, 48, 48, 3)
  wide, tall = batch['video']
  np.testing.assert_array_equal(tall, wide.swapaxes(2, 3))
  for number, view in enumerate(wide):
    k, c = divmod(number, 3)
    seen = np.broadcast_to(3 * (16 * c + np.arange(48)), (2, 48, 48))
    np.testing.assert_array_equal(view[..., 0], seen)
    np.testing.assert_array_equal(view[:, 0, 0, 2], [40 * 2 * k, 40 * (2 * k + 1)])


def test_training_reads_squares_of_a_scaled_picture(gradients):
  clip = TrainClip(2, 24, stride=1, short_side=(28, 34), flip=False)
  batches = read(gradients, 20, clip=clip, batch_size=2, train=True)
  assert_equal_streams(batches, read(gradients, 20, clip=clip, batch_size=2, train=True))
  seen = [v for b in batches for n, v in zip(b['name'], b['video'], strict=True) if 'wide' in n]
  # Red grows by 3 a pixel of the file, so by 3 * 48 / short side a pixel of the crop.
  steps = [np.diff(v[0, 12, :, 0].astype(float)).mean() for v in seen]
  assert 3 * 48 / 34 - 0.15 < min(steps) < 4.6 < 4.75 < max(steps) < 3 * 48 / 28 + 0.15
  assert len({int(v[0, 12, 0, 0]) for v in seen}) > 5


def test_failures_are_marked_counted_and_not_replaced(source):
  names = [record.name for record in source.records]
  bad = {names[0], names[1], names[9]}
  batches = data.make_batches(
    source,
    EVAL,
    batch_size=6,
    train=False,
    reader=PickyReader(bad),
    max_failed_share=0.5,
  )
  with batches:
    rows = list(batches)
  seen = [name for batch in rows for name in batch['name'] if name]
  assert seen == names
  for batch in rows:
    assert set(batch['name'][batch['failed']]) == bad & set(batch['name'])
    assert (batch['mask'] == ~(batch['failed'] | (batch['name'] == ''))).all()
  first = rows[0]['video']
  np.testing.assert_array_equal(first[0], first[2])  # the next good row
  np.testing.assert_array_equal(first[1], first[2])
  assert first[2].any()
  assert (batches.decoded, batches.failed) == (13, 3)
  assert batches.failures == dict.fromkeys(bad, 'planted')


@pytest.mark.parametrize('workers', [0, 2])
def test_too_many_failures_stop_and_name_the_files(source, workers):
  names = [record.name for record in source.records]
  bad = names[::3]
  batches = data.make_batches(
    source,
    TRAIN,
    batch_size=4,
    train=True,
    workers=workers,
    reader=PickyReader(frozenset(bad)),
    max_failed_share=0.2,
  )
  with batches, pytest.raises(TooManyFailures, match=r'share of 0\.2') as error:
    list(itertools.islice(batches, 10))
  named = [name for name in names if f'{name}: planted' in str(error.value)]
  assert set(named) == set(batches.failures) <= set(bad)
  assert batches.failed > 0.2 * (batches.failed + batches.decoded)


def test_batch_without_a_good_row_is_zeros():
  records = [Record(f'/nowhere/{i}.mp4', 0, str(i)) for i in range(4)]
  source = make_source(records, ['a'])
  (batch,) = read(source, 1, clip=EVAL, batch_size=4, max_failed_share=1.0)
  assert batch['failed'].all()
  assert not batch['mask'].any()
  assert not batch['video'].any()
  with pytest.raises(TooManyFailures, match='no such file'):
    read(source, 1, clip=EVAL, batch_size=4)


def test_a_fault_of_the_program_is_not_a_bad_video(source):
  class Broken:
    def __call__(self, video, choose, *, name=''):
      raise KeyError('a bug')

  with pytest.raises(KeyError, match='a bug'):
    read(source, 1, reader=Broken())


def test_several_labels_are_a_vector(source):
  records = [
    Record(record.video, labels, record.name)
    for record, labels in zip(source.records, [(0,), (1, 2), ()], strict=False)
  ]
  several = make_source(records, ['a', 'b', 'c'], multi_label=True)
  (batch,) = read(several, clip=EVAL, batch_size=4)
  assert batch['label'].dtype == np.float32
  wanted = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]]
  np.testing.assert_array_equal(batch['label'], wanted)
  np.testing.assert_array_equal(batch['mask'], [1, 1, 1, 0])


def test_identity_tells_streams_apart(source):
  def identity(clip=TRAIN, source=source, **kwargs):
    kwargs = {'batch_size': 6, 'seed': 5, 'train': True, **kwargs}
    with data.make_batches(source, clip, **kwargs) as batches:
      return json.dumps(batches.identity())

  same = identity()
  assert same == identity(shard=(1, 2)) == identity(threads=2, start=7)
  fewer = make_source(source.records[:-1], source.labels)
  others = [identity(seed=6), identity(batch_size=12), identity(source=fewer)]
  others.append(identity(clip=TrainClip(frames=3, size=24, stride=1)))
  assert len({same, *others}) == 5


def test_two_streams_run_side_by_side(source):
  rest, share = split_source(source, 0.5)
  options = {'clip': TRAIN, 'train': True}
  one = data.make_batches(rest, batch_size=2, **options)
  two = data.make_batches(share, batch_size=3, **options)
  with PairedBatches(one, two) as batches:
    batch = next(batches)
    assert batch['video'].shape[0] == 2
    assert batch['valid']['video'].shape[0] == 3
    assert len(batch['name']) == 5
    assert set(batch['name'][2:]) == set(batch['valid']['name'])
    identity = batches.identity()
    assert identity['fingerprint'] != identity['valid']['fingerprint']
    assert batches.failed == 0


def test_closing_ends_the_workers_and_can_be_repeated(source):
  batches = data.make_batches(source, TRAIN, batch_size=4, train=True, workers=1)
  next(batches)
  batches.close()
  batches.close()
  with pytest.raises(ValueError):
    next(batches)


def test_records_are_not_spelled_out(source):
  """Those of a large dataset would take gigabytes in each worker."""

  class Records(tuple):
    __slots__ = ()

    def __repr__(self):
      raise AssertionError('asked for the text of all records')

  records = dataclasses.replace(source, records=Records(source.records))
  assert_equal_streams(read(records, 1), read(source, 1))


def test_source_pickles_small(source):
  assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ({'batch_size': 5, 'shard': (0, 2)}, 'batch_size=5 .* 2 processes'),
    ({'shard': (2, 2)}, r'shard .*\(2, 2\)'),
    ({'start': -1}, 'start'),
    ({'workers': -1}, 'workers'),
    ({'threads': 0}, 'threads'),
  ],
)
def test_arguments_that_do_not_fit(source, arguments, words):
  with pytest.raises(ValueError, match=words):
    read(source, 1, **arguments)


_READER = """
import multiprocessing, signal, sys
from movinet_jax import data
if __name__ == '__main__':
  # Whoever runs the tests in the background has it ignored, and that is inherited.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  source = data.open_source('folder', root=sys.argv[1], split='train')
  clip = data.TrainClip(frames=2, size=16, stride=1)
  batches = data.make_batches(source, clip, batch_size=2, train=True, workers=1)
  next(batches)
  if len(sys.argv) > 2:
    signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))
  print(*(child.pid for child in multiprocessing.active_children()), flush=True)
  for _ in batches:
    pass
"""


@pytest.fixture
def reading(request, motion_root, tmp_path):
  """(a process that reads batches for ever, the id of its only worker)."""
  script = tmp_path / 'read.py'
  script.write_text(_READER)
  process = subprocess.Popen(
    [sys.executable, str(script), motion_root, *getattr(request, 'param', ())],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  (worker,) = map(int, process.stdout.readline().split())
  yield process, worker
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.communicate()


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_workers_do_not_outlive_a_killed_parent(reading):
  process, worker = reading
  assert _runs(worker)
  process.kill()
  process.wait()
  _wait_until_gone(worker)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_ctrl_c_is_the_parents_business(reading):
  process, worker = reading
  os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all at once
  _, errors = process.communicate(timeout=90)
  assert errors.count('KeyboardInterrupt') == 1, errors
  assert 'Process grain' not in errors
  _wait_until_gone(worker)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize('reading', [('saves',)], indirect=True)
def test_a_stop_of_all_processes_is_the_parents_business(reading):
  """As batch systems and `timeout` send it; the parent still wants batches, to save."""
  process, worker = reading
  for _ in range(3):
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == 'asked\n'
  time.sleep(0.5)
  assert _runs(worker)
  assert process.poll() is None


def _wait_until_gone(pid):
  until = time.monotonic() + 10
  while _runs(pid):
    assert time.monotonic() < until
    time.sleep(0.1)


def _runs(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  state = pathlib.Path(f'/proc/{pid}/stat')
  return state.exists() and state.read_text().rpartition(')')[2].split()[0] != 'Z'
