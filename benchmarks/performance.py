"""How fast the project is on the device that is here: the tables of docs/performance.md.

  python benchmarks/performance.py                    the whole list, in at most 8 minutes
  python benchmarks/performance.py steps streams      only these parts
  python benchmarks/performance.py steps --cases a2 x3d/m --forms cuda shifted --clips=32
  python benchmarks/performance.py --list             what there is, the most important first
  python benchmarks/performance.py --quick            tiny networks: shows that each part runs
  python benchmarks/performance.py runs               the quickstart's training and search, as
                                                      commands, in float32 and in bfloat16

PARTS
  ops      the depthwise convolution, as benchmarks/depthwise.py; two kinds of four
  steps    training steps of A2, A0, X3D-M and X3D-S
  streams  A0 to A5 live, one frame a call, in bfloat16 and in float32
  search   the search step of A2's space, against training the largest network of that space
  torch    PyTorch's side of ops and steps: X3D as benchmarks/x3d_torch.py has it, and MoViNet
           where its public port is installed, github.com/Atze00/MoViNet-pytorch
  runs     only when it is named: needs all of requirements.txt

All parts but `runs` need JAX, Flax and Optax only, and feed random input. Each case is a process.
Several compile at the same time, and while one is measured the others are stopped. So
`compile_secs` is of a machine with other work, and on a GPU XLA has chosen its matrix products
on a device that others used, too: `--jobs=1` has a case alone. A step that runs out of memory
says so and is tried again with half its batch. On a CPU a step has one clip, in float32.

Rows are printed as JSON lines, then as tables. The last lines name what failed, what is not
installed, and what the time did not suffice for.
"""

import argparse
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it is not installed

from tables import print_table
from turns import end_with_parent, run_in_turns, subtract_pauses, tell, wait_for_turn

from movinet_jax.names import check_name, find

ROOT = Path(__file__).resolve().parents[1]
PARTS = ('ops', 'steps', 'streams', 'search', 'torch', 'runs')
TYPES = ('float32', 'bfloat16')
_NO_MEMORY = 'out of memory'


class Case(NamedTuple):
  """A process: its name, its part, and the class of programs.py with its arguments."""

  name: str
  part: str
  program: str = ''
  options: Mapping = types.MappingProxyType({})


class Run(NamedTuple):
  """A verb of the quickstart, the sections that read videos, and which has the type."""

  verb: str
  config: str
  reads: tuple[str, ...]
  typed: str


RUNS = {
  'train': Run('train', 'configs/movinet/quickstart.py', ('train', 'eval'), 'model'),
  'search': Run('search', 'configs/search/quickstart.py', ('train',), 'supernet'),
}
# Clips of an accelerator's step, then frames and pixels of a clip as in configs/.
STEPS = {
  'movinet/a2': (16, 50, 224),
  'x3d/m': (32, 16, 224),
  'movinet/a0': (32, 50, 172),
  'x3d/s': (64, 13, 160),
}
STREAMS = ('a2', 'a0', 'a5', 'a1', 'a3', 'a4')


def list_cases(arguments) -> list[Case]:
  """All cases, the most important first."""
  if arguments.quick:
    return _list_quick()
  steps = _list_steps(arguments.forms)
  streams = [_make_stream(name, 'bfloat16') for name in STREAMS]
  theirs = [_make_torch(name, 'channels_last_3d') for name in STEPS]
  others = [_make_torch(name, 'ncdhw') for name in STEPS]
  return [
    Case('ops', 'ops', 'Ops'),
    *steps[:2],
    *streams[:2],
    Case('ops of PyTorch', 'torch'),
    Case('search', 'search', 'Search'),
    *steps[2:4],
    theirs[1],
    *streams[2:],
    *(theirs[0], theirs[3]),
    *[_make_stream(name, 'float32') for name in STREAMS],
    *(others[1], others[3], others[0]),
    *steps[4:],
    *(theirs[2], others[2]),
  ]


