"""Published weights into our networks, with an account of every array.

variables = convert.load('movinet_a0_base/ckpt-1', model)
"""

import functools
import importlib
import logging
import pkgutil
import re
import sys
from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from movinet_jax.convert.read import read_arrays
from movinet_jax.convert.report import ConversionError, Report
from movinet_jax.models import init
from movinet_jax.names import suggest

__all__ = [
  'ConversionError',
  'Report',
  'fit',
  'load',
  'load_with_report',
  'read_arrays',
]

# Keys that TensorFlow and PyTorch write beside the weights: how the training stood.
_TRAINING = re.compile(
  r'/\.OPTIMIZER_SLOT/'
  r'|^(optimizer|save_counter|global_step|step|_CHECKPOINTABLE_OBJECT_GRAPH)(/|$)'
  r'|\.num_batches_tracked$'
)
_SHOWN = 3  # names in an error that may have hundreds


def load(path, model: nn.Module, *, partial: bool = False, seed: int = 0):
  """Loads a network's variables from a file of another project, or an `.npz`.

  Args:
    path: a TensorFlow checkpoint's prefix or folder, a PyTorch state dict (`.pt`, `.pth`,
      `.pyth`), or an `.npz` whose names are the checkpoint's keys or our own paths
      ('params/stem/conv/kernel').
    model: the network to load into; of an ensemble, one member.
    partial: accept a file that lacks more than the classifier.
    seed: initialises what the file does not hold.

  Returns:
    variables of the model.

  Raises:
    ConversionError: something other than the classifier is missing or of another shape,
      a weight is not finite, or the file is damaged.
    FileNotFoundError: no such file.
  """
  variables, report = load_with_report(path, model, partial=partial, seed=seed)
  logging.getLogger(__name__).info('%s\n%s', path, report)
  return variables


def load_with_report(path, model: nn.Module, *, partial: bool = False, seed: int = 0):
  """Loads as `load` does, and returns (variables, Report)."""
  return _load(read_arrays(path), model, partial, seed)


def fit(variables, model: nn.Module, *, seed: int = 0):
  """Takes variables of the same network for other classes; the classifier is made anew.

  Returns:
    (variables, Report).

  Raises:
    ConversionError: more than the classifier does not fit, or a weight is not finite.
  """
  return _load(traverse_util.flatten_dict(variables, sep='/'), model, False, seed)


def _load(arrays, model, partial, seed):
  family = _family(model)
  make = functools.partial(init, model, jax.random.key(seed), (1, 1, 32, 32, 3))
  variables, report = fill(arrays, jax.eval_shape(make), family)
  if not partial:
    report.check(family.OPTIONAL)
  _check_finite(variables, report.loaded)
  if report.missing or report.mismatched:  # Only now is initialising worth compiling.
    variables = jax.tree.map(_or_initial, variables, make())
  return variables, report


def fill(arrays: Mapping[str, np.ndarray], variables, family):
  """Replaces the leaves of `variables`, of which only shapes matter, by arrays of the same name.

  Returns:
    the tree, where leaves without an array are left as they were, and the Report.
  """
  leaves = traverse_util.flatten_dict(variables)
  names = family.make_names(list(leaves))
  named, skipped = _sort(arrays, family)
  filled, loaded, missing, mismatched = dict(leaves), [], [], []
  for path, leaf in leaves.items():
    ours = '/'.join(path)
    key = named.pop(ours, None) or named.pop(names[path], None)
    if key is None:
      missing.append(ours)
      continue
    array = family.fit_array(key, arrays[key], leaf.shape)
    if array is None:
      mismatched.append(f'{ours}: found {arrays[key].shape}, wanted {leaf.shape}')
      continue
    filled[path] = jax.numpy.asarray(array, leaf.dtype)
    loaded.append(ours)
  groups = loaded, missing, named.values(), mismatched, skipped
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


def _sort(arrays, family):
  """Canonical (or the file's own) name -> key of the file, and the keys of training."""
  named, skipped = {}, []
  for key in arrays:
    name = family.find_name(key) or key
    if _TRAINING.search(key):
      skipped.append(key)
    elif name in named:
      raise ConversionError(f'{key} and {named[name]} both hold {name}')
    else:
      named[name] = key
  return named, skipped


def _family(model):
  """The module of this folder that knows the names of the model's family."""
  module = sys.modules[type(model).__module__]
  name = module.__name__.rpartition('.')[2]
  known = {m.name for m in pkgutil.iter_modules(__path__)} - {'read', 'report'}
  if name not in known:
    advice = suggest(name, known)
    if hasattr(module, 'join'):
      advice = f': load each member, then join them by {module.__name__}.join'
    raise ConversionError(f'no conversion for networks of {name!r}{advice}')
  return importlib.import_module(f'{__name__}.{name}')
