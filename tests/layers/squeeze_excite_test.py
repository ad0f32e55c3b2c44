"""Squeeze-excite multiplies its two matrices in the type that it is told to."""

import re

import jax
import jax.numpy as jnp
import pytest

from movinet_jax.layers import SqueezeExcite

OPERANDS = re.compile(r'dot_general .* : \(tensor<\S+x(\w+)>, tensor<\S+x(\w+)>\)')


@pytest.mark.parametrize(('dtype', 'name'), [('bfloat16', 'bf16'), ('float32', 'f32')])
@pytest.mark.parametrize('kind', ['2d', '3d', '2plus3d'])
def test_both_matrices_are_of_its_type(kind, dtype, name):
  """The means before them are float32 all the same."""
  layer = SqueezeExcite(8, kind, causal=True, dtype=jnp.dtype(dtype))
  x = jnp.ones((2, 3, 4, 4, 6), dtype)
  variables = jax.eval_shape(layer.init, jax.random.key(0), x)
  assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {'float32'}
  program = jax.jit(layer.apply).lower(variables, x).as_text()
  assert OPERANDS.findall(program) == [(name, name)] * 2
  assert jax.eval_shape(layer.apply, variables, x)[0].dtype == dtype
