"""Networks by name. The folder is the registry: each file is a family.

A family's file defines

* `Spec`: a frozen dataclass, the architecture, with the native `frames`, `resolution` and
  `frame_stride`, and `causal`, whether it is a stream.
* `VARIANTS`: its named architectures.
* `Model(spec, num_classes, …)`: the Flax module, whose last layer is named `classifier`.
* `NATIVE_FPS`: frames per second of the video that `frame_stride` counts frames of.
* `NUM_CLASSES`: classes of the data set that its published networks are of.
* `SMALL`: the smallest architectures that use every option, by name, for contract tests.

Its published weights, where there are any, are read by the file of the same name in
`convert/families`.
"""

import dataclasses
import json
import pathlib
import reprlib
import types
import typing
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from movinet_jax import schema
from movinet_jax.names import check_name, find, suggest
from movinet_jax.paths import find_local
from movinet_jax.registry import load_member, load_members
from movinet_jax.schema import Count
from movinet_jax.spec import build, from_json, to_json


def families() -> dict[str, types.ModuleType]:
  """All families by name, found by listing this folder."""
  return load_members(__name__)


def variants() -> list[str]:
  """All names that `create` knows, 'family/variant'."""
  return [f'{f}/{v}' for f, module in families().items() for v in module.VARIANTS]


def find_family(name: str) -> types.ModuleType:
  """The file of a family.

  Raises:
    ValueError: no such family; the message names the nearest.
  """
  return load_member(__name__, name, 'family')


def name_family(model: nn.Module) -> str:
  """The name of the family that a network is of."""
  return type(model).__module__.rpartition('.')[2]


def find_name(model: nn.Module) -> str:
  """'family/variant' of a network that is one of the named ones, else its family."""
  family = name_family(model)
  named = find_family(family).VARIANTS.items()
  return next((f'{family}/{name}' for name, spec in named if spec == model.spec), family)


def create(name: str, num_classes: Count | None = None, *, spec=None, **options) -> nn.Module:
  """Makes a network.

  Args:
    name: 'family/variant' such as 'movinet/a2-stream', or just the family with a `spec`.
    num_classes: N; by default the family's NUM_CLASSES.
    spec: an architecture of that family: its Spec, that as a mapping, or a file
      made by `save_spec`.
    **options: fields of the spec to change (`causal=True`), or of the model
      (`dropout=0.5`, `dtype='bfloat16'`).

  Raises:
    ValueError: no such family, variant or option; the message names the nearest.
  """
  family, _, variant = name.partition('/')
  module = find_family(family)
  if num_classes is None:
    num_classes = module.NUM_CLASSES
  schema.build(Count, num_classes, 'num_classes')
  if variant and spec is not None:
    raise ValueError(
      f'{name!r} names a variant and spec gives another architecture: say create('
      f'{family!r}, spec=…) for the latter'
    )
  if spec is None and not variant:
    known = ', '.join(module.VARIANTS)
    raise ValueError(f'{name!r} needs a spec, or a variant: {family}/ {known}')
  if spec is None:
    spec = find(module.VARIANTS, variant, f'variant of {family}')
  elif isinstance(spec, Mapping):
    spec = from_json(module.Spec, spec)
  elif isinstance(spec, (str, pathlib.PurePath)):
    spec = load_spec(spec, family)
  elif not isinstance(spec, module.Spec):
    raise ValueError(f'spec is {spec!r}, wanted a {family} architecture or a file of one')
  spec, options = _apply_options(module, spec, options)
  return module.Model(spec=spec, num_classes=num_classes, **options)


def _apply_options(module, spec, options):
  of_spec = {f.name for f in dataclasses.fields(module.Spec)}
  of_model = set(module.Model.__dataclass_fields__) - {'spec', 'parent', 'name'}
  for key in options:
    if key not in of_spec | of_model:
      raise ValueError(f'no option {key!r}{suggest(key, of_spec | of_model)}')
  changed = {k: v for k, v in options.items() if k in of_spec}
  values = {name: getattr(spec, name) for name in of_spec}
  kinds = typing.get_type_hints(module.Model, include_extras=True)
  rest = {
    key: find_dtype(value) if key == 'dtype' else build(kinds[key], value, key)
    for key, value in options.items()
    if key in of_model
  }
  return from_json(module.Spec, {**values, **changed}), rest


def find_dtype(name) -> jnp.dtype:
  """The type to compute in, of its name."""
  known = ('float32', 'bfloat16', 'float16')
  if not isinstance(name, str):
    try:
      name = jnp.dtype(name).name
    except TypeError:
      name = repr(name)
  check_name(name, known, 'dtype')
  return jnp.dtype(name)


def init(model: nn.Module, key: jax.Array, shape: tuple[int, ...]):
  """Makes a network's variables for clips of `shape` [B, T, H, W, 3].

  Parameters do not depend on B, T, H or W, so one small frame is traced, not the clip.
  """
  # Nothing but the weights is computed, and each by a program that all networks share: as
  # one program of its own a network takes ten times as long to compile.
  frame = jax.ShapeDtypeStruct((1, 1, 32, 32, shape[-1]), jnp.float32)
  return model.lazy_init(key, frame, train=False)


def save_spec(path, family: str, spec) -> None:
  """Writes an architecture as a JSON file that `create(family, spec=path)` reads."""
  data = {'family': family, 'spec': to_json(spec)}
  pathlib.Path(path).write_text(json.dumps(data, indent=2) + '\n')


def load_spec(path, family: str):
  """Reads an architecture of a family.

  Raises:
    ValueError: there is no such file, it is not a spec, or is one of another family.
  """
  found, spec = read_spec(path)
  if found != family:
    raise ValueError(f'{path} holds a spec of {found!r}, not of {family!r}')
  return spec


def read_spec(path):
  """Reads an architecture: (family, its Spec).

  Raises:
    ValueError: there is no such file, or it is not a spec; says what such a file is.
  """
  try:
    return _parse_spec(pathlib.Path(find_local(str(path))).read_text())
  except OSError as e:
    wrong = f'{path} cannot be read: {e.strerror}'
  except ValueError as e:  # of the text's encoding and of JSON too
    wrong = f'{path} is not an architecture file: {e}'
  raise ValueError(
    f'{wrong}; such a file is the found.json of a search, or JSON of the form '
    '{"family": "movinet", "spec": {…}}'
  )


def _parse_spec(text):
  data = json.loads(text)
  if not isinstance(data, dict):
    raise ValueError(f'it holds {reprlib.repr(data)}, wanted a table')
  for key, kind in (('family', str), ('spec', dict)):
    if key not in data:
      raise ValueError(f'it has no {key!r}, but {reprlib.repr(list(data))}')
    if not isinstance(data[key], kind):
      wanted = 'a name' if kind is str else 'a table'
      raise ValueError(f'its {key!r} is {reprlib.repr(data[key])}, wanted {wanted}')
  family = data['family']
  return family, from_json(find_family(family).Spec, data['spec'])
