"""What a search left, as plain data."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from nas.cost import TITLES
from nas.samples import Samples
from nas.space import Space


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a search left. All but the first three may be missing.

  Attributes:
    title: of the page.
    command: the exact command that trains the result.
    space: what was searched.
    rows: a mapping for each log step: step, and any of reward, baseline, accuracy,
      loss, cost_ratio, entropy.
    samples: what was run.
    probabilities: ([S] steps, [S, D, most choices]) of the policy, padded with 0.
    found: family, spec, choices {path: value}, cost {'macs': …, 'params': …, …}, and
      accuracy and reward if they were measured.
    neighbours: of the found network, best reward first: changed {path: value} (empty
      for the found network itself), accuracy, reward, cost.
    control: random networks of the found one's cost band: accuracy, reward, cost.
    cost: which cost was searched for, a name of nas.cost.TITLES: that of samples and rows.
    target: what was aimed at.
    beta: of the reward.
    reward: its form, see nas.objective.REWARDS.
    slope: accuracy gained per unit of cost / target near the target: `estimate_slope`.
    policy_start: the step after which the policy's rate is above 0.
  """

  title: str
  command: str
  space: Space
  rows: Sequence[Mapping] = ()
  samples: Samples | None = None
  probabilities: tuple[np.ndarray, np.ndarray] | None = None
  found: Mapping | None = None
  neighbours: Sequence[Mapping] = ()
  control: Sequence[Mapping] = ()
  cost: str = 'macs'
  target: float | None = None
  beta: float | None = None
  reward: str = 'absolute'
  slope: float | None = None
  policy_start: int | None = None

  def __post_init__(self):
    decisions = len(self.space)
    if self.samples is not None and len(self.samples):
      shape = np.shape(self.samples.choices)
      if len(shape) != 2 or shape[1] != decisions:
        raise ValueError(f'samples of this space have choices [n, {decisions}], got {list(shape)}')
    if self.probabilities is not None:
      steps, table = map(np.asarray, self.probabilities)
      wanted = (len(steps), decisions, max(self.space.sizes, default=0))
      if table.shape != wanted:
        raise ValueError(
          f'probabilities of this space over {len(steps)} steps are {list(wanted)}, '
          f'got {list(table.shape)}'
        )

  @property
  def target_is_missed(self) -> bool:
    """Whether the reward is greatest above the target: its cost term is too weak."""
    known = self.slope is not None and self.beta is not None
    return known and self.reward == 'absolute' and abs(self.beta) < self.slope

  @property
  def found_cost(self) -> int | None:
    return (self.found or {}).get('cost', {}).get(self.cost)

  @property
  def cost_title(self) -> str:
    return TITLES[self.cost]

  def found_value(self, key: str) -> float | None:
    """The found network's accuracy or reward, or its own among its neighbours."""
    own = [row for row in self.neighbours if not row.get('changed')]
    values = [row.get(key) for row in [self.found or {}, *own]]
    return next((value for value in values if is_finite(value)), None)


def is_finite(value) -> bool:
  return isinstance(value, Real) and math.isfinite(value)


def list_values(rows: Sequence[Mapping], key: str) -> np.ndarray:
  """Values of the rows that have a finite one."""
  return np.array([row[key] for row in rows if is_finite(row.get(key))], float)


def list_series(rows: Sequence[Mapping], key: str) -> tuple[np.ndarray, np.ndarray]:
  """Steps and values of the rows that have a finite one."""
  finite = [row for row in rows if is_finite(row.get(key))]
  return np.array([row['step'] for row in finite], float), list_values(finite, key)


def estimate_slope(samples: Samples | None, target: float) -> float | None:
  """Accuracy per unit of cost / target near the target, by least squares.

  Of the search's second half, as the weights of the first half are still poor. Weights
  improve further while the cost drifts, which is no effect of cost: accuracy and cost
  are compared between samples of about the same step only. The nearest of three
  neighbourhoods of the target counts that has enough samples to tell.

  Returns:
    None where they do not tell: fewer than 50 samples, or a standard error of more than
    0.05 and of more than a quarter of the slope.
  """
  if samples is None or not len(samples):
    return None
  steps, ratio = np.asarray(samples.steps), np.asarray(samples.cost, float) / target
  accuracy = np.asarray(samples.accuracy, float)
  late = (steps >= (steps.min() + steps.max()) / 2) & np.isfinite(accuracy)
  for distance in (0.1, 0.25, 0.5):
    near = np.flatnonzero(late & (np.abs(ratio - 1) <= distance))
    fit = _fit_slope(steps[near], ratio[near], accuracy[near])
    if fit and fit[1] <= max(0.05, abs(fit[0]) / 4):
      return fit[0]
  return None


def _fit_slope(steps, x, y) -> tuple[float, float] | None:
  """The slope of y over x and its standard error, with an intercept for each era."""
  if len(x) < 50:
    return None
  eras = np.array_split(np.argsort(steps, kind='stable'), min(20, len(x) // 10))
  x = np.concatenate([x[era] - x[era].mean() for era in eras])
  y = np.concatenate([y[era] - y[era].mean() for era in eras])
  spread = float(x @ x)
  if spread < 1e-9 * len(x):
    return None
  slope = float(x @ y) / spread
  rest = y - slope * x
  return slope, math.sqrt(float(rest @ rest) / (len(x) - len(eras) - 1) / spread)
