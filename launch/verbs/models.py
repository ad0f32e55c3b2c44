"""List every named network: its clip, what it costs, and how accurate it is by its paper.

  movinet models                      all networks, family by family
  movinet models --family=movinet     one family
  movinet models --stream             those that run frame by frame
  movinet models --json > all.json    a list of objects, with all published results and latencies

Any name works in `movinet cost`, `movinet bench` and a config's model.name. GMACs are billions of
multiply-adds, which papers call GFLOPs: of one native clip, and of a stream's dearest frame. State
is what a stream keeps between frames, in float32. All are counted by this package, as `movinet
cost` counts them. The accuracy is printed by the source of that number and not reproduced here.
Its views are clips and crops of a video, of another size than the native clip where one is named.
docs/networks.md says how the networks differ from the papers', and what
the keys of --json are.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence

import jax

from launch import tables
from launch.arguments import make_parser
from launch.errors import ExitCode
from launch.tables import say_billions
from movinet_jax import counts, models, published
from movinet_jax.counts import Counts

_STREAM = '-stream'


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  jax.config.update('jax_platforms', 'cpu')  # nothing is computed that wants an accelerator
  if arguments.family:
    models.find_family(arguments.family)  # an error names the nearest
  names = list_names(arguments.family, arguments.stream)
  found = counts.find_counts(names)
  if arguments.json:
    print(json.dumps([describe(name, found[name]) for name in names], indent=2))
  elif names:
    print_table(found)
  else:
    print(f'no named network of {arguments.family} is a stream')
  return ExitCode.DONE


def list_names(family: str = '', stream: bool = False) -> list[str]:
  """Names of all networks of a family or of all, each stream behind the network it is made of."""
  names = [name for name in models.variants() if name.partition('/')[0] == family or not family]
  first = {name: number for number, name in enumerate(names)}
  names.sort(key=lambda name: (first.get(name.removesuffix(_STREAM), first[name]), first[name]))
  return [name for name in names if not stream or find_spec(name).causal]


def find_spec(name: str):
  family, _, variant = name.partition('/')
  return models.find_family(family).VARIANTS[variant]


def find_same(name: str) -> list[str]:
  """Other names of the same architecture in its family."""
  family, _, variant = name.partition('/')
  variants = models.find_family(family).VARIANTS
  same = (one for one in variants if one != variant and variants[one] == variants[variant])
  return [f'{family}/{one}' for one in same]


def find_dataset(name: str) -> str:
  """The data set that the family's networks are published with, '' if none has its classes."""
  number = models.find_family(name.partition('/')[0]).NUM_CLASSES
  return next((dataset for dataset, n in published.CLASSES.items() if n == number), '')


def describe(name: str, cost: Counts) -> dict:
  """What is known of a network, as JSON."""
  family, _, _ = name.partition('/')
  module, spec = models.find_family(family), find_spec(name)
  return {
    'network': name,
    'family': family,
    'stream': spec.causal,
    'same_as': find_same(name),
    'frames': spec.frames,
    'size': spec.resolution,
    'fps': module.NATIVE_FPS / spec.frame_stride,
    'macs_clip': cost.macs,
    'macs_frame': cost.frame_macs,
    'params': cost.params,
    'state_bytes': cost.state_bytes,
    'classes': module.NUM_CLASSES,
    'dataset': find_dataset(name),
    'results': [
      {'accuracy': one.accuracy, 'metric': one.metric, **dataclasses.asdict(one)}
      for one in published.find_results(name)
    ],
    'latencies': [dataclasses.asdict(one) for one in published.find_latencies(name)],
  }


def print_table(found: Mapping[str, Counts]):
  """A table for each family, the sources of their accuracies, and what the columns are."""
  sources: dict[str, int] = {}
  by_family: dict[str, list[str]] = {}
  for name in found:
    by_family.setdefault(name.partition('/')[0], []).append(name)
  for family, names in by_family.items():
    print(_make_heading(family))
    rows = [(name, *make_row(name, found[name], sources)) for name in names]
    lines = tables.align([_COLUMNS, *rows], _SIDES)
    if max(map(len, lines)) > _WIDTH:
      lines = tables.align([_COLUMNS, *rows], _SIDES, gap=' ')
    print(*lines, '', sep='\n')
  print(_LEGEND)
  for name in found:
    if same := [other for other in find_same(name) if other in found and other > name]:
      print(f'{name} is the same network as {", ".join(same)}.')
  print()
  for source, number in sources.items():
    print(f'[{number}] {source}')


_COLUMNS = 'network', 'clip', 'fps', 'GMACs', 'frame', 'params', 'state', 'top-1', '', 'views'
_SIDES = '<>>>>>>>><'
_WIDTH = 100
_LEGEND = (
  'GMACs: billions of multiply-adds of a clip; frame: of the dearest frame of a stream. params:\n'
  'millions. state: MiB between frames. views: clips and crops that are averaged, of another size\n'
  'than the clip where one is named.'
)


def _make_heading(family: str) -> str:
  module, dataset = models.find_family(family), find_dataset(family)
  of = f' of {dataset}' if dataset else ''
  return f'{family}: {module.NUM_CLASSES} classes{of}, video of {module.NATIVE_FPS:g} fps'


def make_row(name: str, cost: Counts, sources: dict[str, int]) -> Iterator[str]:
  """The columns of a network; a source that is new is added to `sources` with its number."""
  module, spec = models.find_family(name.partition('/')[0]), find_spec(name)
  yield f'{spec.frames}x{spec.resolution}'
  yield f'{module.NATIVE_FPS / spec.frame_stride:.3g}'
  yield say_billions(cost.macs)
  yield '' if cost.frame_macs is None else say_billions(cost.frame_macs)
  yield f'{cost.params / 1e6:,.2f}'
  yield f'{cost.state_bytes / 2**20:,.2f}' if spec.causal else ''
  results, dataset = published.find_results(name), find_dataset(name)
  one = next((one for one in results if one.dataset == dataset and one.top1), None)
  if one is None:
    return
  source = f'{one.source}: {one.differs}' if one.differs else one.source
  yield f'{one.top1:.2f}'
  yield f'[{sources.setdefault(source, len(sources) + 1)}]'
  yield _say_views(one, spec.frames)


def _say_views(one: published.Result, native_frames: int) -> str:
  """How many views were averaged and, where they are not native clips, of what: '30 of 182²'."""
  views = '?' if one.views is None else str(one.views)
  if not one.clip:
    return views
  frames, size = one.clip
  square = '?' if size is None else f'{size}²'
  return f'{views} of {square}' if frames == native_frames else f'{views} of {frames} x {square}'


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('models', __doc__)
  parser.add_argument('--family', default='', help='one family: movinet, x3d, tvn, …')
  parser.add_argument('--stream', action='store_true', help='only networks that are streams')
  parser.add_argument('--json', action='store_true', help='a list of objects')
  return parser
