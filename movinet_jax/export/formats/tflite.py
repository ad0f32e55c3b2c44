"""TFLite: for LiteRT on phones, on small computers and in browsers.

LiteRT's own converter writes it where it has a wheel, and TensorFlow's elsewhere. Both read the
graph, and the answers are the same.
"""

import atexit
import collections
import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax import export

from movinet_jax.export import as_jax, as_tensorflow
from movinet_jax.export.formats import find_missing
from movinet_jax.export.graph import IMAGE, LOGITS
from movinet_jax.export.interface import Interface, describe, fit_image
from movinet_jax.export.program import Program
from movinet_jax.export.session import Session
from movinet_jax.export.source import Source

FILE = 'model.tflite'
WEIGHTS = ('float32', 'float16', 'int8', 'int8-dynamic')
NEEDS = ('ai_edge_quantizer',)
RUNS = ('ai_edge_litert',)
CONVERTERS = ('litert_converter',)
FREE, THREADS, GRAPH = False, True, True
SIGNATURE = 'serving_default'


def write(source: Source, path: Path, weights: str = 'float32') -> Interface:
  program = source.program
  convert = _convert_tensorflow if find_missing(CONVERTERS) else _convert_litert
  with _quietly():
    path.write_bytes(_quantize(convert(program), weights))
  return describe(program.graph, program.states)


def _convert_litert(program: Program) -> bytes:
  from litert_converter import converter_api_ext as converter
  from litert_converter.mlir import ir, passmanager

  graph = program.graph
  step = as_jax.emit(graph)
  exported = export.export(jax.jit(step), platforms=('cpu',))(*as_jax.list_shapes(graph))
  context = ir.Context()
  converter.prepare_mlir_context(context)
  with context:
    module = ir.Module.parse(exported.mlir_module())
    converter.set_signature(
      module.operation,
      signature_name=SIGNATURE,
      input_names=list(graph.inputs),
      output_names=list(graph.outputs),
    )
    config = converter.ConvertToTFLConfig()
    converter.run_convert_to_tfl_passes(module, passmanager.PassManager(), config)
    return converter.export_flatbuffer_to_bytes(module.operation)


def _convert_tensorflow(program: Program) -> bytes:
  import tensorflow as tf

  step = as_tensorflow.emit(program.graph)
  return tf.lite.TFLiteConverter.from_concrete_functions([step], tf.Module()).convert()


def _quantize(content: bytes, weights: str) -> bytes:
  if weights == 'float32':
    return content
  from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

  operations = qtyping.TFLOperationName
  silent = {'enable_progress_bar': False, 'enable_progress_report': False}
  made = quantizer.Quantizer(bytearray(content))
  if weights == 'float16':
    cast = algorithm_manager.AlgorithmName.FLOAT_CASTING
    made.add_weight_only_config('.*', operations.ALL_SUPPORTED, num_bits=16, algorithm_key=cast)
  elif weights == 'int8':
    made.add_weight_only_config('.*', operations.ALL_SUPPORTED, num_bits=8)
  else:
    # Other operations of 8 bits have no kernels in XNNPACK, and are slower than float32.
    made.add_dynamic_config('.*', operations.CONV_2D, num_bits=8)
  return bytes(made.quantize(**silent).quantized_model)


def make_session(
  path: Path, interface: Interface, batch: int = 1, threads: int | None = None
) -> Session:
  return _Session(path, interface, threads)


class _Session(Session):
  """Through LiteRT's compiled models: buffers of states are swapped, and never copied."""

  def __init__(self, path: Path, interface: Interface, threads: int | None):
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import Options

    options = Options(hardware_accelerators=HardwareAccelerator.CPU)
    if threads:
      options.cpu_options.num_threads = threads
    with _quietly():
      self._model = CompiledModel.from_file(str(path), options=options)
      (signature,) = self._model.get_signature_list().values()
      self._names = signature['inputs'], signature['outputs']
      super().__init__(interface)
      self._advance()  # LiteRT is ready after a first call
    self.reset()

  def __del__(self):
    with _quietly():  # the last of them ends LiteRT's environment
      self._inputs = self._outputs = self._model = None

  @property
  def accelerated(self) -> bool:
    """Whether one delegate runs all of the file's operations."""
    return self._model.is_fully_accelerated()

  def reset(self):
    inputs, outputs = self._names
    self._inputs = dict(zip(inputs, self._model.create_input_buffers(0), strict=True))
    self._outputs = dict(zip(outputs, self._model.create_output_buffers(0), strict=True))
    for name in self.interface.states:
      self._inputs[name].write(self.interface.inputs[name].make_zeros())

  def __call__(self, video: np.ndarray) -> np.ndarray:
    image = fit_image(self.interface, np.asarray(video, np.float32), self.batch)
    self._inputs[IMAGE].write(np.ascontiguousarray(image))
    self._advance()
    return _read(self._outputs[LOGITS], self.interface.outputs[LOGITS].shape)

  def make_call(self, inputs: Mapping) -> Callable[[], None]:
    self.reset()
    for name, value in inputs.items():
      self._inputs[name].write(np.ascontiguousarray(value))
    return self._advance

  def _advance(self):
    """A call, after which the states are those that it made."""
    self._invoke()
    inputs, outputs = self._inputs, self._outputs
    for name, following in self.interface.states.items():
      inputs[name], outputs[following] = outputs[following], inputs[name]

  def read_states(self) -> dict[str, np.ndarray]:
    return {
      name: _read(self._inputs[name], self.interface.inputs[name].shape)
      for name in self.interface.states
    }

  def _run(self, inputs: Mapping) -> Mapping:
    for name, value in inputs.items():
      self._inputs[name].write(np.ascontiguousarray(value))
    self._invoke()
    return {
      name: _read(self._outputs[name], one.shape) for name, one in self.interface.outputs.items()
    }

  def _invoke(self):
    inputs, outputs = self._names
    self._model.run_by_index(
      0, [self._inputs[name] for name in inputs], [self._outputs[name] for name in outputs]
    )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
  """Keeps what LiteRT says of itself from the terminal, unless it fails.

  It writes some twenty lines whenever a file is loaded, and two when the process ends, after all
  of Python. It has no option that stops this.
  """
  _end_quietly()
  with tempfile.TemporaryFile() as said:
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(said.fileno(), 2)
    try:
      yield
    except BaseException:
      said.seek(0)
      os.write(before, said.read())
      raise
    finally:
      os.dup2(before, 2)
      os.close(before)


@functools.cache
def _end_quietly():
  atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def _read(buffer, shape: Sequence[int]) -> np.ndarray:
  return np.array(buffer.read(int(np.prod(shape)), np.float32)).reshape(shape)


def count_operations(path: Path) -> dict[str, int]:
  """How many operations of each kind a file has."""
  from ai_edge_litert.interpreter import Interpreter

  with _quietly():
    interpreter = Interpreter(model_path=str(path))
  return dict(collections.Counter(one['op_name'] for one in interpreter._get_ops_details()))
