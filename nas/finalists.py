"""What a search ends with: the found network, its neighbours, and random ones beside it.

All are run with the shared weights on the same clips, so they compare with each other; how
good each would be trained alone, only training tells. Random networks of equal cost are the
control that a search has to beat (Yu et al., 2019; Li and Talwalkar, 2019).
"""

from collections.abc import Callable, Iterable

import jax
import numpy as np

from movinet_jax.train.metrics import count_correct
from movinet_jax.train.steps import to_float
from nas.cost import CostTable
from nas.space import Space

_TRIES = 200_000  # random networks looked at for those of equal cost


def compare(
  judge: Callable,
  space: Space,
  cost: CostTable,
  chosen: np.ndarray,
  probabilities: np.ndarray,
  *,
  neighbours: int = 16,
  control: int = 16,
  band: float = 0.05,
  seed: int = 0,
) -> tuple[list[dict], list[dict]]:
  """Rows of the found network and its neighbours, best reward first, and of the control.

  Args:
    judge: choices [K, D] -> (accuracies [K], rewards [K]).
    chosen: [D], the found network.
    probabilities: [D, N] of the policy.
    neighbours: how many networks that differ in one decision, the most probable ones.
    control: how many random networks.
    band: their cost differs from the found one's by at most this share.
  """
  near = list_neighbours(space, chosen, probabilities, neighbours)
  rng = np.random.default_rng(seed)
  drawn = draw_in_band(space, cost, rng, int(cost.count(chosen)), band, control)
  everyone = np.stack([space.canonical(chosen), *near, *drawn])
  accuracy, reward = judge(everyone)
  rows = [
    {'accuracy': float(a), 'reward': float(r), 'cost': int(c)}
    for a, r, c in zip(accuracy, reward, cost.count(everyone), strict=True)
  ]
  before = space.describe(chosen)
  for row, choices in zip(rows, everyone[: 1 + len(near)], strict=False):
    after = space.describe(choices)
    row['changed'] = {k: v for k, v in after.items() if before.get(k, _NOTHING) != v}
  near_rows = sorted(rows[: 1 + len(near)], key=lambda row: -row['reward'])
  return near_rows, rows[1 + len(near) :]


_NOTHING = object()


def list_neighbours(space, chosen, probabilities, count: int) -> list[np.ndarray]:
  """Networks that differ from one in a single open decision, the most probable first."""
  chosen = space.canonical(chosen)
  opened, found = space.is_open(chosen), []
  for n, size in enumerate(space.sizes):
    for choice in range(size) if opened[n] else ():
      if choice != chosen[n]:
        other = chosen.copy()
        other[n] = choice
        odds = np.log(probabilities[n, choice]) - np.log(probabilities[n, chosen[n]])
        found.append((-odds, n, choice, space.canonical(other)))
  return [other for *_, other in sorted(found, key=lambda f: f[:3])[:count]]


def draw_in_band(space, cost, rng, centre: int, band: float, count: int):
  """Up to `count` distinct uniform networks whose cost is within a share of `centre`."""
  found = {}
  for _ in range(_TRIES // 1000):
    drawn = rng.integers(space.sizes, size=(1000, len(space)))
    near = np.abs(cost.count(drawn) - centre) <= band * centre
    for choices in drawn[near]:
      canonical = space.canonical(choices)
      found.setdefault(canonical.tobytes(), canonical)
      if len(found) == count:
        return list(found.values())
  return list(found.values())


def make_judge(supernet, params, reward: Callable, batches: Iterable):
  """Makes choices [K, D] -> (accuracies [K], rewards [K]) on the same clips for all.

  Args:
    reward: (accuracies [K], choices [K, D]) -> rewards [K].
    batches: clips; those with a padded or failed one are left out, unless all have one,
      for norms take the statistics of a batch.
  """
  batches = list(batches)
  batches = [b for b in batches if b['mask'].all()] or batches

  @jax.jit
  def count(params, choices, clips):
    logits, _ = supernet.apply(params, to_float(clips['video']), choices)
    return count_correct(logits, clips['label'], clips['mask'])

  clips = [{k: b[k] for k in ('video', 'label', 'mask')} for b in batches]
  videos = sum(b['mask'].sum() for b in clips)

  def judge(everyone):
    right = [[count(params, choices, c) for c in clips] for choices in everyone]
    accuracy = np.sum(jax.device_get(right), axis=1) / videos
    return accuracy, np.asarray(reward(accuracy, everyone))

  return judge
