"""One-shot searches: a config resolved into built objects, and the run of them."""

import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from launch.config import complete_config, load_config, merge_config
from launch.runs import inheritance, outcome, recipe, training
from launch.runs.aim import (
  Aim,
  check_complete,
  check_subclips,
  make_costs,
  make_objective,
  split_aim,
)
from launch.runs.inheritance import SPACE
from launch.runs.ownership import check_owner
from launch.runs.training import Splits
from movinet_jax import data, models, schema
from movinet_jax.schema import Count, LocalPath, Part, Seed
from movinet_jax.train import mesh, optimizers
from movinet_jax.train.checkpoint import (
  Checkpointer,
  CheckpointOptions,
  count_steps,
  load_params,
)
from movinet_jax.train.loop import LoopOptions
from movinet_jax.train.loop import run as run_loop
from movinet_jax.train.position import check_same_data, make_position
from movinet_jax.train.workdir import CHECKPOINTS, claim_together, replace_file
from movinet_jax.train.writers import Writer, check_nothing_lost
from nas import oneshot, report, spaces
from nas.cost import CostTable
from nas.objective import Objective
from nas.oneshot import progressive, samples
from nas.oneshot.finalists import Comparison
from nas.space import Space

DEFAULT_SPACE = 'movinet'  # where a config's space has no name
# What a workdir holds itself, and so no folder of a step.
_TAKEN = ('checkpoints', 'finalists', 'samples', 'tensorboard', 'trained')
# What all steps of a search have alike.
_SHARED = ('seed', 'space', 'data', 'policy_share')
# What may change when a search goes on, as in training; and what is only read when it ends.
FREE = (
  *('loader.workers', 'loader.threads', 'loader.max_failed_share'),
  *('loop.log_every', 'loop.save_every', 'checkpoints.keep', 'supernet.remat', 'train_with'),
  'inherit',  # where it has moved to; that it found the same, the checkpoint knows
  *(f'data.{split}.{key}' for split in ('train', 'eval') for key in ('root', 'path', 'directory')),
  *(f'finalists.{field.name}' for field in dataclasses.fields(Comparison)),
)


@dataclasses.dataclass(frozen=True)
class Config:
  """The contents of a search's config.

  Attributes:
    seed: of weights, proposals and the order of videos.
    candidates: architectures a step; batches are dealt out to them.
    batch_size, policy_batch_size: clips a step that weights and policy learn from.
    policy_share: of the training videos, held out for the policy.
    train_with: config file of the recipe that trains what is found.
    space: nas.spaces.create; MoViNet's, where no name is given.
    data: what is learned from; `eval` only tells printed commands where it is.
    clip, loader: what is read, and how.
    loss: losses.make_loss, with weights of classes where it has them.
    sampling: how often each class is drawn, for the weights and for the policy; None has each
      video once an epoch.
    search: the objective, the form of the step, and settings of the algorithm.
    loop, checkpoints: how long, and what is due when.
    supernet: of the space's supernet.
    optimizer: optimizers.make_chain.
    finalists: what is compared at the end.
    searched: paths of the decisions that are searched, where `*` stands for anything; None:
      all but those that are held.
    held: choices, by number, of decisions that are not; those not named have what `inherit`
      found, or else their first choice.
    inherit: workdir of a search whose network and weights this one begins with.
    steps: changes to this config by the name of a step, for a search in several steps. They
      run in the order of their names, and each inherits from the one before; see steps.py.
  """

  seed: Seed
  candidates: Count
  batch_size: Count
  policy_batch_size: Count
  policy_share: Part
  train_with: LocalPath
  space: Mapping
  data: Splits
  clip: data.TrainClip
  loader: data.LoaderOptions
  loss: Mapping
  search: Mapping
  loop: LoopOptions
  supernet: Mapping = dataclasses.field(default_factory=dict)
  optimizer: Mapping = dataclasses.field(default_factory=dict)
  checkpoints: CheckpointOptions = dataclasses.field(default_factory=CheckpointOptions)
  finalists: Comparison = dataclasses.field(default_factory=Comparison)
  searched: tuple[str, ...] | None = None
  held: Mapping[str, int] | None = None
  inherit: LocalPath | None = None
  steps: Mapping[str, Mapping] | None = None
  sampling: data.Sampling | None = None


