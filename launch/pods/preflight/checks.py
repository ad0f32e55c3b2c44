"""The checks of a preflight, cheapest first."""

import dataclasses
import functools
import math
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from launch.pods.preflight.apart import Step, compile_apart
from launch.pods.preflight.capacity import find_largest
from launch.pods.preflight.findings import Findings
from launch.pods.preflight.machine import Machine
from launch.pods.preflight.program import Compiled, Program, compile_step, time_step
from launch.runs import ensemble, members, search, sweep, training
from launch.runs.kinds import RUNS
from launch.runs.ownership import check_owner
from movinet_jax import data, schema
from movinet_jax.data import pictures

_INPUT_SECS, _INPUT_CLIPS = 10, 8  # how long, and by how many, the input is timed


@dataclasses.dataclass(frozen=True)
class Command:
  """A command to check.

  Attributes:
    verb: train, search or sweep.
    config: all of it.
    workdir: '' for none.
    member: of an ensemble, the one to train, by name or number; '' for all.
  """

  verb: str
  config: Mapping
  workdir: str
  member: str = ''


def check(
  command: Command, machine: Machine, findings: Findings, *, classes: int | None, compiles: int
) -> dict:
  """Checks everything, in the order of what it costs.

  Args:
    classes: where neither data nor config say how many.
    compiles: programs to compile at most.

  Returns:
    Facts for machines; of an ensemble, those of each member at 'members'.
  """
  findings.add('devices', machine.name)
  _check_workdir(command, findings)
  verb, config = command.verb, command.config
  kind = RUNS[verb]
  try:
    member = _find_member(command)
  except ValueError as error:
    findings.add('member', str(error), ok=False)
    return {}
  cfg = schema.build(kind.Config, config, '')
  source = _open_source(kind, cfg, machine, findings)
  classes = len(source.labels) if source else classes or _count_classes(kind, cfg)
  if kind is sweep:
    findings.add('sweep', 'checked is its largest network, trained on one device')
    kind, config = training, sweep.resolve(config, num_classes=classes).fit_largest()
    verb, machine = 'train', dataclasses.replace(machine, devices=machine.devices[:1], hosts=1)

  try:
    if kind is search:
      _tell_steps(config, classes, machine, findings)
    chosen = {'': config}
    if kind is training:
      here = source is not None and machine.here
      chosen = choose_members(config, member, classes, machine, findings, data_here=here)
    place = {'topology': machine.topology, 'count': len(machine.devices)}
    steps = {name: Step(verb, one, classes, **place) for name, one in chosen.items()}
    programs = {name: step.make_program(machine.devices) for name, step in steps.items()}
  except ValueError as error:
    findings.add('config and batch', str(error), ok=False)
    return {}
  found = {}
  for name, whole in programs.items():
    part = findings.name_part(name) if name else findings
    found[name] = _check_program(whole, steps[name], source, machine, compiles, part)
  return found.get('') or {'members': found}


def _find_member(command: Command) -> str:
  """The name of the member that a command trains; '' for all.

  Raises:
    ValueError: there is no such member.
  """
  if not command.member:
    return ''
  configs = training.list_configs(command.config)
  if '' in configs:
    raise ValueError(f'--member={command.member}, but the config has no members')
  return members.find_member(command.member, configs)


def _check_program(
  whole: Program, step: Step, source, machine: Machine, compiles: int, findings
) -> dict:
  """Compiles a step and, on this machine, runs it; then tries larger batches and the input."""
  _tell_batch(whole, findings)
  first, executable = _compile(whole, step, machine)
  _tell_step(first, machine, findings)
  for note in pictures.find_notes({'train': source}, {'train': whole.run.clip}) if source else ():
    findings.add('pictures', note, ok=None)
  secs = first.estimate_secs
  if machine.here and first.fits(machine):
    secs = time_step(executable, whole)
    findings.add('a step', f'{secs:.3g} s, measured', step_secs=secs)
  del executable  # or it would take its memory while others are compiled
  _check_input(whole, source, machine, secs, findings)
  return _tell_largest(whole, step, first, machine, compiles, findings)


def _compile(whole: Program, step: Step, machine: Machine) -> tuple[Compiled, object]:
  """As `compile_step`; without the program itself where it cannot run here."""
  return compile_step(whole) if machine.here else (compile_apart(step, whole.clips), None)


def _tell_steps(config: Mapping, classes: int, machine: Machine, findings: Findings):
  """Builds all steps of a search; what is compiled is the program of the last."""
  built = search.resolve_steps(config, num_classes=classes, devices=machine.devices)
  *others, last = built
  if not others:
    return
  apart = [name for name in others if not built[name].shares_program(built[last])]
  said = f'{", ".join(built)}; compiled is {last}'
  said += f', not {", ".join(apart)}, whose program is another' if apart else ', for all'
  findings.add('steps', said, ok=None if apart else True)


