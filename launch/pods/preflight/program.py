"""The step of a run, compiled for devices that may not be here: no data is read."""

import dataclasses
import math
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.errors import JaxRuntimeError

from launch.pods.preflight.machine import Machine
from movinet_jax import cost
from movinet_jax.train import mesh


@dataclasses.dataclass(frozen=True)
class Program:
  """The step of a run, and what it is given, as shapes that say where they lie.

  Attributes:
    run: the Training or Search.
    step: compiled for its devices by `jax.jit`, with the state donated.
    state, batch: what it takes.
  """

  run: object
  step: object
  state: object
  batch: Mapping

  @property
  def place(self):
    return self.run.place

  @property
  def clips(self) -> int:
    """A step over all devices, for the weights."""
    return self.run.batch_sizes[0]

  @property
  def read(self) -> int:
    """Clips a step that the input must deliver: of a search, the policy's too."""
    return sum(self.run.batch_sizes)

  def compile(self):
    """As `jax.stages.Lowered.compile` does."""
    lowered, device = self.step.lower(self.state, self.batch), self.place.devices.flat[0]
    if device in jax.devices():
      return lowered.compile()
    return _compile_for_gpus(lowered) if device.platform == 'gpu' else compile_for_others(lowered)


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A step of so many clips as the compiler left it.

  Attributes:
    memory: of a device; None if there is no program.
    refusal: what the compiler said of a program that is too large for the device.
    failure: what it said when it failed for another reason, or aborted its process.
    exchanged_bytes: by kind of collective, of a device and step.
    estimate_secs: the compiler's, None where it has none.
  """

  clips: int
  compile_secs: float
  memory: cost.Memory | None = None
  refusal: str = ''
  failure: str = ''
  exchanged_bytes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  estimate_secs: float | None = None

  def fits(self, machine: Machine) -> bool:
    """Whether it runs there: some compilers refuse what does not, and know it better."""
    if self.memory is None or machine.refuses:
      return self.memory is not None
    return machine.memory_bytes is None or self.memory.total <= machine.memory_bytes


def make_program(run) -> Program:
  """The step of a Training or Search, on its devices."""
  first, *more = (_make_batch(run, clips) for clips in run.batch_sizes)
  batch = {**first, 'valid': more[0]} if more else first
  state = mesh.place_shapes(run.make_shapes(), run.place)
  return Program(run, mesh.jit_step(run.step, run.place), state, batch)


def _make_batch(run, clips: int) -> dict:
  """A batch as the input pipeline makes it: see data.pipeline.Batches."""
  several = ((clips, run.num_classes), jnp.float32)
  arrays = {
    'video': ((clips, run.clip.frames, run.clip.size, run.clip.size, 3), jnp.uint8),
    'label': several if run.multi_label else ((clips,), jnp.int32),
    'mask': ((clips,), jnp.float32),
  }
  return {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.split(run.place, len(shape)))
    for name, (shape, dtype) in arrays.items()
  }


def _compile_for_gpus(lowered):
  """As `compile_for_others`, for GPUs.

  XLA times kernels on the GPU to choose between them. Without one it takes its first choice,
  which for products with a fused operand may be no kernel at all: then cuBLAS's is taken.
  """
  untimed = {'xla_gpu_autotune_level': 0}
  try:
    return compile_for_others(lowered, untimed)
  except JaxRuntimeError:
    return compile_for_others(lowered, {**untimed, 'xla_gpu_enable_triton_gemm': False})


def compile_for_others(lowered, options: Mapping = {}):
  """Compiles for devices that are not here, past JAX's cache.

  It would keep such programs, too, but cannot read them back.

  Args:
    options: of the compiler, by the names of XLA's flags.
  """
  name = 'jax_persistent_cache_min_compile_time_secs'
  secs = getattr(jax.config, name)
  jax.config.update(name, math.inf)
  try:
    return lowered.compile(dict(options))
  finally:
    jax.config.update(name, secs)


def compile_step(whole: Program) -> tuple[Compiled, object]:
  """(what is known of it, the program itself), None for one too large for its device."""
  began = time.perf_counter()
  try:
    executable = whole.compile()
  except JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    secs, said = time.perf_counter() - began, _find_refusal(str(error))
    return Compiled(whole.clips, secs, refusal=said), None
  secs = time.perf_counter() - began
  # A sum over one device stays in the program, and goes nowhere.
  alone = whole.place.size == 1
  exchanged = [] if alone else cost.find_collectives(executable.as_text())
  return Compiled(
    whole.clips,
    secs,
    memory=cost.count_memory(executable),
    exchanged_bytes=cost.count_collective_bytes(exchanged),
    estimate_secs=cost.estimate_secs(executable),
  ), executable


def _find_refusal(message: str) -> str:
  """The sentence of a compiler that says how much too much it was."""
  for line in message.replace('. ', '.\n').splitlines():
    if line.startswith(('Used ', 'Exceeded ', 'Program hbm requirement')):
      return line.strip()
  return message.strip().splitlines()[0]


def time_step(executable, whole: Program) -> float:
  """Seconds of a step on empty clips, the fastest of three."""

  def zeros(tree):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding), tree)

  state, batch = zeros(whole.state), zeros(whole.batch)
  times = []
  for _ in range(3):
    began = time.perf_counter()
    state, metrics = executable(state, batch)
    jax.block_until_ready((state, metrics))
    times.append(time.perf_counter() - began)
  return min(times)
