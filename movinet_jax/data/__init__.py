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
from movinet_jax.data.address import SourceLost, parse_source
from movinet_jax.data.classes import (
  Balance,
  Classes,
  allow_several,
  count_videos,
  take_classes,
)
from movinet_jax.data.clip import Clip, EvalClip, TrainClip
from movinet_jax.data.filters import fit_frame
from movinet_jax.data.frames import FrameFolder
from movinet_jax.data.live import open_feed
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
from movinet_jax.data.sampling import Sampling
from movinet_jax.data.shared_memory import SharedMemoryFull
from movinet_jax.data.source import (
  Record,
  Source,
  SourceError,
  is_listed,
  make_source,
  split_source,
)
from movinet_jax.data.video import Cut, DecodeError, VideoInfo
from movinet_jax.names import suggest
from movinet_jax.registry import list_members, load_member

__all__ = [
  'Balance',
  'Batch',
  'Batches',
  'Classes',
  'Clip',
  'Cut',
  'DecodeError',
  'EvalClip',
  'FrameFolder',
  'LoaderOptions',
  'PairedBatches',
  'Record',
  'Sampling',
  'SharedMemoryFull',
  'Source',
  'SourceError',
  'SourceLost',
  'TooManyFailures',
  'TrainClip',
  'VideoInfo',
  'VideoReader',
  'WorkerDied',
  'allow_several',
  'check_shared_memory',
  'count_videos',
  'fit_frame',
  'is_listed',
  'list_sources',
  'make_batches',
  'make_source',
  'open_feed',
  'open_source',
  'parse_source',
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

  `multi_label=True` is an argument of any kind: where its videos have one label, they get a
  tuple of one (`allow_several`).

  Raises:
    SourceError: no such kind, an argument it does not have, or data it cannot use.
  """
  if name not in list_sources():
    raise SourceError(f'no data source {name!r}{suggest(name, list_sources())}')
  opener = load_member(sources.__name__, name, 'data source').open_source
  known = inspect.signature(opener).parameters
  several = 'multi_label' not in known and kwargs.pop('multi_label', None)
  for key in kwargs:
    if key not in known:
      raise SourceError(f'source {name!r} has no argument {key!r}{suggest(key, known)}')
  missing = [k for k, p in known.items() if p.default is p.empty and k not in kwargs]
  if missing:
    raise SourceError(f'source {name!r} needs {missing[0]!r}; it takes {", ".join(known)}')
  try:
    several = schema.build(bool | None, several, f'source {name}.multi_label')
    source = schema.call(opener, kwargs, f'source {name}')
    return allow_several(source) if several else source
  except SourceError:
    raise
  except ValueError as error:
    raise SourceError(str(error)) from error
