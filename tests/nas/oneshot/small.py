"""Small supernets, and parts of a step of MoViNet's search done by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax.train import losses, optimizers, steps
from nas import oneshot
from nas.algorithms.reinforce import Reinforce
from nas.oneshot.supernets.movinet import Supernet
from nas.oneshot.supernets.tsnet import Supernet as TwoStreams
from nas.spaces import movinet, tsnet

CLASSES, CLIP = 4, (8, 16, 16)
LOSS = losses.make_loss('softmax', label_smoothing=0.1)
OPTIMIZER = {'name': 'sgd', 'momentum': 0.9, 'clip_norm': 1.0}


@functools.cache
def make_net(**fields):
  space = movinet.make_space(
    **{'stem': 8, 'widths': (8, 16), 'strides': (1, 2), 'depth': 2, 'project': 16},
    **{'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0), 'head': 16},
    **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0,), **fields},
  )
  return Supernet(space, CLASSES)


def make_two_streams():
  """One stage of two groups in each stream."""
  space = tsnet.make_space(
    **{'sparse': ((8, 16),), 'dense': ((8,),), 'depths': ((1, 1),), 'places': (0,)},
    **{'expansions': (1.5,), 'times': (1, 3), 'sizes': (3,), 'fusions': ('none', 'conv')},
    **{'stems': (8, 8), 'hidden': 16, 'attention_width': 6, 'ratio': 4},
    **{'frames': 8, 'resolution': 16, 'frame_stride': 2},
  )
  return TwoStreams(space, CLASSES)


def make_cost(net, kind='macs'):
  return movinet.make_cost_table(net.space, kind, num_classes=CLASSES, clip=CLIP)


def make_settings(net, **given):
  middle = sum(make_cost(net).bounds) / 2
  given = {'target': middle, 'total_steps': 8, 'learning_rate': 0.1, **given}
  given = {'policy_delay': 0.0, 'filters_warmup': 0.0, 'ops_warmup': 0.0, **given}
  return oneshot.make_settings(net.space.space, **given)


def make_batch(number, clips=16, held_out=24):
  def draw(key, count):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(key), number))
    video = jax.random.randint(keys[0], (count, *CLIP, 3), 0, 256).astype(jnp.uint8)
    label = jax.random.randint(keys[1], (count,), 0, CLASSES)
    return {'video': video, 'label': label, 'mask': np.ones(count, np.float32)}

  return jax.device_get({**draw(0, clips), 'valid': draw(1, held_out)})


def make_lively_state(net, settings, algorithm=Reinforce):
  """With ReZero scales of 0 all branches would be hidden, and logits nearly a bias."""
  state = oneshot.make_state(net, settings, OPTIMIZER, algorithm)

  def change(path, x):
    if path[-2].key == 'rezero':
      return x + 0.5
    return 30 * x if [key.key for key in path] == ['classifier', 'kernel'] else x

  return state.replace(params=jax.tree_util.tree_map_with_path(change, state.params))


def score_alone(net, params, batch, choices, row, parts=1) -> float:
  """Accuracy of a candidate on its three held-out clips, run in so many parts."""
  held_out, state = batch['valid'], None
  rows = slice(3 * row, 3 * row + 3)
  for part in np.split(held_out['video'][rows], parts, axis=1):
    logits, state = make_apply(net)(params, steps.to_float(part), choices[row], state)
  return np.mean(np.argmax(logits, -1) == held_out['label'][rows])


@functools.cache
def make_apply(net):
  return jax.jit(net.apply)


def learn_one_by_one(net, params, batch, choices, weight_decay=0.0):
  """(losses, gradients) of eight candidates on two clips each, with L2 on what they use."""

  def decay(path, gradient, weight):
    used = (gradient != 0) & optimizers.is_decayed(path)
    return gradient + weight_decay * weight * used

  values, grads = [], []
  for row in range(8):
    clips = {k: batch[k][2 * row : 2 * row + 2] for k in ('video', 'label', 'mask')}
    value, gradient = make_learn(net)(params, choices[row], clips)
    grads.append(jax.tree_util.tree_map_with_path(decay, gradient, params))
    values.append(value)
  return np.array(values), grads


@functools.cache
def make_learn(net):
  def loss(params, choices, clips):
    logits, _ = net.apply(params, steps.to_float(clips['video']), choices)
    return LOSS(logits, clips['label'], clips['mask'])

  return jax.jit(jax.value_and_grad(loss))
