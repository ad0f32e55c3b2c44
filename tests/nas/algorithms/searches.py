"""How each search is run on a table, for tests and for benchmarks/regret.py."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from nas.algorithms.evolve import Evolve
from nas.algorithms.expand import Expand
from nas.algorithms.scale import Scale
from nas.algorithms.uniform import Uniform
from nas.candidate import Candidate
from nas.history import State, Trial
from nas.space import OneOf, Space
from tests.nas.algorithms import workers
from tests.nas.algorithms.tabular import AXES, STEPS, Table, make_table

NOISE = 0.003  # of a measured accuracy; the best ten are about as far apart
WORKERS = 4
# What coefficients scale; the other axes are part of the networks that are scaled.
SCALED = ('depth', 'width', 'resolution', 'duration')
SAMPLES = 3  # networks for each candidate, as the paper has
GROWTH, TOLERANCE = 4.0, 0.1  # of the cost at phi = 1
SCALED_SPACE = Space(
  {
    # The table's sizes are as coarse: finer coefficients would be the same.
    **{axis: OneOf(AXES[axis][:5]) for axis in SCALED},
    'sample': OneOf(tuple(range(SAMPLES))),
    'phi': OneOf((1, 2)),
  }
)


def make_random(table: Table, budget: int) -> Uniform:
  return Uniform(table.space, budget=budget, fits=table.fits)


def make_evolution(table: Table, budget: int, kind=Evolve) -> Evolve:
  """A population for some hundred trials; a tournament of a quarter, as the paper's."""
  options = {'population': 50, 'tournament': 12, 'lag': 2 * WORKERS}
  return kind(table.space, budget=budget, fits=table.fits, **options)


def make_expansion(table: Table, budget: int) -> Expand:
  """From the smallest to the limit, in about forty trials whatever the budget.

  Hardly any tolerance, for what is over the limit does not count.
  """
  limits = {'limit': table.limit}
  return Expand(table.space, table.cost, targets=limits, tolerance=1e-6)


def make_scaling(table: Table, budget: int, **options) -> Scale:
  """As many of the candidates as the budget is enough for."""
  candidates = list(_list_candidates(table))
  draws = min(budget // SAMPLES, len(candidates))
  return Scale(SCALED_SPACE, candidates, draws=draws, **options)


def _list_candidates(table) -> Iterator[Candidate]:
  """Coefficients that multiply the measured cost by about GROWTH."""
  samples = draw_samples(table)
  for values in itertools.product(*(AXES[axis][:5] for axis in SCALED)):
    coefficients = dict(zip(SCALED, values, strict=True))
    ratios = [table.cost(scale(sample, coefficients)) / table.cost(sample) for sample in samples]
    if abs(np.mean(ratios) / GROWTH - 1) <= TOLERANCE:
      yield Candidate(coefficients, float(np.mean(ratios)), str(values))


def draw_samples(table: Table, count: int = SAMPLES) -> list[np.ndarray]:
  """Small networks that fit a quarter of the limit, with some room for TOLERANCE."""
  rng, found = np.random.default_rng(table.seed), []
  while len(found) < count:
    choices = table.space.sample(rng)
    if 0.75 < table.cost(choices) * GROWTH * (1 + TOLERANCE) / table.limit < 1:
      found.append(choices)
  return found


def scale(choices, coefficients: Mapping[str, float], phi: int = 1) -> np.ndarray:
  """An architecture whose values are multiplied by coefficients, as far as axes go."""
  # Values of an axis have equal ratios, so a coefficient is a number of steps.
  steps = [AXES[axis].index(coefficients.get(axis, 1)) for axis in AXES]
  return np.minimum(choices + phi * np.array(steps), STEPS - 1)


@functools.cache
def scale_table(table: Table) -> Table:
  """The same problem with the architectures that scaling can try."""
  samples, numbers = draw_samples(table), []
  for choices in SCALED_SPACE.enumerate():
    chosen = SCALED_SPACE.describe(choices)
    scaled = scale(samples[chosen['sample']], chosen, chosen['phi'])
    numbers.append(table.index(scaled))
  return dataclasses.replace(
    table,
    costs=table.costs[numbers],
    accuracies=table.accuracies[numbers],
    space=SCALED_SPACE,
  )


def find_view(table: Table, algorithm) -> Table:
  """The table by the choices that an algorithm makes."""
  return table if algorithm.space == table.space else scale_table(table)


def find_regrets(make: Callable, problems: int, budget: int) -> np.ndarray:
  """[P, BUDGET], by problem and trial: see list_regrets.

  Args:
    make: (table, budget) -> an algorithm.
  """
  rows = []
  for seed in range(problems):
    table = make_table(seed, NOISE)
    algorithm = make(table, budget)
    view = find_view(table, algorithm)
    trials = workers.run(algorithm, workers.measure(view), workers=WORKERS, seed=seed)
    rows.append(list_regrets(table, view, trials, budget))
  return np.array(rows)


def list_regrets(table: Table, view: Table, trials: Sequence[Trial], length: int) -> np.ndarray:
  """[length], after each trial: the true regret of what has measured best so far.

  Only what is within the limit counts; before there is such a network, the smallest one
  does. A search that has ended stays where it is.
  """
  top = table.accuracy(table.best)
  best, regret = -np.inf, table.regret(np.zeros_like(table.best))
  regrets = []
  for trial in trials[:length]:
    counts = trial.state is State.DONE and view.fits(trial.choices)
    if counts and trial.value > best:
      best, regret = trial.value, top - view.accuracy(trial.choices)
    regrets.append(regret)
  return np.array(regrets + [regret] * (length - len(regrets)))


def find_interval(differences) -> tuple[float, float]:
  """Of their mean, 95 %, by 10,000 bootstraps."""
  rng = np.random.default_rng(0)
  drawn = rng.integers(len(differences), size=(10_000, len(differences)))
  return tuple(np.quantile(differences[drawn].mean(-1), (0.025, 0.975)))
