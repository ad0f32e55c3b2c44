"""Find out before paying whether a command will run: memory, batch, data, workdir.

  movinet preflight --topology=v5e:16x16 -- \\
      train --config=configs/movinet/kinetics600.py:a2 --workdir=runs/a2
  movinet preflight -- search --config=configs/search/quickstart.py --workdir=runs/found

What follows `--` is the command as it will be given. With --topology its step is compiled
for TPUs that need not be here (`pip install 'jax[tpu]'`), and without for the devices of
this machine, where it is also run. Nothing is trained and nothing is written.

Of `sweep`, the training step of the largest network of its space is checked, on one device.

Exit code 0: it fits; 2: it does not, and what to do is said.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.errors import JaxRuntimeError

from launch import config as configs
from launch import parts, program, trial
from launch import plan as searches
from launch.arguments import at_least_1, make_parser
from launch.pods.topology import find_topology
from launch.verbs import sweep, train
from movinet_jax import cost, data
from movinet_jax.names import check_name

_FULL = 0.97  # of a device's memory: more clips are not looked for
_INPUT_SECS, _INPUT_CLIPS = 10, 8  # how long, and by how many, the input is timed


@dataclasses.dataclass(frozen=True)
class Machine:
  """What a step is compiled for.

  Attributes:
    name: for people.
    devices: of JAX.
    memory_bytes: of one; None where that cannot be known.
    hosts: which share the reading of a batch.
    here: whether programs can be run.
  """

  name: str
  devices: Sequence
  memory_bytes: int | None
  hosts: int
  here: bool


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A step of so many clips as the compiler left it.

  Attributes:
    memory: of a device; None if the compiler itself refused.
    refusal: what it then said.
    exchanged_bytes: by kind of collective, of a device and step.
    estimate_secs: the compiler's, None where it has none.
  """

  clips: int
  compile_secs: float
  memory: cost.Memory | None = None
  refusal: str = ''
  exchanged_bytes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  estimate_secs: float | None = None

  def fits(self, machine: Machine) -> bool:
    """Whether it runs there: of slices, the TPU compiler refuses what does not."""
    if self.memory is None or not machine.here:
      return self.memory is not None
    return machine.memory_bytes is None or self.memory.total <= machine.memory_bytes


class Report:
  """Rows as they are found out: printed at once, and kept."""

  def __init__(self, quiet: bool = False):
    self.rows: list[dict] = []
    self._quiet = quiet

  def add(self, name: str, said: str, ok: bool | None = True, **facts):
    """A row; `ok` is None for what is worth knowing but stops nothing."""
    self.rows.append({'name': name, 'ok': ok, 'said': said, **facts})
    if not self._quiet:
      mark = {True: ' ', False: '✗', None: '!'}[ok]
      print(f'{mark} {name:16} {said}', flush=True)

  @property
  def ok(self) -> bool:
    return all(row['ok'] is not False for row in self.rows)


def main(argv: Sequence[str]) -> int:
  own, command = _split_command(argv)
  arguments = make_arguments().parse_args(own)
  verb, cfg, workdir = read_command(command)
  report = Report(quiet=arguments.json)
  if arguments.topology:
    jax.config.update('jax_platforms', 'cpu')  # none of the devices here are asked
  machine = find_machine(arguments.topology)
  found = preflight(verb, cfg, workdir, machine, arguments, report)
  if arguments.json:
    print(json.dumps({**found, 'ok': report.ok, 'rows': report.rows}))
  else:
    print('\nIt will run.' if report.ok else '\nIt will not run like this (✗).')
  return 0 if report.ok else 2


def _split_command(argv):
  argv = list(argv)
  if '--' not in argv:
    make_arguments().parse_args(argv)  # --help, or what is misspelt
    raise ValueError('say which command to check, after --: movinet preflight -- train --config=…')
  cut = argv.index('--')
  return argv[:cut], argv[cut + 1 :]


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('preflight', __doc__)
  add = parser.add_argument
  add('--topology', default='', help='TPU slice, such as v5e:16x16; default: what is here')
  add('--classes', type=at_least_1, help='where neither data nor config say how many')
  add(
    '--compiles',
    type=at_least_1,
    default=5,
    help='programs to compile at most, in search of the largest batch; 1: only this one',
  )
  add('--json', action='store_true', help='print what was found as JSON, at the end')
  return parser


