"""Search for a network; the same command and workdir go on after a stop.

  movinet search --config=configs/search/movinet.py:a2 --workdir=runs/search
  movinet search --config=configs/search/quickstart.py --workdir=runs/found \\
      --config.search.target=3e6 --config.data.train.root=videos

then train what was found:

  movinet train --config=configs/movinet/folder.py --spec=runs/search/found.json …

The workdir gets what `movinet train` leaves, space.json and samples/ with every network that
was tried, found.json, the network with how it was found, and report.html. Weights and policy learn on
two parts of the training split; other splits are not read.
"""

import dataclasses
import functools
import itertools
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from launch import config as configs
from launch import parts
from launch.arguments import make_parser
from movinet_jax import data, models
from movinet_jax.names import check_name
from movinet_jax.spec import to_json
from movinet_jax.train import checkpoint, loop, losses, mesh, writers
from movinet_jax.train.workdir import replace_file
from nas import finalists, oneshot, report, runtime, samples, supernet
from nas.cost import TITLES, CostTable
from nas.objective import Objective
from nas.space import Space
from nas.spaces import movinet as space_of

FOUND, REPORT, SPACE = 'found.json', 'report.html', 'space.json'
# What may change when a search goes on: see launch/train.py.
FREE = (
  *('loader.workers', 'loader.threads', 'loader.max_failed_share'),
  *('loop.log_every', 'loop.save_every', 'checkpoints.keep', 'supernet.remat'),
  *(f'data.train.{key}' for key in ('root', 'path', 'directory')),
)
DEFAULTS = {'supernet': {}, 'optimizer': {}, 'checkpoints': {}, 'finalists': {}}
NEEDED = (
  *('seed', 'batch_size', 'policy_batch_size', 'candidates', 'policy_share', 'space'),
  *('search.target', 'train_with', 'data.train', 'clip', 'loader', 'loss.name'),
  'loop.total_steps',
)
# Keys of search that are no numbers of a search: what a step is compiled for.
OBJECTIVE, STEP = ('cost', 'latency', 'reward'), ('subclips', 'boundary')
LATE = {
  'loader': ('workers', 'threads', 'max_failed_share'),
  'loop': ('total_steps', 'log_every', 'save_every', 'progress'),
}


def main(argv: Sequence[str]) -> int:
  parser = make_parser('search', __doc__)
  parser.add_argument('--workdir', required=True, help='folder of the search')
  arguments, cfg = configs.parse(parser, argv)
  found = search(cfg.to_dict(), arguments.workdir)
  if not found:  # a process that only helps another
    return 0
  print_network(found)
  print(f'wrote {Path(arguments.workdir) / FOUND} and {REPORT}; train it with\n')
  print(f'  {found["train"]}')
  return 0


def search(cfg: dict, folder: str) -> dict:
  """Searches as a config says, from wherever the workdir stands.

  Returns:
    found.json; {} in all processes but the first.
  """
  cfg = {**DEFAULTS, **cfg}
  parts.check_config(cfg, NEEDED, LATE, ('batch_size', 'policy_batch_size'))
  sources, labels = _split(cfg)
  plan = make_plan(cfg, len(labels))
  _warn_of_target(plan)
  clip = parts.call(data.TrainClip, cfg['clip'])
  home = Path(folder)
  _check_space(home / SPACE, plan.net.space.space)
  resumes = parts.claim(cfg, home, FREE)
  replace_file(home / SPACE, json.dumps(plan.net.space.space.to_json()) + '\n')
  print(f'{"Resuming" if resumes else "Starting"} the search in {folder}')
  saver = parts.call(
    checkpoint.Checkpointer, cfg['checkpoints'], directory=home / parts.CHECKPOINTS
  )
  with saver, writers.Writer(folder) as writer:
    state, batches = _begin(cfg, plan, sources, clip, saver)
    tried = samples.SampleWriter(
      home / 'samples',
      plan.objective.cost,
      first=int(state.step),
      every=cfg['loop'].get('log_every', 100),
    )
    with batches:
      state = loop.run(
        _keep_samples(
          mesh.shard_step(plan.step, mesh.make_mesh()), tried, int(state.step)
        ),
        state,
        batches,
        checkpointer=saver,
        writer=writer,
        meta={'labels': list(labels), 'config': cfg},
        position=lambda number: _save_samples(plan, tried, writer, number, batches),
        **cfg['loop'],
      )
  if jax.process_index():
    return {}
  return _conclude(cfg, home, plan, state, sources[1], clip)


def print_network(found: dict):
  """Prints a found network, a line a block, and what it costs."""
  spec, cost = found['spec'], found['cost']
  print(f'\nstem      {spec["stem"]:4}')
  for i, block in enumerate(spec['blocks']):
    layers = ' '.join(
      f'{"x".join(map(str, layer["kernel"]))}:{layer["expand"]}'
      for layer in block['layers']
    )
    print(f'block {i}   {block["features"]:4}  {layers}')
  print(f'project   {spec["project"]:4}')
  aim = found['target']
  ratio = cost[aim['cost']] / aim['value']
  print(
    f'{cost["macs"]:,} multiply-adds, {cost["params"]:,} parameters; {TITLES[aim["cost"]]} '
    f'{ratio:.2f} of the target; accuracy with shared weights {found["accuracy"]:.1%}\n'
  )


