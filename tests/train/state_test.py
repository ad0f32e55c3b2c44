import jax
import jax.numpy as jnp
import optax
import pytest

from movinet_jax.train.state import make_state
from tests.train.toy import make_variables, max_difference


def test_a_fresh_state_owns_its_arrays():
  variables = make_variables()
  state = make_state(variables, optax.sgd(0.1, momentum=0.9))
  assert state.step == 0
  assert max_difference(state.ema['params'], state.params) == 0
  # Donated whole, twice over, without taking the caller's arrays along.
  double = jax.jit(lambda s: jax.tree.map(lambda x: x * 2, s), donate_argnums=0)
  state = double(double(state))
  want = jax.tree.map(lambda x: 4 * x, variables['params'])
  assert max_difference(state.params, want) < 1e-6


def test_parameters_must_be_float32():
  variables = make_variables()
  cast = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables)
  with pytest.raises(ValueError, match=r"\['batch_stats'\].* is bfloat16"):
    make_state(cast, optax.sgd(0.1))


def test_other_collections_are_refused():
  with pytest.raises(ValueError, match=r"\['cache'\]"):
    make_state({**make_variables(), 'cache': {}}, optax.sgd(0.1))