def choose_members(
  config: Mapping,
  only: str,
  classes: int,
  machine: Machine,
  findings: Findings,
  *,
  data_here: bool = False,
) -> dict[str, Mapping]:
  """Builds all members of an ensemble, and the ensemble, as `movinet train` does.

  Args:
    only: the name of the member that is trained; '' for all.
    data_here: whether the data of the members can be opened, too.

  Returns:
    the configs whose steps differ, by member; of a network of its own, its config at ''.

  Raises:
    ValueError: a member does not fit, or they do not make an ensemble.
  """
  configs = training.list_configs(config)
  if '' in configs:
    return configs
  if data_here:
    built = ensemble.resolve(config)  # which has one check more, of the classes
  else:
    make = functools.partial(training.resolve, num_classes=classes, devices=machine.devices)
    built = ensemble.build(config, make)
  groups: dict[tuple, list[str]] = {}
  for name in [only] if only else built:
    groups.setdefault(_find_step(built[name]), []).append(name)
  compiled = ', '.join(_say_group(names) for names in groups.values())
  said = f'compiled {"are" if len(groups) > 1 else "is"} {compiled}'
  findings.add('members', f'{", ".join(built)}; {said}')
  return {names[0]: configs[names[0]] for names in groups.values()}


def _say_group(names: Sequence[str]) -> str:
  first, *others = names
  if not others:
    return first
  return f'{first} for {"both" if len(others) == 1 else f"all {len(names)}"}'


def _find_step(one: training.Training) -> tuple:
  """What a compiled step depends on; steps of which it is equal need the same memory and time."""
  cfg = one.config
  sections = repr((cfg.optimizer, cfg.loss, cfg.train, cfg.mesh))
  return one.model, cfg.batch_size, cfg.clip.train.frames, cfg.clip.train.size, sections


def _open_source(kind: ModuleType, cfg, machine, findings) -> data.Source | None:
  """Opens the data that the command learns from; None, and a row with the reason, without it."""
  try:
    source = kind.open_data(cfg)
  except (OSError, ValueError, data.SourceError) as error:
    # On this machine a topology's data need not be.
    findings.add('data', f'not here: {error}', ok=False if machine.here else None)
    return None
  findings.add('data', f'{len(source):,} videos, {len(source.labels)} classes')
  return source


def _count_classes(kind: ModuleType, cfg) -> int:
  """The number of classes that a config itself names."""
  if not (found := kind.count_classes(cfg)):
    raise ValueError(
      'without its data, the config does not say how many classes there are: --classes=N'
    )
  return found


def _tell_batch(whole: Program, findings: Findings):
  clips, shares = whole.clips, whole.place.shape['data']
  said = f'{clips} clips a step, {clips / shares:g} for each of {shares} devices'
  even = clips % whole.run.unit == 0
  if not even:
    said += (
      f'; clips of a micro-batch have to move between devices: take a multiple of {whole.run.unit}'
    )
  ok = True if even else None
  findings.add('config and batch', said, ok=ok, clips=clips, shares=shares)


def _check_workdir(command: Command, findings: Findings):
  workdir = command.workdir
  if not workdir:
    findings.add('workdir', 'not given, so not checked', ok=None)
    return
  try:
    check_owner(workdir, command.verb)
  except (ValueError, OSError) as error:
    findings.add('workdir', str(error), ok=False)
    return
  place = Path(workdir).absolute()
  while not place.exists():
    place = place.parent
  try:
    with tempfile.TemporaryFile(dir=place):
      findings.add('workdir', f'{workdir} can be written')
  except OSError as error:
    findings.add('workdir', f'{workdir} cannot be written: {error}', ok=False)


