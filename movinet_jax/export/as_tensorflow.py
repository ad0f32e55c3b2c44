"""Writes a graph as a TensorFlow function of plain operations."""

from collections.abc import Callable

import numpy as np

from movinet_jax.export.graph import LOGITS, Graph, Tensor
from movinet_jax.export.weights import store


def emit(graph: Graph, *, free: bool = False, weights: str = 'float32') -> Callable:
  """Returns a concrete `tf.function` from named tensors to a dict of named tensors.

  Args:
    free: whether it takes any number of videos.
    weights: how kernels are stored, one of `weights.Kind`.
  """
  import tensorflow as tf

  nodes, writer = graph.list_nodes(), _Writer(tf, free, weights)

  def run(**inputs):
    known = {tensor: inputs[name] for name, tensor in graph.inputs.items()}
    for node, tensor in nodes:
      operands = [known[one] if isinstance(one, Tensor) else one for one in node.inputs]
      known[tensor] = writer.write(node, tensor, operands)
    found = {}
    for name, tensor in graph.outputs.items():
      y = known[tensor]
      if name == LOGITS:
        y = tf.reshape(y, (-1, tensor.shape[3]))
      found[name] = tf.identity(y, name=name)
    return found

  signature = {
    name: tf.TensorSpec((None if free else tensor.shape[0], *tensor.shape[1:]), tf.float32, name)
    for name, tensor in graph.inputs.items()
  }
  return tf.function(run, autograph=False).get_concrete_function(**signature)


class _Writer:
  """Writes operations with TensorFlow."""

  def __init__(self, tf, free: bool, weights: str):
    self.tf, self.free, self.weights = tf, free, weights
    self._ops = _list_ops(tf)

  def write(self, node, tensor: Tensor, operands):
    """Writes a node; returns its output.

    Args:
      operands: tensors of TensorFlow, and constants.
    """
    if special := getattr(self, f'write_{node.op}', None):
      return special(tensor, *operands, **node.params)
    return self._ops[node.op](*map(self._read, operands), **node.params)

  def _read(self, one):
    """Returns a tensor; converts constants."""
    if self.tf.is_tensor(one):
      return one
    one = np.asarray(one)
    return self.tf.constant(one if one.dtype == bool else one.astype(np.float32))

  def write_conv(self, tensor, x, kernel, bias=None, *, stride, pads, groups):
    tf, strides = self.tf, (1, *stride, 1)
    x, padding = self._pad(x, tensor, kernel.shape[:2], stride, pads)
    weights = self._read_kernel(kernel)
    if groups > 1 and kernel.shape[2] == 1:
      weights = tf.reshape(weights, (*kernel.shape[:2], groups, kernel.shape[3] // groups))
      y = tf.nn.depthwise_conv2d(x, weights, strides, padding)
    else:
      y = tf.nn.conv2d(x, weights, strides, padding)
    return y if bias is None else tf.nn.bias_add(y, self._read(bias))

  def _read_kernel(self, array):
    stored = store(array, self.weights)
    values = self.tf.constant(stored.values)
    if stored.values.dtype != np.float32:
      values = self.tf.cast(values, self.tf.float32)
    return values if stored.scale is None else values * self.tf.constant(stored.scale)

  def _pad(self, x, tensor, window, stride, pads, value=0.0):
    """Chooses 'SAME' or 'VALID'; pads beforehand where neither fits."""
    if not any(map(any, pads)):
      return x, 'VALID'
    same = []
    for size, out, span, step in zip(x.shape[1:3], tensor.shape[1:3], window, stride, strict=True):
      total = max((out - 1) * step + span - size, 0)
      same.append((total // 2, total - total // 2))
    if list(map(tuple, pads)) == same:
      return x, 'SAME'
    return self.tf.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value), 'VALID'

  def write_average_pool(self, tensor, x, *, window, stride, pads):
    padded, padding = self._pad(x, tensor, window, stride, pads)
    y = self.tf.nn.avg_pool2d(padded, window, stride, padding)
    if padding == 'SAME' or not any(map(any, pads)):
      return y
    ones = np.pad(np.ones((1, *x.shape[1:3], 1), np.float32), ((0, 0), *pads, (0, 0)))
    return y / self.tf.constant(self.tf.nn.avg_pool2d(ones, window, stride, 'VALID').numpy())

  def write_max_pool(self, tensor, x, *, window, stride, pads):
    x, padding = self._pad(x, tensor, window, stride, pads, -np.inf)
    return self.tf.nn.max_pool2d(x, window, stride, padding)

  def write_reshape(self, tensor, x, *, shape):
    return self.tf.reshape(x, (-1, *shape[1:]) if self.free else shape)

  def write_broadcast(self, tensor, x, *, shape):
    if self.free:
      shape = (self.tf.shape(x)[0], *shape[1:])
    return self.tf.broadcast_to(x, shape)

  def write_slice(self, tensor, x, *, start, limit, stride):
    cuts = list(map(slice, start, limit, stride))
    if self.free:
      cuts[0] = slice(None)  # whose limit is not known
    return x[tuple(cuts)]


def _list_ops(tf):
  """Maps the operations that TensorFlow has with the same inputs."""

  def reduce(function):
    return lambda x, *, axes: function(x, axes, keepdims=True)

  def hard_swish(x):
    return x * tf.nn.relu6(x + 3.0) * np.float32(1 / 6)

  return {
    'sum': reduce(tf.reduce_sum),
    'mean': reduce(tf.reduce_mean),
    'peak': reduce(tf.reduce_max),
    'cumsum': lambda x, *, axis: tf.cumsum(x, axis),
    'transpose': lambda x, *, order: tf.transpose(x, order),
    'concat': lambda *arrays, axis: tf.concat(arrays, axis),
    'pad': lambda x, *, pads, value: tf.pad(x, pads, constant_values=value),
    'matmul': tf.matmul,
    'select': tf.where,
    'relu': tf.nn.relu,
    'relu6': tf.nn.relu6,
    'logistic': tf.sigmoid,
    'silu': lambda x: x * tf.sigmoid(x),
    'hard_swish': hard_swish,
    **{name: getattr(tf, name) for name in ('tanh', 'exp', 'sin', 'cos', 'sqrt', 'abs', 'sign')},
    **{name: getattr(tf, name) for name in ('floor', 'equal', 'not_equal', 'greater', 'less')},
    **{'greater_equal': tf.greater_equal, 'less_equal': tf.less_equal, 'log': tf.math.log},
    **{'rsqrt': tf.math.rsqrt, 'neg': tf.negative, 'add': tf.add, 'sub': tf.subtract},
    **{'mul': tf.multiply, 'div': tf.divide, 'max': tf.maximum, 'min': tf.minimum},
    **{'pow': tf.pow, 'and': tf.logical_and, 'or': tf.logical_or, 'not': tf.logical_not},
  }
