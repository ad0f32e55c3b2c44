"""Networks as a command line names them: by name, by an architecture file, or as trained."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

from movinet_jax import models, timing
from movinet_jax.names import suggest
from movinet_jax.paths import find_local


@dataclasses.dataclass(frozen=True)
class Named:
  """A network that a command line names.

  Attributes:
    text: how.
    name: 'movinet/a2-stream', or the family where the network is none of the named ones.
    model: the network.
    input: frames, height and width of its native clip; of a trained network, those of its
      evaluations.
    variables: its weights, if it is a trained one.
  """

  text: str
  name: str
  model: object
  input: tuple[int, int, int]
  variables: Mapping | None = None

  @property
  def has_stream(self) -> bool:
    return bool(self.model.spec.causal)

  @property
  def chunk(self) -> int:
    """Frames of a call of its stream, unless others are asked for: 1, or an exported file's."""
    return getattr(self.model, 'frames', 1)

  def with_threads(self, threads: int) -> 'Named':
    """The same; an exported file runs with so many threads."""
    if not getattr(self.model, 'takes_threads', False):
      return self
    return dataclasses.replace(self, model=dataclasses.replace(self.model, threads=threads))

  def find_weights(self) -> Mapping:
    """Its own variables, or some to time it with."""
    return timing.draw_weights(self.model) if self.variables is None else self.variables


def read_network(text: str, num_classes: int | None = None, network: str = '', **options) -> Named:
  """Finds a network.

  Args:
    text: a name ('movinet/a0-stream'), an architecture file (found.json), or a trained network:
      a workdir, an archive (`.npz`), an ensemble's file, a published checkpoint, or a file of
      `movinet export`.
    num_classes: N; by default those of the family's data set. A trained network has its own.
    network: of a published checkpoint, which does not say it itself: its name.
    **options: fields of its architecture or of its module to change, as models.create takes them.

  Raises:
    ValueError: it is none of these; names the nearest name. Or num_classes or options are given
      for a trained network.
    FileNotFoundError: a workdir has no checkpoint.
  """
  path, is_name = find_local(text), text in models.variants()
  if network and (is_name or _is_spec(path)):
    raise ValueError(f'{text} says itself which network it is: leave out --network={network}')
  if is_name:
    return _describe(text, models.create(text, num_classes, **options))
  if _is_spec(path):
    family, spec = models.read_spec(path)
    return _describe(text, models.create(family, num_classes, spec=spec, **options))
  from movinet_jax import convert, export  # late, as below

  exported = export.is_artifact(path)
  if not exported and not convert.exists(path):
    near, *_ = suggest(text, models.variants()).split(' (choices: ')  # which are too many
    raise ValueError(
      f'{text!r} names no network and no file or folder: wanted a name (`movinet models` '
      'lists all), an architecture file (found.json), or a trained network (a workdir, an .npz '
      f'of `movinet convert`, or a file of `movinet export`){near}'
    )
  if num_classes is not None or options:
    given = ', '.join(['--num-classes'] * (num_classes is not None) + list(options))
    raise ValueError(
      f'{text} is a trained network, whose classes and architecture are what they are: leave out '
      f'{given}, or give the name of its network instead'
    )
  if exported:
    return _read_exported(text, path, network)
  return _read_trained(text, path, network)


def lacks_name(text: str) -> bool:
  """Whether it is a file of weights that does not say which network it holds."""
  path = find_local(text)
  if text in models.variants() or path.endswith('.json'):
    return False
  from launch.runs.trained import is_file  # late, as below
  from movinet_jax import convert, export

  return is_file(path) and not export.is_artifact(path) and convert.read_about(path) is None


def _describe(text: str, model) -> Named:
  spec = model.spec
  return Named(
    text, models.find_name(model), model, (spec.frames, spec.resolution, spec.resolution)
  )


def _is_spec(path: str) -> bool:
  """Whether it is a JSON file, and not an ensemble's, which names trained networks."""
  if not (path.endswith('.json') and os.path.isfile(path)):
    return False
  with contextlib.suppress(ValueError, OSError):  # what is wrong is told where it is read
    data = json.loads(Path(path).read_text())
    return not (isinstance(data, dict) and 'members' in data)
  return True


def _read_trained(text: str, path: str, network: str) -> Named:
  # Late: they bring what reads videos and checkpoints, and most networks need neither.
  from launch.runs.trained import is_file, load_trained
  from launch.runs.weights import read_weights

  if is_file(path) and not path.endswith('.json'):
    found = read_weights(path, network)  # also of classes without names
  else:
    found = load_trained(path, network=network)
  clip = found.clip
  size = clip.frames, clip.size, clip.size
  return Named(text, models.find_name(found.model), found.model, size, found.variables)


def _read_exported(text: str, path: str, network: str) -> Named:
  from launch.runs.trained import load_exported

  if network:
    raise ValueError(f'{text} says itself which network it is: leave out --network={network}')
  found = load_exported(path)
  size = found.clip.frames, found.clip.size, found.clip.size
  return Named(text, found.name, found.model, size, found.variables)
