"""Random search for scaling coefficients, against scaling one axis alone.

Kondratyuk et al., "MoViNets", CVPR 2021, supplement A.1, after Tan and Le,
"EfficientNet", ICML 2019: coefficients are drawn, each is judged by the mean accuracy of
a few networks drawn from the space that it scales, and the best few are averaged. "While
the sample size of models is small and would be prone to noise": so noise is measured
here, and where it leaves something undecided, that is said.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple

import numpy as np

from movinet_jax import schema
from movinet_jax.schema import Count, Natural
from nas.algorithms.arguments import FromSpace
from nas.algorithms.statistics import average, compare, find_noise, measure_agreement
from nas.candidate import Candidate
from nas.history import (
  Conclusion,
  Proposal,
  Signal,
  State,
  Trial,
  list_records,
)
from nas.space import Space

SAMPLE, PHI = 'sample', 'phi'


class _Job(NamedTuple):
  """A trial: of an entry, 'drawn 3' or a baseline, at a φ."""

  name: str
  phi: float
  sample: int
  repeat: int


@dataclasses.dataclass(frozen=True)
class Scale:
  """A random search among candidates.

  First all drawn candidates and baselines are trained at the space's first φ, then the
  best `recheck` of them again at its last. Candidates are drawn one by one; one that
  scales to the same space as another before it is passed over.

  Two means differ if they do so by more than Tukey's honest significant difference: the
  0.95 quantile of the range of as many means as are compared, had all candidates the
  same true mean. So the best is not taken for better because it was the luckiest of
  many. Differences are paired: all candidates are trained on networks of the same
  numbers and from the same seeds, and a network is compared with the other candidate's
  of its number. Noise is what then still varies from network to network, so nothing
  that is good or bad luck for all alike; with one sample each it varies from seed to
  seed, and says nothing of other networks.

  Attributes:
    space: a decision for each coefficient, `sample`, the number of a network drawn from
      the scaled space, and `phi`.
    candidates: coefficients that meet the constraint.
    baselines: what else is tried and compared with, by name: one axis alone, published
      coefficients. They are not averaged.
    draws: how many candidates are tried.
    repeats: trials of each network, that differ in `seed`.
    top: how many of the best are averaged. A.1: 5.
    recheck: how many of the best are trained at the last φ, beside the baselines.
    seed: of the draw.

  Raises:
    ValueError: an argument does not fit, or there are not as many candidates.
  """

  sections: ClassVar[tuple[str, ...]] = ('scaling',)  # of nas.report

  space: Annotated[Space, FromSpace('space')]
  candidates: Annotated[Sequence[Candidate], FromSpace('candidates')]
  baselines: Annotated[Mapping[str, Candidate], FromSpace('baselines')] = dataclasses.field(
    default_factory=dict
  )
  _: dataclasses.KW_ONLY
  draws: Natural
  repeats: Count = 1
  top: Count = 5
  recheck: Natural = 0
  seed: Natural = 0

  def __post_init__(self):
    schema.verify(self)
    for path in (SAMPLE, PHI):
      self.space.number(path)
    different = len({candidate.rounded for candidate in self.candidates})
    if different < self.draws:
      raise ValueError(
        f'draws is {self.draws}, but of {len(self.candidates)} candidates only '
        f'{different} differ once sizes are rounded: draw fewer, or widen the grid or the '
        'tolerance'
      )
    if 0 < self.draws < self.top:
      raise ValueError(
        f'top is {self.top}, more than the {self.draws} draws: none would be left out'
      )
    if len(self._entries) < self.draws + len(self.baselines):
      raise ValueError(f'a baseline has the name of a draw: {", ".join(self.baselines)}')
    if not self._chosen:
      raise ValueError('draws is 0 and there are no baselines: there is nothing to try')
    if self.recheck > self.draws:
      raise ValueError(f'recheck is {self.recheck}, more than the {self.draws} draws')
    if self.recheck and len(self._phis) == 1:
      raise ValueError(f'recheck is {self.recheck}, but the space has no second phi to train at')

  def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal | Signal:
    """Trial len(history). What is drawn follows from the settings alone, not from rng.

    Raises:
      ValueError: the trials are not those that this search makes.
    """
    del rng
    jobs = self._list_jobs(history)
    self._check_history(jobs, history)
    if len(history) < len(jobs):
      return self._make_proposal(jobs[len(history)])
    finished = all(trial.finished for trial in history)
    return Signal.STOP if finished else Signal.WAIT

  def conclude(self, history: Sequence[Trial]) -> Conclusion:
    """The averaged coefficients, and how sure that is."""
    jobs = self._list_jobs(history)
    first = self._make_table(jobs, history, self._phis[0])
    ranked = [row for row in _rank(first) if row['name'] not in self.baselines]
    averaged = ranked[: self.top]
    facts = {
      'coefficients': {
        name: round(float(np.mean([row['coefficients'][name] for row in averaged])), 6)
        for name in (averaged[0]['coefficients'] if averaged else ())
      },
      'averaged': [row['name'] for row in averaged],
      **self._compare(first),
      'recheck': self._recheck(jobs, history, first),
    }
    best = ranked[0]['trials'] if ranked else []
    return Conclusion(
      best=tuple(sorted(best, key=lambda n: (-history[n].value, n))),
      path=list_records(history),
      facts=facts,
    )

  @functools.cached_property
  def _entries(self) -> dict[str, Candidate]:
    """All that is tried, by name."""
    order = np.random.default_rng(self.seed).permutation(len(self.candidates))
    drawn = {}
    for number in order:
      candidate = self.candidates[number]
      if len(drawn) < self.draws:
        drawn.setdefault(candidate.rounded, candidate)
    named = {f'drawn {n}': candidate for n, candidate in enumerate(drawn.values())}
    return {**named, **self.baselines}

  @functools.cached_property
  def _alike(self) -> Mapping[str, int]:
    return collections.Counter(candidate.rounded for candidate in self.candidates)

  @functools.cached_property
  def _phis(self) -> tuple[float, ...]:
    return self.space.values[self.space.number(PHI)]

  def _list_jobs(self, history) -> list[_Job]:
    """All trials, as far as they are decided."""
    jobs = list(self._cross(self._entries, self._phis[0]))
    if self.recheck and len(history) >= len(jobs):
      table = self._make_table(jobs, history, self._phis[0])
      if all(trial.finished for trial in history[: len(jobs)]):
        drawn = [row['name'] for row in _rank(table) if row['name'] in self._drawn]
        again = [*drawn[: self.recheck], *self.baselines]
        jobs.extend(self._cross(again, self._phis[-1]))
    return jobs

  @functools.cached_property
  def _chosen(self) -> dict[tuple[str, float, int], np.ndarray]:
    """The choices [D] of every trial there could be."""
    return {
      (name, phi, sample): self._choose(candidate, phi, sample)
      for name, candidate in self._entries.items()
      for phi in (self._phis[0], self._phis[-1])
      for sample in self._samples
    }

  @functools.cached_property
  def _samples(self) -> range:
    return range(int(self.space.sizes[self.space.number(SAMPLE)]))

  @functools.cached_property
  def _drawn(self) -> set[str]:
    return set(self._entries) - set(self.baselines)

  def _cross(self, names, phi) -> Iterator[_Job]:
    """Everyone's first network before anyone's second: a search cut short is fair."""
    order = itertools.product(range(self.repeats), self._samples, names)
    for repeat, sample, name in order:
      yield _Job(name, phi, sample, repeat)

  def _choose(self, candidate: Candidate, phi: float, sample: int) -> np.ndarray:
    wanted = {**candidate.coefficients, PHI: phi}
    chosen = {SAMPLE: sample}
    for path, value in wanted.items():
      values = self.space.values[self.space.number(path)]
      if value not in values:
        raise ValueError(f'a candidate has {path} {value}, which the space does not have')
      chosen[path] = values.index(value)
    return self.space.encode(chosen)

  def _make_proposal(self, job: _Job) -> Proposal:
    choices = self._chosen[job.name, job.phi, job.sample]
    train = {'seed': job.repeat} if self.repeats > 1 else {}
    return Proposal(choices, job._asdict(), train)

  def _check_history(self, jobs, history):
    for number, trial in enumerate(history):
      job = jobs[number] if number < len(jobs) else None
      same = job and dict(trial.note) == job._asdict()
      if not same or not np.array_equal(trial.choices, self._chosen[job[:3]]):
        raise ValueError(
          f'trial {number} is {dict(trial.note)} with choices {list(trial.choices)}, '
          f'where this search has {job._asdict() if job else "no trial"}: the study was '
          'made with other settings; go on with those, or begin another study'
        )

  def _make_table(self, jobs, history, phi) -> list[dict]:
    """A row for each candidate trained at a φ, in the order of their first trials."""
    tried = collections.defaultdict(list)
    for job, trial in zip(jobs, history, strict=False):
      if job.phi == phi:
        tried[job.name].append((job, trial))
    return [self._make_row(name, pairs) for name, pairs in tried.items()]

  def _make_row(self, name, pairs) -> dict:
    candidate = self._entries[name]
    # A pruned network counts with what it had reached: without it, a candidate whose
    # poor networks were pruned would look better.
    scored = [
      (job, trial)
      for job, trial in pairs
      if trial.state in (State.DONE, State.PRUNED) and trial.value is not None
    ]
    values = {(job.sample, job.repeat): trial.value for job, trial in scored}
    repeats = [
      [values.get((sample, repeat)) for repeat in range(self.repeats)] for sample in self._samples
    ]
    samples = [average(given) for given in repeats]
    means = [mean for mean in samples if mean is not None]
    return {
      'name': name,
      'coefficients': dict(candidate.coefficients),
      'ratio': candidate.ratio,
      'alike': self._alike[candidate.rounded],
      'mean': average(samples),
      'sd': float(np.std(means, ddof=1)) if len(means) > 1 else None,
      'n': len(means),
      # By number of network, and of these by seed: None where there is no value.
      'samples': samples,
      'repeats': repeats,
      **{
        cost: average(trial.metrics.get(cost) for _, trial in scored)
        for cost in ('macs', 'latency_ns')
      },
      'trials': [trial.number for _, trial in scored if trial.state is State.DONE],
      'lost': sum(trial.finished for _, trial in pairs) - len(scored),
    }

  def _compare(self, table) -> dict:
    """The rows, best first, and what the best drawn one gains on all others."""
    rows = _rank(table)
    noise = find_noise(rows)
    drawn = [row for row in rows if row['name'] in self._drawn]
    comparisons = [compare(drawn[0], row, noise) for row in rows if drawn and row is not drawn[0]]
    unclear = {found['with'] for found in comparisons if found['undecided']}
    return {
      'candidates': [*rows, *(row for row in table if row['mean'] is None)],
      'noise': noise._asdict(),
      'comparisons': comparisons,
      'beaten_by': [
        found['with'] for found in comparisons if not found['undecided'] and found['gain'] < 0
      ],
      # The best is no better and no worse than these, as far as can be told.
      'undecided': {
        'baselines': [name for name in self.baselines if name in unclear],
        'candidates': [row['name'] for row in drawn if row['name'] in unclear],
      },
    }

  def _recheck(self, jobs, history, first) -> dict | None:
    """Whether the first φ's order holds at the last; None before that began."""
    again = self._make_table(jobs, history, self._phis[-1]) if self.recheck else []
    order = [row['name'] for row in _rank(again)]
    before = [row['name'] for row in _rank(first) if row['name'] in order]
    if not order or not before:
      return None
    return {
      'phi': self._phis[-1],
      'order_before': before,
      'order': order,
      'agreement': measure_agreement(before, order),
      'held': before == order,
      'best_held': before[0] == order[0],
      **self._compare(again),
    }


def _rank(rows: Sequence[Mapping]) -> list:
  """Rows that have a mean, best first; of equals the earlier."""
  return sorted((row for row in rows if row['mean'] is not None), key=_negate_mean)


def _negate_mean(row) -> float:
  return -row['mean']
