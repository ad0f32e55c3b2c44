"""Load published weights into a network, report every array, and save them as .npz.

  movinet convert movinet/a0 --weights=movinet_a0_base/ckpt-1 --out=a0.npz
  movinet convert movinet/a2-stream --weights=ckpt-1 --gate=keras_hard_sigmoid --out=a2.npz
  movinet convert x3d/s --weights=x3d_s.pyth --out=x3d-s.npz

Weights are a TensorFlow checkpoint's prefix or folder, a PyTorch state dict, or an .npz of
named arrays. The result starts a training (--config.init=a0.npz). A file that lacks more than
the classifier is refused; --partial accepts it. SlowFast's X3Ds have one norm more than
PyTorchVideo's: the file's names tell, and the network is made to fit. An ensemble has no
weights of its own: convert each member, and join them in Python
(movinet_jax.models.ensemble.join).
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from launch.arguments import make_parser
from movinet_jax import convert, models
from movinet_jax.paths import check_writable


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  jax.config.update('jax_platforms', 'cpu')  # nothing is computed that wants an accelerator
  out = Path(arguments.out.removesuffix('.npz') + '.npz')
  if out.exists():
    raise FileExistsError(f'{out} exists already: remove it, or choose another file')
  check_writable(out)
  options = {'gate': arguments.gate} if arguments.gate else {}
  make = functools.partial(
    models.create, arguments.model, arguments.num_classes, spec=arguments.spec
  )
  model = make(**options)
  arrays = convert.read_arrays(arguments.weights)
  if fields := convert.find_fields(arrays, model):
    model = make(**options, **fields)
  variables, report = convert.load_arrays(arrays, model, partial=arguments.partial)
  print(report)
  for key, value in fields.items():
    print(
      f'the file is of a network with {key}={value}: train it with --config.model.{key}={value}'
    )
  np.savez(out, **traverse_util.flatten_dict(variables, sep='/'))
  print(f'wrote {out}')
  return 0


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('convert', __doc__)
  parser.add_argument('model', help='family/variant, such as movinet/a0-stream')
  parser.add_argument('--spec', type='path', help='architecture file of a family: found.json')
  known = 'checkpoint prefix or folder, or .npz'
  parser.add_argument('--weights', type='path', required=True, help=known)
  parser.add_argument('--out', type='path', required=True, help='.npz to write')
  parser.add_argument('--num-classes', type=int, help="by default those of the family's data set")
  parser.add_argument('--gate', help='another gate, such as keras_hard_sigmoid')
  parser.add_argument('--partial', action='store_true', help='accept missing weights')
  return parser
