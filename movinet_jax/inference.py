"""XLA's options for programs that answer and do not learn."""

import functools

import jax

# XLA's newer library of matrix products computes one at a time, and small ones more slowly. Forward
# passes are 1 to 14 percent faster without it on two CPU cores, and as fast on one (JAX 0.10.2).
# Training is faster with it.
_CPU = {'xla_cpu_experimental_ynn_fusion_type': ''}


def find_options(platform: str) -> dict[str, str]:
  """Finds the compiler options of a forward pass, for `jax.jit` and `compile`.

  Args:
    platform: of the devices that it will run on, such as 'cpu'.
  """
  return dict(_CPU) if platform == 'cpu' and _are_known() else {}


@functools.cache
def _are_known() -> bool:
  """Whether this JAX has the option. They come and go, and an unknown one is an error."""
  try:
    with jax.default_device(jax.devices('cpu')[0]):
      jax.jit(lambda x: x, compiler_options=_CPU).lower(0.0).compile()
  except jax.errors.JaxRuntimeError as error:
    if 'No such compile option' not in str(error):
      raise
    return False
  return True
