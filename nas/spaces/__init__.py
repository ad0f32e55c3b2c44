"""Spaces of networks by name. The folder is the registry: a file with make_space is one.

A space of networks has

  family: whose networks they are, in movinet_jax.models.
  supernet: name of the one-shot network that holds them all, None if there is none.
  space: the decisions, a nas.space.Space.
  decode(choices): the Spec of a network.
  describe_network(spec): lines of text that show a network.
  causal: whether its networks are streams, where it has a supernet.

and may have

  smallest(cost, num_classes): the choices of its cheapest network.
  count_costs(choices, num_classes): costs by name, without tracing a network.
  list_parts(), find_times(known), make_bench(…): what is measured for latency; see
    nas.spaces.movinet.
  whatever else an algorithm asks for: see nas.algorithms.arguments.
"""

import json
import types
from collections.abc import Mapping

from movinet_jax import schema
from movinet_jax.registry import load_member, load_members
from movinet_jax.spec import to_json

COUNTED = ('params', 'macs')  # limits that hold before a network is proposed


def list_spaces() -> dict[str, types.ModuleType]:
  """All spaces by name, found by listing this folder."""
  return load_members(__name__)


def create(name: str, **arguments):
  """Makes a space of networks.

  Raises:
    ValueError: there is no such space or argument, or an argument does not fit.
  """
  return schema.call(load_member(__name__, name, 'space').make_space, arguments, 'space')


def find_offer(space, name: str, *, num_classes: int, limits: Mapping[str, float]):
  """What a space of networks offers an algorithm under a name, None if nothing.

  `fits` says whether choices are within the limits that are known without training, and
  `identify` is equal for choices that are one network. Other names are attributes.

  Args:
    num_classes: N, for costs.
    limits: the most that a network may have of each cost.
  """
  if name == 'fits':
    return _make_fits(space, num_classes, limits)
  if name == 'identify':
    return lambda choices: json.dumps(to_json(space.decode(choices)))
  return getattr(space, name, None)


def _make_fits(space, num_classes, limits):
  counted = {key: limits[key] for key in COUNTED if key in limits}
  if not counted or not hasattr(space, 'count_costs'):
    return None

  def fits(choices) -> bool:
    costs = space.count_costs(choices, num_classes)
    return all(costs[key] <= most for key, most in counted.items())

  return fits
