"""Convert weights: published ones into an .npz that every verb takes, and ours into theirs.

  movinet convert movinet/a0-stream --weights=movinet_a0_stream/ckpt-1 --out=a0.npz
  movinet convert movinet/a2-stream --weights=ckpt-1 --gate=keras_hard_sigmoid --out=a2.npz
  movinet convert x3d/s --weights=x3d_s.pyth --out=x3d-s.npz

Published weights are a TensorFlow checkpoint's prefix or folder, a PyTorch state dict, or an .npz
of named arrays. Every array is accounted for. The .npz says which network it holds, how its classes
are named and what it sees of a video, so `movinet evaluate`, `stream` and `bench` take it as it is,
and a training begins with it (--config.init=a0.npz). --labels=FILE names the classes, a name a
line, where they are not those of the data set that the network is published for.

A file that lacks more than the classifier is refused; --partial accepts it. SlowFast's X3Ds have
one norm more than PyTorchVideo's: the file's names tell, and the network is made to fit.

  movinet convert --weights=runs/mine --out=mine.npz
  movinet convert --weights=runs/mine --out=mine/ckpt-1 --to=tensorflow
  movinet convert --weights=runs/x3d --out=x3d.pyth

What was trained here is taken from its workdir, or from an .npz, an ensemble too. --to=tensorflow
writes a MoViNet as TensorFlow's Model Garden reads it, --to=pytorch an X3D as PyTorchVideo does.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax

from launch.arguments import at_least_1, make_parser
from launch.runs import weights
from launch.runs.trained import load_trained
from movinet_jax import convert, models
from movinet_jax.convert import About
from movinet_jax.paths import check_writable

_SUFFIXES = {'.npz': 'npz', '.pt': 'pytorch', '.pth': 'pytorch', '.pyth': 'pytorch'}
FORMATS = ('npz', 'tensorflow', 'pytorch')


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  jax.config.update('jax_platforms', 'cpu')  # nothing is computed that wants an accelerator
  kind, out = choose_format(arguments.out, arguments.to)
  if network := _choose_network(arguments):
    model, variables, about = _read_published(arguments, network)
  else:
    model, variables, about = _read_own(arguments)
  if about.untrained and kind != 'npz':
    raise convert.ConversionError(
      f'{arguments.weights} lacks {len(about.untrained)} variables of {about.name}, the first is '
      f'{about.untrained[0]}: --to={kind} is for whole networks, and an .npz can begin a training'
    )
  if kind == 'tensorflow':
    convert.write_tensorflow(out, variables, model)
  elif kind == 'pytorch':
    convert.write_pytorch(out, variables, model)
  else:
    convert.write_archive(out, variables, about)
  print(f'wrote {out}: {describe(about)}')
  if about.untrained:
    print(
      f'{len(about.untrained)} of its variables were not in the file and are as they were drawn: '
      'it can begin a training (--config.init), and is no trained network'
    )
  return 0


def choose_format(out: str, wanted: str | None) -> tuple[str, Path]:
  """The format of a file, by its suffix unless it is said, and its path.

  Raises:
    ValueError: the suffix is another format's.
    FileExistsError: it is there already.
  """
  own = _SUFFIXES.get(Path(out).suffix)
  kind = wanted or own or 'npz'
  if own and own != kind:
    raise ValueError(f'--out={out} has the suffix of {own}, and --to={kind}: choose another name')
  path = Path(f'{out}.npz' if kind == 'npz' and not own else out)
  if kind == 'pytorch' and not own:
    path = path.with_name(f'{path.name}.pt')
  index = path.with_name(f'{path.name}.index')
  written = index if kind == 'tensorflow' else path
  if written.exists():
    raise FileExistsError(f'{written} exists already: remove it, or choose another file')
  check_writable(written)
  return kind, path


def _read_published(arguments, network: str):
  found = weights.read_weights(
    arguments.weights,
    network,
    arguments.labels,
    num_classes=arguments.num_classes,
    multi_label=arguments.multi_label,
    options={'gate': arguments.gate} if arguments.gate else {},
    partial=arguments.partial,
  )
  print(found.report)
  for key, value in found.fields.items():
    print(
      f'the file is of a network with {key}={value}: train it with --config.model.{key}={value}'
    )
  return found.model, found.variables, found.about


def _choose_network(arguments) -> str | None:
  """The network of a published file, of which there are two ways to say it; None of our own."""
  said = [one for one in (arguments.model, arguments.network) if one]
  if len(said) > 1:
    raise ValueError(f'{said[0]} and --network={said[1]} both name a network: leave out one')
  if said and arguments.which != 'latest':
    raise ValueError(
      f'--which={arguments.which} is for workdirs, and {said[0]} names published weights'
    )
  if said and arguments.spec:
    models.load_spec(arguments.spec, said[0])  # which must be of this family
  return arguments.spec or (said[0] if said else None)


def _read_own(arguments):
  for key in ('num_classes', 'gate', 'partial'):
    if getattr(arguments, key):
      flag = f'--{key.replace("_", "-")}'
      raise ValueError(f'{flag} is for published weights: name their network before --weights')
  trained = load_trained(
    arguments.weights,
    arguments.which,
    labels=arguments.labels,
    multi_label=arguments.multi_label,
  )
  return trained.model, trained.complete(), trained.about


def describe(about: About) -> str:
  """The network of a file in a line."""
  clip, names = about.preprocessing, about.labels
  said = f'{about.name or about.family}, {about.num_classes} classes'
  said += f' ({names[0]}, …)' if names else ' without names (--labels=FILE gives them)'
  if clip:
    rate = f'{clip["fps"]:g} a second' if clip['fps'] else f'one in {clip["stride"]}'
    said += f', {clip["frames"]} frames of {clip["size"]} x {clip["size"]}, {rate}'
  return said


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('convert', __doc__)
  add = parser.add_argument
  add('model', nargs='?', help='of published weights: family/variant, or an architecture file')
  add('--network', help='the same, as other verbs have it')
  add('--spec', type='path', help='architecture file, with the family as the name: found.json')
  add('--weights', '--checkpoint', type='path', required=True, help='what to convert, as above')
  add('--which', default='latest', help='of a workdir: latest, best or a step')
  add('--out', type='path', required=True, help='file to write; of TensorFlow, a prefix')
  add('--to', choices=FORMATS, help='default: by the suffix of --out')
  add('--labels', type='path', help='file with a class name a line, or a list: kinetics600')
  add('--multi-label', action='store_true', help='classes have probabilities of their own')
  add('--num-classes', type=at_least_1, help='default: those of the file')
  add('--gate', help='another gate, such as keras_hard_sigmoid')
  add('--partial', action='store_true', help='accept missing weights')
  return parser
