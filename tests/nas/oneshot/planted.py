"""Searches for what is known beforehand, through the real supernet and step.

A task has one compiled step. All seeds, targets and held decisions of it share that step.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from movinet_jax.train import losses, mesh, steps
from movinet_jax.train.metrics import count_correct
from nas import oneshot
from nas.algorithms.reinforce import Reinforce
from nas.objective import Objective

CANDIDATES, CLIPS, HELD_OUT = 8, 4, 8  # clips of each candidate
POOL = {'train': 1024, 'val': 1024, 'test': 512}
OPTIMIZER = {'name': 'sgd', 'momentum': 0.9, 'clip_norm': 1.0}


class Task(NamedTuple):
  """A supernet and what searches of it share.

  Attributes:
    net, objective, algorithm, optimizer: what is searched, for what, and how.
    step, judge: compiled, see oneshot.make_search_step and make_judge.
  """

  net: oneshot.Supernet
  objective: Objective
  algorithm: type
  optimizer: Mapping
  step: Callable
  judge: Callable


def make_task(
  net: oneshot.Supernet,
  objective: Objective,
  algorithm: type = Reinforce,
  optimizer: Mapping = OPTIMIZER,
) -> Task:
  place = mesh.make_mesh(jax.devices()[:1])
  step = oneshot.make_search_step(
    net,
    objective,
    losses.make_loss('softmax', label_smoothing=0.1),
    place,
    candidates=CANDIDATES,
    algorithm=algorithm,
    optimizer=optimizer,
  )
  step = mesh.shard_step(step, place)
  return Task(net, objective, algorithm, optimizer, step, make_judge(net))


def make_judge(net):
  """(weights, choices, clips) -> accuracy, in batches as small as the search has them."""

  @jax.jit
  def judge(params, choices, clips):
    def count(batch):
      logits, _ = net.apply(params, steps.to_float(batch['video']), choices)
      return count_correct(logits, batch['label'], batch['mask'])

    batches = jax.tree.map(lambda x: x.reshape(-1, HELD_OUT, *x.shape[1:]), clips)
    return lax.map(count, batches).sum() / len(clips['label'])

  return judge


def take(pool, rows):
  video, label = pool
  mask = np.ones(len(rows), np.float32)
  return {'video': video[rows], 'label': label[rows].astype(np.int32), 'mask': mask}


class Found(NamedTuple):
  """What a search found.

  Attributes:
    choices: [D], the most probable network.
    probabilities: [D, N], the policy's.
    ratio: the network's cost, of the target.
    score: (choices [D]) -> accuracy with shared weights, on clips not seen before.
  """

  choices: np.ndarray
  probabilities: np.ndarray
  ratio: float
  score: Callable


def search(task: Task, lessons, seed: int, *, held=None, **given) -> Found:
  """Runs a whole search.

  Args:
    lessons: pairs (make, steps), what is learnt one after the other. `make` takes the seed and a
      split, and returns videos [N, T, H, W, 3] uint8 and labels [N], POOL[split] of them.
      The last one makes the clips that networks are scored on.
    held: [D], see oneshot.make_state.
    **given: settings of the search.
  """
  total_steps = sum(count for _, count in lessons)
  space = task.net.space.space
  settings = oneshot.make_settings(
    space,
    task.algorithm,
    **{'seed': seed, 'total_steps': total_steps},
    **{'learning_rate': 0.1, 'policy_rate': 0.05, **given},
  )
  state = oneshot.make_state(task.net, settings, task.optimizer, task.algorithm, held)
  rng = np.random.default_rng(seed)
  for make, count in lessons:
    pools = {split: make(seed, split) for split in POOL}
    for _ in range(count):
      batch, held_out = (
        take(pools[split], rng.choice(POOL[split], clips * CANDIDATES, replace=False))
        for split, clips in (('train', CLIPS), ('val', HELD_OUT))
      )
      state, metrics = task.step(state, {**batch, 'valid': held_out})
  policy = oneshot.make_algorithm(space, settings, task.algorithm, held)
  choices = np.asarray(policy.most_probable(state.policy))
  clips = take(pools['test'], rng.permutation(POOL['test']))
  return Found(
    choices,
    np.asarray(metrics['aux']['probabilities']),
    task.objective.cost.count(choices) / settings['target'].item(),
    lambda choices: task.judge(state.params, choices, clips).item(),
  )
