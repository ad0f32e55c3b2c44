"""What a search ends with: the found network, its neighbours, and random ones beside it.

All are run with the shared weights on the same clips, so they compare with each other; how
good each would be trained alone, only training tells. Random networks of equal cost are the
control that a search has to beat (Yu et al., 2019; Li and Talwalkar, 2019).
"""

import dataclasses
import numbers
from collections.abc import Callable, Iterable

import jax
import numpy as np

from movinet_jax.train.metrics import count_correct
from movinet_jax.train.steps import to_float
from nas.cost import CostTable
from nas.space import Space

_TRIES = 200_000  # random networks looked at for those of equal cost
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much is compared.

  Attributes:
    neighbours: networks that differ in one decision, the most probable ones.
    control: random networks.
    band: their cost differs from the found one's by at most this share.
    batches: batches of clips that all are run on, at most.
    top: finalists that are written as files of their own, best reward first.

  Raises:
    ValueError: a number out of its range.
  """

  neighbours: int = 16
  control: int = 16
  band: float = 0.05
  batches: int = 16
  top: int = 5

  def __post_init__(self):
    for name, least in (('neighbours', 0), ('control', 0), ('batches', 1), ('top', 0)):
      value = getattr(self, name)
      if type(value) is not int or value < least:
        raise ValueError(
          f'{name} of finalists is {value!r}, wanted a whole number, {least} or more'
        )
    if not isinstance(self.band, numbers.Real) or not 0 <= self.band < 1:
      raise ValueError(f'band of finalists is {self.band!r}, wanted a share of the cost in [0, 1)')


def compare(
  judge: Callable,
  space: Space,
  cost: CostTable,
  chosen: np.ndarray,
  probabilities: np.ndarray,
  limits: Limits,
  *,
  seed: int = 0,
) -> tuple[list[dict], list[dict]]:
  """Rows of the found network and its neighbours, best reward first, and of the control.

  A row is a network's choices [D], accuracy, reward and cost; a neighbour's says what is
  changed in it, by path.

  Args:
    judge: choices [K, D] -> (accuracies [K], rewards [K]).
    chosen: [D], the found network.
    probabilities: [D, N] of the policy.
  """
  chosen = space.canonical(chosen)
  near = list_neighbours(space, chosen, probabilities, limits.neighbours)
  rng, centre = np.random.default_rng(seed), int(cost.count(chosen))
  drawn = draw_in_band(space, cost, rng, centre, limits.band, limits.control, chosen)
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


def list_neighbours(space, chosen, probabilities, count: int) -> list[np.ndarray]:
  """Networks that differ from one in a single open decision, the most probable first.

  What such a change opens is decided as the policy would: its most probable choices.
  """
  opened, found = space.is_open(chosen), []
  likely = np.where(opened, chosen, probabilities.argmax(-1))
  for n, size in enumerate(space.sizes):
    for choice in range(size) if opened[n] else ():
      if choice != chosen[n]:
        other = likely.copy()
        other[n] = choice
        odds = np.log(probabilities[n, choice]) - np.log(probabilities[n, chosen[n]])
        found.append((-odds, n, choice, space.canonical(other)))
  return [other for *_, other in sorted(found, key=lambda f: f[:3])[:count]]


def draw_in_band(space, cost, rng, centre: int, band: float, count: int, besides):
  """Up to `count` distinct random networks whose cost is within a share of `centre`.

  Uniform ones, as long as enough of them have such a cost; then by random walks, each from
  a network of its own, that go towards the band and stay inside it.

  Args:
    besides: [D], a network not to draw.
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
    keep(rng.integers(space.sizes, size=(1000, len(space))))
  if len(found) < count:
    keep(_walk_into_band(space, cost, rng, centre, limit, 2 * count))
  return list(found.values())


def _walk_into_band(space, cost, rng, centre, limit, count) -> np.ndarray:
  """Ends of walks [count, D]: uniform over the band, the more steps the nearer."""
  walkers = rng.integers(space.sizes, size=(count, len(space)))
  away, rows = np.abs(cost.count(walkers) - centre), np.arange(count)
  for _ in range(20 * len(space)):
    moved = walkers.copy()
    for _ in range(2):  # of which one may make up for the other
      decisions = rng.integers(len(space), size=count)
      moved[rows, decisions] = rng.integers(space.sizes[decisions])
    distance = np.abs(cost.count(moved) - centre)
    taken = distance <= np.maximum(away, limit)
    walkers[taken], away[taken] = moved[taken], distance[taken]
  return walkers


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