@dataclasses.dataclass(frozen=True)
class Search:
  """A search, built and checked. Nothing is decoded, compiled or written yet.

  Attributes:
    config: what was resolved.
    aim: what it is for.
    net: the supernet.
    costs: of its networks, by name.
    objective: what is maximized.
    algorithm: the class of what proposes networks.
    settings: the numbers of this search, see oneshot.make_settings.
    held: choices [D] of decisions that are not searched, -1 for the others; None: all are.
    step: of the search, for the loop.
    place: the mesh of devices.
    sources: for the weights and for the policy; () where only the number of classes was given.
    latency: what measured times are of, and a digest of them; {} without.
    record: what config.json and every checkpoint keep of the config.
  """

  config: Config
  aim: Aim
  net: oneshot.Supernet
  costs: Mapping[str, CostTable]
  objective: Objective
  algorithm: type
  settings: Mapping
  held: np.ndarray | None
  step: Callable
  place: object
  sources: tuple[data.Source, ...]
  latency: Mapping
  record: Mapping

  @property
  def networks(self):
    """The networks to choose among."""
    return self.net.space

  @property
  def space(self) -> Space:
    """The decisions about them."""
    return self.net.space.space

  @property
  def num_classes(self) -> int:
    return self.net.num_classes

  @property
  def multi_label(self) -> bool:
    return False

  @property
  def clip(self) -> data.TrainClip:
    return self.config.clip

  @property
  def batch_sizes(self) -> tuple[int, ...]:
    """Clips a step, for the weights and for the policy."""
    return self.config.batch_size, self.config.policy_batch_size

  @property
  def unit(self) -> int:
    """Candidates share multiples of this many clips evenly."""
    return self.config.candidates

  def make_shapes(self):
    """The state of the search as shapes: nothing is computed."""
    return jax.eval_shape(self.make_state)

  @property
  def target(self) -> float:
    return float(self.settings['target'])

  @property
  def claim(self) -> dict:
    """The record, and the measured times: a search goes on with no others."""
    return {**self.record, **({'latency': self.latency} if self.latency else {})}

  def make_state(self):
    given = self.net, self.settings, self.config.optimizer, self.algorithm
    return oneshot.make_state(*given, held=self.held)

  def make_policy(self, settings: Mapping):
    return oneshot.make_algorithm(self.space, settings, self.algorithm, self.held)

  def shares_program(self, other: 'Search') -> bool:
    """Whether another search's step is this one's, but for numbers that it is given."""
    built = ('candidates', 'space', 'supernet', 'loss', 'optimizer')
    same = all(getattr(self.config, key) == getattr(other.config, key) for key in built)
    same &= (self.aim, self.algorithm) == (other.aim, other.algorithm)
    same &= (self.objective.memory is None) == (other.objective.memory is None)
    shapes = [(*s.batch_sizes, s.clip.frames, s.clip.size) for s in (self, other)]
    same &= shapes[0] == shapes[1]
    return same and self.num_classes == other.num_classes and self.latency == other.latency