def read_command(command: Sequence[str]) -> tuple[str, dict, str]:
  """(verb, its whole config, its workdir or '') of a command line."""
  if not command:
    raise ValueError('there is no command after --')
  verb, *rest = command
  check_name(verb, program.VERBS, 'verb whose step can be checked')
  parser = make_parser(verb, f'movinet {verb}, as far as preflight reads it.')
  parser.add_argument('--workdir', default='')
  if verb == 'train':
    parser.add_argument('--spec')
  if verb == 'sweep':
    parser.add_argument('--storage')
    parser.add_argument('--workers')
  arguments, cfg = configs.parse(parser, rest)
  defaults = {'train': train, 'search': searches, 'sweep': sweep}[verb].DEFAULTS
  cfg = {**defaults, **cfg.to_dict()}
  if getattr(arguments, 'spec', None):
    cfg['model'] = parts.replace_network(cfg['model'], arguments.spec)
  return verb, cfg, arguments.workdir


def find_machine(topology: str) -> Machine:
  """The devices of a topology, or those that are here."""
  if topology:
    found = find_topology(topology)
    devices = program.find_devices(found)
    name = f'{found.name}: {len(devices)} chips, {found.hosts} hosts'
    return Machine(name, devices, found.memory_bytes, found.hosts, here=False)
  devices = jax.devices()
  name = f'{len(devices)} x {devices[0].device_kind}, here'
  return Machine(name, devices, _find_memory(devices[0]), jax.process_count(), here=True)


def _find_memory(device) -> int | None:
  """Bytes that a program may use on a device of this machine."""
  if device.platform != 'cpu':
    return (device.memory_stats() or {}).get('bytes_limit')
  # Of all CPU devices together: what the kernel, or the container, allows.
  limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for path in (
    '/sys/fs/cgroup/memory.max',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes',
  ):
    if os.path.exists(path) and (text := Path(path).read_text().strip()).isdecimal():
      limits.append(int(text))
  return min(limits) // jax.local_device_count()


def preflight(verb, cfg, workdir, machine, options, report) -> dict:
  """Checks everything, in the order of what it costs; facts for machines."""
  report.add('devices', machine.name)
  _check_workdir(workdir, report)
  verb, cfg, machine, source = _open(verb, cfg, machine, report)
  classes = _count_classes(cfg, source, options.classes)

  def make(cfg: Mapping) -> program.Program:
    return program.make_program(verb, cfg, classes, machine.devices)

  try:
    whole = make(cfg)
  except ValueError as error:
    report.add('config and batch', str(error), ok=False)
    return {}
  _tell_batch(whole, report)
  first, executable = compile_step(whole)
  tell_step(first, machine, report)
  secs = first.estimate_secs
  if machine.here and first.fits(machine):
    secs = time_step(executable, whole)
    report.add('a step', f'{secs:.3g} s, measured', step_secs=secs)
  del executable  # or it would take its memory while others are compiled
  _check_input(cfg, source, whole, machine, secs, report)
  rest = {'cfg': cfg, 'whole': whole, 'machine': machine, 'report': report}
  return tell_largest(first, options.compiles, make=make, **rest)


def _open(verb, cfg, machine, report):
  """(verb, config, machine, data) of the step to check: of a sweep, of a training."""
  if verb != 'sweep':
    _check_config(verb, cfg)
    return verb, cfg, machine, _open_source(verb, cfg, machine, report)
  sweep.check(cfg)
  source = _open_source(verb, cfg, machine, report)
  report.add('sweep', 'checked is its largest network, trained on one device')
  cfg = program.make_recipe(cfg)
  _check_config('train', cfg)
  one = dataclasses.replace(machine, devices=machine.devices[:1], hosts=1)
  return 'train', cfg, one, source


def _check_config(verb, cfg):
  rules = {'train': train, 'search': searches}[verb]
  parts.check_config(cfg, rules.NEEDED, rules.LATE, rules.SIZES)


def _tell_batch(whole: program.Program, report: Report):
  clips, shares = whole.clips, whole.place.shape['data']
  said = f'{clips} clips a step, {clips / shares:g} for each of {shares} devices'
  even = clips % whole.unit == 0
  if not even:
    said += (
      f'; clips of a micro-batch have to move between devices: take a multiple of {whole.unit}'
    )
  ok = True if even else None
  report.add('config and batch', said, ok=ok, clips=clips, shares=shares)


def _count_classes(cfg, source, given: int | None) -> int:
  """Of the data, or else of the command line, or else of the config."""
  if source is not None:
    return len(source.labels)
  section = cfg.get('model') or configs.load(cfg['train_with']).to_dict()['model']
  found = given or section.get('num_classes')
  if not found:
    raise ValueError(
      'without its data, the config does not say how many classes there are: --classes=N'
    )
  return found


