"""What a search that trains networks one by one left, as plain data."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from nas.cost import TITLES
from nas.history import Conclusion, State, Trial
from nas.report.findings import is_finite
from nas.space import Space

COSTS = ('macs', 'latency_ns', 'params')  # that trials are drawn against
TOPS = {'top1': 'top-1', 'top5': 'top-5'}
# How far apart measured times of one network may be, as a share, before that is warned of.
NOISY = 0.1


@dataclasses.dataclass(frozen=True)
class SweepFindings:
  """What a sweep left so far. All but the first four may be missing.

  Attributes:
    title: of the page.
    algorithm: its name in nas.algorithms.
    space: what was searched.
    trials: 0 to n - 1, in order. Of their metrics are read top1, top5, macs, params,
      latency_ns, latency_noise ((most - least) / median of its measurements) and secs.
    conclusion: what the algorithm makes of them.
    budget: how many trials may be trained.
    over: whether there is nothing left to try, so that the conclusion is the last.
    measure: the metric that a trial's value is, or several of which it is the sum:
      'top1 + top5'.
    limits: cost -> the most a network may have; who has more is discarded.
    seed_noise: standard deviation of the value between trainings of one network that
      differ in their seed alone.
    networks: number of a trial -> family, spec and `train`, the exact command that trains
      it.
    dashboard: the command that opens the study's own page.
  """

  title: str
  algorithm: str
  space: Space
  trials: Sequence[Trial]
  conclusion: Conclusion = dataclasses.field(default_factory=Conclusion)
  budget: int | None = None
  over: bool = True
  measure: str = 'top1'
  limits: Mapping[str, float] = dataclasses.field(default_factory=dict)
  seed_noise: float | None = None
  networks: Mapping[int, Mapping] = dataclasses.field(default_factory=dict)
  dashboard: str = ''

  def __post_init__(self):
    for place, trial in enumerate(self.trials):
      if trial.number != place:
        raise ValueError(
          f'trials are numbered from 0 in their order, got {trial.number} in place {place}'
        )
      self.space.check(trial.choices)
    known = range(len(self.trials))
    named = (*self.conclusion.best, *self.conclusion.path, *self.networks)
    strange = [number for number in named if number not in known]
    if strange:
      raise ValueError(
        f'the conclusion is of other trials: it names {strange[0]}, there are {len(self.trials)}'
      )
    for cost in self.limits:
      title_cost(cost)

  @property
  def best(self) -> Trial | None:
    """The network recommended first."""
    return self.trials[self.conclusion.best[0]] if self.conclusion.best else None

  def count(self, state: State) -> int:
    return sum(trial.state is state for trial in self.trials)

  def is_within_noise(self, difference: float) -> bool:
    """Whether two trainings that differ in their seed alone may differ by as much."""
    noise = self.seed_noise
    return noise is not None and abs(difference) < 2 * math.sqrt(2) * noise

  @functools.cached_property
  def valued(self) -> list[Trial]:
    """Trials with a value, be it what a pruned one had reached."""
    return [trial for trial in self.trials if is_finite(trial.value)]

  @functools.cached_property
  def shows_top1(self) -> bool:
    """Whether top-1 accuracies of all are known, where the value is another measure."""
    known = [is_finite(trial.metrics.get('top1')) for trial in self.valued]
    return self.measure != 'top1' and bool(known) and all(known)

  @property
  def value_title(self) -> str:
    """What a trial's value is, as people say it."""
    said = ' + '.join(TOPS.get(name, name) for name in self.measure.split(' + '))
    return f'{said} accuracy' if self.measure in TOPS else said


def title_cost(name: str) -> str:
  """Of a cost as people say it. Raises a ValueError for a name that is none."""
  if name not in TITLES:
    raise ValueError(f'a limit is on one of {", ".join(TITLES)}, got {name!r}')
  return TITLES[name]