def resolve(
  config: Mapping,
  *,
  num_classes: int | None = None,
  devices: Sequence | None = None,
  before: Sequence[Config] = (),
) -> Search:
  """Builds a search from its config.

  Args:
    config: what a config file gives; of a search in steps, the last one's is resolved.
    num_classes: N, in place of any data: nothing is opened.
    devices: to search on; by default all there are.
    before: configs of the steps that will have run before it, if they have not yet.

  Raises:
    ValueError: the config does not fit itself, the data or the devices.
    SourceError: there is no such data.
  """
  *earlier, config = list_steps(config).values()
  before = before or [schema.build(Config, step, '') for step in earlier]
  cfg = schema.build(Config, config, '')
  _check_shares(cfg)
  _check_unevaluated(cfg)
  load_config(cfg.train_with)
  sources = ()
  if num_classes is None:
    sources = data.split_source(open_data(cfg), cfg.policy_share, seed=cfg.seed)
    num_classes = len(sources[0].labels)
    config = training.name_classes(config, sources[0].labels)
    cfg = schema.build(Config, config, '')
  networks = _make_space(cfg)
  aim, given = split_aim(cfg.search)
  net = _make_supernet(cfg.supernet, networks, num_classes)
  check_subclips(aim, cfg.clip.frames, networks)
  algorithm = oneshot.find_algorithm(aim.algorithm)
  settings = _make_settings(cfg, networks, algorithm, given)
  costs, latency = make_costs(aim, net)
  held = inheritance.find_held(cfg, networks.space, before)
  # What a search before has found may cost more than this one's target: no reason to end.
  objective = make_objective(aim, given, networks, costs, None if cfg.inherit else held)
  # As the step will; here for what the config says of it.
  ours = {'schedule': lambda step: 0.0, 'weight_decay': 0.0}
  schema.call(optimizers.make_chain, cfg.optimizer, 'optimizer', **ours)
  place = mesh.make_mesh(devices)
  step = oneshot.make_search_step(
    net,
    objective,
    training.make_loss(cfg.loss, sources[0] if sources else None),
    place,
    candidates=cfg.candidates,
    algorithm=algorithm,
    optimizer=cfg.optimizer,
    subclips=aim.subclips,
    boundary=aim.boundary,
  )
  return Search(
    config=cfg,
    aim=aim,
    net=net,
    costs=costs,
    objective=objective,
    algorithm=algorithm,
    settings=settings,
    held=held,
    step=step,
    place=place,
    sources=sources,
    latency=latency,
    record=complete_config(Config, config),
  )


def resolve_steps(
  config: Mapping, *, num_classes: int | None = None, devices: Sequence | None = None
) -> dict[str, Search]:
  """Builds all steps of a search by name, before the first begins; of one without steps, itself.

  The data is opened once at most: only the first has sources. Arguments and errors are those of
  `resolve`.
  """
  built, before = {}, []
  for name, step in list_steps(config).items():
    try:
      built[name] = resolve(step, num_classes=num_classes, devices=devices, before=before)
    except ValueError as error:
      raise ValueError(f'steps.{name}: {error}' if name else str(error)) from error
    before = [*before, built[name].config]
    num_classes = built[name].num_classes
  return built


def run(search: Search, folder: str, step: Callable | None = None) -> dict:
  """Searches from wherever the workdir stands.

  Args:
    search: what to run.
    folder: its workdir.
    step: of the search, spread over its devices; for searches that share one program.

  Returns:
    found.json; {} in all processes but the first.
  """
  cfg, home = search.config, Path(folder)
  check_owner(home, 'search')
  check_nothing_lost(home)
  if not count_steps(home / CHECKPOINTS):
    check_complete(cfg.search.get('latency'), search.latency)
  _warn_of_target(search)
  _warn_of_command(cfg)
  resumes = claim_together(home, search.claim, FREE)
  if resumes:
    inheritance.check_space(home / SPACE, search.space)
  if not jax.process_index():
    replace_file(home / SPACE, json.dumps(search.space.to_json()) + '\n')
  print(f'{"Resuming" if resumes else "Starting"} the search in {folder}')
  training.warn_of_data({'train': search.sources[0]}, {'train': cfg.clip})
  with (
    Writer(folder) as writer,  # first, for nobody else may be writing here
    Checkpointer(home / CHECKPOINTS, **dataclasses.asdict(cfg.checkpoints)) as saver,
  ):
    state, batches = _begin(search, saver)
    training.tell_classes(search.sources[0], cfg.loss, cfg.sampling)
    tried = samples.SampleWriter(
      home / 'samples', search.objective.cost, first=int(state.step), every=cfg.loop.log_every
    )
    with batches:
      state = run_loop(
        step or mesh.shard_step(search.step, search.place),
        state,
        batches,
        checkpointer=saver,
        writer=writer,
        meta={'labels': list(search.sources[0].labels), 'config': search.record},
        position=make_position(batches),
        on_step=tried.add,
        on_save=lambda number: _chart_policies(search, writer, tried.write(number)),
        **dataclasses.asdict(cfg.loop),
      )
  if jax.process_index():
    return {}
  return outcome.conclude(search, home, state)


