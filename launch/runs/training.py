"""Training: a config resolved into built objects, and the run of them."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from launch.config import complete_config
from launch.runs import members
from launch.runs.evaluation import PreciseNorm, make_evaluate, make_recompute
from launch.runs.ownership import check_owner
from launch.runs.weights import read_initial
from movinet_jax import convert, data, models, schema
from movinet_jax.data import pictures
from movinet_jax.data.source import list_labels
from movinet_jax.data.spelling import spell_label
from movinet_jax.names import check_name
from movinet_jax.schema import Count, LocalPath, Seed
from movinet_jax.spec import to_json
from movinet_jax.train import evaluation, losses, mesh, optimizers, state, steps
from movinet_jax.train.checkpoint import (
  Checkpointer,
  CheckpointOptions,
  count_steps,
  load_variables,
)
from movinet_jax.train.loop import LoopOptions
from movinet_jax.train.loop import run as run_loop
from movinet_jax.train.mesh import MeshOptions
from movinet_jax.train.metrics import choose_mode
from movinet_jax.train.position import check_same_data, make_position
from movinet_jax.train.workdir import CHECKPOINTS, claim_together
from movinet_jax.train.writers import Writer, check_nothing_lost

# What may change when a run goes on: how fast it runs, what it tells, and where its data
# has moved to. That it still is the same data, the checkpoint knows.
FREE = (
  *('loader.workers', 'loader.threads', 'loader.max_failed_share'),
  *('eval_batch_size', 'model.remat', 'mesh.time', 'mesh.space'),
  *('loop.log_every', 'loop.eval_every', 'loop.save_every'),
  *('checkpoints.keep', 'checkpoints.best_mode'),
  *(f'data.{split}.{key}' for split in ('train', 'eval') for key in ('root', 'path', 'directory')),
)


@dataclasses.dataclass(frozen=True)
class Splits:
  """What is read of a dataset.

  Attributes:
    train, eval: arguments of data.open_source for each split.
    classes: the classes that are taken of both; None or {} for all.
  """

  train: Mapping
  eval: Mapping | None = None
  classes: data.Classes | None = None


@dataclasses.dataclass(frozen=True)
class Clips:
  """The clips that are taken of a video, to train on and to evaluate."""

  train: data.TrainClip
  eval: data.EvalClip


@dataclasses.dataclass(frozen=True)
class Config:
  """The contents of a training config: each section is the arguments of one callable.

  Attributes:
    seed: of initial weights, order of videos, augmentation and dropout.
    batch_size: clips an update over all devices.
    eval_batch_size: videos at a time.
    model: models.create.
    data, clip, loader: what is read, and how.
    optimizer: optimizers.make_optimizer.
    loss: losses.make_loss, with weights of classes where it has them.
    sampling: how often each class is drawn; None has each video once an epoch.
    loop, checkpoints: how long, and what is due when.
    init: what to begin with: '' for random weights, a workdir, a file of weights.
    train: steps.make_train_step.
    mesh: mesh.make_mesh.
    precise_norm: PreciseNorm; {} or None keeps the moving averages.
    members: of an ensemble, whose config this is; see launch.runs.members.
  """

  seed: Seed
  batch_size: Count
  eval_batch_size: Count
  model: Mapping
  data: Splits
  clip: Clips
  loader: data.LoaderOptions
  optimizer: Mapping
  loss: Mapping
  loop: LoopOptions
  init: LocalPath | None = ''
  train: Mapping = dataclasses.field(default_factory=dict)
  checkpoints: CheckpointOptions = dataclasses.field(default_factory=CheckpointOptions)
  mesh: MeshOptions | None = None
  precise_norm: Mapping | None = None
  sampling: data.Sampling | None = None
  members: Mapping | None = None


@dataclasses.dataclass(frozen=True)
class Training:
  """A training run, built and checked. Nothing is decoded, compiled or written yet.

  Attributes:
    config: what was resolved.
    model: the network.
    tx: the optimizer.
    step: of training, for the loop, spread over the mesh.
    place: the mesh of devices.
    sources: by split; {} where only the number of classes was given.
    norm: of evaluations; None keeps the moving averages.
    record: what config.json and every checkpoint keep of the config.
  """

  config: Config
  model: object
  tx: object
  step: Callable
  place: object
  sources: Mapping[str, data.Source]
  norm: PreciseNorm | None
  record: Mapping

  @property
  def labels(self) -> tuple[str, ...]:
    return self.sources['train'].labels

  @property
  def num_classes(self) -> int:
    return self.model.num_classes

  @property
  def multi_label(self) -> bool:
    return is_multi_label(self.config.loss)

  @property
  def clip(self) -> data.TrainClip:
    return self.config.clip.train

  @property
  def batch_sizes(self) -> tuple[int, ...]:
    """Clips an update."""
    return (self.config.batch_size,)

  @property
  def unit(self) -> int:
    """Devices and micro-batches share multiples of this many clips evenly."""
    return self.place.shape['data'] * self.config.train.get('accumulate', 1)

  def make_state(self, variables):
    return state.make_state(variables, self.tx)

  def make_shapes(self):
    """The state of the run as shapes: nothing is computed."""
    return jax.eval_shape(lambda: self.make_state(load_initial(self.model, 0)))

  def describe(self) -> dict:
    """JSON that every checkpoint holds, so that it can be used without the config file."""
    return {
      'labels': list(self.labels),
      'model': self.config.model,
      'preprocessing': dataclasses.asdict(self.config.clip.eval),
      'config': self.record,
    }


def resolve(
  config: Mapping,
  *,
  sources: Mapping[str, data.Source] | None = None,
  num_classes: int | None = None,
  devices: Sequence | None = None,
) -> Training:
  """Builds a training run from its config.

  Args:
    config: what a config file gives; of an ensemble, that of a member: see `list_configs`.
    sources: train and eval, in place of those that the config names.
    num_classes: N, in place of any data: nothing is opened.
    devices: to train on; by default all there are.

  Raises:
    ValueError: the config does not fit itself, the data or the devices.
    SourceError: there is no such data.
  """
  cfg = schema.build(Config, config, '')
  if cfg.members:
    names = ', '.join(list_configs(config))
    raise ValueError(f'the config is of an ensemble ({names}); wanted that of one network')
  if num_classes is None:
    sources = sources or open_sources(cfg.data)
    check_loss(cfg.loss, sources['train'])
    num_classes = len(sources['train'].labels)
    config = name_classes(config, sources['train'].labels)
  if cfg.data.classes:  # `model.num_classes` is then of the whole dataset
    config = {**config, 'model': {**config['model'], 'num_classes': num_classes}}
  cfg = schema.build(Config, config, '')
  place = mesh.make_mesh(devices, **vars(cfg.mesh or MeshOptions()))
  mesh.check_share(cfg.batch_size, place)
  mesh.check_clip(place, frames=cfg.clip.train.frames, rows=cfg.clip.train.size)
  model = make_model(cfg.model, num_classes)
  given = {'batch_size': cfg.batch_size, 'total_steps': cfg.loop.total_steps}
  tx = schema.call(optimizers.make_optimizer, cfg.optimizer, 'optimizer', **given)
  loss = make_loss(cfg.loss, (sources or {}).get('train'))
  given = {'model': model, 'tx': tx, 'loss': loss, 'seed': cfg.seed}
  step = schema.call(steps.make_train_step, cfg.train, 'train', **given)
  norm = _make_norm(cfg)
  _check_evaluation(cfg, num_classes)
  return Training(
    config=cfg,
    model=model,
    tx=tx,
    step=mesh.spread_step(step, place),
    place=place,
    sources=sources or {},
    norm=norm,
    record=_make_record(cfg, config),
  )


def list_configs(config: Mapping) -> dict[str, Mapping]:
  """The configs of an ensemble's members by name, in their order; of one network, itself.

  Raises:
    ValueError: the members are not as launch.runs.members has them.
  """
  return members.list_configs(config) or {'': config}


def _make_record(cfg: Config, config: Mapping) -> dict:
  """What a workdir keeps of a config. A default of `sampling` is the same, said or not."""
  said = {'sampling': dataclasses.asdict(cfg.sampling)} if cfg.sampling else {}
  return complete_config(Config, {**config, **said})


def run(
  training: Training,
  folder: str,
  *,
  watch: Callable[[int, Mapping], None] | None = None,
  tell: bool = True,
):
  """Trains from wherever the workdir stands.

  Args:
    folder: the workdir.
    watch: called with step and metrics after each evaluation; what it raises ends the
      run, whose state is saved.
    tell: whether to print how many videos each class has.

  Returns:
    The final TrainState.
  """
  cfg = training.config
  check_owner(folder, 'train')
  check_nothing_lost(folder)
  check_memory(training)
  initial = None  # read before anything is written
  if not count_steps(Path(folder) / CHECKPOINTS):
    initial = load_initial(training.model, cfg.seed, cfg.init, training.labels)
  resumes = claim_together(folder, training.record, FREE)
  print(f'{"Resuming" if resumes else "Starting"} {cfg.model["name"]} in {folder}')
  warn_of_data(training.sources, vars(cfg.clip))
  _warn_of_best(training)
  with (
    Writer(folder) as writer,  # first, for nobody else may be writing here
    Checkpointer(Path(folder) / CHECKPOINTS, **dataclasses.asdict(cfg.checkpoints)) as saver,
  ):
    current, batches = _begin(training, saver, initial)
    if tell:
      tell_classes(training.sources['train'], cfg.loss, cfg.sampling)
    if int(current.step) == cfg.loop.total_steps:
      print(f'All {cfg.loop.total_steps} steps of {folder} are done.')
    with batches:
      return run_loop(
        mesh.shard_step(training.step, training.place),
        current,
        batches,
        checkpointer=saver,
        writer=writer,
        evaluate=_make_evaluate(training, saver, watch),
        meta=training.describe(),
        position=make_position(batches),
        **dataclasses.asdict(cfg.loop),
      )


def _begin(training: Training, saver: Checkpointer, initial):
  """The state to go on from, and the batches that it has not seen."""
  cfg, latest, meta = training.config, saver.latest_step(), None
  if latest is None:
    current = training.make_state(initial)
  else:
    current, meta = saver.restore(mesh.place_shapes(training.make_shapes(), training.place))
    print(f'Restored step {latest}', file=sys.stderr)
  batches = data.make_batches(
    training.sources['train'],
    cfg.clip.train,
    batch_size=cfg.batch_size,
    seed=cfg.seed,
    train=True,
    start=int(current.step),
    shard=(jax.process_index(), jax.process_count()),
    sampling=cfg.sampling,
    **dataclasses.asdict(cfg.loader),
  )
  if meta is not None:
    check_same_data(meta.get('position'), batches)
  return current, batches


def _make_evaluate(training: Training, saver: Checkpointer, watch):
  """state -> metrics of its averaged weights on the evaluation split."""
  if 'eval' not in training.sources:
    return None
  cfg, model, source = training.config, training.model, training.sources['train']
  options = cfg.clip.eval, cfg.loader, cfg.eval_batch_size
  evaluate_split = make_evaluate(model, training.sources['eval'], *options)
  recompute = None
  if training.norm:
    recompute = make_recompute(
      training.norm, model, source, cfg.clip.train, cfg.loader, cfg.seed, cfg.sampling
    )

  def evaluate(current):
    variables, step = current.ema, int(current.step)
    if recompute is not None:
      variables = recompute(variables)
      saver.add_statistics(step, variables['batch_stats'])
    result, _ = evaluate_split(variables)
    metrics = {**result.metrics, 'missing': result.missing}
    if watch is not None:
      watch(step, metrics)
    return metrics

  return evaluate


def check_memory(training: Training):
  """Raises an error if the loader's workers would find too little shared memory."""
  cfg = training.config
  data.check_shared_memory(
    training.sources['train'],
    cfg.clip.train,
    batch_size=cfg.batch_size,
    train=True,
    workers=cfg.loader.workers,
    shard=(jax.process_index(), jax.process_count()),
  )


