"""Problems whose every architecture is known: a table of accuracy and cost.

Six axes as X3D expands them, and as compound coefficients scale them, with six values
each: 46,656 architectures. What is wanted is the most accurate of those whose cost is
within a limit, and that is found by looking at all of them. Each seed is a problem.
"""

import dataclasses
import functools
import itertools

import numpy as np

from nas.space import OneOf, Space

STEPS = 6
# Cost grows as this power of an axis's value: of frames and layers linearly, of widths
# and image sides quadratically.
POWERS = {
  'rate': 1,
  'duration': 1,
  'resolution': 2,
  'depth': 1,
  'width': 2,
  'bottleneck': 1,
}
# Two steps of any axis double the cost.
AXES = {
  axis: tuple(round(2 ** (step / 2 / power), 3) for step in range(STEPS))
  for axis, power in POWERS.items()
}
SPACE = Space({axis: OneOf(values) for axis, values in AXES.items()})
LIMIT = 64.0  # times the cost of the smallest: six doublings
ROUNDING = 0.1  # greatest distance of log2 of a value's cost from its power law
# All in accuracy, as is everything below. Axes gain differently, and so do problems.
SMALLEST, GAIN = 0.3, (0.06, 0.12)
PAIRS = 0.015  # standard deviation of what two axes at their ends add together
RUGGED = 0.004  # standard deviation of what is each architecture's own


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """A problem. Architectures are numbered as the space enumerates them.

  Attributes:
    costs: [N], times that of the smallest.
    accuracies: [N], true ones.
    noise: standard deviation of what a trial measures around them.
    seed: of the noise.
    limit: on the cost.
    space: flat, so that all have as many decisions.
  """

  costs: np.ndarray
  accuracies: np.ndarray
  noise: float = 0.0
  seed: int = 0
  limit: float = LIMIT
  space: Space = SPACE

  def index(self, choices) -> int:
    return int(self.space.check(choices) @ self._strides)

  @functools.cached_property
  def _strides(self) -> np.ndarray:
    """[D], by how much the number grows with each choice's."""
    return np.prod(self.space.sizes) // np.cumprod(self.space.sizes)

  def cost(self, choices) -> float:
    return float(self.costs[self.index(choices)])

  def accuracy(self, choices) -> float:
    return float(self.accuracies[self.index(choices)])

  def fits(self, choices) -> bool:
    return self.cost(choices) <= self.limit

  @functools.cached_property
  def best(self) -> np.ndarray:
    """The most accurate architecture within the limit."""
    within = np.where(self.costs <= self.limit, self.accuracies, -np.inf)
    return np.int32(np.unravel_index(within.argmax(), self.space.sizes))

  def regret(self, choices) -> float:
    """How much more accurate the best is."""
    return self.accuracy(self.best) - self.accuracy(choices)

  def evaluate(self, number: int, choices) -> float:
    """What trial `number` measures; the same whenever and wherever it runs."""
    rng = np.random.default_rng((self.seed, number))
    return self.accuracy(choices) + self.noise * rng.normal()


@functools.cache
def make_table(seed: int, noise: float = 0.0) -> Table:
  """Concave gains of the axes, what pairs add, and something rugged.

  Args:
    noise: see Table; 0 measures the truth.
  """
  rng = np.random.default_rng(seed)
  grid = np.stack(np.unravel_index(np.arange(SPACE.count()), SPACE.sizes), -1)
  accuracies = SMALLEST + _make_gains(rng)[np.arange(len(SPACE)), grid].sum(-1)
  accuracies += _make_pairs(rng, 2 * grid / (STEPS - 1) - 1)
  accuracies += rng.normal(0, RUGGED, len(grid))
  doublings = _make_doublings(rng)[np.arange(len(SPACE)), grid].sum(-1)
  return Table(2**doublings, accuracies, noise, seed)


def _make_gains(rng) -> np.ndarray:
  """[A, S] of axes and their steps: from 0, each step adds less than the one before."""
  gain = rng.uniform(*GAIN, (len(SPACE), 1))
  bend = rng.uniform(1, 4, (len(SPACE), 1))
  share = np.linspace(0, 1, STEPS)
  return gain * (1 - np.exp(-bend * share)) / (1 - np.exp(-bend))


def _make_pairs(rng, places) -> np.ndarray:
  """[N], of places [N, A] on axes from -1 to 1: whether two go together."""
  added = np.zeros(len(places))
  for a, b in itertools.combinations(range(len(SPACE)), 2):
    added += rng.normal(0, PAIRS) * places[:, a] * places[:, b]
  return added


def _make_doublings(rng) -> np.ndarray:
  """[A, S]: log2 of the cost. It ascends, but a network's sizes are rounded."""
  doublings = np.arange(STEPS) / 2 + rng.uniform(-ROUNDING, ROUNDING, (len(SPACE), STEPS))
  return doublings - doublings[:, :1]
