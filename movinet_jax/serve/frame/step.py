"""Compiles and runs the next frame of a stream."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax import inference
from movinet_jax.export.graph import IMAGE, LOGITS, Graph
from movinet_jax.export.program import build
from movinet_jax.ops.cuda.kernel import DTYPES
from movinet_jax.serve.frame import cpu, gpu, rules
from movinet_jax.serve.frame.branch import YOUNGER, branch
from movinet_jax.serve.frame.buffers import State, split_buffers
from movinet_jax.serve.memory import Window


def can_run(dtype) -> bool:
  """Whether there are frame steps here: on a CPU, or an NVIDIA GPU for the types of its kernels."""
  if jax.default_backend() == 'cpu':
    return True
  # AMD's GPUs are of the same platform; the client's version names CUDA or ROCm.
  version = jax.local_devices()[0].client.platform_version
  return 'cuda' in version and jnp.dtype(dtype).name in DTYPES


def describe(tree, device: jax.Device | None):
  """The shapes and types of arrays, on a device that need not be here; None is JAX's default."""
  place = device and jax.sharding.SingleDeviceSharding(device)
  return jax.tree.map(
    lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place), tree
  )


class FrameStep:
  """A network's next frame, compiled for one device.

      step = FrameStep(model, variables, (172, 172), jax.nn.softmax)
      state = step.begin()
      for frame in frames:
        probabilities, state = step(frame[None, None], state)

  It computes in float32 on a CPU, and in the network's `dtype` on an NVIDIA GPU.

  Attributes:
    program: the compiled program.
    compile_secs: how long XLA took, or reading its cache.
    graph: what it computes of one stream.
    kept: what one stream keeps.
  """

  def __init__(
    self,
    model,
    variables: Mapping,
    size: tuple[int, int],
    normalize: Callable[[jax.Array], jax.Array],
    window: Window | None = None,
    device: jax.Device | None = None,
  ):
    """Compiles it.

    Args:
      model: any causal network of the package.
      variables: its weights, which are constants of the program.
      size: (height, width) of a frame.
      normalize: makes probabilities [N] of logits [N].
      window: what the stream remembers; by default all frames. Both streams of a window are one
        program.
      device: what runs it, by default JAX's. It need not be here to be compiled for.

    Raises:
      ExportError: no graph can express the network, or it does not do the same with every frame.
      CudaError: on a GPU, if a kernel cannot be compiled.
    """
    platform = device.platform if device else jax.default_backend()
    form = _find_form(platform, model.dtype)
    program = build(model.clone(dtype=jnp.float32), variables, size)
    program.check_frames()
    graph, self.kept = split_buffers(program, form.dtype, form.joined)
    self.graph = form.rewrite(graph)
    self._half = window.count_calls(1) if window else None
    self._prefixes = ('', YOUNGER) if self._half else ('',)
    whole = branch(self.graph) if self._half else self.graph
    self._start = self.kept.begin()
    compute = form.emit(whole)

    def run(pixels, states):
      given = {IMAGE: pixels[0].astype(jnp.float32) / 255}
      for prefix, state in zip(self._prefixes, states, strict=True):
        given |= {prefix + name: value for name, value in self.kept.read(state).items()}
      found = compute(*(given[name] for name in whole.inputs))
      found = dict(zip(whole.outputs, found, strict=True))
      new = [self.kept.write(_take(found, prefix)) for prefix in self._prefixes]
      return normalize(found[LOGITS][0].astype(jnp.float32)), new

    pixels = jax.ShapeDtypeStruct((1, 1, *size, 3), jnp.uint8)
    lowered = jax.jit(run).lower(*describe((pixels, self.begin()[0]), device))
    began = time.perf_counter()
    self.program = lowered.compile(compiler_options=inference.find_options(platform))
    self.compile_secs = time.perf_counter() - began

  def begin(self) -> tuple[list[State], int]:
    """The states of the streams before a video, and how many calls the older one has answered."""
    return [self._start for _ in self._prefixes], 0

  def __call__(self, pixels: np.ndarray, state: tuple[Sequence[State], int]):
    """Takes the next frame, uint8 [1, 1, H, W, 3]; returns probabilities [N] and the state."""
    streams, calls = state
    if calls == self._half:
      streams, calls = [streams[1], self._start], 0
    probabilities, new = self.program(pixels, streams)
    streams = [self.kept.move_on(*one) for one in zip(streams, new, strict=True)]
    return probabilities, (streams, calls + 1)


@dataclasses.dataclass(frozen=True)
class _Form:
  """How a kind of device computes a frame.

  Attributes:
    dtype: of frames that are kept.
    joined: whether the rest of what is kept is one vector.
    rewrite: makes the graph that `emit` makes a function of.
  """

  dtype: jnp.dtype
  joined: bool
  rewrite: Callable[[Graph], Graph]
  emit: Callable[[Graph], Callable]


def _find_form(platform: str, dtype) -> _Form:
  if platform == 'cpu':
    return _Form(jnp.dtype('float32'), True, rules.rewrite, cpu.emit)
  dtype = jnp.dtype(dtype)
  # A slice of a vector would be a kernel of its own.
  return _Form(
    dtype,
    False,
    lambda graph: gpu.rewrite(rules.rewrite(graph)),
    functools.partial(gpu.emit, dtype=dtype),
  )


def _take(found: Mapping, prefix: str) -> dict:
  """What is called by names with this prefix, without it."""
  return {name.removeprefix(prefix): one for name, one in found.items() if name.startswith(prefix)}