def _warn_of_best(training: Training):
  best = training.config.checkpoints.best_metric
  if best and 'eval' not in training.sources and not jax.process_index():
    print(
      f'Note: without data.eval nothing computes checkpoints.best_metric={best}: the latest '
      'checkpoints are kept, and none of them is best',
      file=sys.stderr,
    )


def warn_of_data(sources: Mapping[str, data.Source], clips: Mapping[str, data.Clip]):
  """Says what a person should know of the data, such as pictures smaller than their clips."""
  if not jax.process_index():
    for note in pictures.find_notes(sources, clips):
      print(f'Note: {note}', file=sys.stderr)


def read(config: Mapping) -> Config:
  """Reads a config, and checks it as far as that goes without building anything."""
  return schema.build(Config, config, '')


def open_data(cfg: Config) -> data.Source:
  """The videos that are trained on."""
  source = open_train(cfg.data)
  check_loss(cfg.loss, source)
  return source


def count_classes(cfg: Config) -> int | None:
  """N where the config itself says it, without its data."""
  return len(cfg.data.classes or ()) or cfg.model.get('num_classes')


def resize(config: Mapping, clips: int) -> dict:
  """A config with another number of clips an update."""
  return {**config, 'batch_size': clips}


def open_sources(splits: Splits) -> dict[str, data.Source]:
  """The data of each split; evaluation uses the label map of training, and its number of labels."""
  train = open_train(splits)
  sources = {'train': train}
  if splits.eval is not None:
    several = train.multi_label
    sources['eval'] = open_eval(splits.eval, train.labels, splits.classes, multi_label=several)
  return sources


