"""Supernets by name. The folder is the registry: a file with a class Supernet is one.

A space of networks names its own in the attribute `supernet`.
"""

from typing import Any, Protocol

import jax

from movinet_jax.registry import list_members, load_member
from nas.cost import CostTable


class Supernet(Protocol):
  """One set of weights for all networks of a space: a frozen dataclass.

  Attributes:
    space: of networks; its `space` is the tree of decisions (nas.space.Space).
    num_classes: N.
  """

  space: Any
  num_classes: int

  def init(self, key: jax.Array) -> Any:
    """Makes the weights, a pytree of float32 arrays."""

  def apply(self, params, x, choices, state=None) -> tuple[jax.Array, Any]:
    """Runs one network: clips [B, T, H, W, 3] in [0, 1] -> (logits [B, N], state).

    `choices` [D] int32 may be traced. Norms use the statistics of the batch. The state is
    {} where networks are no streams. What the network does not use has a gradient of 0.
    """

  def extract(self, params, choices) -> Any:
    """The variables of one network alone, as its family's Model has them."""

  def make_cost_table(self, cost: str = 'macs', **options) -> CostTable:
    """Counts a cost of every network of the space, of its native clip.

    `cost` is 'macs', 'params' or 'state_bytes'; or 'latency_ns' with `times` of the space's
    parts, where the space has parts that are timed.
    """


def list_supernets() -> list[str]:
  """The names of all supernets, found by listing this folder."""
  return list_members(__name__)


def find_supernet(space) -> type:
  """The class of a space's supernet; calling it with the space makes one.

  Raises:
    ValueError: the space names none, or none that there is.
  """
  name = getattr(space, 'supernet', None)
  if name is None:
    raise ValueError(
      f'{type(space).__name__} has no supernet, so its networks cannot share weights: search '
      'it trial by trial, with `movinet sweep`'
    )
  return load_member(__name__, name, 'supernet').Supernet
