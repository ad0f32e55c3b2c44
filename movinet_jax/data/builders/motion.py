"""Textures that move, written as MP4."""

from collections.abc import Iterator

from movinet_jax.data import motion

SUMMARY = 'textures that move, written as MP4'
DESCRIPTION = 'Writes small videos whose class is in the motion alone, to try everything on.'
EXAMPLE = """\
movinet build-data motion --out data/motion
    small videos whose class is in the motion alone, to try everything on
movinet build-data motion --out data/gratings --frames 32 \\
    --classes rising-left,rising-right,falling-left,falling-right
    videos of which one frame tells a part, and neighbouring frames the rest"""


def add_arguments(parser):
  parser.add_argument('--out', type='path', required=True, help='folder to make')
  parser.add_argument('--videos-per-class', type=int, default=100)
  parser.add_argument(
    '--classes',
    default=','.join(motion.STRAIGHT),
    help=f'comma-separated, of: {", ".join(motion.CLASSES)}',
  )
  parser.add_argument('--frames', type=int, default=16)
  parser.add_argument('--size', type=int, default=48, help='height and width in pixels')
  parser.add_argument('--fps', type=int, default=10)
  parser.add_argument('--seed', type=int, default=0)


def build(arguments) -> Iterator[str]:
  out = arguments.out
  count = motion.write_motion(
    out,
    videos_per_class=arguments.videos_per_class,
    classes=tuple(arguments.classes.split(',')),
    frames=arguments.frames,
    size=arguments.size,
    fps=arguments.fps,
    seed=arguments.seed,
  )
  yield f'{count} videos in {out}, of {arguments.classes}'
  yield f"read them with data.name='folder', root={out!r}, split='train'"
