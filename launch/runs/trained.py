"""Trained networks, ready to be used as they were trained, from wherever they lie.

Verbs take any of these as --checkpoint:

* the workdir of a training;
* the workdir of an ensemble's training, or a JSON file that names trained networks as members;
* an `.npz` that `movinet convert` wrote;
* a published checkpoint, of TensorFlow or PyTorch, with the name of its network.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import jax

from launch.runs import members, training, weights
from launch.runs.evaluation import PreciseNorm, make_recompute
from launch.runs.ownership import check_owner
from movinet_jax import convert, data, export, models, schema
from movinet_jax.data import labels as lists
from movinet_jax.models import ensemble
from movinet_jax.schema import Count, LocalPath, Natural
from movinet_jax.train import arrays, checkpoint, workdir
from movinet_jax.train.checkpoint import CheckpointOptions, count_steps
from movinet_jax.train.metrics import WORDS, find_direction
from movinet_jax.train.workdir import CHECKPOINTS, CONFIG

_BATCH_SIZE = 8  # videos at a time, where no config says it


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained network, and what is needed to use it as it was trained.

  Attributes:
    place: where it lies: what was named.
    name: 'movinet/a2-stream', or the family where the network has no name.
    model: the network.
    variables: its weights; of a training with `train.ema_decay` the averaged ones.
    labels: the name of each class.
    clip: what evaluations take of a video.
    multi_label: whether classes have probabilities of their own (a sigmoid's).
    step: of the checkpoint; None for a file of weights, and for an ensemble.
    config: of the training; of an ensemble that of its workdir, or its members' if they were
      evaluated on the same data. None without one.
    members: of an ensemble, by name.
    file: of an exported network, which holds its weights.
  """

  place: str
  name: str
  model: object
  variables: Mapping
  labels: tuple[str, ...]
  clip: data.EvalClip
  multi_label: bool = False
  step: int | None = None
  config: training.Config | None = None
  members: Mapping[str, 'Trained'] = dataclasses.field(default_factory=dict)
  file: export.Artifact | None = None

  @property
  def version(self) -> int | str | dict:
    """What tells these weights from others in the same place.

    The step of a checkpoint, SHA-256 of the weights of a file or of an exported file, and of an
    ensemble those of its members by name.
    """
    if self.file:
      return self.file.file.sha256
    if self.members and self.step is None:
      return {name: member.version for name, member in self.members.items()}
    return arrays.hash_arrays(self.variables) if self.step is None else self.step

  @property
  def loader(self) -> data.LoaderOptions:
    return self.config.loader if self.config else data.LoaderOptions()

  @property
  def eval_batch_size(self) -> int:
    return self.config.eval_batch_size if self.config else _BATCH_SIZE

  @property
  def eval_section(self) -> Mapping | None:
    """The data that its training evaluated on; None if it named none."""
    return self.config.data.eval if self.config else None

  @property
  def about(self) -> convert.About:
    """What files of these weights say of them."""
    return convert.About(
      **convert.describe_network(self.model),
      name=self.name,
      labels=self.labels,
      preprocessing=dataclasses.asdict(self.clip),
      multi_label=self.multi_label,
    )

  def complete(self) -> Mapping:
    """The variables with the batch statistics that the training wants, recomputed if need be.

    Checkpoints that training evaluated hold them already.

    Raises:
      SourceError: they have to be recomputed, and the training data is not to be had.
    """
    if self.members:
      return ensemble.join([member.complete() for member in self.members.values()])
    cfg = self.config
    if cfg is None or not cfg.precise_norm:
      return self.variables
    if checkpoint.has_statistics(Path(self.place) / CHECKPOINTS, self.step):
      return self.variables
    try:
      source = self.open_eval(cfg.data.train)
    except (data.SourceError, FileNotFoundError) as error:
      raise data.SourceError(
        f'step {self.step} of {self.place} was never evaluated, so its batch statistics '
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
    classes = self.config.data.classes if self.config else None
    return training.open_eval(section, self.labels, classes, multi_label=self.multi_label)


def load_trained(
  path: str,
  which: str = 'latest',
  *,
  network: str | None = None,
  labels: str | None = None,
  multi_label: bool = False,
) -> Trained:
  """Loads a trained network from any of the places above.

  Args:
    path: of the place.
    which: of a training's checkpoints 'latest', 'best' or a step. Best is what the metric itself
      says, also in a run of an earlier version that kept the highest loss as its best.
    network: 'family/variant' or an architecture file; for files that do not say it themselves.
    labels: a file with the name of each class, or a list of `data.labels`; for files that do not
      name them.
    multi_label: whether classes have probabilities of their own; for files that do not say it.

  Raises:
    FileNotFoundError: there is nothing there, or no checkpoint in it.
    ValueError: it is no trained network, its checkpoint is not of its config, or what it lacks
      was not given; says how to give it.
  """
  given = {'network': network, 'labels': labels, 'multi_label': multi_label}
  if is_file(path):
    if which != 'latest':
      raise ValueError(f'--which={which} is for the workdir of a training, and {path} is a file')
    if Path(path).suffix == '.json':
      _refuse(path, 'each member says that', **given)
      return _load_listed(path)
    return _load_file(path, **given)
  if not Path(path).exists():
    raise FileNotFoundError(
      f'there is no {path}: wanted the workdir of a training, an .npz of `movinet convert`, the '
      "JSON file of an ensemble, or a published checkpoint (a TensorFlow checkpoint's prefix, a "
      'PyTorch state dict)'
    )
  _refuse(path, 'a workdir says that itself', **given)
  config = _read_config(path)
  if config.members:
    return _load_members(path, which, config)
  return _load_run(path, which, config)


def load_exported(path: str, threads: int | None = None) -> Trained:
  """A file of `movinet export`, in its own runtime.

  Args:
    threads: of the runtime; by default its own choice.

  Raises:
    FileNotFoundError, ValueError: as `export.read`.
    ExportError: its runtime is not installed; says how to.
  """
  found = export.read(path)
  manifest = found.manifest
  return Trained(
    place=str(found.path),
    name=found.name,
    model=export.Network(found, threads),
    variables={},
    labels=found.labels,
    clip=schema.call(data.EvalClip, manifest.preprocessing, 'preprocessing'),
    multi_label=manifest.probabilities == 'sigmoid',
    file=found,
  )


def load_given(arguments) -> Trained:
  """The network that a command line names by `launch.arguments.add_trained`."""
  given = {'network': arguments.network, 'labels': arguments.labels}
  given['multi_label'] = arguments.multi_label
  exported = getattr(arguments, 'model', None)
  if exported and arguments.which != 'latest':
    raise ValueError(f'--which={arguments.which} is for workdirs, and --model={exported} is a file')
  if exported:
    _refuse(exported, 'model.json beside it says that', **given)
    return load_exported(exported, arguments.threads)
  if getattr(arguments, 'threads', None):
    raise ValueError(f'--threads={arguments.threads} is for --model: say --model=FILE')
  return load_trained(arguments.checkpoint, arguments.which, **given)


def is_file(path: str) -> bool:
  """Whether it is a file, or a TensorFlow checkpoint by its prefix or folder."""
  place = Path(path)
  if place.is_dir():
    return not (place / CONFIG).exists() and any(place.glob('*.index'))
  return convert.exists(path)


def _is_ensemble(place: Path) -> bool:
  return (place / CONFIG).exists() and bool(_read_config(str(place)).members)


def _refuse(path: str, why: str, **options: str | bool | None):
  for key, value in options.items():
    if value:
      flag = f'--{key.replace("_", "-")}' + ('' if value is True else f'={value}')
      raise ValueError(f'{flag} is for files of weights, not for {path}: {why}')


def _load_file(path: str, **given) -> Trained:
  found = weights.read_weights(path, **given)
  weights.check_complete(found, path)
  trained = Trained(
    place=path,
    name=found.name,
    model=found.model,
    variables=found.variables,
    labels=found.about.labels,
    clip=found.clip,
    multi_label=found.about.multi_label,
  )
  if models.name_family(found.model) != 'ensemble':
    return trained
  return dataclasses.replace(trained, members=_split(trained))


def _split(whole: Trained) -> dict[str, Trained]:
  """The members of an ensemble that is in one file, each with what it sees as its clip."""
  found = {}
  for number, part in enumerate(whole.model.spec.members):
    name = f'member{number}'
    found[name] = dataclasses.replace(
      whole,
      name=part.family,
      model=models.create(part.family, whole.model.num_classes, spec=part.spec),
      variables={kind: tree[name] for kind, tree in whole.variables.items() if name in tree},
      clip=members.find_own_clip(whole.clip, part),
    )
  return found


def _load_run(path: str, which: str, config: training.Config) -> Trained:
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
    place=path,
    name=config.model['name'],
    model=model,
    variables=variables,
    labels=tuple(meta['labels']),
    clip=schema.call(data.EvalClip, meta['preprocessing'], 'preprocessing'),
    multi_label=training.is_multi_label(config.loss),
    step=meta['step'],
    config=config,
  )