def open_train(splits: Splits) -> data.Source:
  """The training split, with the classes that are taken of it.

  Raises:
    SourceError: there is no such data, or no video of it has a label.
  """
  source = open_split(splits.train, 'train')
  # Without a list, to find out would read every video.
  if source.multi_label and data.is_listed(source.records) and not any(list_labels(source.records)):
    raise data.SourceError(
      f'none of {len(source):,} training videos has a label, so there is nothing to learn: wanted '
      'a label of one of them at least'
    )
  if not splits.classes:
    return source
  return data.take_classes(source, splits.classes.choose(source.labels))


def open_eval(
  section: Mapping,
  labels: Sequence[str],
  classes: data.Classes | None = None,
  *,
  multi_label: bool = False,
) -> data.Source:
  """A split with the label map of a trained network, unless the section gives its own.

  Args:
    section: arguments of data.open_source.
    labels: the label map.
    classes: of the network's config. Where it took some of the classes only, videos of the
      others are left out; otherwise they are an error.
    multi_label: whether the network was trained on videos with several labels. Then those of
      this split are read so, too, although each may happen to have one.

  Raises:
    SourceError: there is no such data, or a network with one label a video cannot be evaluated
      on it; names the first such video.
  """
  if multi_label and section.get('multi_label') is None:
    section = {**section, 'multi_label': True}
  source = open_split(section if classes else {'labels': labels, **section}, 'eval')
  _check_labels(source, multi_label, section)
  return data.take_classes(source, labels) if classes else source


