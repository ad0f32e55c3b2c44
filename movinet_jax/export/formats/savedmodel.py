"""SavedModel: for TensorFlow Serving, and for what reads TensorFlow. Plain operations only."""

from collections.abc import Mapping
from pathlib import Path

from movinet_jax.export import as_tensorflow
from movinet_jax.export.interface import Interface, describe
from movinet_jax.export.session import Session
from movinet_jax.export.source import Source

FILE = 'savedmodel'
WEIGHTS = ('float32', 'float16', 'int8')
NEEDS = RUNS = ('tensorflow',)
CONVERTERS = ()
FREE, THREADS, GRAPH = True, False, True
SIGNATURE = 'serving_default'


def write(source: Source, path: Path, weights: str = 'float32') -> Interface:
  import tensorflow as tf

  program = source.free_program
  step = as_tensorflow.emit(program.graph, free=program.free, weights=weights)
  module = tf.Module()
  module.step = step
  tf.saved_model.save(module, str(path), signatures={SIGNATURE: step})
  return describe(program.graph, program.states, free=program.free)


def make_session(
  path: Path, interface: Interface, batch: int = 1, threads: int | None = None
) -> Session:
  return _Session(path, interface, batch)


class _Session(Session):
  def __init__(self, path, interface, batch):
    import tensorflow as tf

    self._tf, self._module = tf, tf.saved_model.load(str(path))
    self._step = self._module.signatures[SIGNATURE]
    super().__init__(interface, batch)

  def _run(self, inputs: Mapping) -> Mapping:
    return self._step(**{name: self._tf.constant(array) for name, array in inputs.items()})
