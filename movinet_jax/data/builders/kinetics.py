"""Kinetics, from the official CSV files and a folder of videos."""

import os
from collections.abc import Iterator

SUMMARY = 'Kinetics-400, 600 or 700'
DESCRIPTION = """\
Finds the video of each row of train.csv, validate.csv (or val.csv) and test.csv. Decodes each
in a process that is killed if it takes too long. With --short-side, re-encodes each with a
key frame every 12 frames, which makes short clips several times cheaper to read. Then copies
all good clips into ArrayRecord files.

Videos are found by name in any sub-folder: ID_000012_000022.mp4 is a clip as it is,
ID.mp4 is a whole video from which the clip is cut.
"""
EXAMPLE = """\
movinet build-data kinetics --version 600 --annotations k600/annotations \\
    --videos k600/videos --out data/k600 --short-side 256 --workers 16
    official CSV files + videos -> data/k600/kinetics/600/1.0.0 (ArrayRecord)"""
VERSIONS = ('400', '600', '700')
_COUNTS = ('listed', 'found', 'missing', 'undecodable', 'good')


def add_arguments(parser):
  parser.add_argument('--version', default='600', choices=VERSIONS, help='default: 600')
  parser.add_argument('--annotations', type='path', required=True, help='folder of the CSV files')
  parser.add_argument('--videos', type='path', required=True, help='folder of the videos')
  parser.add_argument('--out', type='path', required=True, help='folder for all results')
  parser.add_argument('--labels', type='path', help='label map to use: a file of one name a line')
  parser.add_argument('--short-side', type=int, help='re-encode to so many pixels')
  parser.add_argument('--workers', type=int, default=os.cpu_count() or 1)
  parser.add_argument('--limit-secs', type=float, default=120.0, help='without a frame of a file')


def build(arguments) -> Iterator[str]:
  from movinet_jax.data import kinetics  # tfds is slow to import, and only needed here

  prepared = os.path.join(arguments.out, 'prepared')
  report = kinetics.prepare(
    arguments.annotations,
    arguments.videos,
    prepared,
    labels=arguments.labels,
    short_side=arguments.short_side,
    workers=arguments.workers,
    limit_secs=arguments.limit_secs,
  )
  yield from _make_table(report)
  folder = kinetics.build(prepared, arguments.out, arguments.version)
  yield f'dataset:   {folder}'
  yield f'labels:    {os.path.join(prepared, "labels.txt")}'
  yield f'manifest:  {os.path.join(prepared, "clips.csv")}'
  yield f"read it with data.name='tfds', directory={folder!r}, split='train'"


def _make_table(report) -> Iterator[str]:
  yield f'{"split":<12}' + ''.join(f'{name:>13}' for name in _COUNTS)
  for split, counts in report.counts.items():
    yield f'{split:<12}' + ''.join(f'{counts.get(name, 0):>13}' for name in _COUNTS)
  if report.empty_classes:
    yield f'{len(report.empty_classes)} classes without a training clip:'
    yield '  ' + ', '.join(report.empty_classes[:10])
  if report.doubles:
    yield f'{len(report.doubles)} clips have several files, the first was taken:'
    yield '  ' + ', '.join(report.doubles[:10])
