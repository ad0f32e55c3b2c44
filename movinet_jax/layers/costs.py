"""What a part of a network costs, counted from its sizes, without tracing it."""

from collections.abc import Iterable
from typing import NamedTuple


class Costs(NamedTuple):
  """What a part of a network costs, as movinet_jax.cost.count traces it.

  Attributes:
    macs: multiply-adds of a clip.
    params: parameters.
    state_bytes: what a stream keeps between calls, in float32.
  """

  macs: int
  params: int
  state_bytes: int


def add_costs(parts: Iterable[Costs]) -> Costs:
  """The costs of all parts together."""
  return Costs(*map(sum, zip(*parts, strict=True)))


def count_norm(features: int) -> Costs:
  """A batch norm's scale and bias; its arithmetic does not count."""
  return Costs(0, 2 * features, 0)


def count_conv(places: int, weights: int) -> Costs:
  """A convolution without bias: each weight is used at every place of the output."""
  return Costs(places * weights, weights, 0)
