"""Rewrites a graph with fewer operations, each of which runtimes have a kernel for.

Norms are folded into the convolution before them, activations get their names, and a sum that is
divided by its count becomes a mean.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from movinet_jax.export.graph import Graph, Node, Tensor, add_node

# What may stand in place of a node, or None. A rule gets the node, whose inputs are already
# rewritten, and for each rewritten tensor whether one node alone reads it.
Rule = Callable[[Node, Mapping[Tensor, bool]], Tensor | None]


def simplify(graph: Graph, rules: Mapping[str, Sequence[Rule]] | None = None) -> Graph:
  """Rewrites a graph until it gets no shorter. Inputs and outputs keep their names.

  Args:
    graph: stays as it is.
    rules: for each operation, those to try in order; by default the ones for all runtimes.
  """
  rules = _RULES if rules is None else rules
  before, after = math.inf, len(graph.list_nodes())
  while after < before:  # the result of one rule may match another
    graph = _simplify_once(graph, rules)
    before, after = after, len(graph.list_nodes())
  return graph


def _simplify_once(graph: Graph, rules) -> Graph:
  uses = graph.count_uses()
  new = {tensor: tensor for tensor in graph.inputs.values()}
  alone = {}  # of a new tensor, whether one node alone reads it
  known = {}  # equal nodes are merged
  for node, tensor in graph.list_nodes():
    inputs = [new[one] if isinstance(one, Tensor) else one for one in node.inputs]
    made = Node(node.op, inputs, node.params, node.where)
    found = _rewrite(made, tensor, alone, rules)
    found = known.setdefault(_describe(found), found)
    new[tensor] = found
    alone[found] = uses[tensor] == 1 and found not in alone
  return Graph(graph.inputs, {name: new[tensor] for name, tensor in graph.outputs.items()})


def _describe(tensor: Tensor):
  """Returns a key that equal nodes share."""
  node = tensor.node
  if node is None:
    return id(tensor)
  inputs = tuple(
    id(one) if isinstance(one, Tensor) else (np.shape(one), np.asarray(one).tobytes())
    for one in node.inputs
  )
  return node.op, inputs, tuple(sorted(node.params.items()))


def _rewrite(node: Node, tensor: Tensor, alone, rules) -> Tensor:
  for rule in rules.get(node.op, ()):
    if (found := rule(node, alone)) is not None:
      return found
  return Tensor(tensor.shape, node, tensor.dtype)


def split_constant(node: Node) -> tuple[Tensor | None, np.ndarray | None]:
  """Splits the inputs of a node into a tensor and a constant; None if it has not one of each."""
  tensors, constants = node.tensors, [one for one in node.inputs if not isinstance(one, Tensor)]
  if len(tensors) != 1 or len(constants) != 1:
    return None, None
  return tensors[0], np.asarray(constants[0])


def is_made_by(tensor, op: str) -> bool:
  return isinstance(tensor, Tensor) and tensor.node is not None and tensor.node.op == op


def spread_channels(constant: np.ndarray, channels: int) -> np.ndarray | None:
  """Returns a constant as one number for each channel; None if it is anything else."""
  if constant.size == 1:
    return np.full(channels, constant.reshape(()), np.float32)
  if constant.ndim == 4 and constant.shape == (1, 1, 1, channels):
    return constant.reshape(channels).astype(np.float32)
  return None


def _scale_weights(node: Node, alone) -> Tensor | None:
  """Folds a constant factor into a convolution's weights, and a constant term into its bias."""
  x, constant = split_constant(node)
  if not is_made_by(x, 'conv') or not alone[x]:
    return None
  values = spread_channels(constant, x.shape[3])
  if values is None:
    return None
  images, kernel, *bias = x.node.inputs
  if node.op == 'mul':
    kernel, bias = kernel * values, [one * values for one in bias]
  else:
    bias = [bias[0] + values if bias else values]
  return add_node('conv', images, kernel, *bias, where=x.node.where, **x.node.params)


def _divide(node: Node, alone) -> Tensor | None:
  """Turns a sum divided by its count into a mean, another division into a product."""
  x, divisor = node.inputs
  if isinstance(divisor, Tensor) or not isinstance(x, Tensor):
    return None
  if _is_count(x, divisor) and alone[x]:
    return add_node('mean', *x.node.inputs, where=node.where, **x.node.params)
  made = add_node('mul', x, (np.float32(1) / divisor).astype(np.float32), where=node.where)
  return _rewrite(made.node, made, alone, _RULES)


def _is_count(x: Tensor, divisor) -> bool:
  if not is_made_by(x, 'sum') or np.size(divisor) != 1:
    return False
  (source,), axes = x.node.inputs, x.node.params['axes']
  return math.prod(source.shape[axis] for axis in axes) == float(np.ravel(divisor)[0])


