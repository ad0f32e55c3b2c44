"""Files of weights, and which network they are of: what is not in a file is found or asked for."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from movinet_jax import convert, data, models, published, schema
from movinet_jax.convert import About, ConversionError, Report
from movinet_jax.data import labels as lists
from movinet_jax.data import source as sources
from movinet_jax.names import check_name
from movinet_jax.train.workdir import CONFIG


@dataclasses.dataclass(frozen=True)
class Weights:
  """A network from a file.

  Attributes:
    name: 'movinet/a2-stream', or the family where the network has no name.
    model: the network.
    variables: its weights.
    report: what became of every array of the file.
    about: what an archive of it would say.
    fields: of the architecture, those in which the file's names tell another form of it.
  """

  name: str
  model: object
  variables: Mapping
  report: Report
  about: About
  fields: Mapping = dataclasses.field(default_factory=dict)

  @property
  def clip(self) -> data.EvalClip:
    """What it sees of a video; where the file does not say it, the native input."""
    if self.about.preprocessing is None:
      return _find_clip(self.model, self.name)
    return schema.call(data.EvalClip, self.about.preprocessing, 'preprocessing')


def read_weights(
  path: str,
  network: str | None = None,
  labels: str | None = None,
  *,
  num_classes: int | None = None,
  multi_label: bool = False,
  options: Mapping = {},
  partial: bool = False,
) -> Weights:
  """Reads a network from a file of weights.

  Args:
    path: an archive (`.npz`), a TensorFlow checkpoint's prefix or folder, or a PyTorch state dict.
    network: 'family/variant' or an architecture file; for files that do not say it themselves.
    labels: a file with the name of each class, a name a line; None takes those of the archive
      or of the data set that the network is published for.
    num_classes: N; by default what the file holds.
    multi_label: whether classes have probabilities of their own. The names of a data set whose
      videos have several labels say so, too.
    options: fields of the architecture that differ from the named one's.
    partial: accept a file that lacks more than the classifier.

  Raises:
    ValueError: it is not said which network the file holds, or it is said twice.
    ConversionError: the file does not hold this network, or no network for so many classes.
    FileNotFoundError: there is no such file.
  """
  if (Path(path) / CONFIG).exists():
    raise ValueError(f'{path} is a workdir, which says itself which network it holds: leave it out')
  about = convert.read_about(path)
  if about and (network or options or multi_label):
    given = '--network' if network else '--multi-label' if multi_label else f'{list(options)}'
    raise ValueError(
      f'{path} says itself which network it holds, {about.name or about.family}: leave out {given}'
    )
  if not about and not network:
    raise ValueError(
      f'{path} does not say which network it holds: give --network=NAME, such as '
      'movinet/a2-stream (`movinet models` lists all names), or an architecture file, found.json'
    )
  arrays = convert.read_arrays(path)
  if about:
    name, make = about.name or about.family, lambda n, **_: about.create()
  else:
    name, make = _find_network(network, options)
  model = make(num_classes)
  if not about and num_classes is None and (count := convert.count_classes(arrays, model)):
    model = make(count)
  if fields := convert.find_fields(arrays, model):
    model = make(model.num_classes, **fields)
  variables, report = convert.load_arrays(arrays, model, partial=partial)
  told = about or _tell(name, model, report, arrays, multi_label=multi_label)
  if labels:
    several = told.multi_label or labels in lists.MULTI_LABEL
    names = read_labels(labels, model.num_classes)
    told = dataclasses.replace(told, labels=names, multi_label=several)
  return Weights(name, model, variables, report, told, fields)


def _tell(name: str, model, report: Report, arrays: Mapping, *, multi_label: bool) -> About:
  """What a published file does not say itself."""
  lacking = report.missing + report.mismatched
  labels = None
  # Of weights with published names the release says how classes are numbered; who knows of others?
  if name in models.variants() and convert.has_published_names(arrays, model) and not lacking:
    known = lists.find_list(models.name_family(model), model.num_classes)
    labels = lists.read_list(known) if known else None
  return About(
    **convert.describe_network(model),
    name=name,
    labels=labels,
    preprocessing=dataclasses.asdict(_find_clip(model, name)),
    multi_label=multi_label,
    untrained=tuple(line.partition(':')[0] for line in lacking),
  )


def read_initial(path: str, model, seed: int) -> tuple[Mapping, tuple[str, ...] | None]:
  """Weights of a file for a training to begin with.

  Args:
    model: the network to be trained.
    seed: initialises what the file does not hold.

  Returns:
    the weights by our own paths, and the names of the classes of their classifier; None if nobody
    has said them.

  Raises:
    ValueError: the file holds networks of an ensemble.
    ConversionError: as `convert.load`.
  """
  if path.endswith('.json'):
    raise ValueError(
      f'{path} is JSON, and no file of weights: to begin with a member of an ensemble, name the '
      'checkpoint of that member'
    )
  about, arrays = convert.read_about(path), convert.read_arrays(path)
  if about:
    _check_family(path, about, model)
    drawn = [name for name in about.untrained if convert.CLASSIFIER in name.split('/')]
    if drawn:  # which is drawn anew, for the classes of this training
      return {key: array for key, array in arrays.items() if key not in drawn}, None
    return arrays, about.labels
  family, classes = models.name_family(model), convert.count_classes(arrays, model)
  released = convert.has_published_names(arrays, model)
  known = lists.find_list(family, classes) if classes and released else None
  theirs = model.clone(num_classes=classes or model.num_classes)
  variables, report = convert.load_arrays(arrays, theirs, seed=seed)
  if classes:  # else what becomes of the classifier is told here only
    return variables, lists.read_list(known) if known else None
  print(report)
  return variables, None


def _check_family(path: str, about: About, model):
  family = models.name_family(model)
  if about.family == 'ensemble':
    raise ValueError(
      f'{path} holds an ensemble, {about.name}: a training begins with one network, so convert '
      'the member that you want'
    )
  if about.family != family:
    raise ConversionError(
      f'{path} holds {about.name or about.family}, and the network to be trained is a {family}'
    )


def read_labels(path: str, num_classes: int) -> tuple[str, ...]:
  """The names of classes in a text file, a name a line.

  Raises:
    ValueError: there are not as many as classes, or a name comes twice.
    FileNotFoundError: there is no such file.
  """
  names = sources.read_labels(path)
  if len(names) != num_classes:
    raise ValueError(
      f'{path} has {len(names)} names, and the network has {num_classes} classes: wanted a name '
      'a line, in the order of its classes'
    )
  return names


def _find_network(network: str, options: Mapping):
  """The name of a network, and what makes it for N classes."""
  if network.endswith('.json'):
    family, spec = models.read_spec(network)
    return family, lambda n, **more: models.create(family, n, spec=spec, **options, **more)
  check_name(network, models.variants(), 'network')
  return network, lambda n, **more: models.create(network, n, **options, **more)


def _find_clip(model, name: str) -> data.EvalClip:
  """What a published network sees of a video: its native input."""
  family, spec = models.find_family(models.name_family(model)), model.spec
  return data.EvalClip(
    frames=spec.frames,
    size=spec.resolution,
    short_side=published.find_short_side(name),
    fps=family.NATIVE_FPS / spec.frame_stride,
  )


def check_complete(found: Weights, path: str):
  """Checks that a network can be used as it is: all of it is trained, and its classes have names.

  Raises:
    ConversionError: the file has no classifier of this network.
    ValueError: the names of the classes are unknown.
  """
  lacking = found.about.untrained or found.report.missing + found.report.mismatched
  if lacking:
    raise ConversionError(
      f'{path} lacks {len(lacking)} variables of {found.name}, the first is {lacking[0]}: such a '
      'file can begin a training (--config.init), but is no trained network'
    )
  if found.about.labels is None:
    raise ValueError(
      f'{path} does not name its {found.model.num_classes} classes: give --labels=FILE with a name '
      'a line, in their order, or the list that they are of '
      f'({", ".join(lists.list_names())})'
    )
