"""Time networks on the device at hand: milliseconds, memory, and what papers print beside them.

  movinet bench movinet/a0-stream                          frame by frame, state carried
  movinet bench movinet/a0-stream --chunk=1,8 --batch=1,8  several frames and streams a call
  movinet bench movinet/a0-stream --clip=50x172 --train    also whole clips, and a training step
  movinet bench movinet/a0 movinet/a1 --picture=a.png      accuracy against time and multiply-adds
  movinet bench runs/search/found.json runs/mine           an architecture, a trained network
  movinet bench mine/model.tflite mine/model.onnx          exported files, in their runtimes
  movinet bench movinet/a0-stream --json                   lines of JSON in place of the table
  movinet bench movinet/a0-stream --out=times.jsonl        a table, and its rows in a file

A NETWORK is a name (`movinet models` lists all), an architecture file, or a trained network: a
workdir, an .npz of `movinet convert`, the JSON file of an ensemble, or a file of `movinet export`,
whose runtime gets as many threads as there are cores (--cores). Streams are timed frame by
frame and, with --clip, as clips; other networks as clips. Clips are the network's native ones
unless --clip says otherwise; the frames of a stream are as large as those of its clip.

A call is timed from bytes on the host to probabilities on the host, as `movinet stream` runs a
network. docs/bench.md says how, and what is not measured.
"""

import argparse
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import tqdm

from launch import devices
from launch.arguments import at_least_1, clip, counts, make_parser, positive
from launch.errors import ExitCode
from launch.runs import timings, tradeoff
from launch.runs.named import Named, lacks_name, read_network
from launch.runs.timings import Case, Row
from movinet_jax.names import check_name
from movinet_jax.paths import check_writable
from nas import machine

DTYPES = ('float32', 'bfloat16')
_NATIVE = ()  # what a lone --clip stands for
_KEYS = {'network', 'kind', 'call_ms', 'machine'}  # that a row has, and no other file
_PICTURES = ('.png', '.svg', '.pdf')


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  _check_files(arguments)
  if arguments.cores:
    devices.limit_cores(arguments.cores)
  devices.check_platform()
  networks = _read_networks(arguments)
  cases = [case for network in networks for case in list_cases(network, arguments)]
  if arguments.picture:
    tradeoff.check(cases)
  about = {**machine.describe(), 'date': time.strftime('%Y-%m-%d')}
  _warn_of_load()
  rows = []
  with _open_output(arguments, cases, about) as show:
    for row in _measure(cases, arguments.secs):
      rows.append(row)
      show(row)
  if arguments.picture:
    tradeoff.draw(rows, arguments.picture, about)
    print('wrote', arguments.picture, file=sys.stderr)
  return ExitCode.DONE if any(row.timing for row in rows) else ExitCode.MISUSE


def _read_networks(arguments) -> list[Named]:
  """The networks; one of them may be a published checkpoint, which does not say its name."""
  name, unnamed = arguments.network, [text for text in arguments.networks if lacks_name(text)]
  if name and len(unnamed) != 1:
    raise ValueError(
      f'--network={name} names one published checkpoint, and there are {len(unnamed)} here'
    )
  found = [
    read_network(text, arguments.num_classes, name if text in unnamed else '')
    for text in arguments.networks
  ]
  return [network.with_threads(math.ceil(machine.count_cores())) for network in found]


def _check_files(arguments: argparse.Namespace):
  """Checks that what is written in the end can be, and is in nobody's place."""
  files = {'--out': arguments.out, '--picture': arguments.picture}
  if arguments.picture and not arguments.picture.lower().endswith(_PICTURES):
    raise ValueError(f'--picture={arguments.picture}: wanted the name of a .png, .svg or .pdf')
  if arguments.picture and arguments.picture == arguments.out:
    raise ValueError(f'--out and --picture are both {arguments.out}: give each a name of its own')
  if arguments.out and not _holds_rows(Path(arguments.out)):
    raise ValueError(
      f'--out={arguments.out} is there and holds something else than rows of `movinet bench`, '
      'which would be lost: give another name'
    )
  for option, file in files.items():
    if file:
      try:
        check_writable(file)
      except OSError as error:
        raise ValueError(f'{option}={file}: {error.strerror or error}') from error