def _list_steps(forms: Sequence[str] | None) -> list[Case]:
  """Training steps; by default of `auto`, and then of `shifted` for the first two."""
  pairs = [(name, form) for form in forms or ('auto',) for name in STEPS]
  if not forms:
    pairs += [(name, 'shifted') for name in list(STEPS)[:2]]
  cases = []
  for name, form in pairs:
    clips, frames, size = STEPS[name]
    options = {'network': name, 'clips': clips, 'frames': frames, 'size': size, 'form': form}
    cases.append(Case(f'{name} {form}', 'steps', 'Training', options))
  if not forms:
    options = {'network': 'movinet/a2-stream', 'clips': 32, 'frames': 50, 'size': 224}
    name = 'movinet/a2-stream in 5 sub-clips'
    cases.append(Case(name, 'steps', 'Training', {**options, 'subclips': 5}))
  return cases


def _make_stream(variant: str, dtype: str) -> Case:
  network = f'movinet/{variant}-stream'
  return Case(f'{network} {dtype}', 'streams', 'Stream', {'network': network, 'dtype': dtype})


def _make_torch(network: str, layout: str) -> Case:
  clips, frames, size = STEPS[network]
  options = {'network': network, 'clips': clips, 'frames': frames, 'size': size}
  options['layout'] = layout
  return Case(f'{network} of PyTorch, {layout}', 'torch', 'TorchTraining', options)


def _list_quick() -> list[Case]:
  tiny = {'clips': 2, 'frames': 4, 'size': 16}
  cases = [
    Case('ops', 'ops', 'Ops'),
    Case('x3d', 'steps', 'Training', {'network': 'x3d/m', **tiny}),
    Case('stream', 'streams', 'Stream', {'network': 'movinet/a0-stream', 'dtype': 'float32'}),
    Case('search', 'search', 'Search', tiny),
    Case('ops of PyTorch', 'torch'),
    Case('x3d of PyTorch', 'torch', 'TorchTraining', {'network': 'x3d/m', **tiny}),
  ]
  return [case._replace(options={**case.options, 'quick': True}) for case in cases]


def choose_cases(arguments) -> list[Case]:
  """The cases of the parts asked for, and of them those whose names begin as asked for."""
  parts = arguments.parts or [part for part in PARTS if part != 'runs']
  chosen = [case for case in list_cases(arguments) if case.part in parts]
  for word in arguments.cases or ():
    if not any(_is_named(case, word) for case in chosen):
      check_name(word, [case.name for case in chosen], 'case')
  if arguments.cases:
    chosen = [case for case in chosen if any(_is_named(case, word) for word in arguments.cases)]
  return chosen


def _is_named(case: Case, word: str) -> bool:
  """Whether a case's name begins so, with its family or without."""
  return case.name.startswith(word) or case.name.partition('/')[2].startswith(word)


def find_missing(case: Case) -> str:
  """What a case of PyTorch needs and is not installed; '' for nothing."""
  if case.part != 'torch':
    return ''
  needs = ['torch']
  if case.options.get('network', '').startswith('movinet'):
    needs.append('movinets')  # github.com/Atze00/MoViNet-pytorch
  missing = [name for name in needs if importlib.util.find_spec(name) is None]
  return f'not installed: {", ".join(missing)}' if missing else ''


def measure(cases: Sequence[Case], arguments, secs: float) -> Iterator[tuple[Case, dict]]:
  """The rows of all cases, as they come."""
  known = {case.name: case for case in cases}
  commands = {}
  for case in cases:
    if missing := find_missing(case):
      yield case, {'not_measured': missing}
    else:
      commands[case.name] = _make_command(case, arguments)
  for name, row in run_in_turns(commands, secs=secs, jobs=arguments.jobs):
    yield known[name], row


def _make_command(case: Case, arguments) -> list[str]:
  if not case.program:
    place = Path(__file__).with_name('depthwise_torch.py')
    order = json.dumps({'quick': arguments.quick, 'kinds': ['forward', 'all']})
    return [sys.executable, str(place), order, '--wait']
  order = {'program': case.program, 'options': dict(case.options), 'clips': arguments.clips}
  order = json.dumps(order)
  return [sys.executable, str(Path(__file__).resolve()), '--child', order]


