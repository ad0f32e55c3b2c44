"""Train a network from a config; the same command and workdir go on after a stop.

  movinet train --config=configs/movinet/folder.py --workdir=runs/mine \\
      --config.data.train.root=videos --config.data.eval.root=videos
  movinet train --config=configs/movinet/kinetics600.py:a2-stream --workdir=runs/a2 \\
      --config.train.subclips=5 --config.train.boundary=truncated

The workdir gets config.json, checkpoints/, metrics.jsonl and tensorboard/. Any key of the
config can be set with --config.section.key=value; a workdir begun with another config is
refused, and the differences are shown.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from launch import cluster, parts, precise_norm
from launch import config as configs
from launch.arguments import make_parser
from movinet_jax import data
from movinet_jax.names import check_name
from movinet_jax.train import (
  checkpoint,
  evaluation,
  loop,
  losses,
  mesh,
  optimizers,
  state,
  steps,
  writers,
)

# What may change when a run goes on: how fast it runs, what it tells, and where its data
# has moved to. That it still is the same data, the checkpoint knows.
FREE = (
  *('loader.workers', 'loader.threads', 'loader.max_failed_share'),
  *('eval_batch_size', 'model.remat', 'mesh.time', 'mesh.space'),
  *('loop.log_every', 'loop.eval_every', 'loop.save_every', 'checkpoints.keep'),
  *(f'data.{s}.{key}' for s in ('train', 'eval') for key in ('root', 'path', 'directory')),
)

DEFAULTS = {'init': '', 'train': {}, 'checkpoints': {}}
NEEDED = (
  *('seed', 'batch_size', 'eval_batch_size', 'model.name', 'data.train', 'clip.train'),
  *('clip.eval', 'loader', 'optimizer', 'loss.name', 'loop.total_steps'),
)
SIZES = ('batch_size', 'eval_batch_size')
# What the sections may say whose functions are called late.
LATE = {
  'loader': ('workers', 'threads', 'max_failed_share'),
  'loop': ('total_steps', 'log_every', 'eval_every', 'save_every', 'progress'),
}


def main(argv: Sequence[str]) -> int:
  arguments, cfg = configs.parse(make_arguments(), argv)
  cluster.connect()
  cfg = cfg.to_dict()
  if arguments.spec:
    cfg['model'] = parts.replace_network(cfg['model'], arguments.spec)
  train(cfg, arguments.workdir)
  return 0


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('train', __doc__)
  parser.add_argument('--workdir', required=True, help='folder of the run')
  parser.add_argument('--spec', help='architecture file to train: found.json')
  return parser


def train(
  cfg: dict,
  folder: str,
  *,
  sources: Mapping[str, data.Source] | None = None,
  watch: Callable[[int, Mapping], None] | None = None,
):
  """Trains as a config says, from wherever the workdir stands.

  Args:
    sources: train and eval, in place of those that the config names.
    watch: called with step and metrics after each evaluation; what it raises ends the
      run, whose state is saved.

  Returns:
    The final TrainState.
  """
  cfg = {**DEFAULTS, **cfg}
  plan, sources = prepare(cfg, sources)
  source = sources['train']
  checkpoints = Path(folder) / parts.CHECKPOINTS
  resumes = parts.claim(cfg, Path(folder), FREE)
  print(f'{"Resuming" if resumes else "Starting"} {cfg["model"]["name"]} in {folder}')
  with (
    writers.Writer(folder) as writer,  # first, for nobody else may be writing here
    parts.call(checkpoint.Checkpointer, cfg['checkpoints'], directory=checkpoints) as saver,
  ):
    current, batches = _begin(cfg, plan, source, saver)
    meta = {
      'labels': list(source.labels),
      'model': cfg['model'],
      'preprocessing': dataclasses.asdict(plan.clips['eval']),
      'config': cfg,
    }
    total = cfg['loop']['total_steps']
    if int(current.step) == total:
      print(f'All {total} steps of {folder} are done.')
    with batches:
      return loop.run(
        mesh.shard_step(plan.step, plan.place),
        current,
        batches,
        checkpointer=saver,
        writer=writer,
        evaluate=_make_evaluate(cfg, plan, sources, saver, watch),
        meta=meta,
        position=lambda number: {'batches': number, **batches.identity()},
        **cfg['loop'],
      )


def prepare(cfg: Mapping, sources: Mapping[str, data.Source] | None = None):
  """The plan and the data of a config, before anything is written.

  Args:
    sources: train and eval, in place of those that the config names.

  Raises:
    ValueError: the config does not fit itself or the data.
  """
  parts.check_config(cfg, NEEDED, LATE, SIZES)
  sources = sources or parts.open_sources(cfg['data'])
  _check_fit(cfg, sources)
  return make_plan(cfg, len(sources['train'].labels)), sources


@dataclasses.dataclass(frozen=True)
class Plan:
  """A training run before any data.

  Attributes:
    model: the network.
    clips: what is taken of a video, for 'train' and 'eval'.
    tx: the optimizer.
    step: of training, for the loop.
    place: the mesh of devices.
  """

  model: object
  clips: Mapping[str, object]
  tx: object
  step: Callable
  place: object


def make_plan(cfg: Mapping, num_classes: int, devices: Sequence | None = None) -> Plan:
  """Builds a training run.

  Args:
    cfg: a whole config with DEFAULTS, which `check_config` has passed.
    devices: to train on; by default all there are.

  Raises:
    ValueError: for the first thing in it that is wrong.
  """
  clips = {
    'train': parts.call(data.TrainClip, cfg['clip']['train']),
    'eval': parts.call(data.EvalClip, cfg['clip']['eval']),
  }
  size, total = cfg['batch_size'], cfg['loop']['total_steps']
  place = parts.call(mesh.make_mesh, cfg.get('mesh', {}), devices=devices)
  mesh.check_share(size, place)
  mesh.check_clip(place, frames=clips['train'].frames, rows=clips['train'].size)
  model = parts.make_model(cfg['model'], num_classes)
  tx = parts.call(optimizers.make_optimizer, cfg['optimizer'], batch_size=size, total_steps=total)
  loss = parts.call(losses.make_loss, cfg['loss'])
  step = parts.call(
    steps.make_train_step, cfg['train'], model=model, tx=tx, loss=loss, seed=cfg['seed']
  )
  return Plan(model, clips, tx, mesh.spread_step(step, place), place)


def _check_fit(cfg, sources):
  """Finds before the first step what would only fail at the first evaluation."""
  source = sources['train']
  parts.check_loss(cfg['loss']['name'], source)
  best = cfg['checkpoints'].get('best_metric')
  if best and 'eval' in sources:
    known = evaluation.list_metrics(len(source.labels), source.multi_label)
    check_name(best, [*known, 'missing'], 'checkpoints.best_metric')
  precise_norm.check(cfg, evaluates='eval' in sources)


def _begin(cfg, plan, source, saver):
  """The state to go on from, and the batches that it has not seen."""
  latest, meta = saver.latest_step(), None
  if latest is None:
    variables = parts.load_initial(plan.model, cfg['seed'], cfg['init'])
    current = state.make_state(variables, plan.tx)
  else:
    shapes = make_shapes(plan)
    current, meta = saver.restore(mesh.place_shapes(shapes, plan.place))
    print(f'Restored step {latest}', file=sys.stderr)
  batches = parts.call(
    data.make_batches,
    cfg['loader'],
    source=source,
    clip=plan.clips['train'],
    batch_size=cfg['batch_size'],
    seed=cfg['seed'],
    train=True,
    start=int(current.step),
    shard=(jax.process_index(), jax.process_count()),
  )
  if meta is not None:
    parts.check_same_data(meta['position'], batches)
  return current, batches


def make_shapes(plan: Plan):
  """The state of a run as shapes: nothing is computed."""
  return jax.eval_shape(lambda: state.make_state(parts.load_initial(plan.model, 0), plan.tx))


def _make_evaluate(cfg, plan, sources, saver, watch):
  """state -> metrics of its averaged weights on the evaluation split."""
  if 'eval' not in sources:
    return None
  clip, size = plan.clips['eval'], cfg['eval_batch_size']
  run = parts.make_evaluate(plan.model, sources['eval'], clip, cfg['loader'], size)
  recompute = precise_norm.make_recompute(cfg, plan.model, sources['train'])

  def evaluate(current):
    variables, step = current.ema, int(current.step)
    if recompute is not None:
      variables = recompute(variables)
      saver.add_statistics(step, variables['batch_stats'])
    result, _ = run(variables)
    metrics = {**result.metrics, 'missing': result.missing}
    if watch is not None:
      watch(step, metrics)
    return metrics

  return evaluate
