"""Efficient video networks in JAX: build, count, convert, train and stream them."""

import importlib

# Found when they are asked for: a process that decodes videos, or starts others, need not
# load JAX to reach its own part of the package.
_HOMES = {
  'convert': 'movinet_jax.convert',
  'cost': 'movinet_jax.cost',
  'create': 'movinet_jax.models',
  'init': 'movinet_jax.models',
}
__all__ = ['convert', 'cost', 'create', 'init']


def __getattr__(name: str):
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  home = importlib.import_module(_HOMES[name])
  return home if home.__name__.endswith(f'.{name}') else getattr(home, name)


def __dir__():
  return sorted({*globals(), *__all__})
