"""Activations by name."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from movinet_jax.names import find


def hard_swish(x: jax.Array) -> jax.Array:
  """x * relu6(x + 3) / 6 (MobileNetV3, section 5.2)."""
  return x * jax.nn.relu6(x + 3) * (1 / 6)


def hard_sigmoid(x: jax.Array) -> jax.Array:
  """relu6(x + 3) * 0.16667: the constant of the reference, so it saturates at 1.00002."""
  return jax.nn.relu6(x + 3) * 0.16667


def keras_hard_sigmoid(x: jax.Array) -> jax.Array:
  """clip(0.2 x + 0.5, 0, 1): the gate that the published stream weights seem to expect."""
  return jnp.clip(0.2 * x + 0.5, 0, 1)


ACTIVATIONS = {
  'hard_sigmoid': hard_sigmoid,
  'hard_swish': hard_swish,
  'identity': lambda x: x,
  'keras_hard_sigmoid': keras_hard_sigmoid,
  'relu': jax.nn.relu,
  'sigmoid': jax.nn.sigmoid,
  'swish': jax.nn.silu,
}
Activation = Literal[tuple(ACTIVATIONS)]


def get_activation(name: str) -> Callable[[jax.Array], jax.Array]:
  """Finds an activation.

  Raises:
    ValueError: unknown name.
  """
  return find(ACTIVATIONS, name, 'activation')