def _holds_rows(path: Path) -> bool:
  """Whether a file holds rows of an earlier call, or nothing, or cannot be read or is not there."""
  try:
    rows = list(map(json.loads, path.read_text().splitlines())) if path.is_file() else []
  except ValueError:
    return False
  except OSError:  # which is told where it is written
    return True
  return all(isinstance(row, dict) and row.keys() >= _KEYS for row in rows)


def list_cases(network: Named, arguments: argparse.Namespace) -> list[Case]:
  """What is timed of a network, in the order of the table."""
  frames, height, width = network.input
  if arguments.clip:
    frames, height, width = arguments.clip
  types = arguments.dtype or (jnp.dtype(network.model.dtype).name,)
  inputs = [('stream', n) for n in arguments.chunk or (network.chunk,) if network.has_stream]
  if arguments.clip is not None or not network.has_stream:
    inputs.append(('clip', frames))
  if arguments.train:
    inputs.append(('train', frames))
  cases = [
    Case(network, kind, count, height, width, batch, dtype)
    for kind, count in inputs
    for dtype in types
    for batch in arguments.batch
  ]
  if arguments.chunk and not network.has_stream:  # one row says why there are no others
    chunk, batch = arguments.chunk[0], arguments.batch[0]
    cases.insert(0, Case(network, 'stream', chunk, height, width, batch, types[0]))
  return cases


def _measure(cases: Sequence[Case], secs: float) -> Iterator[Row]:
  """Times one case after the other; one that fails says why, and does not stop the others."""
  weights = (None, None)
  with tqdm.tqdm(cases, unit='case', leave=False, disable=None) as bar:
    for case in bar:
      bar.set_description(f'{case.network.text}, {case.describe()}')
      if weights[0] is not case.network:  # those of one network at a time are in memory
        weights = case.network, case.network.find_weights()
      yield timings.try_measure(case, weights[1], secs)


@contextlib.contextmanager
def _open_output(
  arguments: argparse.Namespace, cases: Sequence[Case], about: Mapping
) -> Iterator[Callable[[Row], None]]:
  """What shows a row: in a table or as JSON, and in a file if there is one."""
  with contextlib.ExitStack() as stack:
    lines = [sys.stdout] if arguments.json else []
    if arguments.out:
      lines.append(stack.enter_context(open(arguments.out, 'w')))
    if not arguments.json:
      table = stack.enter_context(contextlib.closing(Table(cases, about)))

    def show(row: Row):
      if not arguments.json:
        table.add(row)
      for file in lines:
        print(json.dumps(row.to_json(about)), file=file, flush=True)

    yield show