def run_child(order: str):
  """In a process of its own: prepares a case, waits for its turn, and tells its rows."""
  end_with_parent()
  order = json.loads(order)
  if order['program'] == 'TorchTraining':
    os.environ['JAX_PLATFORMS'] = 'cpu'  # the GPU is PyTorch's
  import jax
  import programs
  from timing import is_out_of_memory

  jax.config.update('jax_enable_compilation_cache', False)
  case = getattr(programs, order['program'])(**order['options'])
  small = case.is_on_cpu() and not order['options'].get('quick')
  clips = case.clips and (order['clips'] or (1 if small else case.clips))
  while True:
    try:
      _measure_case(case, clips)
      return
    except Exception as error:
      if not is_out_of_memory(error):
        raise
    tell('row', {'clips': clips, 'failed': _NO_MEMORY})
    if not clips or clips == 1:
      return
    clips //= 2
    tell('preparing')


def _measure_case(case, clips: int | None):
  began = time.process_time()
  prepared = case.prepare(clips)
  core_secs = time.process_time() - began
  pauses = wait_for_turn()
  spans = {n: round(subtract_pauses(span, pauses), 1) for n, span in prepared.spans.items()}
  more = {**spans, 'compile_core_secs': round(core_secs, 1)} if spans else {}
  for row in prepared.measure():
    tell('row', {**prepared.about, **row, **more, **case.describe_device()})


def measure_runs(arguments) -> Iterator[dict]:
  """`movinet train` and `movinet search` of the quickstart, each in a process."""
  from movinet_jax.data import motion  # late: it needs a decoder of videos

  with tempfile.TemporaryDirectory() as folder:
    videos = f'{folder}/videos'
    motion.write_motion(videos, videos_per_class=100, size=40, seed=0)
    for name in arguments.runs:
      run = find(RUNS, name, 'run')
      for dtype in TYPES:
        found = _measure_run(run, dtype, videos, f'{folder}/{name}-{dtype}')
        yield {'run': f'movinet {name}, quickstart', 'dtype': dtype, **found}


def _measure_run(run: Run, dtype: str, videos: str, workdir: str) -> dict:
  command = [
    *(sys.executable, '-m', 'launch.main', run.verb, f'--config={run.config}'),
    *(f'--workdir={workdir}', f'--config.{run.typed}.dtype={dtype}'),
    *(f'--config.data.{section}.root={videos}' for section in run.reads),
  ]
  began = time.perf_counter()
  subprocess.run(command, check=True, stdout=sys.stderr)
  secs = time.perf_counter() - began
  lines = Path(workdir, 'metrics.jsonl').read_text().splitlines()
  rows = [row for row in map(json.loads, lines) if 'examples_per_sec' in row]
  rows = rows[1:]  # the first has waited for the compiler
  peaks = [row['device_peak_mb'] for row in rows if 'device_peak_mb' in row]
  return {
    'clips_a_sec': statistics.median(row['examples_per_sec'] for row in rows),
    'input_wait_share': statistics.median(row['input_wait_share'] for row in rows),
    'device_mb': max(peaks) if peaks else None,
    'last_loss': rows[-1]['loss'],
    'whole_secs': secs,
  }


def print_tables(found: Sequence[tuple[Case, Mapping]]):
  """A table for each part; PyTorch's rows stand beside ours, with our ratio to the better."""
  rows = {part: [row for case, row in found if case.part == part] for part in PARTS}
  good = {part: [r for r in rows[part] if not is_failure(r)] for part in PARTS}
  theirs = [row for row in good['torch'] if 'step' in row]
  print_ops([*good['ops']], [row for row in good['torch'] if 'step' not in row])
  columns = 'step', 'clip', 'clips', 'dtype', 'form', 'step_ms', 'clips_a_sec', 'device_mb'
  columns += 'to_torch', 'compile_secs'
  lines = [{**row, 'to_torch': _find_ratio(row, theirs)} for row in good['steps']] + theirs
  order = list(STEPS)
  lines.sort(key=lambda row: order.index(row['step']) if row['step'] in order else len(order))
  print_table([_take(row, columns) for row in lines])
  columns = 'stream', 'dtype', 'size', 'queued_ms', 'one_ms', 'whole_ms', 'tried_frame_ms'
  columns += 'tried_network_ms', 'kernels', 'compile_secs'
  lines = sorted(good['streams'], key=lambda row: (row['dtype'], row['stream']))
  print_table([_take(row, columns) for row in lines])
  columns = 'search', 'clip', 'clips', 'dtype', 'search_step_ms', 'search_of_largest_step_ms'
  columns += 'largest_step_ms', 'ratio', 'search_device_mb', 'largest_device_mb'
  print_table([_take(row, columns) for row in good['search']])
  print_table(good['runs'])


