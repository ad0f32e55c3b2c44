"""Multiply-adds, parameters, memory and state bytes of a network."""

from movinet_jax.cost.count import Cost, count

__all__ = ['Cost', 'count']
