"""Video in: files -> records -> clips -> batches.

    source = open_source('folder', root='videos', split='train')
    clip = TrainClip(frames=16, size=172, stride=2)
    with make_batches(source, clip, batch_size=8, seed=0, train=True) as batches:
      batch = next(batches)  # batch['video']: uint8 [8, 16, 172, 172, 3]

The folder `sources` is the registry: `open_source('csv', …)` calls `open_source` of
`sources/csv.py`.
"""

import inspect

from movinet_jax import schema
from movinet_jax.data import sources
from movinet_jax.data.classes import Classes, take_classes
from movinet_jax.data.clip import Clip, EvalClip, TrainClip
from movinet_jax.data.filters import fit_frame
from movinet_jax.data.pipeline import (
  Batch,
  Batches,
  LoaderOptions,
  PairedBatches,
  TooManyFailures,
  WorkerDied,
  check_shared_memory,
  make_batches,
)
from movinet_jax.data.reader import VideoReader, probe, read_clip, read_frames
from movinet_jax.data.shared_memory import SharedMemoryFull
from movinet_jax.data.source import (
  Record,
  Source,
  SourceError,
  make_source,
  split_source,
)
from movinet_jax.data.video import Cut, DecodeError, VideoInfo
from movinet_jax.names import suggest
from movinet_jax.registry import list_members, load_member

__all__ = [
  'Batch',
  'Batches',
  'Classes',
  'Clip',
  'Cut',
  'DecodeError',
  'EvalClip',
  'LoaderOptions',
  'PairedBatches',
  'Record',
  'SharedMemoryFull',
  'Source',
  'SourceError',
  'TooManyFailures',
  'TrainClip',
  'VideoInfo',
  'VideoReader',
  'WorkerDied',
  'check_shared_memory',
  'fit_frame',
  'list_sources',
  'make_batches',
  'make_source',
  'open_source',
  'probe',
  'read_clip',
  'read_frames',
  'split_source',
  'take_classes',
]


def list_sources() -> tuple[str, ...]:
  """Names that `open_source` knows."""
  return tuple(list_members(sources.__name__))


def open_source(name: str, **kwargs) -> Source:
  """Opens a dataset by the name of its kind.

  Raises:
    SourceError: no such kind, an argument it does not have, or data it cannot use.
  """
  if name not in list_sources():
    raise SourceError(f'no data source {name!r}{suggest(name, list_sources())}')
  opener = load_member(sources.__name__, name, 'data source').open_source
  known = inspect.signature(opener).parameters
  for key in kwargs:
    if key not in known:
      raise SourceError(f'source {name!r} has no argument {key!r}{suggest(key, known)}')
  missing = [k for k, p in known.items() if p.default is p.empty and k not in kwargs]
  if missing:
    raise SourceError(f'source {name!r} needs {missing[0]!r}; it takes {", ".join(known)}')
  try:
    return schema.call(opener, kwargs, f'source {name}')
  except SourceError:
    raise
  except ValueError as error:
    raise SourceError(str(error)) from error
