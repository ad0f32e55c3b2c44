"""One trial of a sweep: a network is held against the limits, trained and scored.

Worker processes run this, a trial after another. What a trial leaves lies in a folder named
by all that its result depends on, see Sweep.describe_trial: a run as `movinet train` leaves it,
made.json with that description, and trial.json, its outcome. A trial that is begun again, by
whichever worker, goes on from there.
"""

import functools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import filelock
import numpy as np

from launch import devices
from launch.errors import ExitCode
from launch.runs import latencies, training
from launch.runs.sweep import (
  Limits,
  Sweep,
  is_lower_better,
  name_measure,
  name_trial,
  resolve,
)
from movinet_jax import cost, data
from movinet_jax.train import loop, writers
from movinet_jax.train.workdir import (
  claim_workdir,
  find_differences,
  replace_file,
  show_differences,
)
from nas.history import State
from nas.trials.outcome import Refused, make_outcome

TRIALS = 'trials'
MADE, OUTCOME = 'made.json', 'trial.json'  # of a trial's folder


class Pruned(Exception):
  """A trial was worse at a rung than its threshold there; `metrics` are of that step."""

  def __init__(self, reason: str, step: int, metrics: Mapping):
    super().__init__(reason)
    self.step, self.metrics = step, metrics


class Discarded(Exception):
  """A network is over a limit; `metrics` is what is known of it."""

  def __init__(self, reason: str, metrics: Mapping):
    super().__init__(reason)
    self.metrics = metrics


def make_objective(config: Mapping, folder: str) -> Callable:
  """Makes the function that a worker calls for each job, and does the slow work that jobs share.

  Args:
    config: of the sweep.
    folder: workdir of the sweep.
  """
  devices.keep_to_cores()
  sweep, home = resolve(config), Path(folder)
  check_networks(sweep, home)

  def run(job: Mapping, report: Callable) -> dict:
    spec = sweep.space.decode(np.array(job['choices']))
    recipe = sweep.fit_recipe(spec, job['train'])
    made, thresholds = sweep.describe_trial(recipe), job['thresholds']
    # Not by the key in the study: it could be a path, and earlier versions made it otherwise.
    place = home / TRIALS / name_trial(made)
    place.mkdir(parents=True, exist_ok=True)
    # A worker that was taken for dead may yet wake up and train in the same folder.
    with filelock.FileLock(place / 'lock'):
      _claim(place, made)
      if kept := _read_outcome(place, thresholds):
        return kept
      found = _run(sweep, recipe, place, home, thresholds, report)
      if make_outcome(found)['state'] != State.FAILED:  # The study may try it again.
        row = {**found, 'thresholds': thresholds, 'made': made}
        replace_file(place / OUTCOME, json.dumps(row, indent=2) + '\n')
    return found

  return run


def _claim(place: Path, made: Mapping):
  """Writes down what a folder's trial is made of, or checks that it is this.

  Raises:
    Refused: the folder is of another trial, or does not say of which.
  """
  for name in (MADE, OUTCOME):
    was = _read(place / name)
    was = was.get('made', {}) if was and name == OUTCOME else was
    if lines := find_differences(was, made) if was is not None else ():
      raise Refused(
        f'{place / name} is of another trial:\n  {show_differences(lines)}\n'
        'Move this folder away, then the same command trains its own trial there.'
      )
  if (place / MADE).exists():
    _check_checkpoints(place)
    return
  if (place / 'config.json').exists():
    raise Refused(
      f'{place} holds a run and no {MADE} that says what made it: move this folder away, then '
      'the same command trains its own trial there'
    )
  replace_file(place / MADE, json.dumps(made, indent=2) + '\n')


def _check_checkpoints(place: Path):
  """Raises Refused for a trial that was under way, and has lost what it had saved."""
  if (place / OUTCOME).exists():
    return
  try:
    writers.check_nothing_lost(place)
  except (ValueError, OSError) as error:
    raise Refused(
      f'{place} has lost its checkpoints, or cannot be read ({error}): move this folder away, then '
      'the same command trains the trial from its beginning'
    ) from error


def _read_outcome(place: Path, thresholds: Mapping) -> dict | None:
  """What came of a trial before; None for nothing, or if it was held against others."""
  found = _read(place / OUTCOME)
  if found is None:
    return None
  found.pop('made')
  same = found.pop('thresholds', None) == thresholds
  if (checked := make_outcome(found))['state'] == State.FAILED:  # which no outcome that is kept is
    raise Refused(
      f'{place / OUTCOME} is damaged ({checked["reason"]}): move its folder away, then the same '
      'command trains the trial again'
    )
  return found if same or found['state'] == State.DISCARDED else None


def _read(path: Path) -> dict | None:
  """A JSON file, None if it is not there."""
  if not path.exists():
    return None
  try:
    return dict(json.loads(path.read_text()))
  except (TypeError, ValueError) as error:
    raise Refused(f'{path} cannot be read ({error}): move its folder away') from error


