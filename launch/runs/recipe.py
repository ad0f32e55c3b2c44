"""The recipe of a sweep's trials: a training config, merged with what the sweep changes in it.

It stays a mapping from the config file to `training.resolve`. Only commands that are printed
for a person turn it into `--config.key=value` words.
"""

import copy
import functools
from collections.abc import Mapping

import numpy as np
from flax import traverse_util

from launch.config import complete_config, load_config, merge_config
from launch.runs import training
from movinet_jax import models
from movinet_jax.names import suggest


def load(train_with: str, changes: Mapping, data: training.Splits) -> dict:
  """The training config that all trials begin with.

  Args:
    train_with: its file.
    changes: of its sections, by key.
    data: what was searched on, which the recipe trains on too.

  Raises:
    ValueError: the changes do not fit the file, or are of its data.
  """
  if 'data' in changes:
    raise ValueError('recipe.data is no section: data says what trials learn from')
  changes = {**changes, 'data': locate(train_with, data)}
  recipe = merge_config(_load(train_with), changes, 'recipe')
  # A bar for each of several runs side by side would help nobody.
  recipe['loop'] = {**recipe['loop'], 'progress': False}
  return complete_config(training.Config, recipe)


def count_classes(train_with: str, changes: Mapping, data: training.Splits) -> int | None:
  """N where the recipe, with what is changed in it, says it without its data."""
  return training.count_classes(training.read(load(train_with, changes, data)))


@functools.cache
def _load(file: str) -> dict:
  return load_config(file).to_dict()


def locate(train_with: str, data: training.Splits) -> dict[str, dict]:
  """Sections that tell a training config where the data of a search is, and of which classes.

  It is evaluated on `data.eval`, which a search itself does not read; without one, on what
  the recipe says of the same place.
  """
  own = ('split', 'path', 'skip')
  place = {key: value for key, value in data.train.items() if key not in own}
  sections = {'train': dict(data.train), 'eval': place if data.eval is None else dict(data.eval)}
  if classes := _list_classes(train_with, data):
    sections['classes'] = classes
  return sections


def _list_classes(train_with: str, data: training.Splits) -> dict:
  """The `data.classes` of a search; None for keys that only its recipe has."""
  replaced = dict.fromkeys(_load(train_with)['data'].get('classes') or ())
  given = vars(data.classes) if data.classes else {}
  return {**replaced, **{key: value for key, value in given.items() if value is not None}}


def fit(recipe: Mapping, family: str, spec, changes: Mapping) -> dict:
  """The recipe of one network, at its own clip.

  Args:
    changes: what the search itself changes in the recipe, by dotted key.
  """
  fitted = copy.deepcopy(dict(recipe))
  section = {key: value for key, value in recipe['model'].items() if key != 'spec'}
  fitted['model'] = training.name_network(section, family, spec)
  fitted['clip'] = {split: fit_clip(clip, family, spec) for split, clip in recipe['clip'].items()}
  for key, value in changes.items():
    _change(fitted, key, value)
  return fitted


def _change(recipe: dict, key: str, value):
  section, (*path, last) = recipe, key.split('.')
  if not path and last not in recipe:
    raise ValueError(f'the recipe has no {last!r} to change{suggest(last, recipe)}')
  for name in path:
    if not isinstance(section.get(name), dict):
      raise ValueError(f'the recipe has no {name!r} to change{suggest(name, section)}')
    section = section[name]
  section[last] = value


def find_balance(recipe: Mapping, loss: Mapping, sampling: Mapping | None) -> dict:
  """Changes to a recipe for another loss, and another way to draw classes.

  Args:
    sampling: of the config; None has each video once an epoch.
  """
  before = recipe.get('sampling')
  changes = {'loss': differ(recipe['loss'], loss)}
  if before != sampling:
    changes['sampling'] = differ(before or {}, sampling) if sampling else None
  return changes


def differ(before: Mapping, after: Mapping) -> dict[str, object]:
  """Keys of a section that differ, with their values after; None for those that are gone."""
  keys = sorted({*before, *after})
  return {key: after.get(key) for key in keys if before.get(key) != after.get(key)}


def fit_clip(section: Mapping, family: str, spec) -> dict:
  """A recipe's clip with a network's own frames, size and stride."""
  fitted = {**section, 'frames': spec.frames, 'size': spec.resolution}
  if sides := section.get('short_side'):
    shares = np.atleast_1d(sides) / section['size']  # a range, to train with
    scaled = tuple(round(share * spec.resolution) for share in shares)
    fitted['short_side'] = scaled if len(scaled) > 1 else scaled[0]
  if 'fps' not in section and spec.frame_stride == int(spec.frame_stride):
    return {**fitted, 'stride': int(spec.frame_stride)}
  for key in ('stride', 'stride_jitter'):
    fitted.pop(key, None)
  return {**fitted, 'fps': models.find_family(family).NATIVE_FPS / spec.frame_stride}


def list_settings(recipe: Mapping) -> dict[str, object]:
  """Lists the settings that results depend on, beside network, size of clips and data."""
  flat = traverse_util.flatten_dict(dict(recipe), sep='.')
  own = {'model.name', 'model.spec', *training.FREE}
  clip = ('frames', 'size', 'stride', 'fps', 'short_side', 'stride_jitter')
  own |= {f'clip.{split}.{key}' for split in recipe['clip'] for key in clip}
  return {
    key: value
    for key, value in sorted(flat.items())
    if key not in own and not key.startswith(('data.', 'model.spec.'))
  }
