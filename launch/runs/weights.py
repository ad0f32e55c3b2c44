"""Files of weights, and which network they are of: what is not in a file is found or asked for."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from movinet_jax import convert, data, models, published, schema
from movinet_jax.convert import About, ConversionError, Report
from movinet_jax.data import labels as lists
from movinet_jax.data import source as sources
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
    return schema.call(data.EvalClip, self.about.preprocessing, 'preprocessing')


def read_weights(
  path: str,
  network: str | None = None,
  labels: str | None = None,
  *,
  num_classes: int | None = None,
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
  if about and (network or options):
    raise ValueError(
      f'{path} says itself which network it holds, {about.name or about.family}: leave out '
      '--network'
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
  told = about or About(**convert.describe_network(model), name=name, **_find_use(model, name))
  if labels:
    told = dataclasses.replace(told, labels=read_labels(labels, model.num_classes))
  return Weights(name, model, variables, report, told, fields)


def read_initial(path: str, model, seed: int) -> tuple[Mapping, tuple[str, ...] | None]:
  """Weights of a file for a training to begin with.

  Args:
    model: the network to be trained.
    seed: initialises what the file does not hold.

  Returns:
    the weights by our own paths, and the names of the classes that they know, if there are any.

  Raises: as `convert.load`.
  """
  about, arrays = convert.read_about(path), convert.read_arrays(path)
  if about:
    return arrays, about.labels
  family, classes = models.name_family(model), convert.count_classes(arrays, model)
  known = lists.find_list(family, classes) if classes else None
  theirs = model.clone(num_classes=classes or model.num_classes)
  variables, report = convert.load_arrays(arrays, theirs, seed=seed)
  if classes:  # else what becomes of the classifier is told here only
    return variables, lists.read_list(known) if known else None
  print(report)
  return variables, None


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
  return network, lambda n, **more: models.create(network, n, **options, **more)


def _find_use(model, name: str) -> dict:
  """How a published network is used: its classes, what it sees of a video, and its scores."""
  family = models.find_family(models.name_family(model))
  spec = model.spec
  clip = data.EvalClip(
    frames=spec.frames,
    size=spec.resolution,
    short_side=published.find_short_side(name),
    fps=family.NATIVE_FPS / spec.frame_stride,
  )
  known = lists.find_list(models.name_family(model), model.num_classes)
  return {
    'labels': lists.read_list(known) if known else None,
    'preprocessing': dataclasses.asdict(clip),
    'multi_label': bool(known) and known in lists.MULTI_LABEL,
  }


def check_complete(found: Weights, path: str):
  """Checks that a network can be used as it is: all of it is trained, and its classes have names.

  Raises:
    ConversionError: the file has no classifier of this network.
    ValueError: the names of the classes are unknown.
  """
  lacking = found.report.missing + found.report.mismatched
  if lacking:
    raise ConversionError(
      f'{path} lacks {len(lacking)} variables of {found.name}, the first is {lacking[0]}: such a '
      'file can begin a training (--config.init), but is no trained network'
    )
  if found.about.labels is None:
    raise ValueError(
      f'{path} does not name its {found.model.num_classes} classes, and they are of no list that '
      f'this package has ({", ".join(lists.list_names())}): give --labels=FILE with a name a line, '
      'in the order of the classes'
    )