def _check_workdir(workdir: str, report: Report):
  if not workdir:
    report.add('workdir', 'not given, so not checked', ok=None)
    return
  if '://' in workdir:
    report.add('workdir', f'{workdir} is not of this machine, so not checked', ok=None)
    return
  place = Path(workdir).absolute()
  while not place.exists():
    place = place.parent
  try:
    with tempfile.TemporaryFile(dir=place):
      report.add('workdir', f'{workdir} can be written')
  except OSError as error:
    report.add('workdir', f'{workdir} cannot be written: {error}', ok=False)


def _open_source(verb, cfg, machine, report):
  """What the command learns from; None, and a row that says why, where it is not here."""
  try:
    if verb == 'sweep':
      source = trial.open_sources(cfg)['train']
    else:
      source = parts.open_sources({'train': cfg['data']['train']})['train']
      parts.check_loss(cfg['loss']['name'], source)
  except (OSError, ValueError, data.SourceError) as error:
    # On this machine a topology's data need not be.
    ok = False if machine.here else None
    report.add('data', f'not here: {error}', ok=ok)
    return None
  report.add('data', f'{len(source):,} videos, {len(source.labels)} classes')
  return source


def compile_step(whole: program.Program) -> tuple[Compiled, object]:
  """(what is known of it, the program itself), None for one too large for its device."""
  began = time.perf_counter()
  try:
    executable = whole.compile()
  except JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    secs, said = time.perf_counter() - began, _find_refusal(str(error))
    return Compiled(whole.clips, secs, refusal=said), None
  secs = time.perf_counter() - began
  # A sum over one device stays in the program, and goes nowhere.
  alone = whole.place.size == 1
  exchanged = [] if alone else cost.find_collectives(executable.as_text())
  return Compiled(
    whole.clips,
    secs,
    memory=cost.count_memory(executable),
    exchanged_bytes=cost.count_collective_bytes(exchanged),
    estimate_secs=cost.estimate_secs(executable),
  ), executable


def _find_refusal(message: str) -> str:
  """The sentence of a compiler that says how much too much it was."""
  for line in message.replace('. ', '.\n').splitlines():
    if line.startswith(('Used ', 'Exceeded ', 'Program hbm requirement')):
      return line.strip()
  return message.strip().splitlines()[0]


def tell_step(first: Compiled, machine: Machine, report: Report):
  """Rows of the step at the config's own batch."""
  fits, memory = first.fits(machine), first.memory
  if memory is None:
    report.add('memory', f'too little on a device: {first.refusal}', ok=False)
  else:
    total, limit = f'{_say_bytes(memory.total)} a device', machine.memory_bytes
    if limit:
      total += f' of {_say_bytes(limit)}'
    if fits and limit and memory.total > limit:
      fits, total = None, f'{total}, counted separately; the compiler says that it fits'
    report.add('memory', total, ok=fits, total_bytes=memory.total)
    said = ', '.join(
      f'{name} {_say_bytes(size)}' for name, size in dataclasses.asdict(memory).items()
    )
    report.add('of which', said, **dataclasses.asdict(memory))
    exchanged = first.exchanged_bytes
    said = ', '.join(f'{kind} {_say_bytes(n)}' for kind, n in exchanged.items())
    report.add('between devices', f'{said or "nothing"} a step', **exchanged)
  if memory is not None and not machine.here:
    secs = first.estimate_secs
    said = f'{secs:.3g} s, the compiler estimates' if secs else 'no estimate'
    report.add('a step', said, estimate_secs=secs)
  report.add('to compile', f'{first.compile_secs:.0f} s', secs=first.compile_secs)


def time_step(executable, whole: program.Program) -> float:
  """Seconds of a step on empty clips, the fastest of three."""

  def zeros(tree):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding), tree)

  state, batch = zeros(whole.state), zeros(whole.batch)
  times = []
  for _ in range(3):
    began = time.perf_counter()
    state, metrics = executable(state, batch)
    jax.block_until_ready((state, metrics))
    times.append(time.perf_counter() - began)
  return min(times)


def _check_input(cfg, source, whole, machine, secs, report):
  """One real batch, and how fast one worker makes them."""
  if source is None:
    report.add('input', 'not tried without data', ok=None)
    return
  rate, shape = time_input(cfg, source, whole)
  wanted = whole.batch['video'].shape[1:]
  if shape != wanted:
    report.add('input', f'clips of {shape}, the step takes {wanted}', ok=False)
    return
  said = f'{rate:.3g} clips/s a worker on this machine'
  if secs is None:
    report.add('input', f'{said}; what the step needs is not known', rate=rate)
    return
  need = whole.read / secs / machine.hosts
  workers, given = math.ceil(need / rate), cfg['loader'].get('workers', 0)
  said += f'; the step needs {need:.3g} clips/s a host: loader.workers={workers}'
  enough = max(given, 1) >= workers
  said += '' if enough else f' (the config says {given})'
  report.add('input', said, ok=True if enough else None, rate=rate, need=need, workers=workers)


