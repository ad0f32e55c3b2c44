"""Where training data recomputes a network's batch statistics: train, evaluate, stream."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import tqdm

from launch import parts
from movinet_jax import data
from movinet_jax.train import checkpoint, mesh, precise_norm


def check(cfg: Mapping, *, evaluates: bool):
  """Finds before the first step what recomputing would only meet at an evaluation.

  Raises:
    ValueError: a number is wrong, nothing is ever evaluated, or the run is to keep the
      statistics that it was given.
  """
  if not cfg.get('precise_norm'):
    return
  sizes = parts.call(make_sizes, cfg['precise_norm'])
  group = cfg['model'].get('norm_group') or 1
  for name, divisor in {
    'devices': jax.device_count(),
    'model.norm_group': group,
  }.items():
    if sizes['batch_size'] % divisor:
      raise ValueError(
        f'precise_norm.batch_size is {sizes["batch_size"]}, which {name} ({divisor}) '
        'does not divide'
      )
  if not evaluates:
    raise ValueError(
      'precise_norm recomputes statistics for evaluations, and there is no data.eval'
    )
  if cfg['train'].get('freeze', 'none') != 'none':
    raise ValueError(
      f'train.freeze={cfg["train"]["freeze"]!r} keeps the batch statistics, which '
      'precise_norm would replace: leave out one of them'
    )


def make_sizes(batches: int = 200, batch_size: int = 64) -> dict[str, int]:
  """The section of a config: how many training batches, and of how many clips each.

  SlowFast takes 200 batches for X3D.
  """
  sizes = {'batches': batches, 'batch_size': batch_size}
  for name, count in sizes.items():
    if type(count) is not int or count < 1:
      raise ValueError(f'precise_norm.{name} is {count!r}; wanted a whole number, 1 or more')
  return sizes


def make_recompute(cfg: Mapping, model, source) -> Callable | None:
  """Makes variables -> the same with the statistics of training batches of a source.

  Every call takes the same batches. None for a config that does not want it.
  """
  if not cfg.get('precise_norm'):
    return None
  sizes = parts.call(make_sizes, cfg['precise_norm'])
  estimate = precise_norm.make_estimate(model, mesh.make_mesh())
  shard = jax.process_index(), jax.process_count()
  options = {
    'source': source,
    'clip': parts.call(data.TrainClip, cfg['clip']['train']),
    'batch_size': sizes['batch_size'],
    'seed': cfg['seed'],
    'shard': shard,
  }

  def recompute(variables):
    with parts.call(data.make_batches, cfg['loader'], train=True, **options) as stream:
      shown = tqdm.tqdm(
        itertools.islice(stream, sizes['batches']),
        desc='Batch statistics',
        total=sizes['batches'],
        unit='batch',
        leave=False,
        disable=True if shard[0] else None,  # None: unless stderr is a terminal
      )
      return {**variables, 'batch_stats': estimate(variables, shown)}

  return recompute


def complete(trained: parts.Trained, workdir: str) -> Mapping:
  """Variables of a run with the statistics that its config wants, recomputed if need be.

  Checkpoints that training evaluated hold them already.

  Raises:
    SourceError: they have to be recomputed, and the training data is not to be had.
  """
  config, folder = trained.config, Path(workdir) / parts.CHECKPOINTS
  if not config.get('precise_norm') or checkpoint.has_statistics(folder, trained.step):
    return trained.variables
  section = {'train': config['data']['train']}
  try:
    source = parts.open_sources(section, trained.labels)['train']
  except (data.SourceError, FileNotFoundError) as error:
    raise data.SourceError(
      f'step {trained.step} of {workdir} was never evaluated, so its batch statistics '
      f'have to be recomputed from training data, which is not here ({error}): bring '
      'the data, or take with --which a step that was evaluated'
    ) from error
  return make_recompute(config, trained.model, source)(trained.variables)
