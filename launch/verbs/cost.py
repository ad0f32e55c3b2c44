"""Multiply-adds, parameters and memory of a network, beside the published numbers.

  movinet cost movinet/a0-stream --clip=50x172
  movinet cost movinet/a2 --clip=50x224x224 --layers
  movinet cost movinet/a0 --set causal=True       the stream of the paper's tables
  movinet cost movinet --spec=found.json --clip=50x224

Without --clip, the network's native input. --set changes a field of the architecture or an
option of the network. One multiply-add is 1 MAC; the papers' GFLOPs are GMACs. Padding counts
as multiplied, the reference's own count.
"""

import argparse
import ast
import contextlib
from collections import Counter
from collections.abc import Sequence

import jax

from launch.arguments import make_parser, pair
from movinet_jax import cost, models

# MoViNet, supplement, Tables 5 and 6: GFLOPs (GMACs) of a clip and millions of parameters, by
# network and fields of its spec. Its streams are base networks made causal, not the released
# (2+1)D streams. The parameters printed for A2 to A6 are those of no published code; see
# docs/cost.md.
PUBLISHED = (
  ('movinet/a0', {}, (2.71, 3.1)),
  ('movinet/a0', {'causal': True}, (2.73, 3.1)),
  ('movinet/a1', {}, (6.02, 4.6)),
  ('movinet/a1', {'causal': True}, (6.06, 4.6)),
  ('movinet/a2', {}, (10.3, 4.8)),
  ('movinet/a2', {'causal': True}, (10.4, 4.8)),
  ('movinet/a3', {}, (56.9, 5.3)),
  ('movinet/a4', {}, (105, 4.9)),
  ('movinet/a5', {}, (281, 15.7)),
  ('ensemble/a6', {}, (386, 31.4)),
)
PUBLISHED_CLASSES = 600


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  jax.config.update('jax_platforms', 'cpu')  # nothing is computed that wants an accelerator
  options = dict(arguments.set)
  model = models.create(
    arguments.model, arguments.num_classes, spec=arguments.spec or None, **options
  )
  native = (model.spec.frames, model.spec.resolution, model.spec.resolution)
  frames, height, width = arguments.clip or native
  whole = cost.count(model, (1, frames, height, width, 3))
  changed = ''.join(f' {key}={value}' for key, value in options.items())
  print(f'{arguments.model}{changed}  {frames} frames of {height} x {width}\n')
  print_layers(whole, every=arguments.layers)
  frame = None
  if whole.state_bytes:
    frame = cost.count(model, (1, 1, height, width, 3))
  published = find_published(model) if (frames, height, width) == native else None
  print_totals(whole, frame, published)
  if published:
    print('\npublished: supplement, Tables 5 and 6; docs/cost.md says where it differs and why')
  return 0


def find_published(model) -> tuple[float, float] | None:
  """What the paper prints for this very network: (GMACs of its native clip, M parameters)."""
  if model.num_classes != PUBLISHED_CLASSES:
    return None
  for name, fields, row in PUBLISHED:
    if models.create(name, PUBLISHED_CLASSES, **fields).spec == model.spec:
      return row
  return None


def print_layers(found: cost.Cost, every: bool):
  """A row for each block, or for every layer."""

  def row_name(path):
    return path if every else path.partition('/')[0]

  macs, params = Counter(), Counter()
  for path, value in found.macs_by_layer:
    macs[row_name(path)] += value
  for path, value in found.params_by_layer:
    params[row_name(path)] += value
  names = list(dict.fromkeys([*macs, *params]))
  width = max(map(len, names))
  print(f'{"layer":{width}} {"MMACs":>12} {"share":>7} {"parameters":>12}')
  for name in names:
    share = macs[name] / found.macs
    print(f'{name:{width}} {macs[name] / 1e6:12,.2f} {share:7.1%} {params[name]:12,}')


def print_totals(found: cost.Cost, frame: cost.Cost | None, published):
  gmacs, millions = published or (None, None)
  rows = [
    ('GMACs a clip', f'{found.macs / 1e9:.3f}', _say(gmacs)),
    ('parameters', f'{found.params:,}', _say(millions, ' M')),
    ('running statistics', f'{found.statistics:,}', ''),
    ('peak activations, clip', f'{found.peak_bytes / 2**20:,.1f} MiB', ''),
  ]
  if frame:
    rows += [
      ('GMACs a frame', f'{frame.macs / 1e9:.3f}', ''),
      ('peak activations, frame', f'{frame.peak_bytes / 2**20:,.1f} MiB', ''),
      ('stream state', f'{found.state_bytes / 2**20:,.2f} MiB', ''),
    ]
  print()
  for name, value, note in rows:
    print(f'{name:24} {value:>14}   {note}'.rstrip())


def _say(published, unit=''):
  return '' if published is None else f'published: {published}{unit}'


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('cost', __doc__)
  parser.add_argument('model', help='family/variant, or a family with --spec')
  parser.add_argument('--clip', type=_clip, help='FRAMESxSIZE or FRAMESxHEIGHTxWIDTH')
  parser.add_argument('--num-classes', type=int, help="by default those of the family's data set")
  parser.add_argument('--spec', type='path', help='JSON file of an architecture')
  parser.add_argument('--layers', action='store_true', help='a row for every layer')
  parser.add_argument(
    '--set',
    action='append',
    default=[],
    type=_option,
    metavar='KEY=VALUE',
    help='another field of the architecture, such as causal=True',
  )
  return parser


def _option(text: str) -> tuple[str, object]:
  key, value = pair(text)
  if key in ('name', 'num_classes', 'spec'):
    raise argparse.ArgumentTypeError(f'{key} is not set so: an argument of its own says it')
  with contextlib.suppress(SyntaxError, ValueError):  # else it is text
    value = ast.literal_eval(value)
  return key, value


def _clip(text: str) -> tuple[int, int, int]:
  try:
    frames, height, *width = map(int, text.split('x'))
    (width,) = width or (height,)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f'{text!r} is not FRAMESxSIZE, such as 50x172, or FRAMESxHEIGHTxWIDTH'
    ) from None
  if min(frames, height, width) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} has a size below 1')
  return frames, height, width
