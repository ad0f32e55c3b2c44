"""Decode every video once and list the bad ones."""

import argparse
import collections
import os
import sys

from launch.arguments import at_least_1, make_parser, positive
from launch.errors import ExitCode
from movinet_jax.data import SourceError, check, open_source

_HELP = """\
Decodes every video of a dataset completely, each in a process that is killed if it takes
too long, and writes a manifest of what is bad and why. Deletes nothing. Run it again after
a stop and it goes on; files that have changed in size are checked again.

examples:
  movinet check-data videos --split train
      class folders videos/train/CLASS/*.mp4 -> check-train.csv
  movinet check-data train.csv --root /data/clips --manifest bad.csv --workers 8
      a CSV file of path,label

Exit code 0, or 65 with --strict and a bad file among them; 2: the data cannot be listed.

Then train without the bad files:
  movinet train --config=… --config.data.train.skip=bad.csv
"""


def main(argv: list[str]) -> int:
  args = make_arguments().parse_args(argv)
  kind = {'split': args.split} if args.split else {}
  try:
    if os.path.isdir(args.data):
      source = open_source('folder', root=args.data, **kind)
    else:
      kind |= {'root': args.root} if args.root else {}
      source = open_source('csv', path=args.data, **kind)
    manifest = args.manifest or _default_manifest(args)
    found = check.check_videos(
      source.records, manifest, workers=args.workers, limit_secs=args.limit_secs
    )
  except SourceError as error:
    print(f'movinet check-data: {error}', file=sys.stderr)
    return ExitCode.MISUSE
  _print_table(found, manifest)
  return ExitCode.BAD_VIDEOS if args.strict and found.bad else ExitCode.DONE


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('check-data', _HELP)
  known = 'folder of class folders, or CSV file of path,label'
  parser.add_argument('data', type='path', help=known)
  parser.add_argument('--split', help='sub-folder of data that holds the class folders')
  parser.add_argument('--root', type='path', help='where relative paths of a CSV file start')
  parser.add_argument('--manifest', type='path', help='CSV to write; default: check[-SPLIT].csv')
  parser.add_argument('--workers', type=at_least_1, default=os.cpu_count() or 1)
  parser.add_argument('--limit-secs', type=positive, default=60.0, help='for one file; default: 60')
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
