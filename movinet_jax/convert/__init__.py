"""Weights of files into networks, with an account of every array.

variables = convert.load('movinet_a0_base/ckpt-1', model)

Arrays under our own paths ('params/stem/conv/kernel', 'batch_stats/…') fit any network as
they are. Published names go through the mapping of the network's family (convert/families).
"""

import functools
import logging
import re
import sys
from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from movinet_jax.convert import families
from movinet_jax.convert.archive import About, describe_network, read_about, write_archive
from movinet_jax.convert.read import exists, read_arrays
from movinet_jax.convert.relabel import Relabeling
from movinet_jax.convert.report import ConversionError, Report
from movinet_jax.convert.write import write_pytorch, write_tensorflow
from movinet_jax.models import init, name_family

__all__ = [
  'About',
  'ConversionError',
  'Relabeling',
  'Report',
  'count_classes',
  'describe_network',
  'exists',
  'find_fields',
  'fit',
  'has_published_names',
  'load',
  'load_arrays',
  'load_with_report',
  'read_about',
  'read_arrays',
  'write_archive',
  'write_pytorch',
  'write_tensorflow',
]

CLASSIFIER = 'classifier'  # part of the path of what a network for other classes begins anew
_OWN = ('params', 'batch_stats')  # what our own paths begin with
# Keys that TensorFlow and PyTorch write beside the weights: how the training stood.
_TRAINING = re.compile(
  r'/\.OPTIMIZER_SLOT/'
  r'|^(optimizer|save_counter|global_step|step|_CHECKPOINTABLE_OBJECT_GRAPH)(/|$)'
  r'|\.num_batches_tracked$'
)
_SHOWN = 3  # names in an error that may have hundreds


def load(path, model: nn.Module, *, partial: bool = False, seed: int = 0):
  """Loads a network's variables from a file of this or another project.

  Args:
    path: a TensorFlow checkpoint's prefix or folder, a PyTorch state dict (`.pt`, `.pth`,
      `.pyth`), or an `.npz` whose names are the checkpoint's keys or our own paths
      ('params/stem/conv/kernel').
    model: the network to load into, of any family; published weights of an ensemble are
      loaded member by member.
    partial: accept a file that lacks more than the classifier, or is of another form of
      the network.
    seed: initialises what the file does not hold.

  Returns:
    variables of the model.

  Raises:
    ConversionError: something other than the classifier is missing or of another shape,
      a weight is not finite, the file is damaged, or it has published names and the
      network's family has none.
    FileNotFoundError: no such file.
  """
  variables, report = load_with_report(path, model, partial=partial, seed=seed)
  logging.getLogger(__name__).info('%s\n%s', path, report)
  return variables


def load_with_report(path, model: nn.Module, *, partial: bool = False, seed: int = 0):
  """Loads as `load` does, and returns (variables, Report)."""
  return load_arrays(read_arrays(path), model, partial=partial, seed=seed)


def fit(variables, model: nn.Module, *, seed: int = 0, relabeling: Relabeling | None = None):
  """Takes variables of the same network for other classes.

  Args:
    variables: of a trained network.
    model: the network to take them for.
    seed: initialises what they do not hold.
    relabeling: the names of both networks' classes. The classifier keeps those that both have;
      without any names it is made anew where the number of classes differs.

  Returns:
    (variables, Report).

  Raises:
    ConversionError: more than the classifier does not fit, or a weight is not finite.
  """
  arrays = traverse_util.flatten_dict(variables, sep='/')
  if relabeling:
    arrays = relabeling.apply(arrays, CLASSIFIER, lambda: _initialise(model, seed))
  return load_arrays(arrays, model, seed=seed)


def _initialise(model: nn.Module, seed: int) -> dict[str, np.ndarray]:
  return traverse_util.flatten_dict(_make(model, seed), sep='/')


def load_arrays(
  arrays: Mapping[str, np.ndarray], model: nn.Module, *, partial: bool = False, seed: int = 0
):
  """Loads as `load_with_report` does, from the arrays of a file by name."""
  names = _find_names(arrays, model)
  make = functools.partial(_make, model, seed)
  variables, report = fill(arrays, jax.eval_shape(make), names)
  if not partial:
    if report.missing or report.unexpected:
      _check_fields(arrays, model)
    report.check(CLASSIFIER)
  _check_finite(variables, report.loaded)
  if report.missing or report.mismatched:  # Only now is initialising worth compiling.
    variables = jax.tree.map(_or_initial, variables, make())
  return variables, report


def find_fields(arrays: Mapping[str, np.ndarray], model: nn.Module) -> dict[str, object]:
  """Fields of the Spec in which the network of a published file differs from this one.

  Such as {'shortcut_norm': True} of SlowFast's weights and PyTorchVideo's network. Empty where
  nothing differs, or the names do not tell.
  """
  names = families.find(name_family(model))
  if not hasattr(names, 'find_fields'):
    return {}
  canonical = {names.find_name(key) for key in arrays} - {None}
  found = names.find_fields(canonical)
  return {key: value for key, value in found.items() if getattr(model.spec, key) != value}


