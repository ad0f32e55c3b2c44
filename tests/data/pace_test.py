"""What a run is told of its input: measured figures, and what follows from them."""

import itertools
import time

import pytest

from movinet_jax import data
from movinet_jax.data import FrameFolder, TrainClip
from movinet_jax.data.pace import Reading, Spent, advise, start_watch
from movinet_jax.data.source import Record, Source, make_source

CLIP = TrainClip(16, 172, stride=5)
FILES = make_source([Record('a.mp4', 0, 'a')], ['x'])
PICTURES = make_source([Record(FrameFolder('a', 30.0), 0, 'a')], ['x'])
BUILT = Source(FILES.records, FILES.labels, '', short_side=256)


def say(step_secs=0.1, source=FILES, clips=8, workers=2, cores=16, secs=0.05, core_secs=None):
  spent = Spent(100, 100 * secs, 100 * (secs if core_secs is None else core_secs))
  return advise([Reading(source, CLIP, clips, workers, 1, spent)], step_secs, cores)


def test_cores_and_workers_follow_from_what_a_clip_and_a_step_take():
  told = say()  # 8 clips of 0.05 s every 0.1 s
  for word in ('0.1 s', '8 clips', '0.05 s', '4.0 cores', 'Here are 16', 'loader.workers=2'):
    assert word in told
  assert told.endswith('Take loader.workers=4')
  # A worker that waits for its disk leaves the core to others.
  told = say(secs=0.1, core_secs=0.025)
  assert '2.0 cores' in told
  assert told.endswith('Take loader.workers=8')


def test_more_workers_than_cores_are_never_the_advice():
  told = say(cores=3)
  assert 'Take loader.workers=3' in told
  assert 'among 2 x the hosts' in told
  assert 'Take' not in say(cores=3, workers=3)
  told = say(workers=4)
  assert 'nothing else used the cores' in told
  assert 'hosts' not in told


@pytest.mark.parametrize(
  ('source', 'wanted'),
  [(FILES, '172 pixels'), (BUILT, '--short-side 172 (this one has 256)'), (PICTURES, 'pictures')],
)
def test_what_would_take_fewer_cores_depends_on_the_data(source, wanted):
  told = say(source=source, cores=2)
  assert wanted in told
  assert ('folders of pictures' in told) == (source is not PICTURES)


def test_two_streams_are_read_side_by_side():
  readings = [Reading(FILES, CLIP, clips, 1, 1, Spent(10, 0.5, 0.5)) for clips in (8, 16)]
  told = advise(readings, 0.1, cores=16)
  for word in ('24 clips', '12 cores', 'loader.workers=1 for each of its 2 streams'):
    assert word in told
  assert told.endswith('Take loader.workers=8')  # of which the larger stream needs them all


def test_a_watch_tells_waiting_from_work():
  stop = start_watch()
  time.sleep(0.05)
  spent = stop(3)
  assert spent.clips == 3
  assert spent.secs > 0.04 > spent.core_secs


class Slow:
  """A reader that waits for each video, as for a disk far away."""

  def __call__(self, video, choose, *, name=''):
    time.sleep(0.02)
    return data.read_clip(video, choose, name=name)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_stream_measures_what_it_takes_where_it_is_read(motion_root, workers):
  source = data.open_source('folder', root=motion_root, split='val')
  options = {'batch_size': 4, 'train': True, 'workers': workers, 'reader': Slow()}
  with data.make_batches(source, TrainClip(3, 24, stride=2), **options) as batches:
    for batch in itertools.islice(batches, 3):
      assert 'spent' not in batch
    spent = batches.reading.spent
    assert spent.clips == 12
    assert spent.secs > 12 * 0.02
    assert 0 < spent.core_secs < spent.secs - 12 * 0.018
    assert f'loader.workers={workers}' in batches.advise(0.1)
