"""Does the supernet rank networks as training each of them alone does?

python benchmarks/ranking.py [NETWORKS]    24 networks, two seeds each; about ten minutes

Prints a table, and a JSON line with Kendall's τ between accuracy with shared weights and
accuracy trained alone, beside what it could be at best (between two seeds trained alone)
and what multiply-adds by themselves would give. Intervals are of 2,000 bootstraps.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import kendalltau
from timing import describe_machine

from movinet_jax.data import motion
from movinet_jax.train import losses, mesh, steps
from movinet_jax.train.metrics import count_correct
from nas import oneshot
from nas.objective import Objective
from nas.oneshot.supernets.movinet import Supernet
from nas.spaces import movinet

SPACE = {
  **{'stem': 8, 'widths': (8, 16, 16), 'strides': (2, 1, 2), 'depth': 1, 'project': 32},
  **{'kernels': ((1, 3, 3), (3, 3, 3), (5, 1, 1)), 'expansions': (1.0, 3.0)},
  **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0, 2.0), 'head': 32},
  **{'frames': 8, 'resolution': 16, 'frame_stride': 1},
}
CLASSES, BATCH, TRAINED_STEPS, SHARED_STEPS, NOISE = 4, 16, 500, 1500, 50
LOSS = losses.make_loss('softmax')
OPTIMIZER = {'name': 'sgd', 'momentum': 0.9, 'clip_norm': 1.0}


def make_videos(seed: int, count: int):
  """Moving textures under noise, lest all be learnt: (videos uint8, labels), shuffled."""
  drawn = motion.Motion(frames=8, size=16, speed=1.0, seed=seed)
  split, _ = drawn.splits[0]
  video = [
    motion.make_frames(drawn, split, name, i)
    for name in drawn.classes
    for i in range(count // CLASSES)
  ]
  rng = np.random.default_rng(seed)
  video = np.stack(video) + rng.normal(0, NOISE, (len(video), *video[0].shape))
  label, order = np.repeat(np.arange(CLASSES), count // CLASSES), rng.permutation(count)
  return np.clip(video, 0, 255).astype(np.uint8)[order], label[order]


def take(pool, rows) -> dict:
  video, label = pool
  return {'video': video[rows], 'label': label[rows], 'mask': np.ones(len(rows))}


def train_shared(net, cost, pools):
  """The supernet's weights after uniform sampling: the policy's rate stays 0."""
  place = mesh.make_mesh(jax.devices()[:1])
  step = oneshot.make_search_step(
    net, Objective(cost), LOSS, place, candidates=4, optimizer=OPTIMIZER
  )
  step = mesh.shard_step(step, place)
  settings = oneshot.make_settings(
    net.space.space,
    target=sum(cost.bounds) / 2,
    total_steps=SHARED_STEPS,
    learning_rate=0.1,
    policy_delay=1.0,
  )
  state, rng = oneshot.make_state(net, settings, OPTIMIZER), np.random.default_rng(0)
  for _ in range(SHARED_STEPS):
    batch, valid = (take(p, rng.choice(len(p[1]), 4 * BATCH)) for p in pools[:2])
    state, _ = step(state, {**batch, 'valid': valid})
  return state.params


def make_train_alone(net, pool):
  """Compiled (choices, seed) -> weights of one network, trained from random ones.

  The rest of the supernet's weights is there and masked, so that one program serves all.
  """
  video, label = map(jnp.asarray, pool)
  schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, TRAINED_STEPS)
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(schedule, 0.9))

  @jax.jit
  def train(choices, seed):
    key = jax.random.key(seed)
    params = net.init(key)
    gradients = steps.make_gradients(oneshot.make_forward(net, choices), LOSS)

    def body(carry, number):
      params, state = carry
      rows = jax.random.choice(jax.random.fold_in(key, number), len(label), (BATCH,))
      batch = {'video': video[rows], 'label': label[rows], 'mask': jnp.ones(BATCH)}
      grads, *_ = gradients(params, {}, batch, None)
      updates, state = tx.update(grads, state)
      return (optax.apply_updates(params, updates), state), None

    start = params, tx.init(params)
    (params, _), _ = jax.lax.scan(body, start, jnp.arange(TRAINED_STEPS))
    return params

  return train


def make_score(net, pool):
  video, label = (x.reshape(-1, BATCH, *x.shape[1:]) for x in map(jnp.asarray, pool))

  @jax.jit
  def score(params, choices):
    def count(clips):
      logits, _ = net.apply(params, steps.to_float(clips[0]), choices)
      return count_correct(logits, clips[1], jnp.ones(BATCH))

    return jax.lax.map(count, (video, label)).sum() / label.size

  return score


def correlate(a, b, rounds=2000) -> list[float]:
  """Kendall's τ and the middle 95 % of its bootstraps."""
  rng, n = np.random.default_rng(0), len(a)
  found = [kendalltau(a, b).statistic]
  drawn = (rng.integers(n, size=n) for _ in range(rounds))
  boots = [kendalltau(a[rows], b[rows]).statistic for rows in drawn]
  return [round(float(x), 2) for x in (*found, *np.nanquantile(boots, (0.025, 0.975)))]


def main(count: int = 24):
  net = Supernet(movinet.make_space(**SPACE), CLASSES)
  cost = movinet.make_cost_table(net.space, num_classes=CLASSES)
  pools = [make_videos(seed, size) for seed, size in ((0, 1024), (1, 512), (2, 512))]
  rng = np.random.default_rng(0)
  drawn = np.stack([net.space.space.sample(rng) for _ in range(count)])
  score = make_score(net, pools[2])
  shared = functools.partial(score, train_shared(net, cost, pools))
  train = make_train_alone(net, pools[0])
  rows = []
  print(f'{"network":28} {"MMACs":>7} {"shared":>7} {"alone, seed 0":>14} {"seed 1":>7}')
  for choices in drawn:
    alone = [float(score(train(choices, seed), choices)) for seed in (0, 1)]
    rows.append((int(cost.count(choices)), float(shared(choices)), *alone))
    name = ''.join(map(str, choices))
    macs, *accuracies = rows[-1]
    print(
      f'{name:28} {macs / 1e6:7.2f} {accuracies[0]:7.1%} {accuracies[1]:14.1%} '
      f'{accuracies[2]:7.1%}',
      flush=True,
    )
  macs, shared, first, second = np.array(rows).T
  result = {
    'shared_and_alone': correlate(shared, (first + second) / 2),
    'two_seeds_alone': correlate(first, second),
    'macs_and_alone': correlate(macs, (first + second) / 2),
  }
  row = {'benchmark': 'ranking', 'networks': count, **result, **describe_machine()}
  print(json.dumps(row))


if __name__ == '__main__':
  main(*map(int, sys.argv[1:]))