def _begin(search: Search, saver: Checkpointer):
  """The state to go on from, and the batches that it has not seen."""
  cfg, latest, meta = search.config, saver.latest_step(), None
  if latest is None:
    state = search.make_state()
    if cfg.inherit:
      place = Path(cfg.inherit) / CHECKPOINTS
      inheritance.check_labels(place, search.sources[0].labels)
      state = state.replace(params=load_params(place, state.params))
  else:
    shapes = mesh.place_shapes(search.make_shapes(), search.place)
    state, meta = saver.restore(shapes)
    print(f'Restored step {latest}', file=sys.stderr)
    inheritance.check_held(saver.directory, state.held, search.held, search.space)
  make = functools.partial(
    data.make_batches,
    clip=cfg.clip,
    seed=cfg.seed,
    train=True,
    start=int(state.step),
    shard=(jax.process_index(), jax.process_count()),
    sampling=cfg.sampling,
    **dataclasses.asdict(cfg.loader),
  )
  weights, policy = search.sources
  batches = data.PairedBatches(
    make(weights, batch_size=cfg.batch_size), make(policy, batch_size=cfg.policy_batch_size)
  )
  if meta is not None:
    check_same_data(meta.get('position'), batches)
  return state, batches


def _chart_policies(search: Search, writer: Writer, policies):
  policy, names = search.make_policy(search.settings), report.name_choices(search.space)
  for step, probabilities in policies:
    writer.chart(step, policy.chart(probabilities, names))


def make_networks(config: Mapping):
  """The networks of a search's config, and the name of the type that they are computed in.

  Raises:
    ValueError: the parts of such networks are not timed.
  """
  cfg = schema.build(Config, config, '')
  networks = _make_space(cfg)
  if not hasattr(networks, 'make_bench'):
    raise ValueError(f'{type(networks).__name__} does not say which of its parts to time')
  return networks, cfg.supernet.get('dtype', 'float32')


def _make_space(cfg: Config):
  return schema.call(spaces.create, {'name': DEFAULT_SPACE, **cfg.space}, 'space')


def open_data(cfg: Config) -> data.Source:
  """The videos that a search learns from."""
  source = training.open_train(cfg.data)
  training.check_loss(cfg.loss, source)
  if source.multi_label:
    raise ValueError(
      'this data has several labels a video, which a search cannot score: search on data with '
      'one label, or use `movinet sweep` with --config.recipe.loss.name=sigmoid, '
      '--config.recipe.checkpoints.best_metric=mAP and --config.fitness="(\'mAP\',)"'
    )
  return source


def count_classes(cfg: Config) -> int | None:
  """N where the recipe says it, without its data."""
  return recipe.count_classes(cfg.train_with, {}, cfg.data)


def resize(config: Mapping, clips: int) -> dict:
  """A config with another number of clips a step, and of the policy's in proportion."""
  share = config['policy_batch_size'] / config['batch_size'] * clips / config['candidates']
  policy = config['candidates'] * max(1, round(share))
  resized = {**config, 'batch_size': clips, 'policy_batch_size': policy}
  own = ('batch_size', 'policy_batch_size')
  for name, step in (config.get('steps') or {}).items():
    left = {key: value for key, value in step.items() if key not in own}
    resized['steps'] = {**resized['steps'], name: left}
  return resized


def _check_shares(cfg: Config):
  for key in ('batch_size', 'policy_batch_size'):
    size = getattr(cfg, key)
    if size % cfg.candidates:
      raise ValueError(
        f'{key} is {size}, which {cfg.candidates} candidates cannot share: take a multiple'
      )


