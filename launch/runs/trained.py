"""Trained networks: what a run left, ready to be used as it was trained."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import jax

from launch.runs import training
from launch.runs.evaluation import PreciseNorm, make_recompute
from launch.runs.ownership import check_owner
from movinet_jax import data, schema
from movinet_jax.train import arrays, checkpoint, workdir
from movinet_jax.train.checkpoint import CheckpointOptions
from movinet_jax.train.metrics import WORDS, find_direction
from movinet_jax.train.workdir import CHECKPOINTS


@dataclasses.dataclass(frozen=True)
class Trained:
  """A network that a run has trained, and what is needed to use it as it was trained.

  Attributes:
    workdir: of the run.
    step: of the checkpoint.
    model: the network.
    variables: its averaged weights, as they were saved.
    labels: the name of each class.
    clip: what evaluations take of a video.
    config: of the run.
  """

  workdir: str
  step: int
  model: object
  variables: Mapping
  labels: tuple[str, ...]
  clip: data.EvalClip
  config: training.Config

  @property
  def multi_label(self) -> bool:
    return training.is_multi_label(self.config.loss)

  def complete(self) -> Mapping:
    """The variables with the batch statistics that the run wants, recomputed if need be.

    Checkpoints that training evaluated hold them already.

    Raises:
      SourceError: they have to be recomputed, and the training data is not to be had.
    """
    cfg, folder = self.config, Path(self.workdir) / CHECKPOINTS
    if not cfg.precise_norm or checkpoint.has_statistics(folder, self.step):
      return self.variables
    try:
      source = self.open_eval(cfg.data.train)
    except (data.SourceError, FileNotFoundError) as error:
      raise data.SourceError(
        f'step {self.step} of {self.workdir} was never evaluated, so its batch statistics '
        f'have to be recomputed from training data, which is not here ({error}): bring '
        'the data, or take with --which a step that was evaluated'
      ) from error
    norm = schema.call(PreciseNorm, cfg.precise_norm, 'precise_norm')
    clip, loader = cfg.clip.train, cfg.loader
    recompute = make_recompute(norm, self.model, source, clip, loader, cfg.seed, cfg.sampling)
    return recompute(self.variables)

  def open_eval(self, section: Mapping) -> data.Source:
    """Opens a split with the classes and the number of labels that the network was trained with.

    Args:
      section: arguments of data.open_source.
    """
    classes, several = self.config.data.classes, self.multi_label
    return training.open_eval(section, self.labels, classes, multi_label=several)


def load_trained(path: str, which: str = 'latest') -> Trained:
  """Loads the averaged weights of a run.

  Args:
    path: its workdir.
    which: 'latest', 'best' or a step. Best is what the metric itself says, also in a run of an
      earlier version that kept the highest loss as its best.

  Raises:
    FileNotFoundError: it holds no checkpoint.
    ValueError: it is not of a training run, or its checkpoint not of its config.
  """
  config = _read_config(path)
  variables, meta = checkpoint.load_variables(
    Path(path) / CHECKPOINTS,
    int(which) if which.isdecimal() else which,
    metric=config.checkpoints.best_metric,
    mode=_choose_mode(path, config.checkpoints) if which == 'best' else None,
  )
  place = Path(path) / CHECKPOINTS / str(meta['step'])
  for key in ('labels', 'preprocessing'):
    if key not in meta:
      raise ValueError(f'{place} is not of a training run: it has no {key!r}')
  model = training.make_model(config.model, len(meta['labels']))
  wanted = jax.eval_shape(lambda: training.load_initial(model, 0))
  arrays.check_weights(wanted, variables, place)
  return Trained(
    workdir=path,
    step=meta['step'],
    model=model,
    variables=variables,
    labels=tuple(meta['labels']),
    clip=schema.call(data.EvalClip, meta['preprocessing'], 'preprocessing'),
    config=config,
  )


def _choose_mode(path: str, options: CheckpointOptions) -> str | None:
  """The metric's own direction, and says so where the run's config has the other one."""
  own = find_direction(options.best_metric or '')
  if own not in ('max', 'min'):
    return options.best_mode
  if options.best_mode not in (own, None):
    print(
      f'Note: {path} kept the checkpoints that were best by best_mode={options.best_mode!r}, but '
      f'of {options.best_metric} {WORDS[own]}: takes the best of those that are left',
      file=sys.stderr,
    )
  return own


def _read_config(path: str) -> training.Config:
  """The config of a training run; keys that this version does not know are passed over."""
  check_owner(path, 'train')
  config = _keep_known(training.Config, workdir.read_config(path))
  try:
    return training.read(config)
  except ValueError as error:
    raise ValueError(f'{path}/config.json is not of a training run: {error}') from error


def _keep_known(kind: type, config: Mapping) -> dict:
  """A config without the keys that its dataclass, or a section's, does not have."""
  fields = {field.name: field for field in dataclasses.fields(kind)}
  return {
    key: _keep_known(fields[key].type, value)
    if dataclasses.is_dataclass(fields[key].type) and isinstance(value, Mapping)
    else value
    for key, value in config.items()
    if key in fields
  }
