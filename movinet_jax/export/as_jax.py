"""Writes a graph as a JAX function."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from movinet_jax.export.graph import LOGITS, Graph, Tensor


def emit(
  graph: Graph, dtype=np.float32, operations: Mapping[str, Callable] | None = None
) -> Callable[..., tuple[jax.Array, ...]]:
  """Returns a function from the graph's inputs to its outputs, both in order.

  Args:
    graph: what to compute.
    dtype: of all numbers; float16 shows what happens in runtimes that compute in it.
    operations: how each is computed; by default as converters know them.
  """
  operations = OPERATIONS if operations is None else operations
  nodes = graph.list_nodes()

  def run(*inputs):
    known = dict(zip(graph.inputs.values(), inputs, strict=True))
    for node, tensor in nodes:
      operands = [
        known[one] if isinstance(one, Tensor) else _cast(one, dtype) for one in node.inputs
      ]
      known[tensor] = operations[node.op](*operands, **node.params)
    return tuple(
      known[tensor].reshape(len(known[tensor]), -1) if name == LOGITS else known[tensor]
      for name, tensor in graph.outputs.items()
    )

  return run


def list_shapes(graph: Graph, dtype=np.float32) -> list[jax.ShapeDtypeStruct]:
  """Lists the shapes that the function of a graph takes."""
  return [jax.ShapeDtypeStruct(tensor.shape, dtype) for tensor in graph.inputs.values()]


def _cast(constant, dtype) -> np.ndarray:
  constant = np.asarray(constant)
  return constant if constant.dtype == bool else constant.astype(dtype)


def _convolve(x, kernel, bias=None, *, stride, pads, groups):
  layout = ('NHWC', 'HWIO', 'NHWC')
  y = lax.conv_general_dilated(
    x, kernel, stride, pads, dimension_numbers=layout, feature_group_count=groups
  )
  return y if bias is None else y + bias


def _average(x, *, window, stride, pads):
  def add(x):
    zero = np.zeros((), x.dtype)
    return lax.reduce_window(x, zero, lax.add, *_list_windows(window, stride, pads))

  # Converters know an average by this division.
  return add(x) / add(np.ones((1, *x.shape[1:3], 1), x.dtype))


def _largest(x, *, window, stride, pads):
  least = np.array(-np.inf, x.dtype)
  return lax.reduce_window(x, least, lax.max, *_list_windows(window, stride, pads))


def _list_windows(window, stride, pads):
  return (1, *window, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0))


def _reduce(function):
  return lambda x, *, axes: function(x, axes, keepdims=True)


def _relu6(x):
  return lax.clamp(np.zeros((), x.dtype), x, np.full((), 6, x.dtype))


def _hard_swish(x):
  return x * _relu6(x + np.full((), 3, x.dtype)) * np.full((), 1 / 6, x.dtype)


def _concatenate(*arrays: Sequence, axis: int):
  return jnp.concatenate(arrays, axis)


OPERATIONS = {
  'conv': _convolve,
  'average_pool': _average,
  'max_pool': _largest,
  'sum': _reduce(jnp.sum),
  'mean': _reduce(jnp.mean),
  'peak': _reduce(jnp.max),
  'cumsum': lambda x, *, axis: jnp.cumsum(x, axis),
  'reshape': lambda x, *, shape: x.reshape(shape),
  'transpose': lambda x, *, order: x.transpose(order),
  'concat': _concatenate,
  'slice': lambda x, *, start, limit, stride: lax.slice(x, start, limit, stride),
  'pad': lambda x, *, pads, value: jnp.pad(x, pads, constant_values=value),
  'broadcast': lambda x, *, shape: jnp.broadcast_to(x, shape),
  'matmul': jnp.matmul,
  'select': jnp.where,
  'relu': jax.nn.relu,
  'relu6': _relu6,
  'logistic': lax.logistic,
  'silu': lambda x: x * lax.logistic(x),
  'hard_swish': _hard_swish,
  **{name: getattr(jnp, name) for name in ('tanh', 'exp', 'log', 'sin', 'cos', 'sqrt')},
  **{name: getattr(jnp, name) for name in ('abs', 'sign', 'floor', 'equal', 'not_equal')},
  **{name: getattr(jnp, name) for name in ('greater', 'greater_equal', 'less', 'less_equal')},
  **{'rsqrt': lax.rsqrt, 'neg': jnp.negative, 'add': jnp.add, 'sub': jnp.subtract},
  **{'mul': jnp.multiply, 'div': jnp.divide, 'max': jnp.maximum, 'min': jnp.minimum},
  **{'pow': jnp.power, 'and': jnp.logical_and, 'or': jnp.logical_or, 'not': jnp.logical_not},
}
