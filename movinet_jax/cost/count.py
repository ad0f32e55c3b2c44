"""Counts from the traced program: nothing is computed, and no family is known here.

One multiply-add is one MAC; what papers of this field print as GFLOPs are GMACs. Counted
are convolutions and matrix products, as if padding were multiplied too, which is how the
published numbers come about; not pooling, normalisation, activations and sums.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.extend import core

# Operations of movinet_jax.ops are functions under jit: they are met by name, whichever
# form of them runs. Each gives its MACs from the shapes (output, input, kernel).
_NAMED: dict[str, Callable[[tuple, tuple, tuple], int]] = {
  'depthwise_conv3d': lambda y, x, k: math.prod(y) * math.prod(k[:3]),
  'spatial_conv': lambda y, x, k: math.prod(y) * math.prod(k[:4]),
}
# Resampling is written with products, but is no layer of a network.
_FREE = frozenset({'average_pool', '_resize', 'resize'})
# Results that XLA never stores: views, and values spread over more positions.
_VIEWS = frozenset({'reshape', 'squeeze', 'expand_dims', 'copy', 'stop_gradient'})
_SPREADS = frozenset({'broadcast_in_dim', 'iota'})


@dataclasses.dataclass(frozen=True)
class Cost:
  """What one call of a network costs.

  Attributes:
    macs: multiply-adds, for the whole batch.
    params: trained parameters.
    statistics: running statistics of batch norms; no parameters.
    peak_bytes: the most that inputs and intermediate arrays take at one time if
      elementwise operations work in place; parameters are not in it.
    state_bytes: what a stream keeps between calls, 0 if the network is no stream.
    macs_by_layer: (module path, MACs) in the order of computation.
    params_by_layer: (module path, parameters).
  """

  macs: int
  params: int
  statistics: int
  peak_bytes: int
  state_bytes: int
  macs_by_layer: tuple[tuple[str, int], ...]
  params_by_layer: tuple[tuple[str, int], ...]


def count(model: nn.Module, shape: tuple[int, ...], dtype=jnp.float32) -> Cost:
  """Counts one call of a network on x of `shape`, [B, T, H, W, C], without a state."""
  frame = jax.ShapeDtypeStruct((1, 1, 32, 32, shape[-1]), dtype)
  variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), frame)
  x = jax.ShapeDtypeStruct(tuple(shape), dtype)
  traced, (_, state) = jax.make_jaxpr(model.apply, return_shape=True)(variables, x)
  by_layer = count_macs(traced.jaxpr)
  params = traverse_util.flatten_dict(variables['params'], sep='/')
  return Cost(
    macs=sum(by_layer.values()),
    params=sum(leaf.size for leaf in params.values()),
    statistics=sum(s.size for s in jax.tree.leaves(variables.get('batch_stats', {}))),
    peak_bytes=count_peak_bytes(traced.jaxpr, inputs=1),
    state_bytes=sum(s.size * s.dtype.itemsize for s in jax.tree.leaves(state)),
    macs_by_layer=tuple(by_layer.items()),
    params_by_layer=tuple((k.rpartition('/')[0], p.size) for k, p in params.items()),
  )


def count_macs(jaxpr, scope: str = '') -> Counter:
  """MACs of a traced program by module path.

  Raises:
    ValueError: there are products in a `while` loop, whose turns are unknown.
  """
  total = Counter()
  for eqn in jaxpr.eqns:
    path = '/'.join(filter(None, (scope, str(eqn.source_info.name_stack))))
    macs = _count_equation(eqn)
    if macs is not None:
      total[_module_path(path)] += macs
      continue
    inner = [count_macs(j, path) for j in _subprograms(eqn)]
    total += _combine(eqn, inner)
  return Counter({path: macs for path, macs in total.items() if macs})


def _count_equation(eqn) -> int | None:
  """MACs of an equation; None if they are those of the programs inside it."""
  name = eqn.primitive.name
  shapes = [v.aval.shape for v in (*eqn.outvars, *eqn.invars) if hasattr(v.aval, 'shape')]
  if name == 'dot_general':
    (contracted, _), _ = eqn.params['dimension_numbers']
    return math.prod(shapes[0]) * math.prod(shapes[1][i] for i in contracted)
  if name == 'conv_general_dilated':
    features = shapes[2][eqn.params['dimension_numbers'].rhs_spec[0]]
    return math.prod(shapes[0]) * math.prod(shapes[2]) // features
  called = eqn.params.get('name')
  if called in _FREE:
    return 0
  return _NAMED[called](*shapes[:3]) if called in _NAMED else None


def _combine(eqn, inner) -> Counter:
  if not inner:
    return Counter()
  if eqn.primitive.name == 'scan':
    turns = eqn.params['length']
    return Counter({path: turns * macs for path, macs in inner[0].items()})
  if eqn.primitive.name == 'cond':  # The dearest branch: an upper bound.
    return max(inner, key=lambda branch: sum(branch.values()))
  if eqn.primitive.name == 'while' and any(inner):
    raise ValueError('cannot count products in a while loop: its turns are unknown')
  return sum(inner, Counter())


def _subprograms(eqn):
  for value in eqn.params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, core.Jaxpr):
        yield item


def _module_path(path: str) -> str:
  """'Model/block0_layer0/Bottleneck._run/conv' -> 'block0_layer0/conv': methods are no modules."""
  parts = [part for part in path.split('/')[1:] if '.' not in part]
  return '/'.join(parts) or path


def count_peak_bytes(jaxpr, inputs: int) -> int:
  """The most bytes alive at one time; only the last `inputs` arguments are counted."""
  program = _Program()
  names = dict.fromkeys((*jaxpr.constvars, *jaxpr.invars))
  names |= {v: program.new(v.aval) for v in jaxpr.invars[len(jaxpr.invars) - inputs :]}
  program.inline(jaxpr, names)
  return program.peak([names.get(v) for v in jaxpr.outvars if hasattr(v, 'count')])


class _Program:
  """Equations as (operands, result, in place?) over buffers, calls inlined."""

  def __init__(self):
    self.sizes: list[int] = []
    self.steps: list[tuple[list[int], list[int], bool]] = []

  def new(self, aval) -> int:
    self.sizes.append(aval.size * aval.dtype.itemsize)
    return len(self.sizes) - 1

  def inline(self, jaxpr, names):
    """Appends the equations of a program whose arguments are in `names`."""
    for eqn in jaxpr.eqns:
      operands = [names.get(v) for v in eqn.invars if not isinstance(v, core.Literal)]
      inner = self._inner(eqn)
      if inner is not None:
        given = [None if isinstance(v, core.Literal) else names.get(v) for v in eqn.invars]
        within = dict(zip(inner.invars, given, strict=True))
        within |= dict.fromkeys(inner.constvars)
        self.inline(inner, within)
        for outer, var in zip(eqn.outvars, inner.outvars, strict=True):
          names[outer] = None if isinstance(var, core.Literal) else within.get(var)
      elif eqn.primitive.name in _VIEWS and operands:
        names[eqn.outvars[0]] = operands[0]
      elif eqn.primitive.name in _SPREADS:
        names[eqn.outvars[0]] = operands[0] if operands else None
      else:
        self._step(eqn, operands, names)

  def _inner(self, eqn):
    """The program of a plain call; None for what is one step."""
    if eqn.params.get('name') in _NAMED.keys() | _FREE:
      return None
    inner = list(_subprograms(eqn))
    plain = len(inner) == 1 and eqn.primitive.name not in ('scan', 'while')
    return inner[0] if plain and len(inner[0].invars) == len(eqn.invars) else None

  def _step(self, eqn, operands, names):
    outputs = [self.new(v.aval) for v in eqn.outvars]
    shape = getattr(eqn.outvars[0].aval, 'shape', ())
    in_place = len(outputs) == 1 and all(
      getattr(v.aval, 'shape', ()) in ((), shape) for v in eqn.invars
    )
    self.steps.append(([o for o in operands if o is not None], outputs, in_place))
    names |= dict(zip(eqn.outvars, outputs, strict=True))

  def peak(self, results) -> int:
    last = {r: len(self.steps) for r in results if r is not None}
    for n, (operands, outputs, _) in enumerate(self.steps):
      for buffer in (*operands, *outputs):
        last[buffer] = max(n, last.get(buffer, n))
    made = {b for _, outputs, _ in self.steps for b in outputs}
    alive = sum(size for b, size in enumerate(self.sizes) if b not in made)
    most = alive
    for n, (operands, outputs, in_place) in enumerate(self.steps):
      dying = sum(self.sizes[b] for b in set(operands) if last[b] == n)
      added = sum(self.sizes[b] for b in outputs)
      most = max(most, alive + (max(added - dying, 0) if in_place else added))
      unused = sum(self.sizes[b] for b in outputs if last[b] == n)
      alive += added - dying - unused
    return most
