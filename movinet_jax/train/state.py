"""What training carries from one step to the next."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TrainState:
  """Everything a step reads and writes.

  No random key is stored: a step's randomness is `fold_in(key(seed), step)`, so a
  resumed run draws what the uninterrupted one would have drawn.

  Attributes:
    step: int32 scalar, the number of updates made so far, which is also the number
      of batches consumed.
    params: trained arrays, float32.
    batch_stats: running statistics of batch normalisation, float32.
    ema: {'params', 'batch_stats'}, exponential moving averages of both, the weights
      that are evaluated (MoViNet supplement, B.1).
    opt_state: the optimizer's own state.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  ema: Any
  opt_state: Any


def make_state(variables, tx) -> TrainState:
  """Makes the state of a run that has not yet made a step.

  Args:
    variables: {'params': ..., 'batch_stats': ...}; 'batch_stats' may be absent.
    tx: an optax transformation, or what `make_optimizer` returns.

  Raises:
    ValueError: if a floating-point array is not float32. A network may compute in
      bfloat16, but its parameters and statistics are kept in float32.
  """
  unknown = set(variables) - {'params', 'batch_stats'}
  if unknown:
    raise ValueError(
      f'Cannot train collections {sorted(unknown)}; a model here has '
      "'params' and 'batch_stats' only (streams are values, not collections)."
    )
  trained = {
    'params': variables['params'],
    'batch_stats': variables.get('batch_stats', {}),
  }
  _check_float32(trained)
  # Copies, twice: the step donates its state, and a buffer cannot be donated twice
  # nor be taken from the caller.
  own = jax.tree.map(lambda x: jnp.array(x, copy=True), trained)
  ema = jax.tree.map(lambda x: jnp.array(x, copy=True), trained)
  return TrainState(step=jnp.zeros((), jnp.int32), ema=ema, opt_state=tx.init(own['params']), **own)


def _check_float32(trained):
  for path, leaf in jax.tree_util.tree_leaves_with_path(trained):
    if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != jnp.float32:
      raise ValueError(
        f'{jax.tree_util.keystr(path)} is {leaf.dtype}, wanted float32. Give the '
        'model a compute dtype instead of casting its parameters.'
      )
