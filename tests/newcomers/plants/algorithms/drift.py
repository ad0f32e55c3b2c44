"""A one-shot policy that drifts towards whatever the best candidate of a step chose."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nas.algorithms.policy import Policy


class DriftState(NamedTuple):
  logits: jax.Array


class Candidate(NamedTuple):
  choices: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift(Policy):
  def init(self, key):
    return DriftState(jnp.zeros((len(self.space), self.space.sizes.max())))

  def propose(self, state, key):
    return Candidate(self.draw(state, key))

  def update(self, state, proposals, scores):
    best = proposals.choices[jnp.argmax(scores.reward)]
    return DriftState(state.logits + 0.1 * jax.nn.one_hot(best, state.logits.shape[-1]))