def time_input(cfg, source, whole) -> tuple[float, tuple[int, ...]]:
  """(clips a second of one worker, shape of a clip) of real batches of the pipeline."""
  size = min(_INPUT_CLIPS, whole.clips)
  options = {'source': source, 'clip': whole.clip, 'batch_size': size}
  section = {**cfg['loader'], 'workers': 0, 'threads': 1}
  make = data.make_batches
  with parts.call(make, section, **options, seed=cfg['seed'], train=True) as batches:
    next(batches)  # which also opens what is only opened once
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < _INPUT_SECS:
      shape = next(batches)['video'].shape[1:]
      count += size
  return count / (time.perf_counter() - began), shape


def tell_largest(first, compiles: int, *, make: Callable, cfg, whole, machine, report):
  """Rows of the largest batch that fits, and what to do with it."""
  unit, limit = whole.unit, machine.memory_bytes

  def attempt(units: int) -> Compiled:
    found, _ = compile_step(make(program.resize(cfg, units * unit)))
    fits = 'fits' if found.fits(machine) else 'does not fit'
    print(
      f'  {found.clips} clips a step: {fits} ({found.compile_secs:.0f} s)',
      file=sys.stderr,
    )
    return found

  known = {first.clips // unit: first} if first.clips % unit == 0 else {}
  low, high = find_largest(attempt, known, machine, compiles - 1, start=first.clips / unit)
  if limit is None:
    report.add('largest batch', 'not sought: memory of a device is not known', ok=None)
  elif low:
    end = '' if high == low + 1 else ' or more; --compiles=N searches on'
    fits, largest = first.fits(machine), low * unit
    said = f'batch_size={largest}{end}'
    if not fits:
      said += '; or more train.accumulate, or remat=True (model, or supernet)'
    report.add('largest batch', said, clips=largest)
  else:
    tried = 'none fits' if high == 1 else f'{high * unit} is too large'
    advice = 'take smaller clips, more sub-clips, remat=True, or --compiles=N to go on'
    report.add('largest batch', f'{tried}: {advice}', ok=False)
  return {'clips': first.clips, 'largest': low * unit}


def find_largest(
  attempt: Callable[[int], Compiled],
  known: Mapping[int, Compiled],
  machine: Machine,
  compiles: int,
  start: float,
) -> tuple[int, int | None]:
  """The largest number of units that fits, by bisection.

  Where memory is known to grow along a line, it is cut where that line meets the limit.

  Args:
    attempt: compiles so many units.
    known: what is compiled already.
    machine: what it has to fit.
    compiles: attempts at most.
    start: units to begin with where nothing is known.

  Returns:
    (most units that were seen to fit, least that were seen not to; 0 and None for no
    such). The second is one more than the first also where that one fills the device.
  """
  known, limit = dict(known), machine.memory_bytes
  while True:
    low = max((n for n, found in known.items() if found.fits(machine)), default=0)
    high = min((n for n, one in known.items() if not one.fits(machine)), default=None)
    if low and limit and known[low].memory.total > _FULL * limit:
      return low, low + 1
    if compiles < 1 or limit is None or (high is not None and high - low < 2):
      return low, high
    if not known:
      guess = max(1, int(start))
    elif high is None:
      guess = min(max(_extrapolate(known, limit) or 2 * low, low + 1), 8 * low)
    else:
      guess = _extrapolate(known, limit) or (low + high) // 2
      guess = min(max(guess, low + 1), high - 1)
    known[guess] = attempt(guess)
    compiles -= 1


def _extrapolate(known: Mapping[int, Compiled], limit: int) -> int | None:
  """Where the line through the two largest programs of known memory meets the limit."""
  points = sorted((n, c.memory.total) for n, c in known.items() if c.memory)[-2:]
  if len(points) < 2 or points[0][1] >= points[1][1]:
    return None
  (a, small), (b, large) = points
  return a + int((limit - small) * (b - a) / (large - small))


def _say_bytes(size: int) -> str:
  for unit, name in ((2**30, 'GiB'), (2**20, 'MiB'), (2**10, 'KiB')):
    if size >= unit:
      return f'{size / unit:.3g} {name}'
  return f'{size} B'
