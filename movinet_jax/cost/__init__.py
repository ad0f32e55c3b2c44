"""Multiply-adds, parameters, memory and state bytes of a network, and of a program."""

from movinet_jax.cost.count import Cost, count
from movinet_jax.cost.program import (
  Collective,
  Memory,
  count_collective_bytes,
  count_memory,
  estimate_secs,
  find_collectives,
)

__all__ = [
  'Collective',
  'Cost',
  'Memory',
  'count',
  'count_collective_bytes',
  'count_memory',
  'estimate_secs',
  'find_collectives',
]
