"""Files of whole networks: an `.npz` of weights that says which network they are of.

Besides the arrays, whose names are our own paths ('params/stem/conv/kernel'), such a file has one
entry, `about`, with JSON text. So one path is all that a command needs to use the network.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from movinet_jax import schema
from movinet_jax.convert.read import ABOUT, read_text
from movinet_jax.convert.report import ConversionError
from movinet_jax.models import create, name_family
from movinet_jax.schema import Count
from movinet_jax.spec import to_json

VERSION = 1


@dataclasses.dataclass(frozen=True)
class About:
  """The contents of the entry `about`.

  Attributes:
    family: of the network, such as 'movinet'.
    spec: its architecture, as JSON.
    num_classes: N.
    name: 'movinet/a2-stream', or the family where the network has no name.
    labels: the name of each class; None if they are unknown.
    preprocessing: arguments of data.EvalClip; None if they are unknown.
    multi_label: whether classes have probabilities of their own (a sigmoid's).
    dtype: what the network computes in.
    untrained: variables that the converted file did not hold, which are as they were drawn. A
      training may begin with them, and nothing else can use them.
  """

  family: str
  spec: Mapping
  num_classes: Count
  name: str = ''
  labels: tuple[str, ...] | None = None
  preprocessing: Mapping | None = None
  multi_label: bool = False
  dtype: str = 'float32'
  untrained: tuple[str, ...] = ()

  def __post_init__(self):
    schema.verify(self)
    if self.labels is not None and len(self.labels) != self.num_classes:
      raise ValueError(f'{len(self.labels)} labels for {self.num_classes} classes')

  def create(self):
    """The network, without weights."""
    return create(self.family, self.num_classes, spec=self.spec, dtype=self.dtype)


def describe_network(model) -> dict:
  """The fields of `About` that a network itself tells."""
  return {
    'family': name_family(model),
    'spec': to_json(model.spec),
    'num_classes': model.num_classes,
    'dtype': jnp.dtype(model.dtype).name,
  }


def write_archive(path: str | Path, variables: Mapping, about: About):
  """Writes the file whole or not at all.

  Args:
    path: ends with .npz.
    variables: of the network.
  """
  path = Path(path)
  arrays = traverse_util.flatten_dict(dict(variables), sep='/')
  text = json.dumps({'version': VERSION, **dataclasses.asdict(about)})
  part = path.with_name(f'{path.name}.{os.getpid()}.part')
  try:
    with part.open('wb') as file:
      np.savez(file, **{ABOUT: np.array(text)}, **arrays)
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def read_about(path: str | Path) -> About | None:
  """What a file says of its network; None for a file of arrays alone.

  Raises:
    FileNotFoundError: there is no such file.
    ConversionError: the file is damaged, or of a later version.
  """
  text = read_text(Path(path), ABOUT) if Path(path).suffix == '.npz' else None
  if text is None:
    return None
  try:
    about = json.loads(text)
    if (version := about.pop('version', None)) != VERSION:
      raise ValueError(f'it has version {version}, and this code reads {VERSION}')
    return schema.build(About, about, ABOUT)
  except (ValueError, AttributeError, TypeError) as error:
    raise ConversionError(f'{path} does not say which network it holds: {error}') from error