def _check_labels(source: data.Source, multi_label: bool, section: Mapping):
  """Raises a SourceError for a split whose videos have another number of labels than training's."""
  if source.multi_label == multi_label:
    return
  if multi_label:
    raise data.SourceError(
      f'data.eval has multi_label={section["multi_label"]}, but videos of training have several '
      'labels: leave it out'
    )
  for number, label in enumerate(list_labels(source.records)):
    if len(label) != 1:
      names = ', '.join(repr(source.labels[held]) for held in label)
      raise data.SourceError(
        f'videos of training have one label, but {source.records[number].name!r} of data.eval has '
        f'{names or "none"}: give it one, or train on several (loss.name=sigmoid, '
        'data.train.multi_label=True)'
      )
  raise data.SourceError(
    'data.eval has multi_label=True, but videos of training have one label: leave it out'
  )


def name_classes(config: Mapping, labels: Sequence[str]) -> dict:
  """A run's config with the names of its classes in place of a draw.

  The names are kept with the run, which never has to draw again. A config that takes all
  classes stays as it is.
  """
  if not schema.build(Splits, config['data'], 'data').classes:
    return dict(config)
  return {**config, 'data': {**config['data'], 'classes': {'names': tuple(labels)}}}


def open_split(section: Mapping, split: str) -> data.Source:
  """A section of `data` opened."""
  return schema.call(data.open_source, section, f'data.{split}')


