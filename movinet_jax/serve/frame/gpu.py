"""Rewrites a stream's graph for an NVIDIA GPU, where the number of kernels counts, and computes it.

Here are three operations more than in `rules`:

* `dense` of x [1, H, W, C], a matrix [C, F] and a bias [F]. An offset [C], a gate [1, 1, 1, C] and
  a shortcut [1, H, W, F] may follow; the parameter `given` names those that do. Other parameters:
  the activations `start` and `finish`. It is a kernel (`ops.cuda.dense`).
* `squeeze` of pixels [1, H, W, C], their running mean [1, 1, 1, C], the weight [1, 1, 1, 1] of this
  frame in it, a matrix [2 C, S], and perhaps the encoding [1, 1, 1, 2 C] of the frame's number.
  Its parameter is the `scale` of the encoding. It is a kernel (`ops.cuda.squeeze`).
* `part` of a `squeeze`: the product [1, 1, 1, S], `index` 0, or the new running mean, `index` 1.

Pixels have the type of the stream. All that a frame has once, such as gates, is float32.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax.export import as_jax
from movinet_jax.export.graph import UNARY, Graph, Node, Tensor, add_node
from movinet_jax.export.simplify import is_made_by, simplify, split_constant
from movinet_jax.ops.cuda import dense, squeeze
from movinet_jax.ops.depthwise import shifted


def rewrite(graph: Graph) -> Graph:
  """Rewrites what `rules.rewrite` returns."""
  return _match_squeezes(simplify(graph, _RULES))


def _make(x: Tensor, matrix, bias, start='', finish='', **given) -> Tensor:
  shape = *x.shape[:3], matrix.shape[1]
  params = {'start': start, 'finish': finish, 'given': tuple(given)}
  return Tensor(shape, Node('dense', [x, matrix, bias, *given.values()], params))


def _extend(tensor: Tensor, **changes) -> Tensor:
  """The same `dense` but for some arguments of `_make`."""
  x, matrix, bias, *rest = tensor.node.inputs
  given = dict(zip(tensor.node.params['given'], rest, strict=True))
  own = {name: tensor.node.params[name] for name in ('start', 'finish')}
  return _make(**{'x': x, 'matrix': matrix, 'bias': bias, **own, **given, **changes})


def _multiply(node: Node, alone) -> Tensor | None:
  """Makes a kernel of a product of many pixels, with their gate."""
  x, *gate, matrix, bias = node.inputs
  if not isinstance(x, Tensor) or x.shape[1] * x.shape[2] == 1:
    return _multiply_one(node, alone)
  if not gate and is_made_by(x, 'mul') and alone.get(x):
    x, *gate = _split_gate(x)
  shape = *x.shape[:3], matrix.shape[1]
  if is_made_by(x, 'reshape') and x.node.inputs[0].shape[3] == x.shape[3]:
    (x,) = x.node.inputs  # the same pixels in other rows
  found = _make(x, matrix, bias, **({'gate': gate[0]} if gate else {}))
  return found if found.shape == shape else add_node('reshape', found, shape=shape)


def _split_gate(x: Tensor) -> list[Tensor]:
  """Splits pixels that are multiplied with a gate into both; [x] if they are not."""
  for pixels, gate in (x.node.inputs, x.node.inputs[::-1]):
    both = isinstance(pixels, Tensor) and isinstance(gate, Tensor)
    if both and pixels.shape == x.shape and gate.shape == (1, 1, 1, x.shape[3]):
      return [pixels, gate]
  return [x]


def _multiply_one(node: Node, alone) -> Tensor | None:
  """Makes a kernel of the second of two products of one row, and what is between both."""
  x, *_, matrix, bias = node.inputs
  if len(node.inputs) != 3 or not isinstance(x, Tensor) or x.node is None or not alone.get(x):
    return None
  (raw, *rest), start = x.node.inputs, x.node.op
  if rest or start not in dense.ACTIVATIONS or not is_made_by(raw, 'product') or not alone.get(raw):
    return None
  *first, offset = raw.node.inputs
  bare = Tensor(raw.shape, Node('product', [*first, np.zeros_like(offset)], {}))
  return _make(bare, matrix, bias, start, offset=offset)


def _scale_gate(node: Node, alone) -> Tensor | None:
  """Scales the matrix in place of the gate."""
  given = dict(zip(node.params['given'], node.inputs[3:], strict=True))
  gate = given.get('gate')
  if not is_made_by(gate, 'mul'):
    return None
  for tensor, factor in (gate.node.inputs, gate.node.inputs[::-1]):
    if isinstance(tensor, Tensor) and not isinstance(factor, Tensor) and np.size(factor) == 1:
      x, matrix, bias = node.inputs[:3]
      given['gate'] = tensor
      own = node.params['start'], node.params['finish']
      return _make(x, matrix * np.reshape(factor, ()), bias, *own, **given)
  return None


def _add(node: Node, alone) -> Tensor | None:
  """Adds a shortcut inside the product that the sum alone reads."""
  for x, shortcut in (node.inputs, node.inputs[::-1]):
    if not is_made_by(x, 'dense') or not alone.get(x) or x.node.params['finish']:
      continue
    same = isinstance(shortcut, Tensor) and shortcut.shape == x.shape
    # A kernel may not get an array twice.
    if (
      same
      and _find_source(shortcut) is not _find_source(x.node.inputs[0])
      and 'shortcut' not in x.node.params['given']
    ):
      return _extend(x, shortcut=shortcut)
  return None


def _find_source(x: Tensor) -> Tensor:
  """What x is in another shape."""
  return _find_source(x.node.inputs[0]) if is_made_by(x, 'reshape') else x


def _finish(node: Node, alone) -> Tensor | None:
  """Puts an activation inside the product that it alone reads."""
  (x,) = node.inputs
  if is_made_by(x, 'reshape') and alone.get(x):
    inner = Node(node.op, x.node.inputs, node.params)
    found = _finish(inner, alone)
    return found and add_node('reshape', found, shape=x.shape)
  if node.op not in dense.ACTIVATIONS or not is_made_by(x, 'dense') or not alone.get(x, True):
    return None
  return None if x.node.params['finish'] else _extend(x, finish=node.op)


def _reshape(node: Node, alone) -> Tensor | None:
  """Merges reshapes, and drops those that change nothing."""
  (x,), shape = node.inputs, node.params['shape']
  if not isinstance(x, Tensor):
    return None
  if x.shape == shape:
    return x
  return add_node('reshape', *x.node.inputs, shape=shape) if is_made_by(x, 'reshape') else None


_RULES = {
  'product': (_multiply,),
  'gated': (_multiply,),
  'dense': (_scale_gate,),
  'reshape': (_reshape,),
  'add': (_add,),
  **dict.fromkeys(UNARY, (_finish,)),
}


def _match_squeezes(graph: Graph) -> Graph:
  """Makes a kernel of what updates a running mean and multiplies both means."""
  new = {}
  for node, tensor in graph.list_nodes():
    if node.op == 'product' and not np.any(node.inputs[2]) and (found := _find_squeeze(node)):
      updated, squeezed = found
      for index, one in enumerate((tensor, updated)):
        new[one] = Tensor(one.shape, Node('part', [squeezed], {'index': index}))
  graph.substitute(new)
  return graph


def _find_squeeze(node: Node) -> tuple[Tensor, Tensor] | None:
  """Finds the running mean that a product reads, and makes the `squeeze` in place of both."""
  x, matrix, _ = node.inputs
  for main, place, scale in _split_place(x):
    if means := _find_means(main):
      updated, reads_both, inputs = means
      if not reads_both:  # the product reads the running mean alone
        matrix = np.concatenate([matrix, np.zeros_like(matrix)])
      shape = 1, 1, 1, matrix.shape[1]
      return updated, Tensor(shape, Node('squeeze', [*inputs, matrix, *place], {'scale': scale}))
  return None


def _split_place(x):
  """Yields what x may be the sum of: means, perhaps the encoding of a place, and its scale."""
  yield x, [], 1.0
  if is_made_by(x, 'add') and len(x.node.tensors) == 2:
    for main, place in (x.node.inputs, x.node.inputs[::-1]):
      scale = 1.0
      if is_made_by(place, 'mul'):
        tensor, factor = split_constant(place.node)
        if tensor is not None and np.size(factor) == 1:
          place, scale = tensor, float(factor)
      if place.shape == x.shape:
        yield main, [place], scale


def _find_means(x) -> tuple[Tensor, bool, list] | None:
  """Finds a running mean in x, whether the mean itself is beside it, and what it is made of."""
  joined = is_made_by(x, 'concat') and x.node.params['axis'] == 3 and len(x.node.inputs) == 2
  updated, beside = x.node.inputs if joined else (x, None)
  if not is_made_by(updated, 'add'):
    return None
  for running, change in (updated.node.inputs, updated.node.inputs[::-1]):
    if not is_made_by(change, 'mul'):
      continue
    for step, weight in (change.node.inputs, change.node.inputs[::-1]):
      if not is_made_by(step, 'sub') or step.node.inputs[1] is not running:
        continue
      mean, pixels = step.node.inputs[0], _find_pixels(step.node.inputs[0])
      if pixels and (beside is None or beside is mean) and np.shape(weight) == (1, 1, 1, 1):
        return updated, joined, [pixels, running, weight]
  return None


def _find_pixels(mean) -> Tensor | None:
  """What the kernel takes the mean of: pixels, or the mean itself where there are too many."""
  if not is_made_by(mean, 'mean') or mean.shape[:3] != (1, 1, 1):
    return None
  if mean.shape[3] > squeeze.MOST_CHANNELS:
    return None
  (pixels,) = mean.node.inputs
  return pixels if math.prod(pixels.shape) <= squeeze.MOST_VALUES else mean


def emit(graph: Graph, dtype) -> Callable[..., tuple[jax.Array, ...]]:
  """Returns a function from the graph's inputs to its outputs, both in order.

  Args:
    graph: what `rewrite` returns.
    dtype: of pixels.
  """

  def narrow(x):
    return jnp.asarray(x).astype(dtype)

  def list_rows(x):
    """Pixels [P, C], or in float32 what a frame has once."""
    rows = x.reshape(-1, x.shape[3])
    return narrow(rows) if len(rows) > 1 else rows.astype(jnp.float32)

  def depthwise(*inputs, stride, pads, finish):
    *frames, kernel, bias = inputs
    pads = (0, 0), *pads
    taps = zip(frames, jnp.asarray(kernel)[:, None], strict=True)
    parts = [shifted.add_taps(frame[None], own, stride, pads)[0] for frame, own in taps]
    return narrow(_ACTIVATIONS[finish](sum(parts) + bias))

  def stem(x, kernel, bias, *, finish, **how):
    y = as_jax.OPERATIONS['conv'](narrow(x), narrow(kernel), groups=1, **how)
    return narrow(_ACTIVATIONS[finish](y.astype(jnp.float32) + bias))

  def multiply(x, matrix, bias, *rest, given, start, finish):
    rows = list_rows(x)
    more = dict(zip(given, map(jnp.asarray, rest), strict=True))
    wanted = {'shortcut': (-1, matrix.shape[1]), 'gate': (-1,), 'offset': (-1,)}
    more = {name: array.reshape(wanted[name]) for name, array in more.items()}
    matrix, bias = jnp.asarray(matrix), jnp.asarray(bias)
    y = dense.multiply(rows, matrix, bias, start=start, finish=finish, **more)
    return y.reshape(*x.shape[:3], -1)

  def squeeze_means(pixels, running, weight, matrix, *place, scale):
    rows = list_rows(pixels)
    vectors = [one.ravel() for one in (running, weight, *place)]
    found = squeeze.squeeze(rows, *vectors[:2], jnp.asarray(matrix), *vectors[2:], scale=scale)
    return [one.reshape(1, 1, 1, -1) for one in found]

  own = {'depthwise': depthwise, 'stem': stem, 'dense': multiply, 'squeeze': squeeze_means}
  return as_jax.emit(graph, operations={**_OPERATIONS, **own})


def _multiply_few(x, matrix, bias):
  # As a sum XLA computes it together with what makes x; as a product, apart.
  rows = jnp.sum(x.reshape(-1, x.shape[-1], 1) * matrix, 1)
  return rows.reshape(*x.shape[:-1], -1) + bias


def _mean(x, *, axes):
  # A division of the sum would be a kernel of its own before the next one of ours.
  share = np.float32(1 / np.prod([x.shape[axis] for axis in axes]))
  return jnp.sum(x.astype(jnp.float32) * share, axes, keepdims=True)


_OPERATIONS = {
  **as_jax.OPERATIONS,
  'product': _multiply_few,
  'mean': _mean,
  'part': lambda found, *, index: found[index],
}
_ACTIVATIONS = {'': lambda x: x, **_OPERATIONS}
