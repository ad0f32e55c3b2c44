"""Problems whose best architecture is known, for one-shot algorithms to be held to.

To find better architectures than random search does is no evidence: a search whose rewards
are those of other candidates does that too. So regret has a tight bound, and searches with a
mistake built in must be beyond it.

A `value` is what an algorithm maximizes: (accuracy, cost ratio) -> number, for arrays of any
shape. `make_absolute` and `make_hinge` give one for each beta.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas.algorithms.policy import Scores
from nas.space import OneOf, Space

PROBLEMS = 16
DECISIONS = 20
CHOICES = 5
NOISE = 0.03  # of an accuracy; about 0.7 standard deviations of rewards
SLOPE = 0.2  # of accuracy by cost ratio, on average
CHANCE = 0.045  # standard deviation of what accuracies have beside
SPACE = Space([OneOf(tuple(range(CHOICES)))] * DECISIONS)


class Problem(NamedTuple):
  """Accuracy and cost by choice; many problems have a leading axis.

  Attributes:
    accuracy: [D, N], what choices add to it.
    cost: [D, N], what choices add to the cost ratio, which is 1 on average.
    pairs: [D, N, D, N], what two choices add to accuracy together; symmetric, 0 for a
      decision with itself.
  """

  accuracy: np.ndarray
  cost: np.ndarray
  pairs: np.ndarray


@functools.cache
def make_absolute(beta):
  """The value of TuNAS's reward."""
  return lambda accuracy, ratio: accuracy + beta * np.abs(ratio - 1)


@functools.cache
def make_hinge(beta):
  """The value of Auto-TSNet's reward."""
  return lambda accuracy, ratio: accuracy + beta * np.maximum(ratio - 1, 0)


def make_problem(seed, interaction=0.0):
  """What costs more is more accurate, by SLOPE and by chance.

  `interaction` is the spread of what all pairs add, in that of what chance adds.
  """
  rng = np.random.default_rng(seed)
  cost = rng.uniform(0.5, 1.5, (DECISIONS, CHOICES))
  cost /= cost.mean(-1).sum()
  chance = rng.normal(0, CHANCE / np.sqrt(DECISIONS), cost.shape)
  accuracy = 0.7 / DECISIONS + SLOPE * (cost - cost.mean()) + chance
  pairs = rng.normal(0, CHANCE, (DECISIONS, CHOICES) * 2)
  pairs *= np.triu(np.ones((DECISIONS, DECISIONS)), 1)[:, None, :, None]
  pairs *= interaction / np.sqrt(DECISIONS * (DECISIONS - 1) / 2)
  return Problem(accuracy, cost, pairs + pairs.transpose(2, 3, 0, 1))


def measure(problem, choices):
  """Accuracy and cost ratio of architectures [..., D]."""
  d = np.arange(DECISIONS)
  pairs = problem.pairs[d[:, None], choices[..., :, None], d, choices[..., None, :]]
  accuracy = problem.accuracy[d, choices].sum(-1) + pairs.sum((-2, -1)) / 2
  return accuracy, problem.cost[d, choices].sum(-1)


def find_best(problem, value, starts=4):
  """The best of architectures that no change of one or two decisions improves."""
  starts = np.random.default_rng(0).integers(CHOICES, size=(starts, DECISIONS))
  found = np.stack([_climb(problem, value, choices) for choices in starts])
  return found[np.argmax(value(*measure(problem, found)))]


def _climb(problem, value, choices):
  d = np.arange(DECISIONS)
  while True:
    # [D, N]: by changing one, and [D, N, D, N]: by changing two.
    alone = problem.accuracy + problem.pairs[:, :, d, choices].sum(-1)
    alone -= alone[d, choices][:, None]
    cost = problem.cost - problem.cost[d, choices][:, None]
    together = problem.pairs - problem.pairs[:, :, d, choices][..., None]
    together -= together[d, choices][:, None]
    accuracy, ratio = measure(problem, choices)
    accuracy = accuracy + alone[:, :, None, None] + alone + together
    ratio = ratio + cost[:, :, None, None] + cost
    values = value(accuracy, ratio)
    values[d, :, d] = -np.inf
    first, its, second, other = np.unravel_index(values.argmax(), values.shape)
    if values.max() <= value(*measure(problem, choices)) + 1e-12:
      return choices
    choices = choices.copy()
    choices[[first, second]] = its, other


@functools.partial(jax.jit, static_argnames=('algorithm', 'reward', 'candidates', 'steps'))
def search(problems, algorithm, reward, beta, seed, candidates, steps):
  """Searches all problems at once.

  Args:
    algorithm: with its settings.
    reward: (accuracy, cost ratio, beta) -> reward, see nas.objective.

  Returns:
    The found architectures [P, D], and the entropies [P] left.
  """

  def search_one(problem, key):
    def step(state, key):
      noise_key, *keys = jax.random.split(key, candidates + 1)
      proposals = jax.vmap(algorithm.propose, (None, 0))(state, jnp.stack(keys))
      accuracy, ratio = measure(problem, proposals.choices)
      accuracy += NOISE * jax.random.normal(noise_key, (candidates,))
      scores = Scores(reward(accuracy, ratio, beta), accuracy, jnp.log(accuracy), ratio)
      return algorithm.update(state, proposals, scores), None

    state, _ = jax.lax.scan(step, algorithm.init(key), jax.random.split(key, steps))
    return algorithm.most_probable(state), algorithm.entropies(state).mean()

  keys = jax.random.split(jax.random.key(seed), len(problems.cost))
  return jax.vmap(search_one)(problems, keys)


@functools.cache
def make_list(interaction=0.0):
  return [make_problem(seed, interaction) for seed in range(PROBLEMS)]


def make_problems(interaction=0.0):
  """All of them with a leading axis."""
  return jax.tree.map(lambda *leaves: np.stack(leaves), *make_list(interaction))


@functools.cache
def find_references(value, interaction=0.0):
  """Values and cost ratios of the best, and the spread of values: three times [P]."""
  rng, found = np.random.default_rng(0), []
  for problem in make_list(interaction):
    best = measure(problem, find_best(problem, value))
    some = rng.integers(CHOICES, size=(5000, DECISIONS))
    found.append((value(*best), best[1], value(*measure(problem, some)).std()))
  return np.array(found).T


def judge(choices, value, interaction=0.0):
  """Regrets in standard deviations of values, and cost ratios: both [P]."""
  best, _, spread = find_references(value, interaction)
  found = zip(make_list(interaction), np.asarray(choices), strict=True)
  accuracies, ratios = np.array([measure(problem, c) for problem, c in found]).T
  return (best - value(accuracies, ratios)) / spread, ratios


def check_regret(regrets):
  """What every search is held to, in standard deviations of values."""
  assert regrets.mean() <= 0.1
  assert regrets.max() <= 0.2
