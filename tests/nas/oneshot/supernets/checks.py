"""What tests of all supernets need."""

import jax


def liven(params, below_ndim: int):
  """Moves weights of fewer axes at random: no scale is zero then, so that branches count."""
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  return tree.unflatten(
    [
      x + 0.3 * jax.random.normal(key, x.shape) if x.ndim < below_ndim else x
      for x, key in zip(leaves, keys, strict=True)
    ]
  )


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
