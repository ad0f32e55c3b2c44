"""Precise batch norm: statistics of the network as it is, not a moving average of its past.

Wu and Johnson, "Rethinking 'Batch' in BatchNorm" (2021), section 3: with the weights held
still, training batches run through the network, normalised by their own moments as in
training, and what each norm is given is averaged over all of them. X3D and SlowFast are
evaluated so, with 200 batches.
"""

from collections.abc import Callable, Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from movinet_jax.train.mesh import make_mesh, replicated, shard_batch
from movinet_jax.train.steps import list_statistics, to_float
from movinet_jax.train.waiting import run_ahead


def make_estimate(model, mesh=None) -> Callable:
  """Makes estimate(variables, batches) -> batch statistics, host arrays.

  Of means m and biased variances v of equally large batches, the mean of all that a norm
  is given is E[m], and its variance E[v + m²] − E[m]²: exactly that of the batches put
  together, which mean variances would underrate by the spread of the means. Groups that
  share statistics (layers.BatchNorm) only normalise; moments are of the whole batch.

  There is no chance in it: dropout and stochastic depth are off, as in evaluation, of
  whose network these are the statistics.

  Args:
    model: `apply(variables, video)` gives (logits, state); what owns statistics owns
      `mean` and `var` [C] of its input [..., C], and is called with `train=...`.
    mesh: whose devices share each batch.

  Returns:
    estimate(variables, batches): of {'params', 'batch_stats'} and dicts with `video`
    [B, T, H, W, 3], of which only those given are read, to the end.

  Raises:
    ValueError: from estimate, for no batches, or a model whose statistics are others.
  """
  mesh = make_mesh() if mesh is None else mesh
  moments = jax.jit(make_moments(model), out_shardings=replicated(mesh))

  def estimate(variables, batches: Iterable[Mapping]):
    variables = jax.device_put(variables, replicated(mesh))

    def step(batch):
      return moments(variables, shard_batch({'video': batch['video']}, mesh)['video'])

    return combine([jax.device_get(found) for _, found in run_ahead(step, batches)])

  return estimate


def make_moments(model) -> Callable:
  """Makes (variables, video) -> moments of what each norm is given, as `batch_stats`."""

  def moments(variables, video):
    with nn.intercept_methods(_take_moments):
      _, new = model.apply(variables, to_float(video), mutable=['batch_stats'])
    return new.get('batch_stats', {})

  return moments


def combine(moments):
  """Moments of equally large batches -> those of all of them together, float32."""
  flat = [traverse_util.flatten_dict(m) for m in moments]
  if not flat or not flat[0]:
    raise ValueError(
      f'there are {len(flat)} batches and {len(flat[0]) if flat else 0} statistics to '
      'recompute: precise statistics are of one batch or more, and of a network with '
      'batch norm'
    )
  result = {}
  for path in flat[0]:
    if path[-1] == 'mean':
      mean, var = (
        np.stack([m[*path[:-1], name] for m in flat]).astype(np.float64) for name in ('mean', 'var')
      )
      result[path] = mean.mean(0)
      # As sums of squares around the mean, of which rounding leaves nothing negative.
      result[*path[:-1], 'var'] = (var + (mean - mean.mean(0)) ** 2).mean(0)
  result = {path: value.astype(np.float32) for path, value in result.items()}
  return traverse_util.unflatten_dict(result)


def _take_moments(call, args, kwargs, context):
  """Runs what owns statistics as in training, and the rest as in evaluation."""
  own = list_statistics(context)
  if not own:
    return call(*args, **kwargs)
  module = context.module
  if own != ['mean', 'var'] or 'train' not in kwargs:
    raise ValueError(
      f'{type(module).__name__} has the statistics {own} and is called with '
      f'{sorted(kwargs)}: only a mean and a var of a module that is told `train=...` can '
      'be recomputed'
    )
  y = call(*args, **{**kwargs, 'train': True})
  x = args[0].astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  # In place of the moving averages that the call has just written.
  module.put_variable('batch_stats', 'mean', x.mean(axes))
  module.put_variable('batch_stats', 'var', x.var(axes))
  return y
