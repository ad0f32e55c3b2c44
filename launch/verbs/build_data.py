"""Make a dataset, from Kinetics files or of moving textures."""

import argparse
import os
import sys

from launch.arguments import make_parser
from movinet_jax.data import SourceError, motion

_HELP = """\
Makes datasets. A plain folder of videos, or a CSV file of path,label, needs none of this:
train on it as it is.

examples:
  movinet build-data motion --out data/motion
      small videos whose class is in the motion alone, to try everything on
  movinet build-data kinetics --version 600 --annotations k600/annotations \\
      --videos k600/videos --out data/k600 --short-side 256 --workers 16
      official CSV files + videos -> data/k600/kinetics/600/1.0.0 (ArrayRecord)

Run it again after a stop: what is done stays done.
"""
_KINETICS_HELP = """\
Finds the video of each row of train.csv, validate.csv (or val.csv) and test.csv; decodes
each, in a process that is killed if it takes too long; with --short-side re-encodes it
with a key frame every 12 frames, which makes short clips several times cheaper to read.
Then copies all good clips into ArrayRecord files.

Videos are found by name in any sub-folder: ID_000012_000022.mp4 is a clip as it is,
ID.mp4 is a whole video from which the clip is cut.
"""


def main(argv: list[str]) -> int:
  args = make_arguments().parse_args(argv)
  try:
    return args.run(args)
  except (SourceError, FileExistsError, ValueError) as error:
    print(f'movinet build-data: {error}', file=sys.stderr)
    return 2


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('build-data', _HELP)
  kinds = parser.add_subparsers(title='datasets', required=True, metavar='DATASET')

  kinetics = kinds.add_parser(
    'kinetics',
    help='Kinetics-400, 600 or 700',
    description=_KINETICS_HELP,
    formatter_class=parser.formatter_class,
  )
  kinetics.add_argument(
    '--version', default='600', choices=('400', '600', '700'), help='default: 600'
  )
  kinetics.add_argument('--annotations', required=True, help='folder of the CSV files')
  kinetics.add_argument('--videos', required=True, help='folder of the videos')
  kinetics.add_argument('--out', required=True, help='folder for all results')
  kinetics.add_argument('--labels', help='label map to use: a file of one name a line')
  kinetics.add_argument('--short-side', type=int, help='re-encode to so many pixels')
  kinetics.add_argument('--workers', type=int, default=os.cpu_count() or 1)
  kinetics.add_argument('--limit-secs', type=float, default=120.0, help='for one file')
  kinetics.set_defaults(run=_build_kinetics)

  moving = kinds.add_parser('motion', help='textures that move, written as MP4')
  moving.add_argument('--out', required=True, help='folder to make')
  moving.add_argument('--videos-per-class', type=int, default=100)
  moving.add_argument(
    '--classes',
    default=','.join(motion.STRAIGHT),
    help=f'comma-separated, of: {", ".join(motion.PATTERNS)}',
  )
  moving.add_argument('--frames', type=int, default=16)
  moving.add_argument('--size', type=int, default=48, help='height and width in pixels')
  moving.add_argument('--fps', type=int, default=10)
  moving.add_argument('--seed', type=int, default=0)
  moving.set_defaults(run=_build_motion)
  return parser


def _build_kinetics(args) -> int:
  from movinet_jax.data import kinetics  # tfds is slow to import, and only needed here

  prepared = os.path.join(args.out, 'prepared')
  report = kinetics.prepare(
    args.annotations,
    args.videos,
    prepared,
    labels=args.labels,
    short_side=args.short_side,
    workers=args.workers,
    limit_secs=args.limit_secs,
  )
  _print_report(report)
  folder = kinetics.build(prepared, args.out, args.version)
  print(f'dataset:   {folder}')
  print(f'labels:    {os.path.join(prepared, "labels.txt")}')
  print(f'manifest:  {os.path.join(prepared, "clips.csv")}')
  print(f"read it with data.name='tfds', directory={folder!r}, split='train'")
  return 0


def _print_report(report):
  columns = ('listed', 'found', 'missing', 'undecodable', 'good')
  print(f'{"split":<12}' + ''.join(f'{name:>13}' for name in columns))
  for split, counts in report.counts.items():
    print(f'{split:<12}' + ''.join(f'{counts.get(name, 0):>13}' for name in columns))
  if report.empty_classes:
    print(f'{len(report.empty_classes)} classes without a training clip:')
    print('  ' + ', '.join(report.empty_classes[:10]))
  if report.doubles:
    print(f'{len(report.doubles)} clips have several files, the first was taken:')
    print('  ' + ', '.join(report.doubles[:10]))


def _build_motion(args) -> int:
  count = motion.write_motion(
    args.out,
    videos_per_class=args.videos_per_class,
    classes=tuple(args.classes.split(',')),
    frames=args.frames,
    size=args.size,
    fps=args.fps,
    seed=args.seed,
  )
  print(f'{count} videos in {args.out}, of {args.classes}')
  print(f"read them with data.name='folder', root={args.out!r}, split='train'")
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
