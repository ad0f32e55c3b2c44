"""Efficient video networks in JAX: build, count, convert, train and stream them."""

from movinet_jax import convert, cost
from movinet_jax.models import create, init

__all__ = ['convert', 'cost', 'create', 'init']
