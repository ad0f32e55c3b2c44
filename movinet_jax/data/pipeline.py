"""Source -> batches, on grain: shuffled, sharded, resumable, with failures in the open.

The order of the parts is what makes the stream one and the same however it is read:

    indices -> shuffle -> repeat -> decode and augment -> parts of batches -> every count-th

With class-balanced sampling, what is shuffled and repeated is an order of its own: sampling.py.

* Chance is drawn by the position of a row in the whole stream, before the rows are dealt
  out to processes, so neither processes nor workers change what a row looks like.
* Rows are batched before they are dealt out to workers, so batches are the same for any
  number of workers, and the position in the stream is one number: batches consumed.
  Resuming is `start=` that number.

Pixels leave as uint8: four times fewer bytes through the workers and to the device.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import re
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import resource_tracker

import grain
import numpy as np
from absl import flags

from movinet_jax import signals
from movinet_jax.data import augment, shared_memory
from movinet_jax.data.clip import Clip
from movinet_jax.data.pace import Reading, Spent, advise, start_watch
from movinet_jax.data.reader import VideoReader, read_clip
from movinet_jax.data.sampling import Sampling, make_order
from movinet_jax.data.source import Record, Source
from movinet_jax.data.video import DecodeError
from movinet_jax.schema import Count, Natural, NotNegative

Batch = dict[str, np.ndarray]

# Failures are judged as a share once so many videos were tried, or all there are.
_LEAST_TRIED = 50
_NAMED = 10
_NAME_BYTES = 256  # of a row's name, or of the reason why it failed, in UTF-32

# What the streams of this process need that are made, and whose workers have not started.
_waiting: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class LoaderOptions:
  """How a process reads videos; see `make_batches`."""

  workers: Natural = 0
  threads: Count = 1
  max_failed_share: NotNegative = 0.05


class TooManyFailures(RuntimeError):
  """More videos failed to decode than allowed; the message names them."""


class WorkerDied(RuntimeError):
  """A process that decodes was killed, or crashed; another time it may not be."""


def make_batches(
  source: Source,
  clip: Clip,
  *,
  batch_size: int,
  seed: int = 0,
  train: bool,
  start: int = 0,
  workers: int = 0,
  threads: int = 1,
  shard: tuple[int, int] = (0, 1),
  max_failed_share: float = 0.05,
  sampling: Sampling | None = None,
  reader: VideoReader = read_clip,
) -> 'Batches':
  """Makes an iterator of batches.

  In training the source is shuffled anew each epoch and repeated for ever. In evaluation
  it is read once in order, and padded so that every process gets equally many batches;
  over all processes, the rows with a mask of 1 or `failed` are each record exactly once.

  Args:
    source: the dataset.
    clip: what to take of each video; EvalClip of K views adds an axis K.
    batch_size: B over all processes; each gets B / count rows of every batch.
    seed: of order and augmentation.
    train: see above.
    start: batches to pass over: how many were consumed before a stop.
    workers: processes that decode; 0 decodes in threads of this one.
    threads: decoding threads of this process, or of each worker.
    shard: (index, count) of this process among those that train together.
    max_failed_share: above this share of undecodable videos, stop.
    sampling: of classes in training; None has each record once an epoch.
    reader: how a video is decoded.

  Returns:
    An iterator, and a context manager that ends the workers; see `Batches`.

  Raises:
    ValueError: arguments that do not fit together.
    SharedMemoryFull: there is too little for the workers.
  """
  index, count = shard
  _check_arguments(source, batch_size, start, workers, threads, shard)
  if sampling and not train:
    raise ValueError(f'{sampling} is for training: an evaluation has each record once')
  need = check_shared_memory(
    source, clip, batch_size=batch_size, train=train, workers=workers, shard=shard
  )
  rows = len(source) if train else -(-len(source) // batch_size) * batch_size
  load = _Load(source, clip, reader)
  if sampling:
    order = make_order(source, sampling, seed)
    dataset = grain.MapDataset.range(sys.maxsize).seed(seed).map(order)
  else:
    dataset = grain.MapDataset.range(rows).seed(seed)
    dataset = dataset.shuffle().repeat() if train else dataset
  dataset = dataset.random_map(load)
  collate = _Collate(clip, len(source.labels) if source.multi_label else 0)
  # Parts of batches, of which the first process gets the first of each, and so on: put
  # together again they are the batch of one process, row by row.
  # (Batches divide the rows; told that none is cut short, grain counts those of an
  # endless stream without overflow.)
  size, options = batch_size // count, {'drop_remainder': True, 'batch_fn': collate}
  dataset = dataset.batch(size, **options)[start * count + index :: count]
  # Grain's default is 16 threads and 500 batches held ready: gigabytes of video.
  reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, threads))
  dataset = dataset.to_iter_dataset(reading)
  if workers:
    _mark_flags_parsed()
    # Or the first worker would start it, which lets SIGTERM through again.
    resource_tracker.ensure_running()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1),
      worker_init_fn=_live_with_parent,
    )
  identity = {
    'fingerprint': source.fingerprint(),
    'records': len(source),
    'seed': seed,
    'batch_size': batch_size,
    'train': train,
    'clip': {'name': type(clip).__name__, **dataclasses.asdict(clip)},
  }
  if sampling:
    identity['sampling'] = dataclasses.asdict(sampling)
  least_tried = min(_LEAST_TRIED, -(-len(source) // count))
  with shared_memory.explaining_shortage(need):
    iterator = iter(dataset)
  reading = Reading(source, clip, size, workers, threads)
  return Batches(iterator, identity, start, max_failed_share, least_tried, need, reading)


def check_shared_memory(
  source: Source,
  clip: Clip,
  *,
  batch_size: int,
  train: bool,
  workers: int,
  shard: tuple[int, int] = (0, 1),
) -> shared_memory.Need:
  """Checks that a stream would find the shared memory that its workers need.

  `make_batches` does it too. Call this at the start of a run for a stream that is made later.
  What the other streams of this process need is added, if their workers are not started yet.

  Args:
    source, clip, batch_size, train, workers, shard: as for `make_batches`.

  Raises:
    SharedMemoryFull: there is too little.
  """
  rows, classes = batch_size // shard[1], len(source.labels) if source.multi_label else 1
  pixels = clip.views * clip.frames * clip.size**2 * 3
  names = (rows * _NAME_BYTES,) * 2  # name and reason
  sizes = rows * pixels, 4 * rows * classes, 4 * rows, rows, *names
  batches = None if train else -(-len(source) // batch_size)
  need = shared_memory.Need(workers, shared_memory.count_pages(*sizes), batches)
  if workers:
    shared_memory.check_room([*_waiting.values(), need])
  return need


class Batches:
  """An iterator of batches that keeps count of what failed.

  A batch is a dict of arrays, B here being the rows of this process:
    video: uint8 `[B, T, H, W, 3]`; `[B, K, T, H, W, 3]` if the clip has K views.
    label: int32 `[B]`, or float32 `[B, N]` of 0 and 1 where videos have several labels.
    mask: float32 `[B]`, 0 where the row must not count: it failed, or is padding.
    failed: bool `[B]`, the video could not be decoded.
    name: str `[B]`, name of the record, '' for padding.

  The pixels of a row with mask 0 are a copy of the next good row, so that batch norm sees
  real frames only; they are zeros if the batch has no good row.

  Attributes:
    position: batches consumed since the beginning of the stream: `start` to resume here.
    decoded, failed: videos so far, since this iterator was made.
    failures: reason by name of each video that failed.
    reading: how its clips are read, and what that has taken so far.
  """

  def __init__(self, iterator, identity, start, max_failed_share, least_tried, need, reading):
    self._iterator, self._identity, self._need = iterator, identity, need
    self._exit = shared_memory.Exit()
    if need.workers:
      _waiting[self] = need
    self._max_failed_share, self._least_tried = max_failed_share, least_tried
    self.position, self.reading = start, reading
    self.decoded = self.failed = 0
    self.failures: dict[str, str] = {}

  def __iter__(self):
    return self

  def __next__(self) -> Batch:
    """Raises TooManyFailures, WorkerDied, SharedMemoryFull; ValueError after `close`."""
    if self._iterator is None:
      raise ValueError('these batches are closed: make new ones')
    _waiting.pop(self, None)
    short = shared_memory.explaining_shortage(self._need)
    with _explaining_death(), short, signals.starting_children():
      batch = next(self._iterator)
    self.reading = self.reading.add(batch.pop('spent'))
    batch = self._exit.take(batch)
    self._count(batch, batch.pop('reason'))
    self.position += 1
    return batch

  def advise(self, step_secs: float) -> str:
    """What would make batches as fast as steps of that length; see pace.py."""
    return advise([self.reading], step_secs)

  def identity(self) -> dict:
    """What the stream is a function of, as JSON: keep it in a checkpoint and compare.

    Processes and workers are not in it, because they change nothing.
    """
    return self._identity

  def close(self):
    """Ends the workers and frees their shared memory; needed, and safe to repeat."""
    _waiting.pop(self, None)
    iterator, self._iterator = self._iterator, None
    if iterator is not None:
      iterator.close()
    self._exit.wait()

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.close()

  def _count(self, batch: Batch, reasons: np.ndarray):
    failed = batch['failed']
    self.failed += int(failed.sum())
    self.decoded += int(((batch['name'] != '') & ~failed).sum())
    for name, reason in zip(batch['name'][failed], reasons[failed], strict=True):
      self.failures[str(name)] = str(reason)
    tried = self.failed + self.decoded
    share = self.failed / tried if tried else 0
    if tried >= self._least_tried and share > self._max_failed_share:
      named = [f'{name}: {reason}' for name, reason in self.failures.items()]
      more = f'\n  and {len(named) - _NAMED} more' if len(named) > _NAMED else ''
      raise TooManyFailures(
        f'{self.failed} of {tried} videos could not be decoded, more than the share of '
        f'{self._max_failed_share:g} allowed (max_failed_share). List all bad files with '
        '`movinet check-data` and leave them out with skip=MANIFEST:\n  '
        + '\n  '.join(named[:_NAMED])
        + more
      )


class PairedBatches:
  """Two streams side by side: batches of the first, with one of the second in `valid`.

  `name` lists the videos of both. What is counted is counted over both.
  """

  def __init__(self, first: Batches, second: Batches):
    self._first, self._second = first, second

  def __iter__(self):
    return self

  def __next__(self) -> Batch:
    batch, valid = next(self._first), next(self._second)
    names = np.concatenate([batch['name'], valid['name']])
    return {**batch, 'name': names, 'valid': valid}

  @property
  def failed(self) -> int:
    return self._first.failed + self._second.failed

  def advise(self, step_secs: float) -> str:
    """As `Batches.advise`, of both."""
    return advise([self._first.reading, self._second.reading], step_secs)

  def identity(self) -> dict:
    """As `Batches.identity`, of both."""
    return {**self._first.identity(), 'valid': self._second.identity()}

  def close(self):
    self._first.close()
    self._second.close()

  def __enter__(self):
    return self

  def __exit__(self, *exc_info):
    self.close()


@dataclasses.dataclass(frozen=True)
class _Row:
  """One row of a batch; without a record it is padding, without a video it failed."""

  record: Record | None = None
  video: np.ndarray | None = None
  reason: str = ''
  spent: Spent = dataclasses.field(default_factory=Spent)


# Without a repr, which would spell out all records: grain asks every transform for its own.
@dataclasses.dataclass(frozen=True, repr=False)
class _Load(grain.transforms.RandomMap):
  """Index of a record -> row, with its clip decoded and augmented."""

  source: Source
  clip: Clip
  reader: VideoReader

  def random_map(self, index: int, rng: np.random.Generator) -> _Row:
    stop = start_watch()
    row = self._load(index, rng)
    return dataclasses.replace(row, spent=stop(1))

  def _load(self, index: int, rng: np.random.Generator) -> _Row:
    if index >= len(self.source):
      return _Row()
    record = self.source.records[index]
    # A reader may ask for the plan twice and must get the same one.
    seed = int(rng.integers(2**63))
    choose = _Chooser(self.clip, seed)
    try:
      frames, cut = self.reader(record.video, choose, name=record.name)
    except DecodeError as error:
      return _Row(dataclasses.replace(record, video=''), reason=error.reason)
    # The bytes of the file have done their duty; only the label and name travel on.
    record = dataclasses.replace(record, video='')
    frames = augment.distort(frames, cut.distortions)
    if self.clip.views > 1:
      frames = self.clip.split(frames)
    return _Row(record, frames)


@dataclasses.dataclass(frozen=True)
class _Chooser:
  clip: Clip
  seed: int

  def __call__(self, info):
    return self.clip.plan(info, np.random.default_rng(self.seed))


@dataclasses.dataclass(frozen=True)
class _Collate:
  """Rows -> batch."""

  clip: Clip
  classes: int  # of a multi-hot label; 0: one number

  def __call__(self, rows: list[_Row]) -> dict:
    stop = start_watch()
    batch = self._collate(rows)
    return {**batch, 'spent': sum((row.spent for row in rows), stop(0))}

  def _collate(self, rows: list[_Row]) -> Batch:
    good = [i for i, row in enumerate(rows) if row.video is not None]
    views = (self.clip.views,) if self.clip.views > 1 else ()
    shape = (*views, self.clip.frames, self.clip.size, self.clip.size, 3)
    video = np.zeros((len(rows), *shape), np.uint8)
    for i in range(len(rows)):
      if good:
        video[i] = rows[next((g for g in good if g >= i), good[0])].video
    return {
      'video': video,
      'label': np.stack([self._label(row) for row in rows]),
      'mask': np.array([row.video is not None for row in rows], np.float32),
      'failed': np.array([bool(row.record) and row.video is None for row in rows]),
      'name': np.array([row.record.name if row.record else '' for row in rows]),
      'reason': np.array([row.reason for row in rows]),
    }

  def _label(self, row: _Row) -> np.ndarray:
    label = row.record.label if row.record else ()
    if self.classes:
      hot = np.zeros(self.classes, np.float32)
      hot[list(label)] = 1
      return hot
    return np.int32(label if row.record else 0)


def _check_arguments(source, batch_size, start, workers, threads, shard):
  index, count = shard
  if not 0 <= index < count:
    raise ValueError(f'shard is (index, count) with 0 <= index < count, got {shard}')
  if batch_size < 1 or batch_size % count:
    raise ValueError(
      f'batch_size={batch_size} cannot be shared equally by {count} processes; '
      f'take a multiple of {count}'
    )
  if not len(source):
    raise ValueError('the source has no records')
  for name, value, least in (('start', start, 0), ('workers', workers, 0)):
    if value < least:
      raise ValueError(f'{name} must be {least} or more, got {value}')
  if threads < 1:
    raise ValueError(f'threads must be 1 or more, got {threads}')


@contextlib.contextmanager
def _explaining_death() -> Iterator[None]:
  try:
    yield
  except RuntimeError as error:  # Grain has no kind of its own for it.
    if not (found := re.search(r'Worker process .* exit code (-?\d+)', str(error))):
      raise
    code = int(found[1])
    how = f'ended with code {code}'
    if code < 0:
      how = f'was ended by signal {-code} ({signal.strsignal(-code)})'
    raise WorkerDied(
      f'a process that decodes videos {how}: its memory may have run out (then take '
      'fewer loader.workers), or a video has crashed it (`movinet check-data` finds it)'
    ) from error


def _live_with_parent(index: int, count: int):
  """Ends a worker whose parent was killed, and leaves it to the parent to be stopped."""
  del index, count
  signals.leave_to_parent()
  parent = multiprocessing.parent_process()

  def follow():
    parent.join()
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()


def _mark_flags_parsed():
  # Grain's workers read an absl flag; outside absl.app.run nobody has parsed any.
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
