"""MoViNet's search space: its networks, what they cost, and how long their parts take."""

from nas.spaces.movinet.cost import Part, find_times, list_parts, make_cost_table
from nas.spaces.movinet.latency import Bench
from nas.spaces.movinet.space import (
  EXPANSIONS,
  KERNELS,
  MULTIPLIERS,
  PUBLISHED,
  Block,
  Coefficients,
  MovinetSpace,
  Place,
  make_space,
  round_half_up_to_8,
)

__all__ = [
  'EXPANSIONS',
  'KERNELS',
  'MULTIPLIERS',
  'PUBLISHED',
  'Bench',
  'Block',
  'Coefficients',
  'MovinetSpace',
  'Part',
  'Place',
  'find_times',
  'list_parts',
  'make_cost_table',
  'make_space',
  'round_half_up_to_8',
]