class Table:
  """Prints rows as they come, and in the end what they mean."""

  def __init__(self, cases: Sequence[Case], about: Mapping):
    self._names = max(len('network'), *(len(case.network.text) for case in cases))
    self._inputs = max(len('input'), *(len(case.describe()) for case in cases))
    self._sources, self._devices = {}, {}
    print(', '.join(_describe_machine(about)) + '\n')
    titles = (
      f'{"batch":>5} {"type":8} {"ms a call":>10} {"10–90 %":>15} {"ms a frame":>10} '
      f'{"a second":>14} {"memory":>11} {"compile":>8}  published ms'
    )
    print(f'{"network":{self._names}}  {"input":{self._inputs}}  {titles}', flush=True)

  def add(self, row: Row):
    case = row.case
    start = f'{case.network.text:{self._names}}  {case.describe():{self._inputs}}  '
    # Past the progress bar, which would otherwise be left in the middle of a line.
    tqdm.tqdm.write(start + self._describe(row), file=sys.stdout)
    sys.stdout.flush()

  def _describe(self, row: Row) -> str:
    case, found = row.case, row.timing
    start = f'{case.batch:5} {case.dtype:8} '
    if found is None:
      return f'{start}failed: {row.error}'
    times = found.times
    for printed in row.printed:
      self._sources[printed.latency.source] = printed.latency.differs
    self._devices[found.peak_from] = None
    spread = f'{_round(times.p10_ms)}–{_round(times.p90_ms)}'
    memory = '–'
    if found.peak_bytes is not None:
      memory = f'{found.peak_bytes / 2**20:,.0f} MiB' + '*' * (found.peak_from == 'device')
    rate = f'{_round(row.per_sec)} {"frames" if case.kind == "stream" else "clips"}'
    published = ', '.join(f'{one.ms:g} {one.latency.device}' for one in row.printed)
    return (
      f'{start}{_round(times.median_ms):>10} {spread:>15} {_round(row.frame_ms):>10} {rate:>14} '
      f'{memory:>11} {found.compile_secs:6.1f} s  {published.replace(", one core", " (one core)")}'
    ).rstrip()

  def close(self):
    print(
      '\nms a call: median, 10th and 90th percentile, after a warm-up. ms a frame: of one frame of '
      'one stream or clip.\ncompile: by XLA, not from the cache; of an exported file, loading it.'
    )
    if 'device' in self._devices:
      print('memory*: the most in use on the device so far.')
    if 'program' in self._devices:
      print('memory: weights, input, state, results and temporaries, as the compiler counts them.')
    for source, differs in self._sources.items():
      print(f'published: {source}' + f' ({differs})' * bool(differs))


def _describe_machine(about: Mapping) -> list[str]:
  """The parts of a line: the device, the versions of what runs on it, the date."""
  about = dict(about)
  cores, date = about.pop('cores', None), about.pop('date')
  found = [about.pop('device')] + [f'{cores} core{"s" * (cores != 1)}'] * (cores is not None)
  found += [f'JAX {about.pop("jax")}', *(f'{key} {value}' for key, value in about.items())]
  return [*found, date]


def _round(value: float) -> str:
  """Three digits, and none behind the point from 100 on."""
  return f'{value:,.0f}' if value >= 99.95 else f'{value:.3g}'


def _warn_of_load():
  """Says so if other programs use this machine's cores, whose times they make longer."""
  with contextlib.suppress(OSError, AttributeError):  # some systems do not tell
    load, cores = os.getloadavg()[0], machine.count_cores()
    if load > 0.5 * cores:
      print(
        f'Note: this machine was busy before (load {load:.1f} on {cores} cores): times may be too '
        'long',
        file=sys.stderr,
      )


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('bench', __doc__)
  add = parser.add_argument
  add('networks', nargs='+', metavar='NETWORK', help='a name, a file, a workdir')
  add('--network', default='', help='of a published checkpoint: its name, movinet/a2-stream')
  add('--chunk', type=counts, metavar='1,8', help='frames of a call of a stream; default: 1')
  add('--batch', type=counts, default=(1,), metavar='1,8', help='clips or streams; default: 1')
  add('--dtype', type=_dtypes, help="float32, bfloat16 or both; default: the network's own")
  add(
    '--clip',
    nargs='?',
    type=clip,
    const=_NATIVE,
    metavar='FRAMESxSIZE',
    help='time streams as clips, too; and what a clip is',
  )
  add('--train', action='store_true', help='time a step of training on clips, too')
  add('--secs', type=positive, default=3.0, help='to time each row; default: 3')
  add('--num-classes', type=at_least_1, help="by default those of the family's data set")
  add('--cores', type=at_least_1, help='of the CPU to use; default: all')
  add('--json', action='store_true', help='a line of JSON for each row, in place of the table')
  add('--out', type='path', metavar='FILE', help='a file for these lines, beside what is printed')
  add('--picture', type='path', metavar='FILE.png', help='accuracy against time, multiply-adds')
  return parser


def _dtypes(text: str) -> tuple[str, ...]:
  names = tuple(dict.fromkeys(text.split(',')))
  for name in names:
    try:
      check_name(name, DTYPES, 'type')
    except ValueError as error:  # whose message argparse would not show
      raise argparse.ArgumentTypeError(str(error)) from error
  return names
