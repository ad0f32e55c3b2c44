"""Checkpoints of a run. The only file that imports orbax.

A checkpoint is `DIRECTORY/STEP/` with the arrays (`state`) and a JSON (`meta`) of all
that is needed beside them to go on. It is written under another name and renamed when
whole, so a process killed while writing leaves nothing that could be loaded. Batch
statistics that an evaluation recomputes lie beside them (`statistics.npz`): the state is
what training goes on from, and stays as it was.
"""

import contextlib
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization, traverse_util
from orbax.checkpoint import checkpoint_managers

from movinet_jax.train.workdir import replace_file

# How XLA and JAX's coordination service begin what they say; of memory it is another.
_LOST = re.compile(
  '(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|'
  'FAILED_PRECONDITION|DATA_LOSS): '
)
# What reading raises of what is cut short, altered, or something else.
_DAMAGED = (
  *(ValueError, TypeError, AttributeError, LookupError, EOFError),
  *(zipfile.BadZipFile, zlib.error),
)


class Checkpointer:
  """Saves in the background, keeps the latest few and the best one, restores.

  Every process of a run must call `save`, `restore`, `wait` and `close` together.
  Use as a context manager, or call `close`: leaving earlier can lose the last save.
  (Of a run that has lost a process, a save that was not over is lost in any case.)
  """

  def __init__(
    self,
    directory,
    *,
    keep: int = 3,
    best_metric: str | None = None,
    best_mode: str = 'max',
  ):
    """Opens the directory, and makes it if need be.

    Args:
      directory: of this run's checkpoints.
      keep: how many of the latest to keep.
      best_metric: name among those given to `add_metrics`; the checkpoint with the
        best value is kept as well. Among equals the earliest is best; NaN never is.
      best_mode: 'max' or 'min'.

    Raises:
      ValueError: for keep < 1 or an unknown best_mode.
    """
    if keep < 1:
      raise ValueError(f'keep is {keep}, wanted at least 1.')
    if best_mode not in ('max', 'min'):
      raise ValueError(f"Unknown best_mode {best_mode!r}; wanted 'max' or 'min'.")
    self.directory = Path(os.path.abspath(directory))
    self._policy = _LatestAndBest(self.directory, keep, best_metric, best_mode)
    self._manager = ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._policy,
        cleanup_tmp_directories=True,
      ),
    )

  def save(self, state, meta: Mapping[str, Any]):
    """Starts saving; returns once the arrays are copied and may be donated.

    Saving a step that is already there does nothing: the run has been here before.

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
      state=ocp.args.StandardSave(_to_tree(state)), meta=ocp.args.JsonSave(meta)
    )
    with _naming_system_errors(self.directory):
      self._manager.save(step, args=args)

  def add_metrics(self, step: int, metrics: Mapping[str, float]):
    """Adds to a checkpoint what an evaluation of it found; waits until it is on disk.

    Raises:
      ValueError: the metrics lack best_metric.
    """
    self.wait()
    metrics = _finite(metrics)
    self._policy.note(step, metrics)
    if jax.process_index() == 0:
      meta = {**_read_json(self.directory, step), 'metrics': metrics}
      replace_file(_meta_path(self.directory, step), json.dumps(meta))

  def add_statistics(self, step: int, batch_stats: Mapping):
    """Adds recomputed statistics of the averaged weights; waits until they are on disk.

    `load_variables` gives them in place of the averaged ones.
    """
    self.wait()
    if jax.process_index() == 0:
      path = _statistics_path(self.directory, step)
      flat = traverse_util.flatten_dict(batch_stats, sep='/')
      part = path.with_suffix('.part')
      with part.open('wb') as file:
        np.savez(file, **jax.device_get(flat))
        file.flush()
        os.fsync(file.fileno())
      part.replace(path)

  def read_metrics(self, step: int) -> dict | None:
    """What `add_metrics` added, {} if it did not; None if there is no such step."""
    if step not in count_steps(self.directory):
      return None
    return _read_json(self.directory, step)['metrics']

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
    step = find_step(self.directory, which, self._policy.best_metric, self._policy.mode)
    meta = _read_json(self.directory, step)
    wanted = _to_tree(like)
    _check_same_arrays(self._shapes(step), wanted, self.directory / str(step))
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
    with _explaining(self.directory / str(step)):
      read = self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
      )
    return _from_tree(like, read['state']), meta

  def latest_step(self) -> int | None:
    """Step of the latest whole checkpoint; None if there is none."""
    return max(count_steps(self.directory), default=None)

  def best_step(self) -> int | None:
    """Step of the checkpoint with the best metric; None if none has it."""
    return self._policy.best()

  def wait(self):
    """Returns when all that was given to `save` is on disk; raises what failed."""
    with _naming_system_errors(self.directory):
      self._manager.wait_until_finished()

  def check(self):
    """Raises what failed of the last save; does not wait for one that goes on."""
    if not self._manager.is_saving_in_progress():
      self.wait()

  def close(self):
    self.wait()
    self._manager.close()

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if not is_of_a_lost_process(error):
      self.close()

  def _shapes(self, step):
    return _read_shapes(self.directory / str(step) / 'state')


@contextlib.contextmanager
def _naming_system_errors(directory) -> Iterator[None]:
  """The system's errors as such: what writes arrays raises a ValueError of a full disk."""
  try:
    yield
  except ValueError as error:
    if not (found := re.search(r"os_error_code='(\d+)'", str(error))):
      raise
    number = int(found[1])
    raise OSError(number, os.strerror(number), str(directory)) from error


