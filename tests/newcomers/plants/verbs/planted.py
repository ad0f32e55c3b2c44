"""Says how many parameters a network has.

movinet planted movinet/a0
"""

import argparse

from launch.arguments import make_parser
from launch.errors import ExitCode
from movinet_jax import cost, models


def main(argv) -> int:
  model = models.create(make_arguments().parse_args(argv).model)
  spec = model.spec
  print(cost.count(model, (1, spec.frames, spec.resolution, spec.resolution, 3)).params)
  return ExitCode.DONE


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('planted', __doc__)
  parser.add_argument('model')
  return parser
