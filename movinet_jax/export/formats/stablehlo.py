"""StableHLO: a compiled network for JAX elsewhere, without the package that made it.

from jax import export
exported = export.deserialize(pathlib.Path('model.stablehlo').read_bytes())
found = jax.jit(exported.call)({'image': frames, **states})
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from movinet_jax.export import states
from movinet_jax.export.graph import IMAGE, LOGITS
from movinet_jax.export.interface import Array, Interface
from movinet_jax.export.program import ExportError
from movinet_jax.export.session import Session
from movinet_jax.export.source import Source
from movinet_jax.export.weights import Stored, store

FILE = 'model.stablehlo'
WEIGHTS = ('float32', 'float16', 'int8')
NEEDS = RUNS = ()
CONVERTERS = ()
FREE, THREADS, GRAPH = True, False, False
PLATFORMS = ('cpu', 'cuda', 'tpu')


def write(source: Source, path: Path, weights: str = 'float32') -> Interface:
  like = source.begin()
  stored = _store(source.variables, weights)

  def step(inputs):
    variables = _restore(stored)
    if not like:
      return {LOGITS: source.model.apply(variables, inputs[IMAGE])[0]}
    state = states.unpack(inputs, like)
    logits, after = source.model.apply(variables, inputs[IMAGE], state)
    packed = states.pack(after)
    return {LOGITS: logits, **{name + states.NEXT: value for name, value in packed.items()}}

  shapes = _list_shapes(source, like)
  exported = _export(step, shapes)
  path.write_bytes(exported.serialize())
  outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
  names = {name: name + states.NEXT for name in shapes if name != IMAGE}
  return Interface(_describe(shapes), _describe(outputs), names)


def _export(step, shapes):
  try:
    return export.export(jax.jit(step), platforms=PLATFORMS)(shapes)
  except (jax.errors.InconclusiveDimensionOperation, TypeError) as error:
    if all(isinstance(size, int) for size in shapes[IMAGE].shape):
      raise
    said = str(error).splitlines()[0]
    raise ExportError(
      f'the network computes with the number of videos: say how many with --batch ({said})'
    ) from error


def _store(variables, weights: str):
  """Variables with kernels of fewer bits."""

  def change(array):
    array = np.asarray(array)
    return store(array, weights) if array.ndim > 1 else Stored(array)

  return jax.tree.map(change, dict(variables))


def _restore(stored):
  def change(one: Stored):
    if one.values.dtype == np.float32:
      return jnp.asarray(one.values)
    # Behind a barrier, or the compiler would store float32 again.
    values = jax.lax.optimization_barrier(jnp.asarray(one.values)).astype(jnp.float32)
    return values if one.scale is None else values * one.scale

  return jax.tree.map(change, stored, is_leaf=lambda one: isinstance(one, Stored))


def _list_shapes(source: Source, like):
  sizes = {IMAGE: (source.shape, np.float32)}
  sizes |= {name: (array.shape, array.dtype) for name, array in states.pack(like).items()}
  if source.batch is not None:
    return {name: jax.ShapeDtypeStruct(*size) for name, size in sizes.items()}
  (videos,) = export.symbolic_shape('batch')
  return {
    name: jax.ShapeDtypeStruct((videos, *shape[1:]) if shape else (), dtype)
    for name, (shape, dtype) in sizes.items()
  }


def _describe(shapes) -> dict[str, Array]:
  return {
    name: Array(
      tuple(size if isinstance(size, int) else None for size in one.shape), np.dtype(one.dtype).name
    )
    for name, one in shapes.items()
  }


def make_session(
  path: Path, interface: Interface, batch: int = 1, threads: int | None = None
) -> Session:
  return _Session(path, interface, batch)


class _Session(Session):
  traces = True

  def __init__(self, path, interface, batch):
    self._call = export.deserialize(bytearray(path.read_bytes())).call
    super().__init__(interface, batch)

  @functools.cached_property
  def _compiled(self):
    """The call for this number of videos: NumPy's arrays and JAX's are one program."""
    zeros = {name: one.make_zeros(self.batch) for name, one in self.interface.inputs.items()}
    shapes = {name: jax.ShapeDtypeStruct(one.shape, one.dtype) for name, one in zeros.items()}
    return jax.jit(self._call).lower(shapes).compile()

  def _run(self, inputs: Mapping) -> Mapping:
    traced = any(isinstance(one, jax.core.Tracer) for one in inputs.values())
    return self._call(inputs) if traced else self._compiled(inputs)
