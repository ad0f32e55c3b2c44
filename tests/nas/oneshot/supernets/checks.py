"""What tests of all supernets need."""

import jax
import jax.numpy as jnp
import numpy as np


def liven(params, below_ndim: int):
  """Moves weights of fewer axes at random: no scale is zero then, so that branches count."""
  random = np.random.default_rng(2)  # JAX would compile a program for each shape

  def move(x):
    return x + 0.3 * random.standard_normal(x.shape, np.float32) if x.ndim < below_ndim else x

  return jax.tree.map(lambda x: jnp.asarray(move(np.asarray(x))), params)


def list_dead(gradients) -> list[str]:
  """Paths of the weights for which none of several gradients has anything but zeros."""
  reached = jax.tree.map(lambda *grads: any(bool((g != 0).any()) for g in grads), *gradients)
  return [
    jax.tree_util.keystr(path)
    for path, alive in jax.tree_util.tree_leaves_with_path(reached)
    if not alive
  ]


def measure_memory(compiled, *arguments) -> int:
  """Bytes of temporary arrays of a function under jax.jit."""
  program = compiled.lower(*arguments).compile()
  return program.memory_analysis().temp_size_in_bytes