def _split(cfg):
  """The training split in two: for the weights, and for the policy."""
  source = parts.open_sources({'train': cfg['data']['train']})['train']
  share = cfg['policy_share']
  return data.split_source(source, share, seed=cfg['seed']), source.labels


@dataclasses.dataclass(frozen=True)
class Plan:
  """A search as a config says, before any data: what is searched, and how."""

  net: supernet.Supernet
  costs: Mapping[str, CostTable]
  aim: str
  objective: Objective
  settings: dict
  step: Callable


def make_plan(cfg: dict, num_classes: int) -> Plan:
  """Builds a search, and finds what is wrong with it before anything is compiled."""
  for key in ('batch_size', 'policy_batch_size'):
    if cfg[key] % cfg['candidates']:
      raise ValueError(
        f'{key} is {cfg[key]}, which {cfg["candidates"]} candidates cannot share: take a '
        'multiple'
      )
  space = parts.call(space_of.make_space, cfg['space'])
  settings = {
    **cfg['search'],
    'total_steps': cfg['loop']['total_steps'],
    'seed': cfg['seed'],
  }
  options = {key: settings.pop(key) for key in STEP if key in settings}
  given = {key: settings.pop(key) for key in OBJECTIVE if key in settings}
  costs = _make_costs(space, num_classes, given.pop('latency', ''))
  aim = given.pop('cost', 'macs')
  memory = costs['state_bytes'] if settings.get('memory_beta') else None
  objective = Objective(_find_cost(costs, aim), memory=memory, **given)
  _check_target('search.target', settings['target'], aim, objective.cost)
  if memory:
    _check_memory(settings, space, memory)
  made = {'space': space, 'num_classes': num_classes}
  section = dict(cfg['supernet'])
  if 'dtype' in section:
    section['dtype'] = models.find_dtype(section['dtype'])
  net = parts.call(supernet.Supernet, section, **made)
  step = oneshot.make_search_step(
    net,
    objective,
    parts.call(losses.make_loss, cfg['loss']),
    mesh.make_mesh(),
    candidates=cfg['candidates'],
    optimizer=cfg['optimizer'],
    **options,
  )
  made = oneshot.make_settings(space.space, **settings)
  return Plan(net, costs, aim, objective, made, step)


def _make_costs(space, num_classes: int, latency: str) -> dict[str, CostTable]:
  """The costs that are known by name, of the networks' native clip: whatever clips the
  search can afford."""
  make = functools.partial(space_of.make_cost_table, space, num_classes=num_classes)
  costs = {kind: make(kind) for kind in ('macs', 'params', 'state_bytes')}
  if latency:
    _, known = runtime.read_times(Path(latency))
    costs['latency_ns'] = make('latency_ns', times=space_of.find_times(space, known))
  return costs


def _find_cost(costs: Mapping[str, CostTable], name: str) -> CostTable:
  check_name(name, TITLES, 'cost')
  if name not in costs:
    raise ValueError(
      f'search.cost is {name}, which needs search.latency: a file of `movinet latency`'
    )
  return costs[name]


def _check_target(key, target, name, cost):
  least, most = cost.bounds
  if not least <= target <= most:
    raise ValueError(
      f'{key} is {target:g} {name}, but networks of this space have {least:,} to {most:,}: '
      'choose a target between, or another space'
    )