def make_model(section: Mapping, num_classes: int):
  """The network of a `model` section, for this many classes.

  Raises:
    ValueError: the section is of another number of classes, or does not fit a network.
  """
  section = dict(section)
  wanted = section.pop('num_classes', num_classes)
  if wanted != num_classes:
    raise ValueError(
      f'the config says {wanted} classes, the data has {num_classes}: is it the '
      'dataset that this config is for?'
    )
  return schema.call(models.create, section, 'model', num_classes=num_classes)


def replace_network(config: Mapping, path: str) -> dict:
  """A config whose network is that of an architecture file, with the model's other options.

  Of an ensemble it is the network of all members.

  Raises:
    ValueError: members have networks of their own, or the file is none of an architecture.
  """
  family, spec = models.read_spec(path)
  for name, member in (config.get('members') or {}).items():
    if own := dict((member.get('config') or {}).get('model') or {}):
      raise ValueError(
        f'--spec={path} is the network of all members, and {name} has its own ({own}): train that '
        'network in a config of its own'
      )
  return {**config, 'model': name_network(config['model'], family, spec)}


def name_network(section: Mapping, family: str, spec) -> dict:
  """A `model` section with another network, and the model's other options."""
  return {**section, 'name': family, 'spec': to_json(spec)}


def load_initial(model, seed: int, path: str | None = '', labels: Sequence[str] | None = None):
  """Variables to begin with: random, of another run's workdir, or published weights.

  Args:
    labels: the classes of the network. Its classifier keeps what it has learned of those that
      the other network knows by the same name.
  """
  if not path:
    return models.init(model, jax.random.key(seed), (1, 1, 32, 32, 3))
  check_initial(path)
  if (Path(path) / CHECKPOINTS).is_dir():
    variables, meta = load_variables(Path(path) / CHECKPOINTS)
    old = meta.get('labels')
  else:
    try:
      variables, old = read_initial(path, model, seed)
    except FileNotFoundError as error:
      raise FileNotFoundError(f'init: {path} is no workdir of a training, and {error}') from error
  relabeling = None
  if labels and old:
    # Earlier versions kept labels as they were typed, in any of Unicode's normal forms.
    relabeling = convert.Relabeling(*(tuple(map(spell_label, names)) for names in (old, labels)))
  variables, report = convert.fit(variables, model, seed=seed, relabeling=relabeling)
  note = f'\n{relabeling.describe()}' if relabeling else ''
  print(f'Beginning with {path}\n{report}{note}')
  return variables


def check_initial(path: str | None):
  """Checks weights to begin with, before anything slow.

  Raises:
    FileNotFoundError: they are not there.
    ValueError: they are of several networks.
  """
  if path and (Path(path) / 'member0').is_dir():
    raise ValueError(f'init: {path} is the workdir of an ensemble: name a member, {path}/member0')
  if path and not convert.exists(path):
    raise FileNotFoundError(
      f'init: there is no {path}; wanted the workdir of a run, or a file of weights'
    )


def is_multi_label(loss: Mapping) -> bool:
  """Tells whether a `loss` section is for videos with several labels."""
  return loss.get('name') == 'sigmoid'


def check_loss(loss: Mapping, source: data.Source):
  """Raises a ValueError for a loss of videos with another number of labels."""
  if is_multi_label(loss) != source.multi_label:
    several, wanted = (
      ('several labels', 'sigmoid') if source.multi_label else ('one label', 'softmax')
    )
    more = (
      '' if source.multi_label else ' (or say data.train.multi_label=True if they may have several)'
    )
    raise ValueError(
      f'videos of this data have {several}, for which loss.name is {wanted!r}; got '
      f'{loss.get("name", "softmax")!r}{more}'
    )


