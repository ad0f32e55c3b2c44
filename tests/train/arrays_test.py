"""States as trees of arrays, and weights against the network that they are for."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.train.arrays import check_weights, from_tree, hash_arrays, to_tree


@flax.struct.dataclass
class State:
  step: jax.Array
  slots: dict
  extra: jax.Array | None = None


def test_a_field_that_is_none_is_not_in_a_checkpoint():
  """So a state may get an optional field, and checkpoints of before are read as ever."""
  state = State(jnp.int32(3), {'empty': {}})
  tree = to_tree(state)
  assert set(tree) == {'step'}
  read = from_tree(State(jnp.int32(0), {'empty': {}}), tree)
  assert read.extra is None
  assert (read.step, read.slots) == (3, {'empty': {}})
  assert set(to_tree(state.replace(extra=jnp.ones(2)))) == {'step', 'extra'}


WANTED = {'params': {'w': jax.ShapeDtypeStruct((2, 3), jnp.float32)}}


def test_the_weights_of_the_network_pass():
  check_weights(WANTED, {'params': {'w': jnp.ones((2, 3))}}, 'run/5')


@pytest.mark.parametrize(
  ('params', 'difference'),
  [
    ({'w': jnp.ones((2, 4))}, r"\['w'\] is \(2, 4\), wanted \(2, 3\)"),
    ({}, r"\['w'\] is None, wanted \(2, 3\)"),
    ({'w': jnp.ones((2, 3)), 'v': jnp.ones(1)}, r"\['v'\] is \(1,\), wanted None"),
  ],
)
def test_weights_of_another_network_are_named(params, difference):
  with pytest.raises(ValueError, match=f'run/5 .*{difference}'):
    check_weights(WANTED, {'params': params}, 'run/5')


def test_a_hash_tells_names_types_shapes_and_values():
  tree = {'params': {'a': np.zeros(4, np.float32), 'b': np.ones(2)}}
  changed = [
    {'params': {'a': np.zeros(4, np.float32), 'c': np.ones(2)}},
    {'params': {'a': np.zeros(4, np.int32), 'b': np.ones(2)}},
    {'params': {'a': np.zeros((2, 2), np.float32), 'b': np.ones(2)}},
    {'params': {'a': np.zeros(4, np.float32), 'b': np.array([1.0, 2.0])}},
  ]
  found = [hash_arrays(one) for one in (tree, *changed)]
  assert len(set(found)) == len(found)
  turned = {'params': dict(reversed(tree['params'].items()))}
  assert hash_arrays(turned) == found[0]
