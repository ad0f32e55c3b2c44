"""A policy of independent categorical decisions, which one-shot algorithms learn."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax import schema
from movinet_jax.schema import Positive
from nas.space import Space

_NEVER = -1e30  # a logit; not -inf, whose product with probability 0 is not a number


class Scores(NamedTuple):
  """What R candidates achieved on held-out clips, each [R] float32.

  Attributes:
    reward: the objective, which weighs accuracy against cost.
    accuracy: share of a candidate's clips that it classified correctly.
    log_likelihood: mean log-probability of the correct class, nats.
    cost_ratio: cost over the target.
  """

  reward: jax.Array
  accuracy: jax.Array | None = None
  log_likelihood: jax.Array | None = None
  cost_ratio: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Policy:
  """A categorical distribution over each decision of a space, as pure functions.

  A state is whatever an algorithm carries, with `logits` [D, N] in it: 0 beyond the choices
  that a decision has, N being the largest number of choices.

  A subclass with `init`, `propose` and `update` is a one-shot algorithm: see
  `nas.oneshot.algorithms`. Its settings may be traced scalars, so that one compiled program
  serves many searches; settings that are not traced are checked.

  Attributes:
    space: what is decided.
    temperature: logits are divided by it.
    held: [D] int32, the choice of each decision that is held fixed and -1 for those that are
      searched; None searches all. A held decision has probability 1, and no gradient.

  Raises:
    ValueError: a number out of its range, a space in which nothing is to be decided, or
      `held` that does not fit the space.
  """

  sections: ClassVar[tuple[str, ...]] = ('decisions',)  # of nas.report
  fewest: ClassVar[int] = 1  # candidates of a step

  space: Space
  _: dataclasses.KW_ONLY
  temperature: Positive = 1.0
  held: jax.Array | np.ndarray | None = None

  # Whether accuracy counts by its logarithm, so that beta weighs cost against a relative gain.
  relative: ClassVar[bool] = False

  # Whether held-out clips are scored before the supernet's weights learn. If so, `weigh` is
  # given the scores, and the same scores reach `update`.
  scores_first: ClassVar[bool] = False

  def __post_init__(self):
    if not len(self.space):
      raise ValueError('the space has no decisions: there is nothing to search')
    schema.verify(self, but=jax.Array)
    if self.held is not None:
      _check_held(self.space, self.held)

  @classmethod
  def check_candidates(cls, count: int):
    """Refuses steps of fewer candidates than the algorithm needs.

    Raises:
      ValueError: there are fewer than `fewest`.
    """
    if count < cls.fewest:
      raise ValueError(
        f'candidates is {count}; {cls.__name__} compares those of a step, and there is {count}: '
        f'take {cls.fewest} or more'
      )

  def draw(self, state, key: jax.Array) -> jax.Array:
    """[D], a choice for every decision, closed ones too."""
    return jax.random.categorical(key, self._mask(state.logits))

  def weigh(self, state, proposals, scores: Scores | None) -> jax.Array:
    """[R], factors of the candidates' gradients in their sum: all equal.

    Args:
      scores: of held-out clips where `scores_first`, else None.
    """
    del state, scores
    count = len(proposals.choices)
    return jnp.full(count, 1 / count)

  def learns_from(self) -> int:
    """Steps before the first that changes the policy."""
    return 0

  def metrics(self, state, scores: Scores) -> dict[str, jax.Array]:
    """Scalars about an update: the state that it returned and the scores it was given."""
    del scores
    entropies = self.entropies(state)
    searched = None if self.held is None else self.held < 0
    return {
      'entropy': entropies.mean(where=searched),
      'entropy_total': self.entropy_total(state),
      'entropy_bound': self.entropy_bound(),
    }

  def log_prob(self, state, choices: jax.Array) -> jax.Array:
    """[...] nats, of choices [..., D] under the policy alone.

    Of the architecture: decisions that are closed in it do not count.
    """
    return self._log_prob(state.logits, choices, True)

  def probabilities(self, state) -> jax.Array:
    """[D, N]: of each choice where its decision is open, 0 beyond the last choice."""
    return jax.nn.softmax(self._mask(state.logits))

  def entropies(self, state) -> jax.Array:
    """[D] nats, of each decision where it is open."""
    return self._entropies(state.logits)

  def entropy_total(self, state) -> jax.Array:
    """Nats, of the distribution over architectures.

    That is the sum over decisions of the probability that each is open, times its entropy.
    """
    parents, wanted = self._needs
    taken = jnp.where(wanted < 0, 1.0, self.probabilities(state)[parents, wanted])
    return jnp.prod(taken, -1) @ self.entropies(state)

  def entropy_bound(self) -> jax.Array:
    """Nats, the logarithm of how many architectures there are with the held decisions."""
    possible = jnp.where(self._is_possible(), 0.0, _NEVER)
    # inside: [D, N], the logarithm of the number of ways to decide what lies inside a choice.
    inside, total = jnp.zeros(possible.shape), jnp.float32(0)
    for level in self._levels:
      ways = jax.nn.logsumexp(inside[level] + possible[level], -1)
      needs = [self.space.decisions[n].needs for n in level]
      if not needs[0]:
        total = ways.sum()
        continue
      parents, wanted = np.array([pairs[-1] for pairs in needs]).T
      inside = inside.at[parents, wanted].add(ways)
    return total

  def most_probable(self, state) -> jax.Array:
    """[D] int32, the most probable choice of each open decision and 0 for closed ones.

    What TuNAS calls the found architecture. In a space with decisions inside of others
    some other one may be more probable as a whole.
    """
    choices = jnp.argmax(self._mask(state.logits), -1)
    return jnp.where(self.is_open(choices), choices, 0).astype(jnp.int32)

  def is_open(self, choices: jax.Array) -> jax.Array:
    """[..., D] bool of choices [..., D]: `Space.is_open` for traced arrays."""
    parents, wanted = self._needs
    return jnp.all((choices[..., parents] == wanted) | (wanted < 0), -1)

  def chart(self, probabilities: np.ndarray, labels: Sequence[Sequence[str]]) -> dict[str, float]:
    """Curves of one moment: each choice's probability, each decision's relative entropy.

    Args:
      probabilities: [D, N], what `probabilities` returned.
      labels: what the choices of each decision are called.
    """
    inside = np.where(probabilities > 0, probabilities, 1)
    most = np.log(np.maximum(self.space.sizes, 2))  # a single choice has no entropy
    left = -np.sum(inside * np.log(inside), -1) / most
    charts = {f'entropy/{d.path}': float(left[n]) for n, d in enumerate(self.space.decisions)}
    for n, decision in enumerate(self.space.decisions):
      for name, value in zip(labels[n], probabilities[n], strict=False):
        charts[f'probability/{decision.path}/{name}'] = float(value)
    return charts

  def _mask(self, logits):
    return jnp.where(self._is_possible(), logits / self.temperature, _NEVER)

  def _is_possible(self):
    """[D, N] bool: false beyond the last choice, and for all but a held one."""
    numbers = np.arange(self.space.sizes.max())
    exists = numbers < self.space.sizes[:, None]
    if self.held is None:
      return exists
    held = self.held[:, None]
    return exists & ((held < 0) | (held == numbers))

  def _log_prob(self, logits, choices, counted):
    found = jax.nn.log_softmax(self._mask(logits))[np.arange(len(logits)), choices]
    return jnp.sum(found, -1, where=self.is_open(choices) & counted)

  def _entropies(self, logits):
    log_probs = jax.nn.log_softmax(self._mask(logits))
    return -jnp.sum(jnp.exp(log_probs) * log_probs, -1)

  @functools.cached_property
  def _needs(self):
    """Parents and their wanted choices, both [D, K], filled up with parent 0 and -1."""
    needs = [decision.needs for decision in self.space.decisions]
    most = max(map(len, needs))
    full = [(*pairs, *[(0, -1)] * (most - len(pairs))) for pairs in needs]
    return np.moveaxis(np.array(full, np.int32).reshape(len(needs), most, 2), -1, 0)

  @functools.cached_property
  def _levels(self):
    """Numbers of the decisions by how many they lie inside of, the innermost first."""
    depths = np.array([len(decision.needs) for decision in self.space.decisions])
    return [np.flatnonzero(depths == depth) for depth in range(depths.max(), -1, -1)]


def _check_held(space, held):
  if held.shape != (len(space),):
    raise ValueError(
      f'held has shape {list(held.shape)}; wanted a choice or -1 for each of the '
      f'{len(space)} decisions'
    )
  if isinstance(held, np.ndarray):  # what is traced was checked before
    wrong = np.flatnonzero((held < -1) | (held >= space.sizes))
    if wrong.size:
      decision, value = space.decisions[wrong[0]], held[wrong[0]]
      raise ValueError(
        f'held has {value} for {decision.path}; wanted a choice from 0 to '
        f'{decision.choices - 1}, or -1 to search it'
      )