def _check_unevaluated(cfg: Config):
  """Raises a ValueError for options of evaluations, which a search does not run."""
  options = {
    'loop.eval_every': cfg.loop.eval_every,
    'checkpoints.best_metric': cfg.checkpoints.best_metric,
  }
  for key, given in options.items():
    if given:
      raise ValueError(f'{key} is {given!r}, but a search evaluates nothing: leave it out')


def list_steps(config: Mapping) -> dict[str, dict]:
  """Lists the configs of a search's steps by name, in their order; of one without steps, itself.

  Raises:
    ValueError: a step's name cannot be a folder's, or it changes what all steps have alike, or a
      section or key that there is not; names the nearest.
  """
  rest = {key: value for key, value in config.items() if key != 'steps'}
  steps = schema.build(Mapping[str, Mapping] | None, config.get('steps'), 'steps') or {}
  whole = {'searched': None, 'held': {}, **complete_config(Config, rest)}
  found = {}
  for name in sorted(steps, key=_find_order):
    if not re.fullmatch('[a-z][a-z0-9_]*', name) or name in _TAKEN:
      raise ValueError(
        f'steps has the name {name!r}; wanted a word of a-z, 0-9 and _, such as step1_sparse, but '
        f'none of {", ".join(_TAKEN)}: it becomes a folder of the workdir'
      )
    if 'inherit' in steps[name]:
      raise ValueError(f'steps.{name}.inherit is not a key: it inherits from the step before')
    if shared := [key for key in _SHARED if key in steps[name]]:
      raise ValueError(
        f'steps.{name}.{shared[0]} is not a key of a step: all steps have the same '
        f'{", ".join(_SHARED)}, for they share weights and what is held out of the data'
      )
    found[name] = merge_config({'inherit': None, **whole}, steps[name], name)
  return found or {'': rest}


def _find_order(name: str) -> list:
  """Sorts numbers inside of names as numbers: step2 before step10."""
  parts = re.split('([0-9]+)', name)
  return [(int(part), '') if part.isdecimal() else (-1, part) for part in parts]


def _make_settings(cfg: Config, networks, algorithm: type, given: Mapping) -> Mapping:
  for key, where in (('seed', 'seed'), ('total_steps', 'loop.total_steps')):
    if key in given:
      raise ValueError(f'search.{key} is not a key: {where} says it')
  ours = {'seed': cfg.seed, 'total_steps': cfg.loop.total_steps}
  return oneshot.make_settings(networks.space, algorithm, **given, **ours)


def _make_supernet(section: Mapping, networks, num_classes: int) -> oneshot.Supernet:
  section = dict(section)
  if 'dtype' in section:
    section['dtype'] = models.find_dtype(section['dtype'])
  make = oneshot.find_supernet(networks)
  return schema.call(make, section, 'supernet', space=networks, num_classes=num_classes)


def _warn_of_target(search: Search):
  """Says so where few random networks are near the target."""
  space, target, rng = search.space, search.target, np.random.default_rng(0)
  drawn = progressive.impose(search.held, rng.integers(space.sizes, size=(2000, len(space))))
  drawn = search.objective.cost.count(drawn)
  if abs(target - drawn.mean()) > 3 * drawn.std():
    print(
      f'Note: search.target is {target:g} {search.aim.cost}, where 2,000 random networks have '
      f'{drawn.mean():.3g} with a standard deviation of {drawn.std():.2g}: at first the '
      'search will rarely see networks of that cost',
      file=sys.stderr,
    )


def _warn_of_command(cfg: Config):
  """Says so now if the command that will train the result could not open its data."""
  try:
    wanted = recipe.load(cfg.train_with, {}, cfg.data)
    training.open_sources(schema.build(Splits, wanted['data'], 'data'))
  except (ValueError, OSError, data.SourceError) as error:
    print(
      f'Note: train_with={cfg.train_with} could not train on this data: {error}. Take '
      'a recipe for it, or say data.eval (which a search does not read)',
      file=sys.stderr,
    )