def count_classes(arrays: Mapping[str, np.ndarray], model: nn.Module) -> int | None:
  """N of the classifier in a file; None where it holds none of this kind of network.

  Args:
    arrays: of the file by name, our own or published.
    model: a network of the file's architecture, for any number of classes.
  """
  names = families.find(name_family(model))
  paths = list(traverse_util.flatten_dict(jax.eval_shape(lambda: _make(model, 0))))
  wanted = {path: '/'.join(path) for path in paths if CLASSIFIER in path and path[-1] == 'bias'}
  for key, array in arrays.items():
    if key in wanted.values():
      return array.shape[-1]
  if names is None:
    return None
  canonical = names.make_names(paths)
  published = {canonical[path] for path in wanted}
  found = [array for key, array in arrays.items() if names.find_name(key) in published]
  return found[0].size if found else None


def has_published_names(arrays: Mapping[str, np.ndarray], model: nn.Module) -> bool:
  """Whether a file has the names of a release of the model's family, and not our own paths."""
  foreign = (key for key in arrays if not _is_own(key) and not _TRAINING.search(key))
  return families.find(name_family(model)) is not None and any(foreign)


def _make(model: nn.Module, seed: int):
  return init(model, jax.random.key(seed), (1, 1, 32, 32, 3))


def _check_fields(arrays, model):
  if fields := find_fields(arrays, model):
    wanted = ', '.join(f'{key}={value}' for key, value in fields.items())
    raise ConversionError(
      f'the file is of another form of this network: create the network with {wanted}, or '
      'pass partial=True to leave out what does not fit'
    )


def fill(arrays: Mapping[str, np.ndarray], variables, names):
  """Replaces the leaves of `variables`, of which only shapes matter, by arrays of the same name.

  Args:
    names: what `families.find` gives for the network's family; None takes our own paths only.

  Returns:
    the tree, where leaves without an array are left as they were, and the Report.
  """
  leaves = traverse_util.flatten_dict(variables)
  own, published, skipped = _sort(arrays, names)
  canonical = names.make_names(list(leaves)) if names and published else {}
  filled, loaded, missing, mismatched = dict(leaves), [], [], []
  for path, leaf in leaves.items():
    ours = '/'.join(path)
    if ours in own:
      # Our own array: its axes are in our order, so only the shape can be wrong.
      found = own.pop(ours)
      array = found if found.shape == leaf.shape else None
    elif canonical.get(path) in published:
      key = published.pop(canonical[path])
      found = arrays[key]
      array = names.fit_array(key, found, leaf.shape)
    else:
      missing.append(ours)
      continue
    if array is None:
      mismatched.append(f'{ours}: found {found.shape}, wanted {leaf.shape}')
      continue
    filled[path] = jax.numpy.asarray(array, leaf.dtype)
    loaded.append(ours)
  unexpected = [*own, *published.values()]
  groups = loaded, missing, unexpected, mismatched, skipped
  report = Report(*(tuple(sorted(group)) for group in groups))
  return traverse_util.unflatten_dict(filled), report


def _or_initial(leaf, initial):
  return initial if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _check_finite(variables, loaded):
  leaves = traverse_util.flatten_dict(variables, sep='/')
  bad = [name for name in loaded if not np.isfinite(leaves[name]).all()]
  if bad:
    more = ', …' if len(bad) > _SHOWN else ''
    raise ConversionError(
      f'{len(bad)} of {len(loaded)} arrays hold NaN or infinite weights: '
      f'{", ".join(bad[:_SHOWN])}{more}. Take a checkpoint from before its training '
      f'diverged'
    )


def _is_own(key: str) -> bool:
  return key.partition('/')[0] in _OWN


def _sort(arrays, names):
  """Our own arrays by path, published ones (canonical name -> key), and keys of training."""
  own, published, skipped = {}, {}, []
  for key, array in arrays.items():
    name = (names and names.find_name(key)) or key
    if _TRAINING.search(key):
      skipped.append(key)
    elif _is_own(key):
      own[key] = array
    elif name in published:
      raise ConversionError(f'{key} and {published[name]} both hold {name}')
    else:
      published[name] = key
  return own, published, skipped


def _find_names(arrays, model):
  """The mapping of the published names of the model's family, None where none is needed.

  Raises:
    ConversionError: the file has published names only, and the family has no mapping.
  """
  family = name_family(model)
  names = families.find(family)
  if names is None and not any(map(_is_own, arrays)):
    module = sys.modules[type(model).__module__]
    advice = ''
    if hasattr(module, 'join'):
      advice = f'; load each member, then join them by {module.__name__}.join'
    raise ConversionError(
      f'the file holds none of our own paths (params/…, batch_stats/…), and published names of '
      f'{family!r} are unknown (known: {", ".join(families.list_names())}){advice}'
    )
  return names