@dataclasses.dataclass(frozen=True)
class Part:
  """A member in a file of an ensemble: a trained network, and which frames it sees."""

  checkpoint: LocalPath
  stride: Count = 1
  offset: Natural = 0
  which: str | Natural = 'latest'
  network: str = ''
  labels: str = ''
  multi_label: bool = False

  def load(self, home: Path) -> Trained:
    """The network.

    Args:
      home: the folder that paths begin in.

    Raises:
      ValueError: it is an ensemble; or as `load_trained`.
    """
    place = home / self.checkpoint
    if place.suffix == '.json' or _is_ensemble(place):
      raise ValueError(
        f'{place} is an ensemble, and a member is a network: name the networks of that ensemble'
      )
    network, labels = self.network, self.labels
    if network.endswith('.json'):
      network = str(home / network)
    if labels and labels not in lists.list_names():
      labels = str(home / labels)
    given = {'network': network, 'labels': labels, 'multi_label': self.multi_label}
    return load_trained(str(place), str(self.which), **given)


@dataclasses.dataclass(frozen=True)
class Listed:
  """The contents of a file of an ensemble.

  Attributes:
    members: trained networks.
    clip: arguments of data.EvalClip, the video that the ensemble sees; by default what the
      members see together.
  """

  members: Annotated[tuple[Part, ...], schema.SOME]
  clip: Mapping | None = None