def is_of_a_lost_process(error: BaseException | None) -> bool:
  """Whether it says that another process of the run is gone.

  Nothing that is being saved will ever be whole then, and waiting for it is waiting for
  that process.
  """
  if not jax.distributed.is_initialized():
    return False
  # A collective whose other end is gone fails with one of many messages, and while it is
  # being dispatched with another kind of error than while it runs.
  said = isinstance(error, (jax.errors.JaxRuntimeError, ValueError, RuntimeError))
  return said and _LOST.match(str(error)) is not None


def count_steps(directory) -> list[int]:
  """Steps of the whole checkpoints in a directory, ascending; [] if it is missing."""
  folder = Path(directory)
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and _is_whole(p))


def find_step(directory, which: str | int = 'latest', metric: str | None = None, mode='max') -> int:
  """The step that 'latest', 'best' (by metric) or a number means.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: for 'best' without a metric, or another word.
  """
  steps = count_steps(directory)
  if not steps:
    raise FileNotFoundError(f'No checkpoint in {directory}.')
  if which == 'latest':
    return steps[-1]
  if which == 'best':
    if metric is None:
      raise ValueError("which='best' needs the name of a metric to be best in.")
    scores = {s: _read_json(directory, s)['metrics'].get(metric) for s in steps}
    best = _best(scores, mode)
    if best is None:
      raise FileNotFoundError(
        f'None of the checkpoints {steps} in {directory} was evaluated for {metric!r}.'
      )
    return best
  if not isinstance(which, int):
    raise ValueError(f"which is {which!r}, wanted 'latest', 'best' or a step.")
  if which not in steps:
    raise FileNotFoundError(f'No checkpoint {which} in {directory}; there are {steps}.')
  return which


def read_meta(directory, which: str | int = 'latest', metric=None, mode='max') -> dict:
  """The JSON of a checkpoint, without reading its arrays; see `find_step`."""
  return _read_json(directory, find_step(directory, which, metric, mode))


def load_variables(directory, which: str | int = 'latest', *, ema=True, metric=None, mode='max'):
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
  step = find_step(directory, which, metric, mode)
  path = Path(os.path.abspath(directory)) / str(step) / 'state'
  shapes = _read_shapes(path)
  _check_trained(shapes, path.parent)
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  with _explaining(path.parent), ocp.StandardCheckpointer() as reader:
    # Saved on whatever devices there were; read on this machine's first one.
    wanted = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=here), shapes)
    tree = reader.restore(path, wanted)
  source = tree['ema'] if ema else tree
  names = ('params', 'batch_stats')
  variables = {name: jax.device_get(source.get(name, {})) for name in names}
  if ema and has_statistics(directory, step):
    path = _statistics_path(directory, step)
    variables['batch_stats'] = _read_statistics(path, variables['batch_stats'])
  return variables, _read_json(directory, step)


def has_statistics(directory, step: int) -> bool:
  """Whether a checkpoint has recomputed batch statistics."""
  return _statistics_path(directory, step).exists()


class _LatestAndBest(checkpoint_managers.PreservationPolicy):
  """Keeps the latest N and the best; the scores live in the checkpoints' meta.

  Orbax' own BestN needs a metric with every save, and warns at each that has none.
  """

  def __init__(self, directory, keep, best_metric, mode):
    self.keep, self.best_metric, self.mode = keep, best_metric, mode
    steps = count_steps(directory)
    self._scores = {s: self._score(_read_json(directory, s)['metrics']) for s in steps}

  def note(self, step, metrics):
    if self.best_metric and self.best_metric not in metrics:
      raise ValueError(
        f'best_metric is {self.best_metric!r}, but the metrics are {sorted(metrics)}.'
      )
    self._scores[step] = self._score(metrics)

  def best(self):
    return _best(self._scores, self.mode)

  def should_preserve(self, checkpoints, *, context):
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = {*steps[-self.keep :], self.best()}
    return [step in kept for step in steps]

  def _score(self, metrics):
    return metrics.get(self.best_metric)


def _best(scores, mode):
  known = {step: value for step, value in scores.items() if value is not None}
  sign = 1 if mode == 'max' else -1
  return max(sorted(known), key=lambda step: sign * known[step], default=None)


