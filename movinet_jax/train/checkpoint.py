"""Checkpoints of a run: saved, restored, and the weights read alone. Only this file imports orbax.

A checkpoint is `DIRECTORY/STEP/` with the arrays (`state`) and a JSON (`meta`) of everything
else that a resume needs. It is written under another name and renamed when it is complete, so
a process killed while writing leaves nothing that could be loaded. Batch statistics that an
evaluation recomputes lie beside them (`statistics.npz`).
"""

import contextlib
import dataclasses
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from movinet_jax.paths import plain_name
from movinet_jax.schema import Count, checked
from movinet_jax.train.arrays import check_same_arrays, check_trained, from_tree, to_tree
from movinet_jax.train.failures import (
  Damaged,
  explaining_damage,
  is_of_a_lost_process,
  naming_system_errors,
)
from movinet_jax.train.metrics import choose_mode
from movinet_jax.train.saved_steps import (
  count_steps,
  find_step,
  list_incomplete,
  meta_path,
  pick_best,
  read_meta,
  read_step,
)
from movinet_jax.train.statistics import has_statistics, read_statistics, write_statistics
from movinet_jax.train.workdir import replace_file

__all__ = [
  'Checkpointer',
  'count_steps',
  'find_step',
  'has_statistics',
  'is_of_a_lost_process',
  'load_params',
  'load_variables',
  'read_meta',
]


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
  """Which checkpoints are kept; see `Checkpointer`."""

  keep: Count = 3
  best_metric: str | None = None
  best_mode: Literal['max', 'min'] | None = None


