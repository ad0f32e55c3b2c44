"""Optimizers, as optax chains that follow the published training runs."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from movinet_jax import schema
from movinet_jax.names import check_name, find
from movinet_jax.schema import Count, Natural, NotNegative, Positive, Rate, checked

# The batch at which learning rates are stated (MoViNet supplement, B.1).
REFERENCE_BATCH = 1024


class Optimizer(NamedTuple):
  """An optax transformation that also knows its learning rate at each step."""

  init: Any
  update: Any
  schedule: optax.Schedule


@checked
def make_optimizer(
  name: str = 'rmsprop',
  *,
  batch_size: Count,
  total_steps: Count,
  learning_rate: Positive = 1.8,
  warmup_steps: Natural = 0,
  clip_norm: Positive | None = 1.0,
  weight_decay: NotNegative = 3e-5,
  **options,
) -> Optimizer:
  """Makes the optimizer of a run; the defaults are MoViNet's (supplement, B.1).

  Order of the chain for 'rmsprop' and 'sgd': L2 is part of the loss there, so its
  gradient is added before clipping. 'adamw' decays after scaling, as it is defined.

  Args:
    name: 'rmsprop', 'sgd' or 'adamw'.
    batch_size: clips per update over all devices; the rate is scaled linearly by it.
    total_steps: updates of the whole run, warm-up included.
    learning_rate: peak rate for a batch of 1024 clips.
    warmup_steps: updates over which the rate rises linearly from 0.
    clip_norm: greatest global norm of the gradients; None does not clip.
    weight_decay: gradient of L2 per weight. 3e-5 is what Keras' l2(1.5e-5) gives.
      Falls on leaves called 'kernel' outside 'classifier' only.
    **options: of the method: decay, momentum, epsilon (rmsprop), momentum, nesterov
      (sgd), b1, b2, epsilon (adamw).

  Raises:
    ValueError: for an unknown name or option (the nearest is named), or steps that
      do not fit.
  """
  if 'schedule' in options:
    raise ValueError('schedule is no option: learning_rate, warmup_steps and total_steps make it')
  schedule = make_schedule(learning_rate * batch_size / REFERENCE_BATCH, total_steps, warmup_steps)
  return make_chain(schedule, name, clip_norm=clip_norm, weight_decay=weight_decay, **options)


def make_chain(
  schedule: optax.Schedule,
  name: str = 'rmsprop',
  *,
  clip_norm: Positive | None = 1.0,
  weight_decay: float = 3e-5,
  **options,
) -> Optimizer:
  """`make_optimizer` with a schedule of one's own, step -> rate; it may be traced."""
  method = find(_METHODS, name, 'optimizer')
  known = [p for p in inspect.signature(method).parameters if p not in _OURS]
  for option in options:
    check_name(option, known, f'option of {name}')
  # Adam would normalise a decay in the gradient away, so AdamW takes it itself.
  inside = name == 'adamw'
  given = {'schedule': schedule, **({'weight_decay': weight_decay} if inside else {})}
  chain = optax.chain(
    optax.identity() if inside else _decay(weight_decay),
    optax.identity() if clip_norm is None else _clip(clip_norm),
    schema.call(method, options, 'optimizer', **given),
  )
  return Optimizer(chain.init, chain.update, schedule)


@checked
def make_schedule(peak: float, total_steps: Count, warmup_steps: Natural = 0):
  """Cosine from `peak` to 0 over total_steps, times a linear warm-up from 0.

  The warm-up meets the cosine where it stands at warmup_steps rather than shifting
  it, as in the TensorFlow Model Garden's runs (85,785 steps in all, 2,145 warm-up).
  """
  if warmup_steps >= total_steps:
    raise ValueError(f'warmup_steps={warmup_steps} and total_steps={total_steps}: wanted fewer')
  cosine = optax.cosine_decay_schedule(peak, total_steps)
  if not warmup_steps:
    return cosine
  warm = optax.linear_schedule(0.0, cosine(warmup_steps), warmup_steps)
  return lambda step: jnp.where(step < warmup_steps, warm(step), cosine(step))


def is_decayed(path) -> bool:
  """Whether L2 falls on the leaf at this key path.

  Convolution kernels, depthwise ones included, have it; biases, batch norm, ReZero
  scales and the last layer, 'classifier', have not (Model Garden's MoViNet).
  """
  names = [getattr(key, 'key', None) for key in path]
  return names[-1] == 'kernel' and 'classifier' not in names


def _decay(weight_decay):
  return optax.add_decayed_weights(weight_decay, mask=_decay_mask)


def _decay_mask(params):
  return jax.tree_util.tree_map_with_path(lambda path, _: is_decayed(path), params)


def _clip(max_norm):
  # optax.clip_by_global_norm divides every gradient, which XLA stores once more before
  # it goes on; one factor for all is part of whatever reads the gradient.
  def update(updates, state, params=None):
    del params
    factor = max_norm / jnp.maximum(optax.tree.norm(updates), max_norm)
    return jax.tree.map(lambda g: g * factor, updates), state

  return optax.GradientTransformation(optax.init_empty_state, update)


def _rmsprop(schedule, decay: Rate = 0.9, momentum: Rate | None = 0.9, epsilon: NotNegative = 1.0):
  # TensorFlow: mean square from 0 and epsilon inside the root. With epsilon 1.0,
  # outside it would halve the step. Momentum gathers updates that are already
  # scaled by the rate of their own step.
  return optax.rmsprop(schedule, decay=decay, eps=epsilon, eps_in_sqrt=True, momentum=momentum)


def _sgd(schedule, momentum: Rate = 0.9, nesterov: bool = False):
  # Not optax.sgd: TensorFlow scales by the rate before the momentum, as above.
  return optax.chain(optax.scale_by_learning_rate(schedule), optax.trace(momentum, nesterov))


def _adamw(schedule, weight_decay, b1: Rate = 0.9, b2: Rate = 0.999, epsilon: NotNegative = 1e-8):
  return optax.adamw(
    schedule, b1=b1, b2=b2, eps=epsilon, weight_decay=weight_decay, mask=_decay_mask
  )


_METHODS = {'rmsprop': _rmsprop, 'sgd': _sgd, 'adamw': _adamw}
_OURS = ('schedule', 'weight_decay')  # arguments that are not a method's options
