"""What a search step asks of an algorithm, and algorithms by name."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import jax
import numpy as np

from movinet_jax.names import find
from nas import algorithms
from nas.algorithms.policy import Scores


class Algorithm(Protocol):
  """A one-shot algorithm: pure functions on arrays, run inside the compiled step.

  It is a frozen dataclass of a space and of settings, which are numbers or traced: fields
  that are annotated with their ranges (`movinet_jax.schema`). `nas.algorithms.policy.Policy`
  has all but `init`, `propose` and `update`.
  States are pytrees of arrays whose shapes do not change.

  Attributes:
    scores_first: whether candidates are scored with the weights before a step's update, so
      that `weigh` sees their scores. Otherwise they are scored with the new weights.
    relative: whether accuracy counts by its logarithm, for the report to judge beta.
  """

  scores_first: ClassVar[bool]
  relative: ClassVar[bool]

  @classmethod
  def check_candidates(cls, count: int):
    """Raises ValueError where a step has fewer candidates than the algorithm needs."""

  def init(self, key: jax.Array) -> Any:
    """The state that a search begins with."""

  def propose(self, state, key: jax.Array) -> Any:
    """Draws one architecture: a pytree with `choices` [D] int32 in it."""

  def weigh(self, state, proposals, scores: Scores | None) -> jax.Array:
    """[R], factors of the candidates' gradients in the sum that the weights take."""

  def update(self, state, proposals, scores: Scores) -> Any:
    """The state after R candidates; their arrays have R as the leading dimension."""

  def probabilities(self, state) -> jax.Array:
    """[D, N]: of each choice where its decision is open."""

  def most_probable(self, state) -> jax.Array:
    """[D], the architecture that the search has found."""

  def metrics(self, state, scores: Scores) -> dict[str, jax.Array]:
    """Scalars about an update: the state that it returned and the scores it was given."""

  def learns_from(self) -> int:
    """Steps before the first that changes what is proposed."""

  def chart(self, probabilities: np.ndarray, labels: Sequence[Sequence[str]]) -> dict[str, float]:
    """Curves that show the probabilities [D, N] of one moment, by title."""


def list_algorithms() -> dict[str, type]:
  """All one-shot algorithms by the name of their file in `nas/algorithms/`."""
  return algorithms.list_algorithms(algorithms.ONE_SHOT)


def find_algorithm(name: str) -> type:
  """The class of a one-shot algorithm.

  Raises:
    ValueError: no such algorithm; names the nearest.
  """
  return find(list_algorithms(), name, 'one-shot algorithm')
