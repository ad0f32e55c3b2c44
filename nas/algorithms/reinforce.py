"""REINFORCE, as TuNAS has it: a policy of independent categorical decisions.

Bender et al., "Can weight sharing outperform random architecture search? An investigation
with TuNAS" (CVPR 2020) and its published code, google-research/tunas; "TuNAS" below is
that code. The optimizer's form, the schedules and the warm-ups are in the code only.
"""

import dataclasses
import functools
import math
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nas.space import Space

_NEVER = -1e30  # a score; not -inf, whose product with probability 0 is not a number


class Proposal(NamedTuple):
  """An architecture to be tried.

  Attributes:
    choices: [D] int32, a choice for every decision, closed ones too.
    drawn: [D] bool, false where a warm-up put its own choice in place of the policy's.
  """

  choices: jax.Array
  drawn: jax.Array


class State(NamedTuple):
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


@dataclasses.dataclass(frozen=True)
class Reinforce:
  """Hyperparameters of a search over `space`, and the search as pure functions.

  All but the space may be traced scalars, so that one compilation serves many searches;
  those that are Python numbers are checked.

  Operation warm-up deviates from TuNAS, which runs all choices of a decision at once and
  averages their outputs. Here a network is always a single path, which bounds memory: an
  'op' decision is drawn uniformly instead.

  Attributes:
    space: what is decided.
    learning_rate: of the logits where the delay ends. TuNAS: 3e-4 x batch / 256, which
      is 4.8e-3 for its batch of 4,096.
    total_steps: updates of the whole search; all fractions are of these.
    delay: fraction of steps with rate 0, while second moment and baseline warm up.
      TuNAS: 0.25.
    growth: the rate has grown exponentially by this factor at the end. TuNAS: 10.
    second_moment: decay of Adam's second moment, beta2. TuNAS: 0.999, with beta1 = 0.
    epsilon: added to the uncorrected root of the second moment, which is Kingma and Ba's
      "epsilon hat". TuNAS: 1e-8.
    baseline_momentum: of the moving mean of rewards. TuNAS: 0.95.
    entropy: weight of the policy's entropy, nats, in what is maximised. TuNAS: 0.
    temperature: logits are divided by it. TuNAS: 1.
    filters_warmup: fraction of steps over which the probability that a 'filters'
      decision takes its largest choice, the last, falls linearly from 1 to 0. Every
      decision of every candidate has its own coin. TuNAS: 0.25.
    ops_warmup: the same for 'op' decisions and a uniform draw. TuNAS: 0.25, see above.

  Raises:
    ValueError: a number out of its range, a warm-up longer than the delay, or a space
      in which nothing is to be decided.
  """

  space: Space
  _: dataclasses.KW_ONLY
  learning_rate: float | jax.Array
  total_steps: int | jax.Array
  delay: float | jax.Array = 0.25
  growth: float | jax.Array = 10.0
  second_moment: float | jax.Array = 0.999
  epsilon: float | jax.Array = 1e-8
  baseline_momentum: float | jax.Array = 0.95
  entropy: float | jax.Array = 0.0
  temperature: float | jax.Array = 1.0
  filters_warmup: float | jax.Array = 0.25
  ops_warmup: float | jax.Array = 0.25

  def __post_init__(self):
    if not len(self.space):
      raise ValueError('the space has no decisions: there is nothing to search')
    for name, (fits, wanted) in RANGES.items():
      value = getattr(self, name)
      if isinstance(value, jax.Array):
        continue  # perhaps traced: its value is not known here
      if not isinstance(value, numbers.Real) or not fits(value):
        raise ValueError(f'{name} is {value!r}, wanted {wanted}')
    self._check_warmups()

  def _check_warmups(self):
    for name in ('filters_warmup', 'ops_warmup'):
      warmup = getattr(self, name)
      known = not isinstance(warmup, jax.Array) and not isinstance(self.delay, jax.Array)
      if known and warmup > self.delay:
        raise ValueError(
          f'{name} is {warmup} of the steps but delay only {self.delay}: the policy would '
          'learn from architectures that the warm-up chose in its place; wanted '
          f'{name} <= delay'
        )

  def init(self, key: jax.Array) -> State:
    """The uniform policy. The key is not used: nothing in it is random."""
    del key
    zeros = jnp.zeros((len(self.space), self.space.sizes.max()))
    return State(jnp.int32(0), zeros, zeros, jnp.float32(0), jnp.float32(0))

  def propose(self, state: State, key: jax.Array) -> Proposal:
    """Draws one architecture."""
    policy_key, coin_key, op_key = jax.random.split(key, 3)
    sizes, is_filters = self.space.sizes, self._is_filters
    choices = jax.random.categorical(policy_key, self._scores(state.logits))
    uniform = jax.random.randint(op_key, sizes.shape, 0, sizes)
    probability = jnp.where(
      is_filters,
      self.warmup(state.step, self.filters_warmup),
      self.warmup(state.step, self.ops_warmup),
    )
    replaced = jax.random.uniform(coin_key, sizes.shape) < probability
    instead = jnp.where(is_filters, sizes - 1, uniform)
    choices = jnp.where(replaced, instead, choices).astype(jnp.int32)
    return Proposal(choices, ~replaced)

  def update(self, state: State, proposals: Proposal, rewards: jax.Array) -> State:
    """Learns from R candidates: choices and drawn [R, D], rewards [R].

    Raises:
      ValueError: there is not one reward for each candidate.
    """
    rewards = jnp.asarray(rewards, jnp.float32)
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

  def advantages(self, state: State, rewards: jax.Array) -> jax.Array:
    """[R]: what rewards [R] are above the baseline."""
    return rewards - self.baseline(state)

  def gradients(self, state: State, proposals: Proposal, advantages) -> jax.Array:
    """[R, D, N]: what each candidate alone adds to the gradient of the expected reward.

    Nothing for decisions that are closed in it or that a warm-up made: the logits have
    no part in how probable those are.
    """
    gradient = jax.vmap(jax.grad(self._log_prob), (None, 0, 0))
    return advantages[:, None, None] * gradient(state.logits, *proposals)

  def baseline(self, state: State) -> jax.Array:
    """The moving mean of rewards, free of its start at 0; 0 before the first update."""
    weight = state.reward_weight
    return state.reward_sum / jnp.where(weight > 0, weight, 1)

  def rate(self, step) -> jax.Array:
    """Of the update that follows `step` others."""
    begin = self.count_steps(self.delay)
    progress = (step - begin) / jnp.maximum(self.total_steps - begin, 1)
    grown = self.learning_rate * self.growth ** jnp.clip(progress, 0, 1)
    return jnp.where(step < begin, 0.0, grown)

  def warmup(self, step, fraction) -> jax.Array:
    """The probability that a warm-up over a fraction of the steps decides."""
    end = self.count_steps(fraction)
    return jnp.where(step < end, 1 - step / jnp.maximum(end, 1), 0.0)

  def log_prob(self, state: State, choices: jax.Array) -> jax.Array:
    """[...] nats, of choices [..., D] under the policy alone, without warm-ups.

    Of the architecture: decisions that are closed in it do not count.
    """
    return self._log_prob(state.logits, choices, True)

  def probabilities(self, state: State) -> jax.Array:
    """[D, N]: of each choice where its decision is open, 0 beyond the last choice."""
    return jax.nn.softmax(self._scores(state.logits))

  def entropies(self, state: State) -> jax.Array:
    """[D] nats, of each decision where it is open."""
    return self._entropies(state.logits)

  def most_probable(self, state: State) -> jax.Array:
    """[D] int32, the most probable choice of each open decision and 0 for closed ones.

    What TuNAS calls the found architecture. In a space with decisions inside of others
    some other one may be more probable as a whole.
    """
    choices = jnp.argmax(self._scores(state.logits), -1)
    return jnp.where(self.is_open(choices), choices, 0).astype(jnp.int32)

  def is_open(self, choices: jax.Array) -> jax.Array:
    """[..., D] bool of choices [..., D]: `Space.is_open` for traced arrays."""
    parents, wanted = self._needs
    return jnp.all((choices[..., parents] == wanted) | (wanted < 0), -1)

  def metrics(self, state: State, rewards: jax.Array) -> dict[str, jax.Array]:
    """Scalars about an update: the state that it returned and its rewards [R]."""
    step = state.step - 1
    return {
      'reward': rewards.mean(),
      'baseline': self.baseline(state),
      'advantage': self.advantages(state, rewards).mean(),
      'entropy': self.entropies(state).mean(),
      'rl_rate': self.rate(step),
      'filters_warmup': self.warmup(step, self.filters_warmup),
      'ops_warmup': self.warmup(step, self.ops_warmup),
    }

  def _follow(self, state, rewards):
    """Brings the baseline up to date."""
    momentum = self.baseline_momentum
    return state._replace(
      reward_sum=momentum * state.reward_sum + (1 - momentum) * rewards.mean(),
      reward_weight=momentum * state.reward_weight + (1 - momentum),
    )

  def count_steps(self, fraction):
    return jnp.round(jnp.asarray(fraction, jnp.float32) * self.total_steps)

  def _scores(self, logits):
    exists = np.arange(logits.shape[-1]) < self.space.sizes[:, None]
    return jnp.where(exists, logits / self.temperature, _NEVER)

  def _log_prob(self, logits, choices, drawn):
    found = jax.nn.log_softmax(self._scores(logits))[np.arange(len(logits)), choices]
    return jnp.sum(found, -1, where=self.is_open(choices) & drawn)

  def _entropies(self, logits):
    log_probs = jax.nn.log_softmax(self._scores(logits))
    return -jnp.sum(jnp.exp(log_probs) * log_probs, -1)

  def _entropy_gradient(self, state, choices):
    """[D, N], each decision's weighted with how many of the candidates it is open in."""
    opened = self.is_open(choices).mean(0)
    return jax.grad(lambda logits: opened @ self._entropies(logits))(state.logits)

  @functools.cached_property
  def _is_filters(self):
    return np.array([decision.tag == 'filters' for decision in self.space.decisions])

  @functools.cached_property
  def _needs(self):
    """Parents and their wanted choices, both [D, K], filled up with parent 0 and -1."""
    needs = [decision.needs for decision in self.space.decisions]
    most = max(map(len, needs))
    full = [(*pairs, *[(0, -1)] * (most - len(pairs))) for pairs in needs]
    return np.moveaxis(np.array(full, np.int32).reshape(len(needs), most, 2), -1, 0)


_POSITIVE = (lambda value: 0 < value < math.inf, 'more than 0')
_FRACTION = (lambda value: 0 <= value <= 1, 'a fraction of the steps, from 0 to 1')
_DECAY = (lambda value: 0 <= value < 1, 'at least 0 and less than 1')
# What a hyperparameter may be, and how that is said.
RANGES = {
  'learning_rate': _POSITIVE,
  'total_steps': (
    lambda value: 1 <= value < math.inf and value % 1 == 0,
    'a whole number from 1',
  ),
  'delay': _FRACTION,
  'growth': _POSITIVE,
  'second_moment': _DECAY,
  'epsilon': _POSITIVE,
  'baseline_momentum': _DECAY,
  'entropy': (lambda value: 0 <= value < math.inf, 'at least 0'),
  'temperature': _POSITIVE,
  'filters_warmup': _FRACTION,
  'ops_warmup': _FRACTION,
}