def _check_memory(settings, space, memory):
  if not space.base.causal:
    raise ValueError(
      'search.memory_beta presses on stream state, which networks of this space do not '
      'have: set space.causal=True, or memory_beta=0'
    )
  if 'memory_target' not in settings:
    raise ValueError(
      'search.memory_beta needs search.memory_target, bytes of stream state: networks of '
      'this space have {:,} to {:,}'.format(*memory.bounds)
    )
  _check_target(
    'search.memory_target', settings['memory_target'], 'state_bytes', memory
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


def _warn_of_target(plan):
  """Says so where few random networks are near the target."""
  space, target = plan.net.space.space, float(plan.settings['target'])
  rng = np.random.default_rng(0)
  drawn = plan.objective.cost.count(rng.integers(space.sizes, size=(2000, len(space))))
  if abs(target - drawn.mean()) > 3 * drawn.std():
    print(
      f'search.target is {target:g}, far from what 2,000 random networks have '
      f'({drawn.mean():.3g}, standard deviation {drawn.std():.2g}): the search will '
      'rarely see such networks at first',
      file=sys.stderr,
    )


def _begin(cfg, plan, sources, clip, saver):
  """The state to go on from, and the batches that it has not seen."""
  make = lambda: oneshot.make_state(plan.net, plan.settings, cfg['optimizer'])  # noqa: E731
  latest, meta = saver.latest_step(), None
  if latest is None:
    state = make()
  else:
    shapes = mesh.place_shapes(jax.eval_shape(make), mesh.make_mesh())
    state, meta = saver.restore(shapes)
    print(f'Restored step {latest}', file=sys.stderr)
  batches = data.PairedBatches(
    *(
      parts.call(
        data.make_batches,
        cfg['loader'],
        source=source,
        clip=clip,
        batch_size=size,
        seed=cfg['seed'],
        train=True,
        start=int(state.step),
        shard=(jax.process_index(), jax.process_count()),
      )
      for source, size in zip(
        sources, (cfg['batch_size'], cfg['policy_batch_size']), strict=True
      )
    )
  )
  if meta is not None:
    parts.check_same_data(meta['position'], batches)
  return state, batches


def _keep_samples(step, tried, number):
  """The step for the loop, whose metrics are scalars: samples go their own way."""

  def run(state, batch):
    nonlocal number
    state, metrics = step(state, batch)
    number += 1
    tried.add(number, metrics.pop('samples'))
    return state, metrics

  return run


def _save_samples(plan, tried, writer, number, batches) -> dict:
  """Where the input stands; asked for when the state is about to be saved."""
  for step, probabilities in tried.write(number):
    writer.chart(step, _name_policy(plan.net.space.space, probabilities))
  return {'batches': number, **batches.identity()}


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


def _conclude(cfg, home, plan, state, source, clip) -> dict:
  """Judges the found network and writes found.json and the report."""
  net, space = plan.net, plan.net.space.space
  settings = jax.tree.map(lambda x: x.item(), state.settings)
  policy = oneshot.make_policy(space, settings)
  chosen = np.asarray(policy.most_probable(state.policy))
  reward = lambda accuracy, choices: plan.objective(accuracy, choices, settings)  # noqa: E731
  limits = dict(cfg['finalists'])
  with _open_views(cfg, source, clip) as batches:
    once = max(1, len(source) // (cfg['policy_batch_size'] // cfg['candidates']))
    few = itertools.islice(batches, min(limits.pop('batches', 16), once))
    judge = finalists.make_judge(net, jax.device_get(state.params), reward, few)
  near, control = parts.call(
    finalists.compare,
    limits,
    judge=judge,
    space=space,
    cost=plan.objective.cost,
    chosen=chosen,
    probabilities=np.asarray(policy.probabilities(state.policy)),
  )
  found = _make_found(cfg, home, plan, chosen, near, settings)
  replace_file(home / FOUND, json.dumps(found, indent=2) + '\n')
  tried, probabilities = samples.read_samples(home / 'samples', int(state.step))
  target = settings['target']
  findings = report.Findings(
    title=f'Search in {home}',
    command=found['train'],
    space=space,
    rows=_read_rows(home),
    samples=tried,
    probabilities=probabilities,
    found=found,
    neighbours=near,
    control=control,
    cost=plan.aim,
    target=target,
    beta=settings['beta'],
    slope=report.estimate_slope(tried, target),
  )
  report.write_report(home / REPORT, findings)
  return found


def _open_views(cfg, source, clip):
  """The policy's videos from their middle, as many at a time as in the search.

  Shuffled, for norms take the statistics of a batch: one of a single class would mislead.
  """
  views = data.EvalClip(clip.frames, clip.size, stride=clip.stride, fps=clip.fps)
  size = cfg['policy_batch_size'] // cfg['candidates']
  return parts.call(
    data.make_batches,
    {**cfg['loader'], 'max_failed_share': 1.0},
    source=source,
    clip=views,
    batch_size=size,
    seed=cfg['seed'],
    train=True,
  )


def _make_found(cfg, home, plan, chosen, near, settings) -> dict:
  """The found network: how to build it, what it costs, how to train it."""
  space = plan.net.space
  mine = next(row for row in near if not row['changed'])
  return {
    'family': 'movinet',
    'spec': to_json(space.decode(chosen)),
    'choices': space.space.describe(chosen),
    'cost': {name: int(table.count(chosen)) for name, table in plan.costs.items()},
    'accuracy': mine['accuracy'],
    'reward': mine['reward'],
    'target': {'cost': plan.aim, 'value': settings['target']},
    'train': _make_command(cfg, home),
  }


def _make_command(cfg, home) -> str:
  """What trains the found network on the data that was searched on."""
  words = [f'movinet train --config={cfg["train_with"]} --spec={home / FOUND}']
  words.append(f'--workdir={home / "trained"}')
  for key, value in cfg['data']['train'].items():
    if key in ('root', 'path', 'directory'):
      words.append(f'--config.data.train.{key}={shlex.quote(str(value))}')
      if key != 'path':  # where the other splits are as well
        words.append(f'--config.data.eval.{key}={shlex.quote(str(value))}')
  return ' '.join(words)


def _read_rows(home) -> list[dict]:
  """The last line of each logged step: a run that was killed has written some twice."""
  lines = (home / 'metrics.jsonl').read_text().splitlines()
  rows = {row['step']: row for row in map(json.loads, lines) if 'reward' in row}
  return [rows[step] for step in sorted(rows)]