def make_loss(section: Mapping, source: data.Source | None):
  """The loss of a `loss` section.

  Args:
    source: the training videos, which are counted where weights of classes depend on their
      number. Without them weights are left out: the step is to be compiled, and not run.
  """
  if source is None:
    section = {key: value for key, value in section.items() if key not in ('class_weights', 'beta')}
    return schema.call(losses.make_loss, section, 'loss')
  labels = tuple(map(spell_label, source.labels))
  given = {'labels': labels, 'counts': None, 'videos': len(source)}
  weights = section.get('class_weights')
  if isinstance(weights, str):
    given['counts'] = data.count_videos(source)
  if isinstance(weights, Mapping):
    section = {**section, 'class_weights': _spell_keys(weights)}
  return schema.call(losses.make_loss, section, 'loss', **given)


def _spell_keys(weights: Mapping) -> dict:
  """Weights of classes by the names that labels have."""
  spelled = {spell_label(key): value for key, value in weights.items()}
  if len(spelled) < len(weights):
    keys = [spell_label(key) for key in weights]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ValueError(f'loss.class_weights names {twice!r} twice: name each class once')
  return spelled


def tell_classes(
  source: data.Source, loss: Mapping, sampling: data.Sampling | None, place: str = 'config'
):
  """Prints how many videos each class has, and notes on what hinders learning.

  Args:
    place: of the sections `loss` and `sampling`, as a command line says it.
  """
  if jax.process_index():
    return
  if not data.is_listed(source.records):
    print(
      'Note: the videos of each class are not counted, because this dataset was built before '
      'labels were listed: run its `movinet build-data` command again',
      file=sys.stderr,
    )
    return
  counts = tuple(data.count_videos(source).tolist())
  balance = data.Balance(source.labels, counts, len(source) if source.multi_label else None)
  print(f'{len(source):,} training videos: {balance.describe()}', file=sys.stderr)
  draws = sampling is not None and sampling.power > 0
  for note in balance.list_notes(_weighs_classes(loss, source), draws, place):
    print(f'Note: {note}', file=sys.stderr)


def _weighs_classes(loss: Mapping, source: data.Source) -> bool:
  """Whether the loss counts classes differently."""
  if isinstance(loss.get('class_weights'), str):
    return loss.get('beta') != 0  # of which all weigh the same
  weights = make_loss(loss, source).keywords['weights']
  return weights is not None and len(set(weights)) > 1


def _check_evaluation(cfg: Config, num_classes: int):
  """Finds before the first step what would only fail at the first evaluation.

  Raises:
    ValueError: checkpoints.best_metric is none of an evaluation's or has no best value, or
      checkpoints.best_mode is not its direction.
  """
  best = cfg.checkpoints.best_metric
  if not best:
    return
  known = evaluation.list_metrics(num_classes, is_multi_label(cfg.loss))
  check_name(best, [*known, 'missing'], 'checkpoints.best_metric')
  choose_mode(best, cfg.checkpoints.best_mode)


def _make_norm(cfg: Config) -> PreciseNorm | None:
  """Makes the options of recomputed statistics; None where the moving averages are kept.

  Raises:
    ValueError: nothing is ever evaluated, devices or groups do not divide its batches, or
      the run is to keep the statistics that it was given.
  """
  if not cfg.precise_norm:
    return None
  norm = schema.call(PreciseNorm, cfg.precise_norm, 'precise_norm')
  divisors = {'devices': jax.device_count(), 'model.norm_group': cfg.model.get('norm_group') or 1}
  for name, divisor in divisors.items():
    if norm.batch_size % divisor:
      raise ValueError(
        f'precise_norm.batch_size is {norm.batch_size}, which {name} ({divisor}) does not divide'
      )
  if cfg.data.eval is None:
    raise ValueError(
      'precise_norm recomputes statistics for evaluations, and there is no data.eval'
    )
  if (freeze := cfg.train.get('freeze', 'none')) != 'none':
    raise ValueError(
      f'train.freeze={freeze!r} keeps the batch statistics, which precise_norm would '
      'replace: leave out one of them'
    )
  return norm