class Checkpointer:
  """Saves in the background, keeps the latest few and the best one, restores.

  Every process of a run must call `save`, `restore`, `wait` and `close` together.
  Use it as a context manager, or call `close`: leaving earlier can lose the last save. In a
  run that has lost a process, a save in progress is lost in any case.
  """

  @checked
  def __init__(
    self,
    directory,
    *,
    keep: Count = 3,
    best_metric: str | None = None,
    best_mode: Literal['max', 'min'] | None = None,
  ):
    """Opens the directory, and makes it if it is missing.

    Args:
      directory: of this run's checkpoints.
      keep: how many of the latest to keep.
      best_metric: name among those given to `add_metrics`; the checkpoint with the
        best value is kept as well. Among equals the earliest is best; NaN never is.
      best_mode: 'max' or 'min'; None for the metric's own direction, which those of an
        evaluation have.

    Raises:
      ValueError: for keep < 1, an unknown best_mode, or one that is not the metric's direction.
    """
    self.directory = Path(os.path.abspath(directory))
    mode = choose_mode(best_metric, best_mode) if best_metric else None
    self._policy = _LatestAndBest(self.directory, keep, best_metric, mode)
    self.directory.mkdir(parents=True, exist_ok=True)
    _set_aside(self.directory)
    self._closing = contextlib.ExitStack()
    self._manager = ocp.CheckpointManager(
      self._closing.enter_context(plain_name(self.directory)),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._policy,
        cleanup_tmp_directories=True,
      ),
    )

  def save(self, state, meta: Mapping[str, Any]):
    """Starts saving; returns once the arrays are copied and may be donated.

    Does nothing for a step that is already saved.

    Args:
      state: a TrainState, or any Flax-serialisable tree with a `step`.
      meta: a JSON object: data position, label map, preprocessing, config, model.

    Raises:
      ValueError: if meta cannot be written as JSON.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    meta = {**meta, 'step': step, 'metrics': {}}
    _check_json(meta)
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(to_tree(state)), meta=ocp.args.JsonSave(meta)
    )
    with naming_system_errors(self.directory):
      self._manager.save(step, args=args)

  def add_metrics(self, step: int, metrics: Mapping[str, float]):
    """Adds an evaluation's metrics to a checkpoint; waits until that is on disk.

    Raises:
      ValueError: the metrics lack best_metric.
    """
    self.wait()
    metrics = _finite(metrics)
    self._policy.note(step, metrics)
    if jax.process_index() == 0:
      meta = {**read_step(self.directory, step), 'metrics': metrics}
      replace_file(meta_path(self.directory, step), json.dumps(meta))

  def add_statistics(self, step: int, batch_stats: Mapping):
    """Adds recomputed statistics of the averaged weights; waits until the checkpoint is on disk.

    `load_variables` returns them in place of the averaged statistics.
    """
    self.wait()
    if jax.process_index() == 0:
      write_statistics(self.directory, step, batch_stats)

  def read_metrics(self, step: int) -> dict | None:
    """The metrics that `add_metrics` added, {} before that; None if there is no such step."""
    if step not in count_steps(self.directory):
      return None
    return read_step(self.directory, step)['metrics']

  def restore(self, like, which: str | int = 'latest'):
    """Reads a checkpoint into arrays placed and typed as those of `like`.

    Args:
      like: a state with the structure, shapes, types and shardings wanted, such as a
        fresh one of `make_state`.
      which: 'latest', 'best' or a step.

    Returns:
      (state, meta).

    Raises:
      FileNotFoundError: if there is no such checkpoint; those that exist are named.
      ValueError: if the arrays saved are not those wanted; the differences are named.
    """
    step = _choose(self.directory, which, self._policy.best_metric, self._policy.mode)
    meta = read_step(self.directory, step)
    wanted = to_tree(like)
    with _naming_earlier(self.directory, step):
      check_same_arrays(self._shapes(step), wanted, self.directory / str(step))
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
    with _naming_earlier(self.directory, step), explaining_damage(self.directory / str(step)):
      read = self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
      )
    return from_tree(like, read['state']), meta

  def latest_step(self) -> int | None:
    """Step of the latest whole checkpoint; None if there is none."""
    return max(count_steps(self.directory), default=None)

  def best_step(self) -> int | None:
    """Step of the checkpoint with the best metric; None if none has it."""
    return self._policy.best()

  def wait(self):
    """Returns when everything given to `save` is on disk; raises the error of a failed save."""
    with naming_system_errors(self.directory):
      self._manager.wait_until_finished()

  def check(self):
    """Raises the error of the last save if it failed; does not wait for one in progress."""
    if not self._manager.is_saving_in_progress():
      self.wait()

  def close(self):
    with self._closing:
      self.wait()
      self._manager.close()

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if not is_of_a_lost_process(error):
      self.close()

  def _shapes(self, step):
    return _read_shapes(self.directory / str(step) / 'state')


def load_variables(directory, which: str | int = 'latest', *, ema=True, metric=None, mode=None):
  """Reads the weights of a run without knowing its optimizer.

  Args:
    ema: whether to take the averaged weights, which are those to evaluate; with the
      statistics that `Checkpointer.add_statistics` added, if it did.

  Returns:
    ({'params', 'batch_stats'}, meta), host arrays.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: if it is not of a trained network, but of a search.
  """
  step = _choose(directory, which, metric, mode)
  path = Path(os.path.abspath(directory)) / str(step) / 'state'
  with _naming_earlier(path.parents[1], step):
    shapes = _read_shapes(path)
    check_trained(shapes, path.parent)
    tree = _read_tree(path, shapes)
  source = tree['ema'] if ema else tree
  names = ('params', 'batch_stats')
  variables = {name: jax.device_get(source.get(name, {})) for name in names}
  if ema and has_statistics(directory, step):
    variables['batch_stats'] = read_statistics(directory, step, variables['batch_stats'])
  return variables, read_step(directory, step)


def load_params(directory, like):
  """Reads the weights of the latest state of any kind of run, without knowing the rest of it.

  Args:
    like: weights of the structure and shapes wanted.

  Returns:
    host arrays in the structure of `like`.

  Raises:
    FileNotFoundError: if there is no checkpoint.
    ValueError: if the weights there are others.
  """
  step = _choose(directory, 'latest')
  path, wanted = Path(os.path.abspath(directory)) / str(step), to_tree({'params': like})
  with _naming_earlier(path.parent, step):
    shapes = _read_shapes(path / 'state')
    check_same_arrays({'params': shapes.get('params', {})}, wanted, path)
    tree = _read_tree(path / 'state', shapes)
  return from_tree({'params': like}, {'params': jax.device_get(tree['params'])})['params']


def _choose(directory, which: str | int, metric: str | None = None, mode: str | None = None) -> int:
  """`find_step`, which says so where later checkpoints are passed over."""
  step = find_step(directory, which, metric, mode)
  passed = {n: lacks for n, lacks in list_incomplete(directory).items() if n > step}
  if passed and not isinstance(which, int) and not jax.process_index():
    for number, lacks in passed.items():
      print(f'Note: {directory}/{number} is incomplete (no {lacks}): passed over', file=sys.stderr)
    print(f'Note: step {step} is read instead', file=sys.stderr)
  return step


def _set_aside(directory: Path):
  """Renames incomplete checkpoints after the latest whole one, which Orbax would not replace."""
  if not jax.process_index():
    latest = max(count_steps(directory), default=-1)
    for step, lacks in list_incomplete(directory).items():
      if step > latest:
        place = Path(tempfile.mkdtemp(prefix=f'{step}.incomplete-', dir=directory))
        (directory / str(step)).rename(place)  # in place of the empty folder
        print(
          f'Note: {directory}/{step} is incomplete (no {lacks}), and is now {place.name}',
          file=sys.stderr,
        )
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('incomplete checkpoints')


@contextlib.contextmanager
def _naming_earlier(directory: Path, step: int) -> Iterator[None]:
  """Adds to the error of a damaged checkpoint which one before it can be read."""
  try:
    yield
  except Damaged as error:
    earlier = reversed([n for n in count_steps(directory) if n < step])
    good = next((n for n in earlier if _is_readable(directory / str(n) / 'state')), None)
    if good is None:
      raise ValueError(
        f'{error}. No step before it can be read, either: begin another workdir'
      ) from error
    raise ValueError(
      f'{error}. Step {good} can be read: move {directory / str(step)} elsewhere, and the same '
      'command takes that one'
    ) from error


def _is_readable(path: Path) -> bool:
  try:
    _read_tree(path, _read_shapes(path))
  except Damaged:
    return False
  return True


def _read_tree(path, shapes):
  """All arrays of a state, saved on whatever devices there were, on this machine's first one."""
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  wanted = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=here), shapes)
  with (
    explaining_damage(path.parent),
    plain_name(path) as place,
    ocp.StandardCheckpointer() as reader,
  ):
    return reader.restore(place, wanted)