def _run(sweep: Sweep, recipe, place, home, thresholds, report) -> dict:
  fitness, began = sweep.config.fitness, time.perf_counter()
  resolved = training.resolve(recipe, sources=sweep.sources)
  try:
    metrics = _measure(sweep, sweep.config.limits, resolved.model, home)
    watch = functools.partial(_watch, fitness, thresholds, report)
    if (place / 'config.json').exists():
      # It is of this trial. What differs are settings that no result depends on.
      claim_workdir(place, resolved.record, begun=False)
    training.run(resolved, str(place), watch=watch, tell=False)  # the sweep itself has told
    state, reason, last = 'done', '', {}
  except Discarded as error:
    return {'state': 'discarded', 'metrics': error.metrics, 'reason': str(error)}
  except (loop.Preempted, data.WorkerDied) as error:
    # No fault of the network: the coordinator sees a worker die, and tries it again.
    print(error, file=sys.stderr)
    raise SystemExit(ExitCode.RETRY) from error
  except Pruned as error:
    state, reason, last = 'pruned', str(error), {error.step: error.metrics}
  rows = {**_read_evaluations(place), **last}
  curve = {step: _score(fitness, row) for step, row in rows.items()}
  return {
    'state': state,
    'value': curve[max(curve)],
    'metrics': {**metrics, **rows[max(rows)], 'secs': time.perf_counter() - began},
    'reason': reason,
    'curve': curve,
  }


def check_networks(sweep: Sweep, home: Path | None = None):
  """Finds before any training that a recipe or a limit fits no network of a space.

  Of spaces that know their smallest network; of others, trials will tell.

  Args:
    home: workdir, where measured times are kept. Without it nothing is measured, as by a
      process that does not have the device.

  Raises:
    ValueError: what trains a network cannot be built, by the recipe or by a step of the
      algorithm's schedule; or the smallest network is over a limit; or limits are of times of
      another machine.
  """
  if sweep.config.latency_repeats and home is not None:
    latencies.prepare(home, decides=sweep.config.limits.latency_ns is not None)
  first = sweep.space.decode(np.zeros(len(sweep.space.space), np.int32))
  for _, changes in ((0, {}), *getattr(sweep.algorithm, 'schedule', ())):
    try:
      tried = training.resolve(sweep.fit_recipe(first, changes), sources=sweep.sources)
      training.check_initial(tried.config.init)
    except (ValueError, FileNotFoundError) as error:
      raise ValueError(f'recipe of trials: {error}') from error
  for name, most in sweep.config.limits.items() if hasattr(sweep.space, 'smallest') else ():
    if name == 'latency_ns' and home is None:
      continue
    # Hardly any network is faster than the one with the fewest multiply-adds.
    cost_name = 'params' if name == 'params' else 'macs'
    spec = sweep.space.decode(sweep.space.smallest(cost_name, sweep.num_classes))
    smallest = training.resolve(sweep.fit_recipe(spec, {}), sources=sweep.sources).model
    limits = Limits(**{name: most})
    try:
      _measure(sweep, limits, smallest, home if name == 'latency_ns' else None)
    except Discarded as error:
      raise ValueError(
        f'no network of the space is within the limits: of the smallest, {error}'
      ) from error


def check_memory(sweep: Sweep):
  """Raises an error if one trial's loader would find too little shared memory."""
  first = sweep.space.decode(np.zeros(len(sweep.space.space), np.int32))
  tried = training.resolve(sweep.fit_recipe(first, {}), sources=sweep.sources)
  training.check_memory(tried)


def _measure(sweep: Sweep, limits: Limits, model, home: Path | None) -> dict:
  """Counts params and macs of a network's native clip, and measures its latency.

  Raises:
    Discarded: it is over a limit.
  """
  spec = model.spec
  shape = 1, spec.frames, spec.resolution, spec.resolution, 3
  counted = cost.count(model, shape)
  metrics = {'params': counted.params, 'macs': counted.macs}
  _check_limits(limits, metrics)  # before anything is compiled for it
  if sweep.config.latency_repeats and home is not None:
    metrics |= latencies.measure(model, home, sweep.config.latency_repeats, limits.latency_ns)
    _check_limits(limits, metrics)
  return metrics


def _check_limits(limits: Limits, metrics: Mapping):
  """Raises Discarded for a network that is over one of the limits."""
  for name, most in limits.items():
    if name in metrics and metrics[name] > most:
      reason = f'{name} is {metrics[name]:,}, at most {most:,.0f} are allowed'
      raise Discarded(reason, metrics)


def _watch(fitness, thresholds, report, step: int, metrics: Mapping):
  value = _score(fitness, metrics)
  report(step, value)
  wanted = thresholds.get(str(step))
  if wanted is not None and value < wanted:
    reached = f'{name_measure(fitness)} {value:.4f} at step {step}'
    reason = f'{reached}, where {wanted:.4f} was wanted to go on'
    raise Pruned(reason, step, metrics)


def _score(fitness, metrics: Mapping) -> float:
  """What a sweep maximizes; NaN where a metric has no value."""
  found = [metrics[name] for name in fitness]
  sign = -1 if is_lower_better(fitness) else 1
  return math.nan if None in found else sign * sum(found)


def _read_evaluations(place: Path) -> dict[int, dict]:
  """Step -> metrics of every evaluation that a run has written down."""
  rows = {}
  for row in writers.read_rows(place):
    found = {k.removeprefix('eval/'): v for k, v in row.items() if k[:5] == 'eval/'}
    if found:
      rows[row['step']] = found
  return rows
