"""Make a dataset, from Kinetics files or of moving textures."""

import argparse
import sys
import textwrap

from launch.arguments import make_parser
from launch.errors import ExitCode
from movinet_jax.data.builders import load_builders

_HELP = """\
Makes datasets. A plain folder of videos, or a CSV file of path,label, needs none of this:
train on it as it is.

examples:
{examples}

Run it again after a stop: what is done stays done.
"""


def main(argv: list[str]) -> int:
  args = make_arguments().parse_args(argv)
  try:
    for line in args.build(args):
      print(line)
  except (FileExistsError, ValueError) as error:
    print(f'movinet build-data: {error}', file=sys.stderr)
    return ExitCode.MISUSE
  return ExitCode.DONE


def make_arguments() -> argparse.ArgumentParser:
  builders = load_builders()
  examples = '\n'.join(textwrap.indent(builder.EXAMPLE, '  ') for builder in builders.values())
  parser = make_parser('build-data', _HELP.format(examples=examples))
  kinds = parser.add_subparsers(title='datasets', required=True, metavar='DATASET')
  for name, builder in builders.items():
    kind = kinds.add_parser(
      name,
      help=builder.SUMMARY,
      description=builder.DESCRIPTION,
      formatter_class=parser.formatter_class,
    )
    builder.add_arguments(kind)
    kind.set_defaults(build=builder.build)
  return parser


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
