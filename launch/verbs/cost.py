"""Multiply-adds, parameters and memory of a network, beside the published numbers.

  movinet cost movinet/a0-stream --clip=50x172
  movinet cost movinet/a2 --clip=50x224x224 --layers
  movinet cost movinet/a0 --set causal=True       the stream of the paper's tables
  movinet cost found.json --clip=50x224
  movinet cost runs/mine                          a trained network: a workdir, an .npz
  movinet cost ensemble/a2-pair-stream            each member, and their sum

Without --clip, the network's native input. --set changes a field of the architecture or an
option of the network. One multiply-add is 1 MAC; the papers' GFLOPs are GMACs. Padding counts
as multiplied, the reference's own count.
"""

import argparse
import ast
import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import jax

from launch import tables
from launch.arguments import clip, make_parser, pair
from launch.runs.named import read_network
from launch.tables import say_billions
from movinet_jax import cost, models, published
from movinet_jax.models import ensemble


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  jax.config.update('jax_platforms', 'cpu')  # nothing is computed that wants an accelerator
  options = dict(arguments.set)
  model, native = _find_network(arguments, options)
  frames, height, width = arguments.clip or native
  whole = cost.count(model, (1, frames, height, width, 3))
  changed = ''.join(f' {key}={value}' for key, value in options.items())
  print(f'{arguments.model}{changed}  {frames} frames of {height} x {width}\n')
  frames_macs = []
  is_ensemble = models.name_family(model) == 'ensemble'
  if is_ensemble:
    members = count_members(model, frames, height, width)
    print_members(members)
    frames_macs = [sum(member.find_macs(i) for member in members) for i in find_period(members)]
  if arguments.layers or not is_ensemble:
    print('\n' * is_ensemble, end='')
    print_layers(whole, every=arguments.layers)
  frame = None
  if whole.state_bytes:
    frame = cost.count(model, (1, 1, height, width, 3))
  spec = model.spec  # a trained network's input may be another than that which papers count
  is_native = (frames, height, width) == (spec.frames, spec.resolution, spec.resolution)
  printed = published.find_cost(model) if is_native else None
  print_totals(whole, frame, printed, frames_macs)
  if printed:
    more = filter(None, (printed.note, printed.differs))
    print(f'\npublished: {printed.costs_source}', *more, sep='\n  ')
    print('docs/cost.md and docs/networks.md say where counts differ and why')
  return 0


def _find_network(arguments, options: dict):
  """The network, and frames, height and width of its native clip."""
  if arguments.spec:
    model = models.create(arguments.model, arguments.num_classes, spec=arguments.spec, **options)
    return model, (model.spec.frames, model.spec.resolution, model.spec.resolution)
  named = read_network(arguments.model, arguments.num_classes, arguments.network, **options)
  return named.model, named.input


@dataclasses.dataclass(frozen=True)
class Member:
  """A member of an ensemble, counted.

  Attributes:
    name: of its network.
    part: what it sees of the video.
    frames, size: T and (H, W) of what it sees.
    clip: its costs of a clip; of one frame where it sees none.
    frame: its costs of a frame; None if it is no stream.
  """

  name: str
  part: ensemble.Member
  frames: int
  size: tuple[int, int]
  clip: cost.Cost
  frame: cost.Cost | None

  @property
  def clip_macs(self) -> int:
    """Multiply-adds of what it sees of a clip, which may be nothing."""
    return self.clip.macs if self.frames else 0

  def find_macs(self, number: int) -> int:
    """Multiply-adds that a frame of the stream costs, by its number."""
    behind = number - self.part.offset
    return self.frame.macs if behind >= 0 and behind % self.part.stride == 0 else 0


