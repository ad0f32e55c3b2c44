"""What a search left, as plain data."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from nas.cost import TITLES
from nas.history import Conclusion, Trial
from nas.oneshot.progressive import can_open
from nas.oneshot.samples import Samples
from nas.report.amounts import is_finite
from nas.space import Space

COSTS = ('macs', 'latency_ns', 'params')  # that trials are drawn against
METRICS = {'top1': 'top-1', 'top5': 'top-5', **{cost: TITLES[cost] for cost in COSTS}}
SECTIONS = ('course',)  # of a sweep whose algorithm names none


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a one-shot search left. All but the first three may be missing."""

  FIRST: ClassVar = ('summary', 'search', 'tradeoff', 'control')  # sections
  LAST: ClassVar = ()

  title: str
  command: str  # that trains the result, exactly
  space: Space
  # Of each log step: step, and any of reward, baseline, accuracy, loss, cost_ratio and entropy.
  rows: Sequence[Mapping] = ()
  samples: Samples | None = None  # what was run
  # Of the policy: [S] steps, [S, D, most choices], padded with 0.
  probabilities: tuple[np.ndarray, np.ndarray] | None = None
  # family, spec, choices {path: value}, cost {'macs': …, …}; accuracy and reward if measured.
  found: Mapping | None = None
  # Of the found network, best reward first: changed {path: value} (empty for the found network
  # itself), accuracy, reward, cost.
  neighbours: Sequence[Mapping] = ()
  control: Sequence[Mapping] = ()  # random networks in its cost band: accuracy, reward, cost
  cost: str = 'macs'  # in samples and rows, a name of nas.cost.TITLES
  target: float | None = None  # the cost that was aimed at
  beta: float | None = None  # of the reward
  reward: str = 'absolute'  # its form, see nas.objective.REWARDS
  slope: float | None = None  # accuracy gained per unit of cost / target: `estimate_slope`
  relative: bool = False  # whether the slope is of log accuracy: `estimate_relative_slope`
  policy_start: int | None = None  # the step after which the policy's rate is above 0
  # Of the space and of the algorithm: files of nas.report.sections.
  sections: Sequence[str] = ('decisions',)
  held: np.ndarray | None = None  # choices [D] of decisions that were not searched, else -1

  @property
  def sizes(self) -> np.ndarray:
    """[D], how many choices were left to each decision."""
    return self.space.sizes if self.held is None else np.where(self.held < 0, self.space.sizes, 1)

  @property
  def searched(self) -> np.ndarray:
    """[D] bool, decisions that were searched and that matter in some network."""
    held = np.full(len(self.space), -1) if self.held is None else self.held
    return (self.sizes > 1) & can_open(self.space, held)

  @property
  def found_cost(self) -> int | None:
    return (self.found or {}).get('cost', {}).get(self.cost)

  @property
  def cost_title(self) -> str:
    return TITLES[self.cost]

  def found_value(self, key: str) -> float | None:
    """Returns the found network's accuracy or reward, if it was measured."""
    value = (self.found or {}).get(key)
    return value if is_finite(value) else None


@dataclasses.dataclass(frozen=True)
class ProgressiveFindings:
  """What a one-shot search in steps has left so far."""

  FIRST: ClassVar = ('steps',)  # sections
  LAST: ClassVar = ()

  title: str
  command: str  # that trains the result, exactly
  space: Space
  found: Mapping  # of the last step
  steps: Mapping[str, Findings]  # by name, in their order
  sections: Sequence[str] = ()  # of the space: files of nas.report.sections


@dataclasses.dataclass(frozen=True)
class SweepFindings:
  """What a search that trains networks one by one has left so far."""

  FIRST: ClassVar = ('progress', 'costs')  # sections
  LAST: ClassVar = ('failures',)

  title: str
  space: Space
  # 0 to n - 1, in order. The report reads top1, top5, macs, params, latency_ns, latency_noise
  # ((most - least) / median of its measurements) and secs of their metrics.
  trials: Sequence[Trial]
  conclusion: Conclusion = dataclasses.field(default_factory=Conclusion)
  sections: Sequence[str] = SECTIONS  # of the algorithm: files of nas.report.sections
  budget: int | None = None  # how many trials may be trained
  over: bool = True  # whether nothing is left to try, so that the conclusion is the last
  # The metric that a value is, or several whose sum it is: 'top1 + top5'. Values of metrics that
  # are better when lower are negative: '-loss'.
  measure: str = 'top1'
  # Cost -> the most that a network may have; a network above it is discarded.
  limits: Mapping[str, float] = dataclasses.field(default_factory=dict)
  # Standard deviation of the value between trainings that differ only in their seed.
  seed_noise: float | None = None
  # Number of a trial -> family, spec and `train`, the exact command that trains it.
  networks: Mapping[int, Mapping] = dataclasses.field(default_factory=dict)
  dashboard: str = ''  # the command that opens the study's own page

  @property
  def best(self) -> Trial | None:
    """The network recommended first."""
    return self.trials[self.conclusion.best[0]] if self.conclusion.best else None

  @functools.cached_property
  def valued(self) -> list[Trial]:
    """Trials with a value, including what a pruned one had reached."""
    return [trial for trial in self.trials if is_finite(trial.value)]

  @property
  def value_title(self) -> str:
    """What a trial's value is, as people say it."""
    said = ' + '.join(METRICS.get(name, name) for name in self.measure.split(' + '))
    if said.startswith('-'):
      return f'−{said[1:]}'
    said = f'{said[:1].upper()}{said[1:]}'
    return f'{said} accuracy' if self.measure in METRICS else said


def list_values(rows: Sequence[Mapping], key: str) -> np.ndarray:
  """Returns the values of the rows that have a finite one."""
  return np.array([row[key] for row in rows if is_finite(row.get(key))], float)
