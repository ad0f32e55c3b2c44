"""Whether REINFORCE finds the best architecture of problems in which that is known.

To find better ones than random search does is no evidence: a search whose rewards are
those of other candidates does that too. So regret has a tight bound, and searches with a
mistake built in must be beyond it.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.algorithms.policy import Scores
from nas.algorithms.reinforce import Reinforce
from nas.objective import absolute_reward
from nas.space import OneOf, Space

PROBLEMS = 16
DECISIONS = 20
CHOICES = 5
STEPS = 4000
NOISE = 0.03  # of an accuracy; about 0.7 standard deviations of rewards
SLOPE = 0.2  # of accuracy by cost ratio, on average
CHANCE = 0.045  # standard deviation of what accuracies have beside
STRONG, WEAK = -0.5, -0.1  # beta: steeper than the slope, and less steep
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


def score(problem, choices, beta):
  """The reward without noise, in double precision."""
  accuracy, ratio = measure(problem, choices)
  return accuracy + beta * np.abs(ratio - 1)


def find_best(problem, beta, starts=4):
  """The best of architectures that no change of one or two decisions improves."""
  starts = np.random.default_rng(0).integers(CHOICES, size=(starts, DECISIONS))
  found = np.stack([_climb(problem, beta, choices) for choices in starts])
  return found[np.argmax(score(problem, found, beta))]


def _climb(problem, beta, choices):
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
    rewards = accuracy + beta * np.abs(ratio - 1)
    rewards[d, :, d] = -np.inf
    first, its, second, other = np.unravel_index(rewards.argmax(), rewards.shape)
    if rewards.max() <= score(problem, choices, beta) + 1e-12:
      return choices
    choices = choices.copy()
    choices[[first, second]] = its, other


@functools.partial(jax.jit, static_argnames=('algorithm', 'candidates', 'steps'))
def search(problems, beta, seed, algorithm=Reinforce, candidates=8, steps=STEPS):
  """The found architectures [P, D] of searches, and the entropies [P] left."""

  def search_one(problem, key):
    # Twice TuNAS's rate, for a seventh of its steps.
    policy = algorithm(
      SPACE, policy_rate=0.01, total_steps=steps, filters_warmup=0.0, ops_warmup=0.0
    )

    def step(state, key):
      noise_key, *keys = jax.random.split(key, candidates + 1)
      proposals = jax.vmap(policy.propose, (None, 0))(state, jnp.stack(keys))
      accuracy, ratio = measure(problem, proposals.choices)
      accuracy += NOISE * jax.random.normal(noise_key, (candidates,))
      rewards = absolute_reward(accuracy, ratio, beta)
      return policy.update(state, proposals, Scores(rewards)), None

    state, _ = jax.lax.scan(step, policy.init(key), jax.random.split(key, steps))
    return policy.most_probable(state), policy.entropies(state).mean()

  keys = jax.random.split(jax.random.key(seed), len(problems.cost))
  return jax.vmap(search_one)(problems, keys)


@functools.cache
def make_list(interaction=0.0):
  return [make_problem(seed, interaction) for seed in range(PROBLEMS)]


def make_problems(interaction=0.0):
  """All of them with a leading axis."""
  return jax.tree.map(lambda *leaves: np.stack(leaves), *make_list(interaction))


@functools.cache
def find_references(beta, interaction=0.0):
  """Rewards and cost ratios of the best, and the spread of rewards: three times [P]."""
  rng, found = np.random.default_rng(0), []
  for problem in make_list(interaction):
    best = find_best(problem, beta)
    some = rng.integers(CHOICES, size=(5000, DECISIONS))
    spread = score(problem, some, beta).std()
    found.append((score(problem, best, beta), measure(problem, best)[1], spread))
  return np.array(found).T


def judge(choices, beta, interaction=0.0):
  """Regrets in standard deviations of rewards, and cost ratios: both [P]."""
  best, _, spread = find_references(beta, interaction)
  found = list(zip(make_list(interaction), np.asarray(choices), strict=True))
  rewards = np.array([score(problem, c, beta) for problem, c in found])
  ratios = np.array([measure(problem, c)[1] for problem, c in found])
  return (best - rewards) / spread, ratios


def check_regret(regrets):
  """What every search here is held to, in standard deviations of rewards."""
  assert regrets.mean() <= 0.1
  assert regrets.max() <= 0.2


class WithoutBaseline(Reinforce):
  def advantages(self, state, rewards):
    return rewards


class RewardOfAnother(Reinforce):
  def update(self, state, proposals, scores):
    return super().update(state, proposals, Scores(jnp.roll(scores.reward, 1)))


class MeanReward(Reinforce):
  def update(self, state, proposals, scores):
    mean = jnp.full_like(scores.reward, scores.reward.mean())
    return super().update(state, proposals, Scores(mean))


class WithoutFirst(Reinforce):
  def update(self, state, proposals, scores):
    proposals = proposals._replace(drawn=proposals.drawn.at[:, 0].set(False))
    return super().update(state, proposals, scores)


@functools.cache
def find(beta, algorithm=Reinforce, interaction=0.0):
  return search(make_problems(interaction), beta, seed=0, algorithm=algorithm)[0]


@pytest.mark.parametrize('beta', [STRONG, WEAK])
def test_finds_the_best(beta):
  check_regret(judge(find(beta), beta)[0])


@pytest.mark.parametrize('mistaken', [WithoutBaseline, RewardOfAnother, MeanReward, WithoutFirst])
def test_a_mistake_is_beyond_the_bound(mistaken):
  regrets, _ = judge(find(STRONG, mistaken), STRONG)
  with pytest.raises(AssertionError):
    check_regret(regrets)


def test_the_wrong_sign_of_the_cost_is_beyond_the_bound():
  regrets, _ = judge(find(-STRONG), STRONG)
  with pytest.raises(AssertionError):
    check_regret(regrets)


def test_the_target_is_met_where_beta_is_steeper_than_the_slope():
  _, ratios = judge(find(STRONG), STRONG)
  np.testing.assert_allclose(ratios, 1, atol=0.05)


def test_the_target_is_rightly_exceeded_where_beta_is_weak():
  _, ratios = judge(find(WEAK), WEAK)
  assert ratios.mean() > 1.05
  np.testing.assert_allclose(ratios, find_references(WEAK)[1], atol=0.08)


def test_pairs_that_interact_are_a_limit():
  """Independent decisions cannot express that two choices belong together.

  The regret of what is found is 0.19 to 0.28 on average then, over 8 seeds.
  """
  regrets, _ = judge(find(STRONG, interaction=1.0), STRONG, 1.0)
  assert regrets.mean() <= 0.4