def count_members(model, frames: int, height: int, width: int) -> list[Member]:
  """Counts each member of an ensemble on its own frames of a clip."""
  found = []
  for part in model.spec.members:
    network = models.create(part.family, model.num_classes, spec=part.spec)
    scale = (part.resolution or min(height, width)) / min(height, width)
    size = round(height * scale), round(width * scale)
    own = len(range(part.offset, frames, part.stride))
    clip = cost.count(network, (1, max(own, 1), *size, 3))
    frame = cost.count(network, (1, 1, *size, 3)) if clip.state_bytes else None
    found.append(Member(models.find_name(network), part, own, size, clip, frame))
  return found


def find_period(members: Sequence[Member]) -> range:
  """Numbers of frames whose costs an ensemble's stream repeats; empty if it is no stream."""
  if any(member.frame is None for member in members):
    return range(0)
  first = max(member.part.offset for member in members)
  return range(first, first + math.lcm(*(member.part.stride for member in members)))


def print_members(members: Sequence[Member]):
  """A row for each member and one for their sum.

  Multiply-adds of a frame are spread over all frames of the video, of which a member may see few.
  """
  stream = all(member.frame for member in members)
  rows = [
    (
      member.clip_macs,
      member.frame.macs / member.part.stride if stream else 0,
      member.clip.params,
      member.clip.state_bytes / 2**20,
    )
    for member in members
  ]
  first = [
    (f'member{i}', member.name, f'{member.frames} of {member.size[0]} x {member.size[1]}')
    for i, member in enumerate(members)
  ]
  total = [sum(column) for column in zip(*rows, strict=True)]
  table = [
    ('member', 'network', 'sees', 'GMACs a clip', 'parameters', 'GMACs a frame', 'state'),
    *(
      (*names, *_format(row))
      for names, row in zip([*first, ('sum', '', '')], [*rows, total], strict=True)
    ),
  ]
  table = [row if stream else row[:5] for row in table]
  print('\n'.join(tables.align(table, '<<<>>>>')))


def _format(row) -> tuple[str, ...]:
  macs, frame, params, state = row
  return say_billions(macs), f'{params:,}', say_billions(frame), f'{state:.2f} MiB'


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


def print_totals(
  found: cost.Cost,
  frame: cost.Cost | None,
  printed: published.Result | None,
  frames_macs: Sequence[int] = (),
):
  """What the whole network costs.

  Args:
    found: of a clip.
    frame: of the first frame of a stream.
    printed: what is published of it.
    frames_macs: multiply-adds of frames that cost different ones, of an ensemble's stream.
  """
  gmacs, millions = (printed.gmacs, printed.mparams) if printed else (None, None)
  rows = [
    ('GMACs a clip', say_billions(found.macs), _say(gmacs)),
    ('parameters', f'{found.params:,}', _say(millions, ' M')),
    ('running statistics', f'{found.statistics:,}', ''),
    ('peak activations, clip', f'{found.peak_bytes / 2**20:,.1f} MiB', ''),
  ]
  if frame:
    macs = frames_macs or [frame.macs]
    peak = f'at most {say_billions(max(macs))}' if max(macs) > min(macs) else ''
    rows += [
      ('GMACs a frame', say_billions(sum(macs) / len(macs)), peak),
      ('peak activations, frame', f'{frame.peak_bytes / 2**20:,.1f} MiB', ''),
      ('stream state', f'{found.state_bytes / 2**20:,.2f} MiB', ''),
    ]
  print()
  for name, value, note in rows:
    print(f'{name:24} {value:>14}   {note}'.rstrip())


def _say(printed: float | None, unit: str = '') -> str:
  return '' if printed is None else f'published: {printed}{unit}'


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('cost', __doc__)
  parser.add_argument('model', help='family/variant, architecture file, or trained network')
  parser.add_argument('--network', default='', help='of a published checkpoint: movinet/a2-stream')
  parser.add_argument('--clip', type=clip, help='FRAMESxSIZE or FRAMESxHEIGHTxWIDTH')
  parser.add_argument('--num-classes', type=int, help="by default those of the family's data set")
  parser.add_argument('--spec', type='path', help='architecture file, with its family as model')
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