def _load_listed(path: str) -> Trained:
  """An ensemble of the networks that a JSON file names, by paths from where it lies."""
  try:
    listed = schema.build(Listed, json.loads(Path(path).read_text()), '')
  except ValueError as error:
    raise ValueError(
      f'{path} is no file of an ensemble: {error}; wanted JSON of the form {{"members": '
      '[{"checkpoint": "runs/even", "stride": 2}, {"checkpoint": "runs/odd", "stride": 2, '
      '"offset": 1}]}'
    ) from error
  home, parts, found = Path(path).parent, [], {}
  for number, part in enumerate(listed.members):
    found[f'member{number}'] = part.load(home)
    parts.append(members.Member(part.stride, part.offset))
  if listed.clip:
    clip = schema.call(data.EvalClip, listed.clip, 'clip')
  else:
    clip = members.find_clip([member.clip for member in found.values()], parts)
  joined = _join(path, found, parts, clip)
  configs = [member.config for member in found.values()]
  if None in configs or any(one.data != configs[0].data for one in configs):
    return joined
  return dataclasses.replace(joined, config=configs[0])


def _load_members(path: str, which: str, config: training.Config) -> Trained:
  """The ensemble of a workdir."""
  own, found = members.list_members(config.members), {}
  for name in own:
    place = Path(path) / name
    if not count_steps(place / CHECKPOINTS):
      raise FileNotFoundError(
        f'{name} of the ensemble in {path} is not trained yet: give the command that began it '
        f'again, with --member={name.removeprefix("member")} to train this member alone'
      )
    found[name] = load_trained(str(place), which)
  _tell_unfinished(path, found)
  joined = _join(path, found, list(own.values()), config.clip.eval)
  return dataclasses.replace(joined, config=config)


def _tell_unfinished(path: str, found: Mapping[str, Trained]):
  """Says which members have not had all their steps, which nothing else would show."""
  for name, member in found.items():
    wanted = member.config.loop.total_steps
    if max(count_steps(Path(member.place) / CHECKPOINTS)) < wanted:
      print(
        f'Note: {name} of {path} is at step {member.step} of {wanted:,}: its training has not '
        'ended',
        file=sys.stderr,
      )


def _join(
  path: str, found: Mapping[str, Trained], parts: Sequence[members.Member], clip: data.EvalClip
) -> Trained:
  """One network of several."""
  first, *_ = found.values()
  for name, other in list(found.items())[1:]:
    if difference := _compare_classes(first, other):
      raise ValueError(
        f'{name} of {path} ({other.place}) has {difference} member0 ({first.place}): wanted '
        'networks of the same classes in the same order'
      )
  networks = [member.model for member in found.values()]
  model = members.make_model(networks, parts, [member.clip for member in found.values()], clip)
  return Trained(
    place=path,
    name=models.find_name(model),
    model=model,
    variables=ensemble.join([member.variables for member in found.values()]),
    labels=first.labels,
    clip=clip,
    multi_label=first.multi_label,
    members=found,
  )


def _compare_classes(first: Trained, other: Trained) -> str:
  """How the classes of two networks differ; '' if they do not."""
  if len(other.labels) != len(first.labels):
    return f'{len(other.labels)} classes and not the {len(first.labels)} of'
  for number, (one, two) in enumerate(zip(first.labels, other.labels, strict=True)):
    if one != two:
      return f'{two!r} as class {number} and not {one!r} as'
  if other.multi_label != first.multi_label:
    kinds = ('one label a video', 'several labels a video')
    return f'{kinds[other.multi_label]} and not {kinds[first.multi_label]} as'
  return ''


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
