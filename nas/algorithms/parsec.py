"""PARSEC: importance-weighted samples teach the weights and the distribution.

Casale, Gordon and Fusi, "Probabilistic Neural Architecture Search" (arXiv 1902.05116), as
Auto-TSNet uses it (Gong et al., "Searching for Two-Stream Models in Multivariate Space for
Video Recognition", ICCV 2021, section 4.1): with accuracy in place of the likelihood, and a
penalty for networks above the target. The adaptive number of samples is FP-NAS's (Yan et al.,
CVPR 2021, section 3).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from movinet_jax.schema import Count, NotNegative, Positive, Share
from nas.algorithms.policy import Policy, Scores


class Drawn(NamedTuple):
  """An architecture to be tried.

  Attributes:
    choices: [D] int32, a choice for every decision, closed ones too.
  """

  choices: jax.Array


class Belief(NamedTuple):
  """What a search has learnt; N is the largest number of choices.

  Attributes:
    step: int32, updates made.
    logits: [D, N], 0 beyond the choices that a decision has.
    adam: moments of the gradients of the logits.
  """

  step: jax.Array
  logits: jax.Array
  adam: optax.ScaleByAdamState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parsec(Policy):
  """Settings of a search over `space`, and the search as pure functions.

  K architectures A_k are drawn from the distribution P and scored on held-out clips. A_k has
  the importance weight m_k, its score over the sum of all K. The supernet's weights take
  sum_k m_k grad loss(A_k) on training clips. The distribution ascends

      log E_P[score] - E_P[penalty]

  where the penalty is what the objective takes off the accuracy: for the reward 'hinge' it is
  Auto-TSNet's. So beta weighs cost against relative accuracy, not against points of it.

  Attributes:
    total_steps: updates of the whole search.
    policy_rate: Adam's rate for the logits. Auto-TSNet: 0.025, without weight decay.
    policy_delay: fraction of steps with rate 0. The supernet's weights learn from the
      beginning.
    accuracy_share: 1 weighs samples by accuracy, as Auto-TSNet does. 0 weighs them by the
      likelihood of a clip (its geometric mean over the clips), as PARSEC does. What lies
      between mixes both weights.
    samples_per_nat: K is this many samples per nat of the distribution's entropy, 2 at least
      and all candidates at most. FP-NAS: 0.25. 0 uses all candidates in every step.

  Raises:
    ValueError: a number out of its range, or a space in which nothing is to be decided.
  """

  total_steps: Count
  policy_rate: Positive = 0.025
  policy_delay: Share = 0.0
  accuracy_share: Share = 1.0
  samples_per_nat: NotNegative = 0.0

  fewest = 2  # one sample has nothing to be compared with
  scores_first = True
  relative = True

  def init(self, key: jax.Array) -> Belief:
    """The uniform distribution. The key is not used: nothing in it is random."""
    del key
    zeros = jnp.zeros((len(self.space), self.space.sizes.max()))
    return Belief(jnp.int32(0), zeros, _ADAM.init(zeros))

  def propose(self, state: Belief, key: jax.Array) -> Drawn:
    """Draws one architecture."""
    return Drawn(self.draw(state, key).astype(jnp.int32))

  def weigh(self, state: Belief, proposals: Drawn, scores: Scores) -> jax.Array:
    """[R], the importance weights m_k: they sum to 1, and are 0 beyond the first K.

    They are equal where no sample has an accuracy above 0.
    """
    counted = self._is_counted(state, len(proposals.choices))
    accuracy = scores.accuracy * counted
    total = accuracy.sum()
    by_accuracy = jnp.where(total > 0, accuracy / jnp.where(total > 0, total, 1), _share(counted))
    by_likelihood = jax.nn.softmax(scores.log_likelihood, where=counted)
    return self.accuracy_share * by_accuracy + (1 - self.accuracy_share) * by_likelihood

  def update(self, state: Belief, proposals: Drawn, scores: Scores) -> Belief:
    """Learns from R candidates: choices are [R, D].

    Raises:
      ValueError: there are fewer than two candidates.
    """
    self.check_candidates(len(proposals.choices))
    direction, adam = _ADAM.update(self.gradient(state, proposals, scores), state.adam)
    logits = state.logits + self.rate(state.step) * direction
    return Belief(state.step + 1, logits, adam)

  def gradient(self, state: Belief, proposals: Drawn, scores: Scores) -> jax.Array:
    """[D, N], the estimate from R candidates of the gradient that is ascended.

    Each sample's gradient of log P counts by its advantage. Decisions that are closed in a
    sample get nothing from it.
    """
    advantages = self.advantages(state, proposals, scores)

    def weighted(logits):
      return advantages @ self._log_prob(logits, proposals.choices, True)

    return jax.grad(weighted)(state.logits)

  def advantages(self, state: Belief, proposals: Drawn, scores: Scores) -> jax.Array:
    """[R]: what each sample's gradient of log P counts.

    The means over the samples, 1/K of m and that of penalties, are taken off as control
    variates. The first is a constant, so taking it off changes only the variance. The second
    is of the same samples, which makes the expected gradient of the penalty smaller by
    (K - 1)/K. Dividing by the sum of the weights has the same effect on the other term, up to
    second order in the scores' spread. So K/(K - 1) corrects both, and the gradient of the
    penalty is unbiased.
    """
    counted = self._is_counted(state, len(proposals.choices))
    share = _share(counted)
    penalties = scores.accuracy - scores.reward
    weights = self.weigh(state, proposals, scores) - share
    weights -= share * (penalties - share @ penalties)
    samples = counted.sum()
    return weights * samples / (samples - 1)

  def rate(self, step) -> jax.Array:
    """Of the update that follows `step` others."""
    return jnp.where(step < self.count_delay(), 0.0, self.policy_rate)

  def count_delay(self) -> jax.Array:
    """Steps before the first that changes the distribution."""
    return jnp.round(jnp.asarray(self.policy_delay, jnp.float32) * self.total_steps)

  def learns_from(self) -> int:
    """Steps before the first that changes the policy: those of the delay."""
    return int(self.count_delay())

  def samples(self, state: Belief, count: int) -> jax.Array:
    """K, how many of so many candidates are used: a whole number as float32."""
    wanted = jnp.ceil(self.samples_per_nat * self.entropy_total(state))
    adapted = jnp.clip(wanted, min(self.fewest, count), count)
    return jnp.where(self.samples_per_nat > 0, adapted, float(count))

  def metrics(self, state: Belief, scores: Scores) -> dict[str, jax.Array]:
    """Scalars about an update; `samples` is the K of the next one."""
    return {
      **super().metrics(state, scores),
      'penalty': (scores.accuracy - scores.reward).mean(),
      'samples': self.samples(state, len(scores.reward)),
    }

  def _is_counted(self, state, count):
    return jnp.arange(count) < self.samples(state, count)


_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


def _share(counted):
  """[R], equal weights of the samples that count."""
  return counted / counted.sum()
