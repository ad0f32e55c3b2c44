"""REINFORCE, as TuNAS has it: a policy of independent categorical decisions.

Bender et al., "Can weight sharing outperform random architecture search? An investigation
with TuNAS" (CVPR 2020) and its published code, google-research/tunas; "TuNAS" below is
that code. The optimizer's form, the schedules and the warm-ups are in the code only.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax.schema import Count, NotNegative, Positive, Rate, Share
from nas.algorithms.policy import Policy, Scores


class Draw(NamedTuple):
  """An architecture to be tried.

  Attributes:
    choices: [D] int32, a choice for every decision, closed ones too.
    drawn: [D] bool, false where a warm-up put its own choice in place of the policy's.
  """

  choices: jax.Array
  drawn: jax.Array


class PolicyState(NamedTuple):
  """What a search has learnt; N is the largest number of choices.

  Attributes:
    step: int32, updates made.
    logits: [D, N], 0 beyond the choices that a decision has.
    squares: [D, N], moving mean of squared gradients, from 0.
    reward_sum, reward_weight: moving sums whose quotient is the baseline.
  """

  step: jax.Array
  logits: jax.Array
  squares: jax.Array
  reward_sum: jax.Array
  reward_weight: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reinforce(Policy):
  """Settings of a search over `space`, and the search as pure functions.

  Candidates' gradients count equally.

  Operation warm-up deviates from TuNAS, which runs all choices of a decision at once and
  averages their outputs. Here a network is always a single path, which bounds memory: an
  'op' decision is drawn uniformly instead.

  Attributes:
    total_steps: updates of the whole search; all fractions are of these.
    policy_rate: learning rate of the logits where the delay ends. TuNAS: 3e-4 x batch / 256,
      which is 4.8e-3 for its batch of 4,096.
    policy_delay: fraction of steps with rate 0, while second moment and baseline warm up.
      TuNAS: 0.25.
    policy_growth: the rate has grown exponentially by this factor at the end. TuNAS: 10.
    second_moment: decay of Adam's second moment, beta2. TuNAS: 0.999, with beta1 = 0.
    epsilon: added to the uncorrected root of the second moment, which is Kingma and Ba's
      "epsilon hat". TuNAS: 1e-8.
    baseline_momentum: of the moving mean of rewards. TuNAS: 0.95.
    entropy: weight of the policy's entropy, nats, in what is maximized. TuNAS: 0.
    filters_warmup: fraction of steps over which the probability that a 'filters'
      decision takes its largest choice, the last, falls linearly from 1 to 0. Every
      decision of every candidate has its own coin. TuNAS: 0.25.
    ops_warmup: the same for 'op' decisions and a uniform draw. TuNAS: 0.25, see above.

  Raises:
    ValueError: a number out of its range, a warm-up longer than the delay, or a space
      in which nothing is to be decided.
  """

  total_steps: Count
  policy_rate: Positive = 4.8e-3
  policy_delay: Share = 0.25
  policy_growth: Positive = 10.0
  second_moment: Rate = 0.999
  epsilon: Positive = 1e-8
  baseline_momentum: Rate = 0.95
  entropy: NotNegative = 0.0
  filters_warmup: Share = 0.25
  ops_warmup: Share = 0.25

  def __post_init__(self):
    super().__post_init__()
    for name in ('filters_warmup', 'ops_warmup'):
      warmup, delay = getattr(self, name), self.policy_delay
      if not any(isinstance(x, jax.Array) for x in (warmup, delay)) and warmup > delay:
        raise ValueError(
          f'{name} is {warmup} of the steps but policy_delay only {delay}: the policy would '
          'learn from architectures that the warm-up chose in its place; wanted '
          f'{name} <= policy_delay'
        )

  def init(self, key: jax.Array) -> PolicyState:
    """The uniform policy. The key is not used: nothing in it is random."""
    del key
    zeros = jnp.zeros((len(self.space), self.space.sizes.max()))
    return PolicyState(jnp.int32(0), zeros, zeros, jnp.float32(0), jnp.float32(0))

  def propose(self, state: PolicyState, key: jax.Array) -> Draw:
    """Draws one architecture."""
    policy_key, coin_key, op_key = jax.random.split(key, 3)
    sizes, is_filters = self.space.sizes, self._is_filters
    choices = self.draw(state, policy_key)
    uniform = jax.random.randint(op_key, sizes.shape, 0, sizes)
    probability = jnp.where(
      is_filters,
      self.warmup(state.step, self.filters_warmup),
      self.warmup(state.step, self.ops_warmup),
    )
    replaced = jax.random.uniform(coin_key, sizes.shape) < probability
    if self.held is not None:
      replaced &= self.held < 0
    instead = jnp.where(is_filters, sizes - 1, uniform)
    choices = jnp.where(replaced, instead, choices).astype(jnp.int32)
    return Draw(choices, ~replaced)

  def update(self, state: PolicyState, proposals: Draw, scores: Scores) -> PolicyState:
    """Learns from the rewards of R candidates: choices and drawn are [R, D].

    Raises:
      ValueError: there is not one reward for each candidate.
    """
    rewards = jnp.asarray(scores.reward, jnp.float32)
    if rewards.shape != proposals.choices.shape[:1]:
      raise ValueError(
        f'rewards of shape {list(rewards.shape)} for proposals of shape '
        f'{list(proposals.choices.shape)}; wanted one reward for each'
      )
    # The step's own mean is inside the baseline that its rewards are compared with.
    state = self._follow(state, rewards)
    advantages = self.advantages(state, rewards)
    gradients = self.gradients(state, proposals, advantages)
    # Squared before averaged: where candidates disagree, steps are small, as if they
    # had been applied one after another.
    beta = self.second_moment
    squares = beta * state.squares + (1 - beta) * jnp.mean(gradients**2, 0)
    rate = self.rate(state.step)
    step = state.step + 1
    move = rate * jnp.sqrt(1 - beta**step) * gradients.mean(0)
    logits = state.logits + move / (jnp.sqrt(squares) + self.epsilon)
    logits += rate * self.entropy * self._entropy_gradient(state, proposals.choices)
    return state._replace(step=step, logits=logits, squares=squares)

  def advantages(self, state: PolicyState, rewards: jax.Array) -> jax.Array:
    """[R]: what rewards [R] are above the baseline."""
    return rewards - self.baseline(state)

  def gradients(self, state: PolicyState, proposals: Draw, advantages) -> jax.Array:
    """[R, D, N]: what each candidate alone adds to the gradient of the expected reward.

    Nothing for decisions that are closed in it or that a warm-up made: the logits have
    no part in how probable those are.
    """
    gradient = jax.vmap(jax.grad(self._log_prob), (None, 0, 0))
    return advantages[:, None, None] * gradient(state.logits, *proposals)

  def baseline(self, state: PolicyState) -> jax.Array:
    """The moving mean of rewards, free of its start at 0; 0 before the first update."""
    weight = state.reward_weight
    return state.reward_sum / jnp.where(weight > 0, weight, 1)

  def rate(self, step) -> jax.Array:
    """Of the update that follows `step` others."""
    begin = self.count_steps(self.policy_delay)
    progress = (step - begin) / jnp.maximum(self.total_steps - begin, 1)
    grown = self.policy_rate * self.policy_growth ** jnp.clip(progress, 0, 1)
    return jnp.where(step < begin, 0.0, grown)

  def warmup(self, step, fraction) -> jax.Array:
    """The probability that a warm-up over a fraction of the steps decides."""
    end = self.count_steps(fraction)
    return jnp.where(step < end, 1 - step / jnp.maximum(end, 1), 0.0)

  def metrics(self, state: PolicyState, scores: Scores) -> dict[str, jax.Array]:
    """Scalars about an update: the state that it returned and the scores it was given."""
    step = state.step - 1
    return {
      **super().metrics(state, scores),
      'baseline': self.baseline(state),
      'advantage': self.advantages(state, scores.reward).mean(),
      'rl_rate': self.rate(step),
      'filters_warmup': self.warmup(step, self.filters_warmup),
      'ops_warmup': self.warmup(step, self.ops_warmup),
    }

  def learns_from(self) -> int:
    """Steps before the first that changes the policy: those of the delay."""
    return int(self.count_steps(self.policy_delay))

  def _follow(self, state, rewards):
    """Brings the baseline up to date."""
    momentum = self.baseline_momentum
    return state._replace(
      reward_sum=momentum * state.reward_sum + (1 - momentum) * rewards.mean(),
      reward_weight=momentum * state.reward_weight + (1 - momentum),
    )

  def count_steps(self, fraction) -> jax.Array:
    """The nearest whole number of steps to a fraction of them."""
    return jnp.round(jnp.asarray(fraction, jnp.float32) * self.total_steps)

  def _entropy_gradient(self, state, choices):
    """[D, N], each decision's weighted with how many of the candidates it is open in."""
    opened = self.is_open(choices).mean(0)
    return jax.grad(lambda logits: opened @ self._entropies(logits))(state.logits)

  @functools.cached_property
  def _is_filters(self):
    return np.array([decision.tag == 'filters' for decision in self.space.decisions])
