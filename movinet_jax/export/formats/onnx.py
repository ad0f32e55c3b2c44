"""ONNX: for onnxruntime, OpenVINO, TensorRT, and what reads them from C#, Java, Rust or Node.

Runtimes of ONNX see images as [N, C, H, W], so each tensor of the graph is stored in that order.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from movinet_jax.export.graph import LOGITS, Graph, Shape, Tensor, is_image
from movinet_jax.export.interface import Array, Interface
from movinet_jax.export.session import Session
from movinet_jax.export.source import Source
from movinet_jax.export.weights import store

FILE = 'model.onnx'
WEIGHTS = ('float32', 'float16', 'int8')
NEEDS = ('onnx',)
RUNS = ('onnxruntime',)
CONVERTERS = ()
FREE, THREADS, GRAPH = True, True, True
OPSET = 17
IR = 9
_PLACE = {0: 0, 1: 2, 2: 3, 3: 1}  # of each axis [N, H, W, C] in [N, C, H, W]
_ORDER = (0, 3, 1, 2)
_BACK = (0, 2, 3, 1)


def write(source: Source, path: Path, weights: str = 'float32') -> Interface:
  import onnx

  program = source.free_program
  interface = _describe(program.graph, program.states, program.free)
  onnx.save_model(emit(program.graph, interface, weights), str(path))
  return interface


def _describe(graph: Graph, states: Mapping[str, str], free: bool) -> Interface:
  def fit(shape):
    return Array((None if free else shape[0], *shape[1:]))

  inputs = {
    name: fit(tensor.shape if is_image(name) else _store(tensor.shape))
    for name, tensor in graph.inputs.items()
  }
  outputs = {
    name: fit((tensor.shape[0], tensor.shape[3]) if name == LOGITS else _store(tensor.shape))
    for name, tensor in graph.outputs.items()
  }
  return Interface(inputs, outputs, dict(states))


def emit(graph: Graph, interface: Interface, weights: str = 'float32'):
  """The graph as an ONNX model. Images come in as [N, H, W, C], states as [N, C, H, W]."""
  import onnx

  free = next(iter(interface.inputs.values())).shape[0] is None
  writer = _Writer(free=free, weights=weights)
  for name, tensor in graph.inputs.items():
    turned = is_image(name)
    writer.names[tensor] = writer.add('Transpose', [name], perm=_ORDER) if turned else name
  for node, tensor in graph.list_nodes():
    writer.names[tensor] = getattr(writer, f'write_{node.op}', writer.write)(node, tensor)
  for name, tensor in graph.outputs.items():
    if name == LOGITS:
      writer.add('Flatten', [writer.names[tensor]], output=name, axis=1)
    else:
      writer.add('Identity', [writer.names[tensor]], output=name)
  made = onnx.helper.make_graph(
    writer.nodes,
    'movinet',
    [_declare(name, one) for name, one in interface.inputs.items()],
    [_declare(name, one) for name, one in interface.outputs.items()],
    [onnx.numpy_helper.from_array(array, name) for array, name in writer.constants.values()],
  )
  model = onnx.helper.make_model(
    made,
    opset_imports=[onnx.helper.make_opsetid('', OPSET)],
    ir_version=IR,
    producer_name='movinet-jax',
  )
  onnx.checker.check_model(model, full_check=True)
  return model


def _declare(name: str, array: Array):
  from onnx import TensorProto, helper

  sizes = ['batch' if size is None else size for size in array.shape]
  return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)


def _store(shape: Shape) -> tuple[int, ...]:
  """The sizes of a tensor as it is stored."""
  return tuple(shape[axis] for axis in _ORDER)


class _Writer:
  """Nodes of ONNX, and the constants that they read."""

  def __init__(self, *, free: bool, weights: str):
    self.free, self.weights = free, weights
    self.nodes, self.constants = [], {}
    self.names: dict[Tensor, str] = {}
    self._count = 0

  def add(self, kind: str, inputs, output: str = '', **attributes) -> str:
    from onnx import helper

    self._count += 1
    output = output or f'{kind.lower()}_{self._count}'
    self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
    return output

  def constant(self, array, dtype=None) -> str:
    array = np.ascontiguousarray(np.asarray(array, dtype)).reshape(np.shape(array))
    key = array.shape, array.dtype.str, array.tobytes()
    if key not in self.constants:
      self.constants[key] = array, f'constant_{len(self.constants)}'
    return self.constants[key][1]

  def read(self, one) -> str:
    """The name of an input: a tensor, or a constant that broadcasts with tensors."""
    if isinstance(one, Tensor):
      return self.names[one]
    array = np.asarray(one)
    if array.dtype != bool:
      array = array.astype(np.float32)
    return self.constant(array.transpose(_ORDER) if array.ndim == 4 else array)

  def write(self, node, tensor) -> str:
    """Most operations: one of ONNX of the same inputs."""
    return self.add(_SAME[node.op], [self.read(one) for one in node.inputs])

  def write_conv(self, node, tensor):
    x, kernel, *bias = node.inputs
    params = node.params
    inputs = [self.read(x), self._read_kernel(kernel)]
    inputs += [self.constant(one, np.float32) for one in bias]
    return self.add(
      'Conv',
      inputs,
      kernel_shape=list(kernel.shape[:2]),
      strides=list(params['stride']),
      pads=_list_pads(params['pads']),
      group=params['groups'],
    )

  def _read_kernel(self, kernel) -> str:
    """The name of a kernel [KH, KW, C, F] as ONNX has it, [F, C, KH, KW]."""
    stored = store(kernel, self.weights)
    name = self.constant(stored.values.transpose(3, 2, 0, 1))
    if stored.values.dtype == np.float16:
      return self.add('Cast', [name], to=1)  # TensorProto.FLOAT
    if stored.scale is None:
      return name
    zeros = np.zeros(stored.scale.shape, np.int8)
    return self.add(
      'DequantizeLinear', [name, self.constant(stored.scale), self.constant(zeros)], axis=0
    )

  def _write_pool(self, kind, node, **more):
    params = node.params
    return self.add(
      kind,
      [self.read(node.inputs[0])],
      kernel_shape=list(params['window']),
      strides=list(params['stride']),
      pads=_list_pads(params['pads']),
      **more,
    )

  def write_average_pool(self, node, tensor):
    return self._write_pool('AveragePool', node, count_include_pad=0)

  def write_max_pool(self, node, tensor):
    return self._write_pool('MaxPool', node)

  def write_mean(self, node, tensor):
    axes = node.params['axes']
    if axes == (1, 2):
      return self.add('GlobalAveragePool', [self.read(node.inputs[0])])
    return self.add('ReduceMean', [self.read(node.inputs[0])], axes=[_PLACE[n] for n in axes])

  def write_sum(self, node, tensor):
    axes = self.constant([_PLACE[axis] for axis in node.params['axes']], np.int64)
    return self.add('ReduceSum', [self.read(node.inputs[0]), axes])

  def write_peak(self, node, tensor):
    axes = [_PLACE[axis] for axis in node.params['axes']]
    return self.add('ReduceMax', [self.read(node.inputs[0])], axes=axes)

  def write_cumsum(self, node, tensor):
    axis = self.constant(_PLACE[node.params['axis']], np.int64)
    return self.add('CumSum', [self.read(node.inputs[0]), axis])

  def write_reshape(self, node, tensor):
    (x,), name = node.inputs, self.read(node.inputs[0])
    before, after = x.shape, tensor.shape
    if (before[0], before[3]) == (after[0], after[3]):  # rows and columns alone
      return self._reshape(name, _store(after))
    if not _is_trivial(before):
      name = self.add('Transpose', [name], perm=_BACK)
    if _is_trivial(after):
      return self._reshape(name, _store(after))
    name = self._reshape(name, after)
    return self.add('Transpose', [name], perm=_ORDER)

  def _reshape(self, name, sizes):
    sizes = [0, *sizes[1:]] if self.free else sizes
    return self.add('Reshape', [name, self.constant(sizes, np.int64)])

  def write_transpose(self, node, tensor):
    order = node.params['order']
    perm = [_PLACE[order[axis]] for axis in _ORDER]
    return self.add('Transpose', [self.read(node.inputs[0])], perm=perm)

  def write_concat(self, node, tensor):
    inputs = [self.read(one) for one in node.inputs]
    return self.add('Concat', inputs, axis=_PLACE[node.params['axis']])

  def write_slice(self, node, tensor):
    (x,), params = node.inputs, node.params
    axes = [
      n
      for n in range(4)
      if (params['start'][n], params['limit'][n], params['stride'][n]) != (0, x.shape[n], 1)
    ]
    sizes = (
      *([params[key][n] for n in axes] for key in ('start', 'limit')),
      [_PLACE[n] for n in axes],
      [params['stride'][n] for n in axes],
    )
    return self.add('Slice', [self.read(x), *(self.constant(one, np.int64) for one in sizes)])

  def write_pad(self, node, tensor):
    pads = [node.params['pads'][axis] for axis in _ORDER]
    amounts = [low for low, _ in pads] + [high for _, high in pads]
    inputs = self.constant(amounts, np.int64), self.constant(node.params['value'], np.float32)
    return self.add('Pad', [self.read(node.inputs[0]), *inputs])

  def write_broadcast(self, node, tensor):
    sizes = list(_store(tensor.shape))
    if self.free:
      sizes[0] = 1  # which keeps what there is
    return self.add('Expand', [self.read(node.inputs[0]), self.constant(sizes, np.int64)])

  def write_matmul(self, node, tensor):
    rows = [self.add('Transpose', [self.read(one)], perm=_BACK) for one in node.inputs]
    return self.add('Transpose', [self.add('MatMul', rows)], perm=_ORDER)

  def write_silu(self, node, tensor):
    x = self.read(node.inputs[0])
    return self.add('Mul', [x, self.add('Sigmoid', [x])])

  def write_relu6(self, node, tensor):
    bounds = [self.constant(value, np.float32) for value in (0, 6)]
    return self.add('Clip', [self.read(node.inputs[0]), *bounds])

  def write_rsqrt(self, node, tensor):
    return self.add('Reciprocal', [self.add('Sqrt', [self.read(node.inputs[0])])])

  def write_not_equal(self, node, tensor):
    return self.add('Not', [self.add('Equal', [self.read(one) for one in node.inputs])])


def _is_trivial(shape) -> bool:
  """Whether values lie in the same order with channels first."""
  return shape[3] == 1 or shape[1] * shape[2] == 1


def _list_pads(pads):
  return [low for low, _ in pads] + [high for _, high in pads]


_SAME = {
  **{'add': 'Add', 'sub': 'Sub', 'mul': 'Mul', 'div': 'Div', 'max': 'Max', 'min': 'Min'},
  **{'pow': 'Pow', 'relu': 'Relu', 'logistic': 'Sigmoid', 'hard_swish': 'HardSwish'},
  **{'tanh': 'Tanh', 'exp': 'Exp', 'log': 'Log', 'sin': 'Sin', 'cos': 'Cos', 'sqrt': 'Sqrt'},
  **{'neg': 'Neg', 'abs': 'Abs', 'sign': 'Sign', 'floor': 'Floor', 'select': 'Where'},
  **{'equal': 'Equal', 'greater': 'Greater', 'greater_equal': 'GreaterOrEqual', 'less': 'Less'},
  **{'less_equal': 'LessOrEqual', 'and': 'And', 'or': 'Or', 'not': 'Not'},
}


def make_session(
  path: Path, interface: Interface, batch: int = 1, threads: int | None = None
) -> Session:
  return _Session(path, interface, batch, threads)


class _Session(Session):
  """Through onnxruntime, which keeps the states."""

  def __init__(self, path: Path, interface: Interface, batch: int, threads: int | None):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads:
      options.intra_op_num_threads = threads
    self._own = onnxruntime.OrtValue
    self._session = onnxruntime.InferenceSession(
      str(path), options, providers=['CPUExecutionProvider']
    )
    super().__init__(interface, batch)

  def _run(self, inputs: Mapping) -> Mapping:
    names = list(self.interface.outputs)
    feed = {
      name: self._own.ortvalue_from_numpy(value) if isinstance(value, np.ndarray) else value
      for name, value in inputs.items()
    }
    found = dict(zip(names, self._session.run_with_ort_values(names, feed), strict=True))
    answer = names[0]  # the others stay where onnxruntime has put them
    return {**found, answer: found[answer].numpy()}

  def make_call(self, inputs: Mapping) -> Callable[[], None]:
    def hold(arrays):
      return {name: self._own.ortvalue_from_numpy(value) for name, value in arrays.items()}

    self.reset()
    given, names, self._states = hold(inputs), list(self.interface.outputs), hold(self._states)

    def call():
      values = self._session.run_with_ort_values(names, given | self._states)
      found = dict(zip(names, values, strict=True))
      self._states = {name: found[after] for name, after in self.interface.states.items()}

    return call

  def read_states(self) -> dict[str, np.ndarray]:
    return {
      name: (value if isinstance(value, np.ndarray) else value.numpy()).transpose(_BACK)
      for name, value in self._states.items()
    }
