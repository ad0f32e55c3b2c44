"""Search for a network; the same command and workdir go on after a stop.

  movinet search --config=configs/search/movinet.py:a2 --workdir=runs/search
  movinet search --config=configs/search/quickstart.py --workdir=runs/found \\
      --config.search.target=30e6 --config.data.train.root=videos

then train what was found:

  movinet train --config=configs/movinet/folder.py --spec=runs/search/found.json …

The workdir gets what `movinet train` leaves, space.json and samples/ with every network that
was tried, found.json, the network with how it was found, finalists/ with its best neighbours,
and report.html. Weights and policy learn on
two parts of the training split; other splits are not read.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from launch import cluster, parts
from launch import config as configs
from launch.arguments import make_parser
from launch.outcome import FOUND, REPORT, conclude, warn_of_command
from launch.plan import DEFAULTS, LATE, NEEDED, SIZES, make_plan, warn_of_target
from movinet_jax import data
from movinet_jax.train import checkpoint, loop, mesh, writers
from movinet_jax.train.workdir import replace_file
from nas import finalists, oneshot, report, samples
from nas.cost import TITLES
from nas.space import Space

SPACE = 'space.json'
# What may change when a search goes on: see launch/train.py. And what is only read when it
# ends.
FREE = (
  *('loader.workers', 'loader.threads', 'loader.max_failed_share'),
  *('loop.log_every', 'loop.save_every', 'checkpoints.keep', 'supernet.remat'),
  *(f'data.{part}.{key}' for part in ('train', 'eval') for key in ('root', 'path', 'directory')),
  *(
    'train_with',
    *(f'finalists.{f.name}' for f in dataclasses.fields(finalists.Limits)),
  ),
)


def main(argv: Sequence[str]) -> int:
  arguments, cfg = configs.parse(make_arguments(), argv)
  cluster.connect()
  found = search(cfg.to_dict(), arguments.workdir)
  if not found:  # a process that only helps another
    return 0
  print_network(found)
  print(f'wrote {Path(arguments.workdir) / FOUND} and {REPORT}; train it with\n')
  print(f'  {found["train"]}')
  return 0


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('search', __doc__)
  parser.add_argument('--workdir', required=True, help='folder of the search')
  return parser


def search(cfg: dict, folder: str) -> dict:
  """Searches as a config says, from wherever the workdir stands.

  Returns:
    found.json; {} in all processes but the first.
  """
  cfg = {**DEFAULTS, **cfg}
  parts.check_config(cfg, NEEDED, LATE, SIZES)
  source = parts.open_sources({'train': cfg['data']['train']})['train']
  parts.check_loss(cfg['loss']['name'], source)
  if source.multi_label:
    raise ValueError('a search scores networks by their first guess: one label a video')
  plan = make_plan(cfg, len(source.labels))
  sources = data.split_source(source, cfg['policy_share'], seed=cfg['seed'])
  home = Path(folder)
  warn_of_target(plan)
  warn_of_command(cfg)
  # With the times it was begun with, a search goes on with no others.
  measured = {'latency': plan.latency} if plan.latency else {}
  resumes = parts.claim({**cfg, **measured}, home, FREE)
  if resumes:
    _check_space(home / SPACE, plan.space)
  if not jax.process_index():
    replace_file(home / SPACE, json.dumps(plan.space.to_json()) + '\n')
  print(f'{"Resuming" if resumes else "Starting"} the search in {folder}')
  checkpoints = home / parts.CHECKPOINTS
  with (
    writers.Writer(folder) as writer,  # first, for nobody else may be writing here
    parts.call(checkpoint.Checkpointer, cfg['checkpoints'], directory=checkpoints) as saver,
  ):
    state, batches = _begin(cfg, plan, sources, saver)
    tried = samples.SampleWriter(
      home / 'samples',
      plan.objective.cost,
      first=int(state.step),
      every=cfg['loop'].get('log_every', 100),
    )
    with batches:
      state = loop.run(
        mesh.shard_step(plan.step, plan.place),
        state,
        batches,
        checkpointer=saver,
        writer=writer,
        meta={'labels': list(source.labels), 'config': cfg},
        position=lambda number: {'batches': number, **batches.identity()},
        on_step=tried.add,
        on_save=lambda number: _chart_policies(plan.space, writer, tried.write(number)),
        **cfg['loop'],
      )
  if jax.process_index():
    return {}
  return conclude(cfg, home, plan, state, sources[1])


def print_network(found: dict):
  """Prints a found network, a line a block, and what it costs."""
  spec, cost = found['spec'], found['cost']
  print(f'\nstem      {spec["stem"]:4}')
  for i, block in enumerate(spec['blocks']):
    layers = ' '.join(
      f'{"x".join(map(str, layer["kernel"]))}:{layer["expand"]}' for layer in block['layers']
    )
    print(f'block {i}   {block["features"]:4}  {layers}')
  print(f'project   {spec["project"]:4}')
  aim = found['target']
  ratio = cost[aim['cost']] / aim['value']
  print(
    f'{cost["macs"]:,} multiply-adds, {cost["params"]:,} parameters; {TITLES[aim["cost"]]} '
    f'{ratio:.2f} of the target; accuracy with shared weights {found["accuracy"]:.1%}\n'
  )


def _check_space(path: Path, space: Space):
  """Raises a ValueError if a workdir's samples are of another space than `space`."""
  if not path.exists():
    return
  try:
    found = Space.from_json(json.loads(path.read_text()))
  except ValueError as error:
    raise ValueError(f'{path}: {error}; begin another workdir') from error
  if found != space:
    raise ValueError(
      f'{path} is the space {found.digest} of {len(found)} decisions, the config says '
      f'{space.digest} of {len(space)}: begin another workdir'
    )


def _begin(cfg, plan, sources, saver):
  """The state to go on from, and the batches that it has not seen."""
  make = lambda: oneshot.make_state(plan.net, plan.settings, cfg['optimizer'])  # noqa: E731
  latest, meta = saver.latest_step(), None
  if latest is None:
    state = make()
  else:
    shapes = mesh.place_shapes(jax.eval_shape(make), plan.place)
    state, meta = saver.restore(shapes)
    print(f'Restored step {latest}', file=sys.stderr)
  batches = data.PairedBatches(
    *(
      parts.call(
        data.make_batches,
        cfg['loader'],
        source=source,
        clip=plan.clip,
        batch_size=size,
        seed=cfg['seed'],
        train=True,
        start=int(state.step),
        shard=(jax.process_index(), jax.process_count()),
      )
      for source, size in zip(sources, (cfg['batch_size'], cfg['policy_batch_size']), strict=True)
    )
  )
  if meta is not None:
    parts.check_same_data(meta['position'], batches)
  return state, batches


def _chart_policies(space: Space, writer, policies):
  for step, probabilities in policies:
    writer.chart(step, _name_policy(space, probabilities))


def _name_policy(space: Space, probabilities: np.ndarray) -> dict[str, float]:
  """Every choice's probability, and the share of its entropy that each decision has left."""
  left = report.share_entropy(space.sizes, probabilities)
  charts = {f'entropy/{d.path}': float(left[n]) for n, d in enumerate(space.decisions)}
  for n, (decision, names) in enumerate(
    zip(space.decisions, report.name_choices(space), strict=True)
  ):
    for name, value in zip(names, probabilities[n], strict=False):
      charts[f'probability/{decision.path}/{name}'] = float(value)
  return charts
