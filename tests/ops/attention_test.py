"""Attention is the formula, in pieces too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.cost.count import count_macs, count_peak_bytes
from movinet_jax.ops import attend, attention

RNG = np.random.default_rng(0)
QUERIES, KEYS = (RNG.normal(size=(2, n, 3)).astype(np.float32) for n in (10, 7))
VALUES = RNG.normal(size=(2, 7, 4)).astype(np.float32)


def by_hand(queries, keys, values):
  weights = np.exp(np.einsum('blc,bmc->blm', queries, keys))
  return weights @ values / weights.sum(-1, keepdims=True)


# 14 weights a query: all at a time, one at a time, and four, which do not divide ten.
@pytest.mark.parametrize('most', [2**24, 1, 60])
def test_all_sizes_of_pieces_are_the_formula(monkeypatch, most):
  monkeypatch.setattr(attention, 'MOST_WEIGHTS', most)
  found = attend(QUERIES, KEYS, VALUES)
  np.testing.assert_allclose(found, by_hand(QUERIES, KEYS, VALUES), rtol=1e-5)
  arguments = QUERIES, KEYS, VALUES

  def loss(function):
    return lambda *a: (function(*a) ** 2).sum()

  def plain(queries, keys, values):
    return jax.nn.softmax(queries @ keys.swapaxes(1, 2)) @ values

  ours, wanted = (jax.grad(loss(f), (0, 1, 2))(*arguments) for f in (attend, plain))
  for a, b in zip(ours, wanted, strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_the_weights_of_a_large_clip_are_never_all_there():
  """8 frames of 112x112: 10^10 weights, 40 GB. All their products are counted."""
  x = jax.ShapeDtypeStruct((1, 8 * 112 * 112, 4), jnp.float32)
  program = jax.make_jaxpr(attend)(x, x, x).jaxpr
  assert count_macs(program).total() == 2 * 4 * x.shape[1] ** 2
  assert count_peak_bytes(program, inputs=3) < 4 * 2**26


def test_nor_are_they_kept_for_the_gradient():
  """2^28 weights are 1 GiB."""
  x = jax.ShapeDtypeStruct((1, 2**14, 4), jnp.float32)
  program = jax.jit(jax.grad(lambda x: attend(x, x, x).sum())).lower(x).compile()
  assert program.memory_analysis().temp_size_in_bytes < 2**29