def _name_hard_swish(node: Node, alone) -> Tensor | None:
  """Recognizes x * relu6(x + 3) / 6."""
  product, sixth = split_constant(node)
  if not is_made_by(product, 'mul') or not np.isclose(sixth, 1 / 6).all() or sixth.size != 1:
    return None
  for x, gate in (product.node.inputs, product.node.inputs[::-1]):
    if is_made_by(gate, 'relu6') and is_made_by(shifted := gate.node.inputs[0], 'add'):
      source, three = split_constant(shifted.node)
      if source is x and three.size == 1 and float(three.reshape(())) == 3:
        return add_node('hard_swish', x, where=node.where)
  return None


def _pad_inside(node: Node, alone) -> Tensor | None:
  """Folds zero padding into the convolution that follows."""
  x = node.inputs[0]
  if not is_made_by(x, 'pad') or x.node.params['value'] != 0:
    return None
  before, rows, columns, behind = x.node.params['pads']
  if any(before) or any(behind):
    return None
  pads = tuple(
    (a + c, b + d) for (a, b), (c, d) in zip((rows, columns), node.params['pads'], strict=True)
  )
  params = {**node.params, 'pads': pads}
  return add_node('conv', x.node.inputs[0], *node.inputs[1:], where=node.where, **params)


def _step_inside(node: Node, alone) -> Tensor | None:
  """Folds a strided slice into the 1 x 1 convolution that follows, as its stride."""
  x, kernel, *bias = node.inputs
  places = node.params['stride'], node.params['pads']
  if kernel.shape[:2] != (1, 1) or places != ((1, 1), ((0, 0), (0, 0))):
    return None
  if not is_made_by(x, 'slice'):
    return None
  images, params = x.node.inputs[0], x.node.params
  whole = params['start'] == (0, 0, 0, 0) and params['limit'] == images.shape
  before, *stride, behind = params['stride']
  if not whole or (before, behind) != (1, 1):
    return None
  params = {**node.params, 'stride': tuple(stride)}
  return add_node('conv', images, kernel, *bias, where=node.where, **params)


def _continue_mean(node: Node, alone) -> Tensor | None:
  """Rewrites (m c + s) / (c + n) as m + (s - n m) / (c + n).

  m is the mean of c values, and s the sum of n more. Float16 cannot count beyond 2048: there the
  first form grows without end, and the second becomes a moving mean.
  """
  total, count = node.inputs
  if not is_made_by(count, 'add') or not isinstance(total, Tensor):
    return None
  before, more = split_constant(count.node)
  terms = _list_terms(total)
  means = [_take_factor(term, before) for term in terms]
  found = [number for number, mean in enumerate(means) if mean is not None]
  if before is None or len(terms) < 2 or len(found) != 1:
    return None
  mean = means[found[0]]
  values, *rest = (term for number, term in enumerate(terms) if number != found[0])
  for one in rest:
    values = _add('add', values, one, node)
  share = add_node('div', np.float32(1), count, where=node.where)
  own = mean if more.size == 1 and more.reshape(()) == 1 else _add('mul', mean, more, node)
  difference = _add('mul', _add('sub', values, own, node), share, node)
  return _add('add', mean, difference, node)


def _add(op, a, b, node) -> Tensor:
  return add_node(op, a, b, where=node.where)


def _list_terms(one) -> list:
  """Lists the terms of a sum, also of a slice of a sum."""
  if is_made_by(one, 'slice') and is_made_by(one.node.inputs[0], 'add'):
    whole = one.node.inputs[0]
    parts = [_slice_part(part, one, whole.shape) for part in whole.node.inputs]
    return [term for part in parts for term in _list_terms(part)]
  if is_made_by(one, 'add'):
    return [term for part in one.node.inputs for term in _list_terms(part)]
  return [one]


def _slice_part(part, cut: Tensor, whole):
  """Slices an operand of a sum as the sum is: along the axes that are not broadcast."""
  shape, params = np.shape(part) if not isinstance(part, Tensor) else part.shape, cut.node.params
  sizes = (1,) * (4 - len(shape)) + tuple(shape)
  held = [size == full for size, full in zip(sizes, whole, strict=True)]
  start = tuple(a if own else 0 for a, own in zip(params['start'], held, strict=True))
  limit = tuple(b if own else 1 for b, own in zip(params['limit'], held, strict=True))
  stride = tuple(c if own else 1 for c, own in zip(params['stride'], held, strict=True))
  if not isinstance(part, Tensor):
    return np.reshape(part, sizes)[tuple(map(slice, start, limit, stride))]
  if (start, limit) == ((0,) * 4, sizes) and set(stride) == {1}:
    return part
  return add_node('slice', part, where=cut.node.where, start=start, limit=limit, stride=stride)


def _take_factor(product, factor: Tensor) -> Tensor | None:
  """Returns the cofactor of a tensor in a product; None if it is no factor."""
  if not is_made_by(product, 'mul'):
    return None
  for one, other in (product.node.inputs, product.node.inputs[::-1]):
    if other is factor:
      return one
    if (rest := _take_factor(other, factor)) is not None:
      return add_node('mul', one, rest, where=product.node.where)
  return None


_RULES: dict[str, tuple[Rule, ...]] = {
  'mul': (_name_hard_swish, _scale_weights),
  'add': (_scale_weights,),
  'div': (_divide, _continue_mean),
  'conv': (_pad_inside, _step_inside),
}
