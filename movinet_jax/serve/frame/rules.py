"""Rewrites a stream's graph with operations that pass over the pixels fewer times.

The graph of `movinet_jax.export` has what all runtimes know. Here are four operations more:

* `depthwise` of K frames [1, H, W, C], a kernel [K, KH, KW, C] and a bias [C]: the sum of all taps,
  with the activation `finish`. Parameters: stride, pads, finish.
* `stem` of an image, a kernel [KH, KW, C, F] and a bias [F]: a dense convolution of few channels.
  The same parameters.
* `gated` of x [1, H, W, C], a gate [1, 1, 1, C], a matrix [C, F] and a bias [F]: the product of
  x * gate with the matrix. The gate scales the matrix, which is smaller than x.
* `product` of x [1, H, W, C], a matrix [C, F] and a bias [F]: a convolution of single pixels.
"""

from collections.abc import Mapping

import numpy as np

from movinet_jax.export.graph import UNARY, Graph, Node, Tensor, add_node
from movinet_jax.export.simplify import is_made_by, simplify, split_constant, spread_channels
from movinet_jax.ops import conv

_WHOLE = {'stride': (1, 1), 'pads': ((0, 0), (0, 0))}


def rewrite(graph: Graph) -> Graph:
  """Rewrites a graph with the operations of this module."""
  return simplify(graph, _RULES)


def _make(op: str, shape, inputs, **params) -> Tensor:
  return Tensor(shape, Node(op, list(inputs), params))


def _name_convolution(node: Node, alone) -> Tensor | None:
  """Gives a convolution the name of its kind."""
  x, kernel, *bias = node.inputs
  stride, pads, groups = (node.params[key] for key in ('stride', 'pads', 'groups'))
  kh, kw, depth, features = kernel.shape
  shape = add_node('conv', *node.inputs, **node.params).shape
  bias = bias[0] if bias else np.zeros(features, np.float32)
  how = {'stride': stride, 'pads': pads, 'finish': ''}
  if groups == features == x.shape[3] and depth == 1:
    frames = _list_frames(x) if (stride, pads) == tuple(_WHOLE.values()) else []
    if len(frames) == kh and (kw, shape[:2]) == (1, (1, 1)):
      inputs = *frames, kernel.reshape(kh, 1, 1, -1), bias
      return add_node('reshape', _make('depthwise', frames[0].shape, inputs, **how), shape=shape)
    return _make('depthwise', shape, [x, kernel.reshape(1, kh, kw, -1), bias], **how)
  if groups > 1:
    return None
  if (kh, kw) == (1, 1) and pads == _WHOLE['pads']:
    if stride != (1, 1):
      steps = {'start': (0,) * 4, 'limit': x.shape, 'stride': (1, *stride, 1)}
      x = add_node('slice', x, **steps)
    return _multiply(x, kernel[0, 0], bias, alone)
  if depth <= conv.FEW and shape[0] == 1:
    return _make('stem', shape, [x, kernel, bias], **how)
  return None


def _list_frames(x) -> list[Tensor]:
  """Lists the frames that lie one after the other in x [1, K, H * W, C]; [] if x is no such."""
  if not is_made_by(x, 'reshape') or not is_made_by(x.node.inputs[0], 'concat'):
    return []
  joined = x.node.inputs[0].node
  frames, shapes = joined.inputs, {one.shape for one in joined.tensors}
  whole = len(joined.tensors) == len(frames) == x.shape[1] and joined.params['axis'] in (0, 1)
  if len(shapes) != 1 or not whole:
    return []
  n, h, w, c = shapes.pop()
  return list(frames) if (n, h * w, c) == (1, *x.shape[2:]) else []


def _multiply(x: Tensor, matrix, bias, alone) -> Tensor:
  """A product of pixels with a matrix, whose gate scales the smaller of the two."""
  shape = *x.shape[:3], matrix.shape[1]
  if is_made_by(x, 'mul') and alone.get(x) and x.shape[1] * x.shape[2] > matrix.shape[1]:
    for pixels, gate in (x.node.inputs, x.node.inputs[::-1]):
      found = isinstance(pixels, Tensor) and isinstance(gate, Tensor)
      if found and pixels.shape == x.shape and gate.shape == (1, 1, 1, x.shape[3]):
        return _make('gated', shape, [pixels, gate, matrix, bias])
  return _make('product', shape, [x, matrix, bias])


def _pick_part(node: Node, alone) -> Tensor | None:
  """Replaces a slice of joined tensors that is one of them."""
  (x,), params = node.inputs, node.params
  if not is_made_by(x, 'concat') or set(params['stride']) != {1}:
    return None
  axis, first = x.node.params['axis'], 0
  for part in x.node.inputs:
    start, limit = [0] * 4, list(x.shape)
    start[axis], limit[axis] = first, first + part.shape[axis]
    if (tuple(start), tuple(limit)) == (params['start'], params['limit']):
      return part if isinstance(part, Tensor) else None
    first = limit[axis]
  return None


def _join_taps(node: Node, alone) -> Tensor | None:
  """Adds two depthwise convolutions of frames as one, or a bias to one."""
  a, b = node.inputs
  if is_made_by(a, 'depthwise') and is_made_by(b, 'depthwise'):
    (*frames, kernel, bias), (*more, other, second) = a.node.inputs, b.node.inputs
    same = a.node.params == b.node.params and kernel.shape[1:] == other.shape[1:]
    if same and a.shape == b.shape and alone[a] and alone[b] and not a.node.params['finish']:
      inputs = *frames, *more, np.concatenate([kernel, other]), bias + second
      return _make('depthwise', a.shape, inputs, **a.node.params)
  return _scale(node, alone)


def _scale(node: Node, alone) -> Tensor | None:
  """Folds a constant factor or term of each channel into a depthwise convolution."""
  x, constant = split_constant(node)
  if not is_made_by(x, 'depthwise') or not alone[x] or x.node.params['finish']:
    return None
  values = spread_channels(constant, x.shape[3])
  if values is None:
    return None
  *frames, kernel, bias = x.node.inputs
  if node.op == 'mul':
    kernel, bias = kernel * values, bias * values
  else:
    bias = bias + values
  return _make('depthwise', x.shape, [*frames, kernel, bias], **x.node.params)


def _finish(node: Node, alone) -> Tensor | None:
  """Puts an activation inside the convolution that it alone reads."""
  (x,) = node.inputs
  if is_made_by(x, 'reshape') and alone[x]:
    (inner,) = x.node.inputs
    if found := _finish_own(inner, node.op, alone):
      return add_node('reshape', found, shape=x.shape)
  return _finish_own(x, node.op, alone)


def _finish_own(x: Tensor, op: str, alone) -> Tensor | None:
  kinds = is_made_by(x, 'depthwise') or is_made_by(x, 'stem')
  # What a rule has just made behind a reshape is read by that alone.
  if not kinds or not alone.get(x, True) or x.node.params['finish']:
    return None
  return _make(x.node.op, x.shape, x.node.inputs, **{**x.node.params, 'finish': op})


_RULES: Mapping[str, tuple] = {
  'conv': (_name_convolution,),
  'slice': (_pick_part,),
  'add': (_join_taps,),
  'mul': (_scale,),
  **dict.fromkeys(UNARY, (_finish,)),
}
