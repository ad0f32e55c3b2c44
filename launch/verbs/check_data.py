"""Decode every video once and list the bad ones."""

import argparse
import collections
import os
import sys

from launch.arguments import at_least_1, make_parser, positive
from launch.errors import ExitCode
from movinet_jax.data import Source, SourceError, check, open_source

_HELP = """\
Decodes every video of a dataset completely, each in a process that is killed if no frame comes
for --limit-secs, and writes a manifest of what is bad and why. Deletes nothing. Run it again
after a stop and it goes on; files that have changed in size are checked again.

examples:
  movinet check-data videos --split train
      class folders videos/train/CLASS/*.mp4 -> check-train.csv
  movinet check-data train.csv --root /data/clips --manifest bad.csv --workers 8
      a CSV file of path,label
  movinet check-data frames --split train --fps 30
      folders of pictures frames/train/CLASS/clip/00001.jpg

Exit code 0, or 65 with --strict and a bad file among them; 2: the data cannot be listed.

Then train without the bad files:
  movinet train --config=… --config.data.train.skip=bad.csv
"""


def main(argv: list[str]) -> int:
  args = make_arguments().parse_args(argv)
  try:
    source = _open(args)
    for note in source.notes:
      print(f'Note: {note}', file=sys.stderr)
    manifest = args.manifest or _default_manifest(args)
    found = check.check_videos(
      source.records, manifest, workers=args.workers, limit_secs=args.limit_secs
    )
  except SourceError as error:
    print(f'movinet check-data: {error}', file=sys.stderr)
    return ExitCode.MISUSE
  _print_table(found, manifest)
  return ExitCode.BAD_VIDEOS if args.strict and found.bad else ExitCode.DONE


def _open(args) -> Source:
  """The dataset of whatever kind is there."""
  rate = {'fps': args.fps} if args.fps else {}
  if not os.path.isdir(args.data):
    return open_source('csv', path=args.data, root=args.root, **rate)
  if args.root:
    raise SourceError(f'--root={args.root} is for a table, and {args.data} is a folder')
  return open_source('frames' if rate else 'folder', root=args.data, split=args.split, **rate)


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('check-data', _HELP)
  known = 'folder of class folders, or table of path,label'
  parser.add_argument('data', type='path', help=known)
  parser.add_argument('--split', help='sub-folder of data that holds the class folders')
  parser.add_argument('--root', type='path', help='where relative paths of a CSV file start')
  parser.add_argument('--fps', help='videos are folders of pictures, at this rate')
  parser.add_argument('--manifest', type='path', help='CSV to write; default: check[-SPLIT].csv')
  parser.add_argument('--workers', type=at_least_1, default=os.cpu_count() or 1)
  limit = 'without a frame, after which a video is bad; default: 60'
  parser.add_argument('--limit-secs', type=positive, default=60.0, help=limit)
  parser.add_argument('--strict', action='store_true', help='exit with 65 on bad files')
  return parser


def _default_manifest(args) -> str:
  return f'check-{args.split}.csv' if args.split else 'check.csv'


def _print_table(found: check.Checked, manifest: str):
  rows = [('videos', found.videos), ('of them checked before', found.known)]
  rows += [('good', found.good), ('bad', len(found.bad))]
  for title, count in rows:
    print(f'{title:<24}{count:>8}')
  reasons = collections.Counter(found.bad.values())
  for reason, count in reasons.most_common(10):
    print(f'{count:>8}  {reason}')
  for name in list(found.bad)[:10]:
    print(f'          {name}')
  print(f'manifest: {manifest}')


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