def print_ops(ours: Sequence[Mapping], theirs: Sequence[Mapping]):
  import depthwise  # late: it loads JAX, whose processes have ended by now

  depthwise.print_depthwise_table([depthwise.join_torch(row, theirs) for row in ours])


def is_failure(row: Mapping) -> bool:
  return 'not_measured' in row or ('failed' in row and 'ms' not in row)


def _find_ratio(row: Mapping, theirs: Sequence[Mapping]) -> float | None:
  """Our clips a second over PyTorch's in its better layout; None if it was not measured."""
  same = [t['clips_a_sec'] for t in theirs if t['step'] == row['step']]
  return row['clips_a_sec'] / max(same) if same else None


def _take(row: Mapping, columns: Sequence[str]) -> dict:
  return {name: row[name] for name in columns if row.get(name) is not None}


def parse_arguments() -> argparse.Namespace:
  raw = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
  add = parser.add_argument
  add('parts', nargs='*', metavar='PART', help=f'{", ".join(PARTS)}; default: all but runs')
  add('--minutes', type=float, default=8, help='for all of it but runs; default: %(default)s')
  add('--cases', nargs='+', metavar='NAME', help='cases whose names begin so; see --list')
  add('--forms', nargs='+', metavar='FORM', help='of steps; default: auto, then shifted for two')
  add('--clips', type=int, help='of a step; default: see --list, on a CPU 1')
  cores = os.cpu_count() or 2
  add(
    '--jobs',
    type=int,
    default=max(1, cores // 2),
    help='cases that compile at a time; default: %(default)s',
  )
  add('--runs', nargs='+', default=list(RUNS), metavar='VERB', help=', '.join(RUNS))
  add('--quick', action='store_true', help='tiny networks, few calls')
  add('--list', action='store_true', help='list the cases and end')
  add('--child', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  try:
    for part in arguments.parts:
      check_name(part, PARTS, 'part')
    choose_cases(arguments)
  except ValueError as error:
    parser.error(str(error))
  return arguments


def set_environment():
  """What the processes are to find in their environment."""
  put = os.environ.setdefault
  os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, (str(ROOT), os.getenv('PYTHONPATH'))))
  put('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # several of them have the device open
  if sys.platform == 'linux':
    put('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')  # as launch.main.use_huge_pages


def main() -> int:
  began, arguments = time.perf_counter(), parse_arguments()
  if arguments.child:
    run_child(arguments.child)
    return 0
  cases = choose_cases(arguments)
  if arguments.list:
    for case in cases:
      print(f'{case.part:8} {case.name:36} {json.dumps(dict(case.options))}')
    return 0
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the processes, too
  set_environment()
  found = []
  secs = 60 * arguments.minutes - (time.perf_counter() - began)
  for case, row in measure(cases, arguments, secs):
    found.append((case, row))
    print(json.dumps({'part': case.part, 'case': case.name, **row}), flush=True)
  if 'runs' in arguments.parts:
    for row in measure_runs(arguments):
      found.append((Case('runs', 'runs'), row))
      print(json.dumps(row), flush=True)
  print_tables(found)
  failed = [(case, row) for case, row in found if is_failure(row)]
  for case, row in failed:
    print(f'{case.name}: {row.get("failed") or row["not_measured"]}')
  broken = any(row.get('failed', _NO_MEMORY) != _NO_MEMORY for _, row in failed)
  return 1 if broken or any('wrong' in row for _, row in found) else 0


if __name__ == '__main__':
  sys.exit(main())