def _tell_step(first: Compiled, machine: Machine, findings: Findings):
  """Rows of the step at the config's own batch."""
  fits, memory = first.fits(machine), first.memory
  if first.failure:
    findings.add('compiler', f'it fails: {first.failure}{_advise(first.failure)}', ok=False)
  elif memory is None:
    findings.add('memory', f'too little on a device: {first.refusal}', ok=False)
  else:
    total, limit = f'{_say_bytes(memory.total)} a device', machine.memory_bytes
    if limit:
      total += f' of {_say_bytes(limit)}'
    if fits and limit and memory.total > limit:
      fits, total = None, f'{total}, counted separately; the compiler says that it fits'
    findings.add('memory', total, ok=fits, total_bytes=memory.total)
    said = ', '.join(
      f'{name} {_say_bytes(size)}' for name, size in dataclasses.asdict(memory).items()
    )
    findings.add('of which', said, **dataclasses.asdict(memory))
    exchanged = first.exchanged_bytes
    said = ', '.join(f'{kind} {_say_bytes(n)}' for kind, n in exchanged.items())
    findings.add('between devices', f'{said or "nothing"} a step', **exchanged)
  if memory is not None and not machine.here:
    secs = first.estimate_secs
    said = f'{secs:.3g} s, the compiler estimates' if secs else 'no estimate'
    findings.add('a step', said, estimate_secs=secs)
  findings.add('to compile', f'{first.compile_secs:.0f} s', secs=first.compile_secs)


def _advise(failure: str) -> str:
  """What may help against a failure of XLA; '' where nothing is known."""
  if not re.search('triton|gemm', failure, re.IGNORECASE):
    return ''
  return '; XLA_FLAGS=--xla_gpu_enable_triton_gemm=false may help'


def _check_input(whole: Program, source, machine, secs, findings):
  """One real batch, and how fast one worker makes them."""
  if source is None:
    findings.add('input', 'not tried without data', ok=None)
    return
  rate, shape = time_input(whole, source)
  wanted = whole.batch['video'].shape[1:]
  if shape != wanted:
    findings.add('input', f'clips of {shape}, the step takes {wanted}', ok=False)
    return
  said = f'{rate:.3g} clips/s a worker on this machine'
  if secs is None:
    findings.add('input', f'{said}; what the step needs is not known', rate=rate)
    return
  need = whole.read / secs / machine.hosts
  workers, given = math.ceil(need / rate), whole.run.config.loader.workers
  said += f'; the step needs {need:.3g} clips/s a host: loader.workers={workers}'
  enough = max(given, 1) >= workers
  said += '' if enough else f' (the config says {given})'
  findings.add('input', said, ok=True if enough else None, rate=rate, need=need, workers=workers)


def time_input(whole: Program, source: data.Source) -> tuple[float, tuple[int, ...]]:
  """(clips a second of one worker, shape of a clip) of real batches of the pipeline."""
  size, run = min(_INPUT_CLIPS, whole.clips), whole.run
  loader = dataclasses.replace(run.config.loader, workers=0, threads=1)
  options = {'seed': run.config.seed, 'train': True, **dataclasses.asdict(loader)}
  with data.make_batches(source, run.clip, batch_size=size, **options) as batches:
    next(batches)  # which also opens what is only opened once
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < _INPUT_SECS:
      shape = next(batches)['video'].shape[1:]
      count += size
  return count / (time.perf_counter() - began), shape


def _tell_largest(
  whole: Program, step: Step, first: Compiled, machine, compiles: int, findings
) -> dict:
  """Rows of the largest batch that fits, and what to do with it."""
  unit, limit = whole.run.unit, machine.memory_bytes

  def try_units(units: int) -> Compiled:
    other = step.resize(units * unit)
    found, _ = _compile(other.make_program(machine.devices), other, machine)
    fits = 'fits' if found.fits(machine) else found.failure or 'does not fit'
    said = f'  {found.clips} clips a step: {fits} ({found.compile_secs:.0f} s)'
    print(said, file=sys.stderr)
    return found

  if first.failure:
    findings.add('largest batch', 'not sought: the compiler fails', ok=None)
    return {'clips': first.clips, 'largest': 0}
  known = {first.clips // unit: first} if first.clips % unit == 0 else {}
  low, high = find_largest(try_units, known, machine, compiles - 1, start=first.clips / unit)
  if limit is None:
    findings.add('largest batch', 'not sought: memory of a device is not known', ok=None)
  elif low:
    end = '' if high == low + 1 else ' or more; --compiles=N searches on'
    said = f'batch_size={low * unit}{end}'
    if not first.fits(machine):
      said += '; or more train.accumulate, or remat=True (model, or supernet)'
    findings.add('largest batch', said, clips=low * unit)
  else:
    tried = 'none fits' if high == 1 else f'{high * unit} is too large'
    advice = 'take smaller clips, more sub-clips, remat=True, or --compiles=N to go on'
    findings.add('largest batch', f'{tried}: {advice}', ok=False)
  return {'clips': first.clips, 'largest': low * unit}


def _say_bytes(size: int) -> str:
  for unit, name in ((2**30, 'GiB'), (2**20, 'MiB'), (2**10, 'KiB')):
    if size >= unit:
      return f'{size / unit:.3g} {name}'
  return f'{size} B'
