"""Graphs of four-dimensional operations: what runtimes outside of JAX are fast at.

Phones, browsers and servers have kernels for images [N, H, W, C]. A network of videos becomes a
graph of those (`walk`), and each format writes its own file from the graph (`formats`).
"""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Shape = tuple[int, int, int, int]
IMAGE, LOGITS = 'image', 'logits'  # what a network sees, and its answer
COPY = '__'  # between a name and the number of a copy, see `copies`


@dataclasses.dataclass(eq=False)
class Tensor:
  """An array that is known when the graph runs.

  Attributes:
    shape: [N, H, W, C], or what plays their part.
    node: what computes it; None for an input of the graph.
    dtype: 'float32' or 'bool'.
  """

  shape: Shape
  node: 'Node | None' = None
  dtype: str = 'float32'


@dataclasses.dataclass(eq=False)
class Node:
  """An operation.

  Attributes:
    op: one of OPS.
    inputs: tensors, and constants that broadcast as NumPy's do.
    params: what the operation needs beside its inputs, see OPS.
    where: the module that it is of, as a path.
  """

  op: str
  inputs: list
  params: Mapping[str, Any]
  where: str = ''

  @property
  def tensors(self) -> list[Tensor]:
    return [one for one in self.inputs if isinstance(one, Tensor)]


@dataclasses.dataclass
class Graph:
  """Named tensors that come in and go out; the nodes between are found from what goes out.

  Attributes:
    inputs: in the order of a call.
    outputs: in the order of a result.
  """

  inputs: dict[str, Tensor]
  outputs: dict[str, Tensor]

  def list_nodes(self) -> list[tuple[Node, Tensor]]:
    """Nodes with their outputs, each behind those that it reads."""
    order, seen = [], set()
    stack = [(tensor, False) for tensor in reversed(self.outputs.values())]
    while stack:
      tensor, ready = stack.pop()
      if ready:
        order.append((tensor.node, tensor))
      elif tensor.node is not None and tensor not in seen:
        seen.add(tensor)
        stack.append((tensor, True))
        stack += [(one, False) for one in reversed(tensor.node.tensors)]
    return order

  def count_uses(self) -> collections.Counter:
    """How many inputs of nodes, and outputs of the graph, each tensor is."""
    uses = collections.Counter(self.outputs.values())
    for node, _ in self.list_nodes():
      uses.update(node.tensors)
    return uses

  def count_ops(self) -> collections.Counter:
    return collections.Counter(node.op for node, _ in self.list_nodes())

  def substitute(self, new: Mapping[Tensor, Tensor]):
    """Puts tensors in the place of others, wherever those are read."""
    for node, _ in self.list_nodes():
      node.inputs = [new.get(one, one) if isinstance(one, Tensor) else one for one in node.inputs]
    self.outputs = {name: new.get(tensor, tensor) for name, tensor in self.outputs.items()}


def is_image(name: str) -> bool:
  """Whether an input is pixels, which all formats take as [N, H, W, C]."""
  return name.partition(COPY)[0] == IMAGE


def add_node(op: str, *inputs, where: str = '', **params) -> Tensor:
  """Makes a node; returns its output.

  Raises:
    KeyError: there is no such operation.
  """
  shapes = [one.shape for one in inputs if not isinstance(one, (int, float))]
  shape = tuple(int(n) for n in OPS[op](shapes, **params))
  dtype = 'bool' if op in COMPARISONS or op in LOGIC else 'float32'
  if op == 'reshape':
    dtype = inputs[0].dtype
  return Tensor(shape, Node(op, list(inputs), params, where), dtype)


def find_outputs(size: int, window: int, stride: int, pads: tuple[int, int]) -> int:
  """How many places a window has along an axis."""
  return (size + sum(pads) - window) // stride + 1


def _same(shapes):
  return shapes[0]


def _broadcast(shapes):
  return (1,) * (4 - len(found := np.broadcast_shapes(*shapes))) + found


def _convolve(shapes, stride, pads, groups):
  (n, h, w, _), (kh, kw, _, features), *_ = shapes
  del groups
  return n, *_slide((h, w), (kh, kw), stride, pads), features


def _pool(shapes, window, stride, pads):
  n, h, w, c = shapes[0]
  return n, *_slide((h, w), window, stride, pads), c


def _slide(image, window, stride, pads):
  return tuple(map(find_outputs, image, window, stride, pads))


def _reshape(shapes, shape):
  if math.prod(shape) != math.prod(shapes[0]):
    raise ValueError(f'{shapes[0]} cannot be seen as {shape}')
  return shape


def _transpose(shapes, order):
  return tuple(shapes[0][axis] for axis in order)


def _concatenate(shapes, axis):
  total = sum(shape[axis] for shape in shapes)
  return *shapes[0][:axis], total, *shapes[0][axis + 1 :]


def _slice(shapes, start, limit, stride):
  del shapes
  return tuple(-(-(b - a) // s) for a, b, s in zip(start, limit, stride, strict=True))


def _pad(shapes, pads, value):
  del value
  return tuple(n + sum(pad) for n, pad in zip(shapes[0], pads, strict=True))


def _reduce(shapes, axes):
  return tuple(1 if axis in axes else n for axis, n in enumerate(shapes[0]))


def _cumulate(shapes, axis):
  del axis
  return shapes[0]


def _multiply(shapes):
  (*batch, m, _), (*other, _, n) = shapes
  return *np.broadcast_shapes(tuple(batch), tuple(other)), m, n


def _expand(shapes, shape):
  return np.broadcast_shapes(shapes[0], shape)


COMPARISONS = ('equal', 'not_equal', 'greater', 'greater_equal', 'less', 'less_equal')
LOGIC = ('and', 'or', 'not')
UNARY = (
  *('relu', 'relu6', 'logistic', 'silu', 'hard_swish', 'tanh'),
  *('exp', 'log', 'sin', 'cos', 'sqrt', 'rsqrt', 'neg', 'abs', 'sign', 'floor'),
)
BINARY = ('add', 'sub', 'mul', 'div', 'max', 'min', 'pow')
# Every operation, with what says the shape of its output from those of its inputs. Parameters:
# `conv` of x, kernel [KH, KW, C / groups, F] and perhaps bias [F]: stride, pads, groups;
# `average_pool` and `max_pool`: window, stride, pads, which are no values; `sum`, `mean` and
# `peak` (the largest): axes, which stay with size 1; `slice`: start, limit and stride, of four
# axes each; `pad`: pads of four axes, value; `matmul` of [.., M, K] and [.., K, N].
OPS = {
  'conv': _convolve,
  'average_pool': _pool,
  'max_pool': _pool,
  'sum': _reduce,
  'mean': _reduce,
  'peak': _reduce,
  'cumsum': _cumulate,
  'reshape': _reshape,
  'transpose': _transpose,
  'concat': _concatenate,
  'slice': _slice,
  'pad': _pad,
  'broadcast': _expand,
  'matmul': _multiply,
  'select': _broadcast,
  **dict.fromkeys(UNARY, _same),
  **dict.fromkeys((*BINARY, *COMPARISONS, *LOGIC), _broadcast),
}
