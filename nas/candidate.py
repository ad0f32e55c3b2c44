"""A set of coefficients that a search for scaling coefficients may try."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Candidate:
  """Coefficients, and what the space that they scale costs.

  Attributes:
    coefficients: by the decision of the space that each is a choice of.
    ratio: measured cost of the scaled space's networks, in multiples of the base.
    rounded: equal for candidates that scale to the same space once sizes are rounded.
  """

  coefficients: Mapping[str, float]
  ratio: float
  rounded: str
