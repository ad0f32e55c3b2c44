"""Activations are their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.ops import get_activation
from movinet_jax.ops.activation import ACTIVATIONS

X = np.linspace(-5, 5, 41, dtype=np.float32)
RELU6 = np.clip(X + 3, 0, 6)
SIGMOID = 1 / (1 + np.exp(-X))
FORMULAS = {
  'hard_sigmoid': RELU6 * 0.16667,
  'hard_swish': X * RELU6 / 6,
  'identity': X,
  'keras_hard_sigmoid': np.clip(0.2 * X + 0.5, 0, 1),
  'relu': np.maximum(X, 0),
  'sigmoid': SIGMOID,
  'swish': X * SIGMOID,
}


def test_every_activation_has_its_formula_here():
  assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_formula(name):
  activation = get_activation(name)
  np.testing.assert_allclose(activation(X), FORMULAS[name], atol=1e-6)
  assert activation(jnp.asarray(X, jnp.bfloat16)).dtype == jnp.bfloat16
  assert np.isfinite(jax.vmap(jax.grad(activation))(X)).all()


def test_the_two_hard_sigmoids_differ():
  """Weights trained with one do not work with the other."""
  one, other = (get_activation(n)(X) for n in ('hard_sigmoid', 'keras_hard_sigmoid'))
  assert np.abs(one - other).max() > 0.05
  assert get_activation('hard_sigmoid')(9.0) == pytest.approx(1.00002)


def test_unknown_name():
  with pytest.raises(ValueError, match="unknown activation 'swich'; did you mean 'swish'"):
    get_activation('swich')
