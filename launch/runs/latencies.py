"""How long a sweep's networks take: each is measured once, and all on one machine.

The folder `latency` of a workdir holds the time of each network, and in machine.json what they
are measured on. The first worker writes that. Where times decide which networks are discarded,
workers elsewhere are refused. Where they are only reported, such workers train as ever, and
networks that were not measured before have no latency.
"""

import dataclasses
import hashlib
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import filelock

from launch import devices
from movinet_jax import schema
from movinet_jax.spec import to_json
from movinet_jax.train.workdir import replace_file
from nas import machine, runtime
from nas.history import Trial
from nas.trials.outcome import Refused
from nas.trials.pool import WorkersDied

FOLDER, MACHINE = 'latency', 'machine.json'
METRICS = ('latency_ns', 'latency_noise', 'latency_on')


def prepare(home: Path, *, decides: bool):
  """Finds before any training whether this process may measure for a sweep.

  Args:
    home: workdir of the sweep. The first one's machine becomes that of its times.
    decides: whether times decide which networks are trained; if not, a note is printed.

  Raises:
    Refused: they do, and were begun on another machine.
  """
  here = machine.describe()
  _compare(home / FOLDER, _claim(home / FOLDER, here), here, decides)


def check(home: Path, here: Mapping):
  """Raises Refused if a workdir has times of another machine; changes nothing."""
  first = _read_machine(home / FOLDER)
  _compare(home / FOLDER, here if first is None else first, here, decides=True)


def measure(model, home: Path, repeats: int, most_ns: float | None) -> dict:
  """Measures a network, or reads what was measured before.

  Args:
    home: workdir of the sweep.
    repeats, most_ns: see nas.runtime.measure_latency; most_ns is the limit, if there is one.

  Returns:
    METRICS by name; {} for a network that was not measured yet, on another machine.

  Raises:
    Refused: the machine is another one, and `most_ns` is set.
  """
  folder, here = home / FOLDER, machine.describe()
  first = _claim(folder, here)
  about = [first, model.num_classes, to_json(model.spec)]
  digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
  path = folder / f'{digest}.json'
  if not path.exists():
    if not _compare(folder, first, here, decides=most_ns is not None):
      return {}
    # One at a time, so that measurements at least do not disturb each other.
    with filelock.FileLock(folder / f'lock-{socket.gethostname()}'):
      latency = runtime.measure_latency(model, repeats=repeats, most_ns=most_ns)
    row = {'machine': here, 'latency': latency._asdict(), 'spec': about[-1]}
    replace_file(path, json.dumps(row) + '\n')
  try:
    latency = runtime.Latency(**json.loads(path.read_text())['latency'])
    schema.build(schema.Count, latency.ns, 'ns')
  except (ValueError, TypeError, KeyError) as error:
    raise Refused(f'{path} is damaged: remove it, and the network is measured again') from error
  return dict(zip(METRICS, (*latency, machine.make_digest(first)), strict=True))


def keep_one_machine(trials: Sequence[Trial]) -> list[Trial]:
  """Returns trials without the latencies of other machines than the first trial's.

  Workers whose workdirs are their own, for they share only the study, measure each on theirs.
  """
  timed = [one for one in trials if METRICS[0] in one.metrics]
  other = [one for one in timed if _find_digest(one) != _find_digest(timed[0])]
  if not other:
    return list(trials)
  print(
    f'Note: {len(other)} of {len(timed)} latencies were measured on another machine than those '
    'of the first trials, and are left out',
    file=sys.stderr,
  )
  left_out = {one.number for one in other}
  return [_drop_latency(one) if one.number in left_out else one for one in trials]


def describe_worker(environment: Mapping[str, str]) -> dict:
  """What a worker would measure on, told by a process with a worker's environment.

  A coordinator has neither the devices nor the cores of its workers.

  Raises:
    WorkersDied: such a process does not come so far.
  """
  code = 'from launch.runs import latencies; latencies.print_machine()'
  try:
    return json.loads(devices.ask_process(code, environment))
  except ChildProcessError as error:
    raise WorkersDied(f'a worker cannot tell what it measures on: {error}') from error


def print_machine():
  """Prints what this process measures on as a worker, as JSON."""
  devices.keep_to_cores()
  print(json.dumps(machine.describe()))


def _claim(folder: Path, here: Mapping) -> dict:
  """Returns what the sweep's times are measured on: this machine, if nobody was first."""
  folder.mkdir(parents=True, exist_ok=True)
  with filelock.FileLock(folder / 'lock-machine'):
    first = _read_machine(folder)
    if not (folder / MACHINE).exists():
      replace_file(folder / MACHINE, json.dumps(first or here) + '\n')
  return first or dict(here)


def _read_machine(folder: Path) -> dict | None:
  """Reads what times in a folder are of; None where there are none.

  Times of earlier versions tell only a name and cores, in one text.
  """
  times = sorted(folder.glob('*.json'))
  path = folder / MACHINE if folder / MACHINE in times else next(iter(times), None)
  if path is None:
    return None
  try:
    found = json.loads(path.read_text())
    return found if path.name == MACHINE else found.get('machine', {'device': found.get('device')})
  except ValueError as error:
    raise ValueError(
      f'{path} is damaged ({error}): remove the folder {folder}, and networks are measured again'
    ) from error


def _compare(folder: Path, first: Mapping, here: Mapping, decides: bool) -> bool:
  """Tells whether a machine is that of the sweep's times; says so or raises if it is not."""
  differ = '; '.join(machine.list_differences(first, here))
  if not differ:
    return True
  if decides:
    raise Refused(
      f'{folder} has times of another machine or runtime ({differ}), and limits.latency_ns needs '
      'times of one: go on there, with as many workers, or begin another sweep in another --workdir'
    )
  print(
    f'Networks that were not measured yet get no latency, for those in {folder} were measured '
    f'on another machine or runtime ({differ})',
    file=sys.stderr,
  )
  return False


def _find_digest(trial: Trial) -> str | None:
  return trial.metrics.get(METRICS[2])


def _drop_latency(trial: Trial) -> Trial:
  kept = {name: value for name, value in trial.metrics.items() if name not in METRICS}
  return dataclasses.replace(trial, metrics=kept)