def _is_whole(path):
  # Writing ends with a rename, so what has its final name was once whole. Deleting is
  # not atomic: a process killed then leaves remains of an old checkpoint.
  meta = path / 'meta' / 'metadata'
  return (path / '_CHECKPOINT_METADATA').exists() and meta.is_file()


def _read_shapes(path):
  with _explaining(path.parent):
    return ocp.StandardCheckpointHandler().metadata(path).tree


@contextlib.contextmanager
def _explaining(path) -> Iterator[None]:
  """What Orbax says of files that are not its own, or of parts of them, in a sentence."""
  try:
    yield
  except Exception as error:
    # Not those of the system, nor of other processes: the same may work later.
    if not (type(error) is Exception or isinstance(error, _DAMAGED)):
      raise
    shown = (str(error).splitlines() or [''])[0][:200]
    raise ValueError(f'the checkpoint {path} cannot be read: {shown}') from error


def _meta_path(directory, step) -> Path:
  return Path(directory) / str(step) / 'meta' / 'metadata'


def _statistics_path(directory, step) -> Path:
  return Path(directory) / str(step) / 'statistics.npz'


def _read_json(directory, step) -> dict:
  path = _meta_path(directory, step)
  try:
    meta = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f'{path} is no JSON ({error}): it is damaged') from error
  scores = meta.get('metrics') if isinstance(meta, dict) else None
  if not isinstance(scores, dict) or meta.get('step') != step:
    raise ValueError(
      f'{path} is not of checkpoint {step}: it wants a table with the step and metrics'
    )
  if bad := [name for name, score in scores.items() if not _is_score(score)]:
    raise ValueError(f'{path} has the metric {bad[0]} {scores[bad[0]]!r}, wanted a number')
  return meta


def _is_score(value) -> bool:
  if value is None:
    return True
  return type(value) in (int, float) and math.isfinite(value)


def _read_statistics(path, like) -> dict:
  """Arrays of an archive that stand in for those of `like`."""
  wanted = traverse_util.flatten_dict(like, sep='/')
  try:
    with np.load(path) as file:
      found = {name: file[name] for name in file.files}
  except _DAMAGED as error:
    raise ValueError(f'{path} is damaged, or no archive of arrays: {error}') from error
  for name in sorted(found | wanted):
    if _describe(found, name) != _describe(wanted, name):
      raise ValueError(
        f'{path} is of another network: {name} is {_describe(found, name)}, wanted '
        f'{_describe(wanted, name)}'
      )
  return traverse_util.unflatten_dict(found, sep='/')


def _finite(metrics):
  # JSON has no NaN. A metric without a value is None, and never the best.
  values = {name: float(value) for name, value in metrics.items()}
  return {name: v if math.isfinite(v) else None for name, v in values.items()}


def _check_json(meta):
  try:
    json.dumps(meta, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise ValueError(f'The meta of a checkpoint must be JSON: {error}') from error


def _to_tree(state):
  """The state as nested dicts of arrays, without the empty ones optax leaves about."""
  flat = traverse_util.flatten_dict(serialization.to_state_dict(state))
  return traverse_util.unflatten_dict(flat)


def _from_tree(like, tree):
  template = serialization.to_state_dict(like)
  flat = traverse_util.flatten_dict(template, keep_empty_nodes=True)
  flat.update(traverse_util.flatten_dict(tree))
  return serialization.from_state_dict(like, traverse_util.unflatten_dict(flat))


def _check_trained(saved, path):
  # All TrainStates have averages. The params of a search are weights that all of its
  # networks share, so they are no network's, averaged or not.
  if 'ema' in saved:
    return
  raise ValueError(
    f'The checkpoint {path} holds no trained network (it has: '
    f'{", ".join(sorted(saved))}). If it is of a search, train the network that the '
    'search found first: movinet train --spec=FOLDER_OF_THE_SEARCH/found.json'
  )


def _describe(arrays, name):
  if name not in arrays:
    return 'nothing'
  return f'{arrays[name].dtype}{list(arrays[name].shape)}'


def _check_same_arrays(saved, wanted, path):
  saved = traverse_util.flatten_dict(saved, sep='/')
  wanted = traverse_util.flatten_dict(wanted, sep='/')
  # Parameters first: averages and optimizer slots only repeat their differences.
  names = sorted(saved | wanted, key=lambda n: (not n.startswith('params/'), n))
  lines = [
    f'{name}: saved {_describe(saved, name)}, wanted {_describe(wanted, name)}'
    for name in names
    if _describe(saved, name) != _describe(wanted, name)
  ]
  if lines:
    shown = '\n  '.join(lines[:12] + [f'and {len(lines) - 12} more'][: len(lines) > 12])
    raise ValueError(
      f'The checkpoint {path} is of another model or optimizer:\n  {shown}\n'
      'Build the model that its meta describes, or load the weights alone with '
      'load_variables.'
    )