class _LatestAndBest(checkpoint_managers.PreservationPolicy):
  """Keeps the latest N and the best; the scores live in the checkpoints' meta.

  Orbax' own BestN needs a metric with every save, and warns at each that has none.
  """

  def __init__(self, directory, keep, best_metric, mode):
    self.keep, self.best_metric, self.mode = keep, best_metric, mode
    steps = count_steps(directory)
    self._scores = {s: self._score(read_step(directory, s)['metrics']) for s in steps}

  def note(self, step, metrics):
    if self.best_metric and self.best_metric not in metrics:
      raise ValueError(
        f'best_metric is {self.best_metric!r}, but the metrics are {sorted(metrics)}.'
      )
    self._scores[step] = self._score(metrics)

  def best(self):
    return pick_best(self._scores, self.mode)

  def should_preserve(self, checkpoints, *, context):
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = {*steps[-self.keep :], self.best()}
    return [step in kept for step in steps]

  def _score(self, metrics):
    return metrics.get(self.best_metric)


def _read_shapes(path):
  with explaining_damage(path.parent), plain_name(path) as place:
    return ocp.StandardCheckpointHandler().metadata(place).tree


def _finite(metrics):
  # JSON has no NaN. A metric without a value is None, and never the best.
  values = {name: float(value) for name, value in metrics.items()}
  return {name: v if math.isfinite(v) else None for name, v in values.items()}


def _check_json(meta):
  try:
    json.dumps(meta, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise ValueError(f'The meta of a checkpoint must be JSON: {error}') from error
