"""The networks that a search ends with: the found one, its neighbours, and random ones.

All run with the shared weights on the same clips, so they compare with each other. Only
training tells how good each would be alone. Random networks of equal cost are the control
that a search has to beat (Yu et al., 2019; Li and Talwalkar, 2019).
"""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import numpy as np

from movinet_jax.schema import Count, Natural, Share
from movinet_jax.train.metrics import count_correct
from movinet_jax.train.steps import to_float
from nas.cost import CostTable
from nas.oneshot.progressive import impose
from nas.space import Space

_TRIES = 200_000  # random networks looked at for those of equal cost
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Comparison:
  """How much is compared.

  Attributes:
    neighbours: networks that differ in one decision, the most probable ones.
    control: random networks.
    band: their cost differs from the found one's by at most this share.
    batches: batches of clips that all are run on, at most.
    top: finalists that are written as files of their own, best reward first.
  """

  neighbours: Natural = 16
  control: Natural = 16
  band: Share = 0.05
  batches: Count = 16
  top: Natural = 5


def compare(
  judge: Callable,
  space: Space,
  cost: CostTable,
  chosen: np.ndarray,
  probabilities: np.ndarray,
  limits: Comparison,
  *,
  held: np.ndarray | None = None,
  seed: int = 0,
) -> tuple[list[dict], list[dict]]:
  """Compares networks: rows of the found one and its neighbours, and rows of the control.

  A row has a network's choices [D], accuracy, reward and cost. Those of the found network
  and its neighbours, best reward first, also have what is changed in them, by path.

  Args:
    judge: choices [K, D] -> (accuracies [K], rewards [K]).
    chosen: [D], the found network.
    probabilities: [D, N] of the policy.
    held: [D], choices that all networks have, -1 for decisions that are searched; None: all are.
  """
  chosen = space.canonical(chosen)
  near = list_neighbours(space, chosen, probabilities, limits.neighbours, held)
  rng, centre = np.random.default_rng(seed), int(cost.count(chosen))
  drawn = draw_in_band(space, cost, rng, centre, limits.band, limits.control, chosen, held)
  everyone = np.stack([chosen, *near, *drawn])
  accuracy, reward = judge(everyone)
  rows = [
    {'choices': choices, 'accuracy': float(a), 'reward': float(r), 'cost': int(c)}
    for choices, a, r, c in zip(everyone, accuracy, reward, cost.count(everyone), strict=True)
  ]
  before = space.describe(chosen)
  for row in rows[: 1 + len(near)]:
    after = space.describe(row['choices'])
    row['changed'] = {k: v for k, v in after.items() if before.get(k, _ABSENT) != v}
  near_rows = sorted(rows[: 1 + len(near)], key=lambda row: -row['reward'])
  return near_rows, rows[1 + len(near) :]


def list_neighbours(space, chosen, probabilities, count: int, held=None) -> list[np.ndarray]:
  """Lists networks that differ from one in a single open decision, most probable first.

  Decisions that such a change opens take their most probable choices. Decisions that are held
  (see `compare`) stay.
  """
  opened, found = space.is_open(chosen), []
  likely = np.where(opened, chosen, probabilities.argmax(-1))
  searched = opened if held is None else opened & (held < 0)
  for n, size in enumerate(space.sizes):
    for choice in range(size) if searched[n] else ():
      if choice != chosen[n]:
        other = likely.copy()
        other[n] = choice
        odds = np.log(probabilities[n, choice]) - np.log(probabilities[n, chosen[n]])
        found.append((-odds, n, choice, space.canonical(other)))
  return [other for *_, other in sorted(found, key=lambda f: f[:3])[:count]]


def draw_in_band(space, cost, rng, centre: int, band: float, count: int, besides, held=None):
  """Draws up to `count` distinct random networks whose cost is within a share of `centre`.

  They are drawn uniformly as long as enough of them have such a cost. The rest come from
  random walks, each from a network of its own, that go towards the band and stay inside it.

  Args:
    besides: [D], a network not to draw.
    held: see `compare`.
  """
  limit, found = band * centre, {}
  besides = space.canonical(besides).tobytes()

  def keep(drawn):
    for choices in drawn[np.abs(cost.count(drawn) - centre) <= limit]:
      canonical = space.canonical(choices)
      if canonical.tobytes() != besides and len(found) < count:
        found.setdefault(canonical.tobytes(), canonical)

  for _ in range(_TRIES // 1000):
    if len(found) == count:
      break
    keep(impose(held, rng.integers(space.sizes, size=(1000, len(space)))))
  if len(found) < count:
    keep(_walk_into_band(space, cost, rng, centre, limit, 2 * count, held))
  return list(found.values())


def _walk_into_band(space, cost, rng, centre, limit, count, held) -> np.ndarray:
  """Ends of walks [count, D]: uniform over the band, the more steps the nearer."""
  walkers = impose(held, rng.integers(space.sizes, size=(count, len(space))))
  away, rows = np.abs(cost.count(walkers) - centre), np.arange(count)
  for _ in range(20 * len(space)):
    moved = walkers.copy()
    for _ in range(2):  # of which one may make up for the other
      decisions = rng.integers(len(space), size=count)
      moved[rows, decisions] = rng.integers(space.sizes[decisions])
    moved = impose(held, moved)
    distance = np.abs(cost.count(moved) - centre)
    taken = distance <= np.maximum(away, limit)
    walkers[taken], away[taken] = moved[taken], distance[taken]
  return walkers


def make_judge(supernet, params, reward: Callable, batches: Iterable):
  """Makes choices [K, D] -> (accuracies [K], rewards [K]) on the same clips for all.

  Args:
    reward: (accuracies [K], choices [K, D]) -> rewards [K].
    batches: clips. Norms use the statistics of a batch, so batches with a padded or failed
      clip are left out, unless all have one.
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
