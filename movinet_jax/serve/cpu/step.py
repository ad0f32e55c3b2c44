"""Compiles and runs the next frame of a stream."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax import inference
from movinet_jax.export.graph import IMAGE, LOGITS
from movinet_jax.export.program import build
from movinet_jax.serve.cpu import kernels
from movinet_jax.serve.cpu.buffers import split_buffers
from movinet_jax.serve.cpu.rules import rewrite


class FrameStep:
  """A network's next frame, compiled for a CPU; computes in float32.

      step = FrameStep(model, variables, (172, 172), jax.nn.softmax)
      state = step.begin()
      for frame in frames:
        probabilities, state = step(frame[None, None], state)

  A state is the frames of all buffers, one array each, and one vector of all running means. A call
  returns the new frames only, so it copies none of those that stay.

  Attributes:
    program: the compiled program.
    graph: what it computes.
    buffers: what a state keeps in frames.
  """

  def __init__(
    self,
    model,
    variables: Mapping,
    size: tuple[int, int],
    normalize: Callable[[jax.Array], jax.Array],
  ):
    """Compiles it.

    Args:
      model: any causal network of the package.
      variables: its weights, which are constants of the program.
      size: (height, width) of a frame.
      normalize: makes probabilities [N] of logits [N].

    Raises:
      ExportError: no graph can express the network, or it does not do the same with every frame.
    """
    program = build(model, variables, size)
    program.check_frames()
    graph, self.buffers = split_buffers(program)
    self.graph = rewrite(graph)
    kept = {name for buffer in self.buffers for name in buffer.frames}
    self._rest = [name for name in graph.inputs if name not in kept and name != IMAGE]
    self._next = {name: program.states[name] for name in self._rest}
    self._run, self._normalize = kernels.emit(self.graph), normalize
    pixels = jax.ShapeDtypeStruct((1, 1, *size, 3), jnp.uint8)
    lowered = jax.jit(self._step).lower(pixels, *self.begin())
    self.program = lowered.compile(compiler_options=inference.find_options('cpu'))

  def begin(self) -> tuple[list, jax.Array]:
    """The state of a video that has not begun."""
    inputs = self.graph.inputs
    frames = [tuple(jnp.zeros(inputs[name].shape) for name in one.frames) for one in self.buffers]
    return frames, jnp.zeros(sum(math.prod(inputs[name].shape) for name in self._rest))

  def __call__(self, pixels: np.ndarray, state) -> tuple[jax.Array, tuple[list, jax.Array]]:
    """Takes the next frame, uint8 [1, 1, H, W, 3]; returns probabilities [N] and the state."""
    frames, rest = state
    probabilities, newest, rest = self.program(pixels, frames, rest)
    frames = [(*old[1:], new) for old, new in zip(frames, newest, strict=True)]
    return probabilities, (frames, rest)

  def _step(self, pixels, frames, rest):
    given = {IMAGE: pixels[0].astype(jnp.float32) / 255, **self._unpack(rest)}
    for buffer, own in zip(self.buffers, frames, strict=True):
      given |= zip(buffer.frames, own, strict=True)
    found = self._run(*(given[name] for name in self.graph.inputs))
    found = dict(zip(self.graph.outputs, found, strict=True))
    newest = [found[buffer.newest] for buffer in self.buffers]
    rest = [found[name].ravel() for name in self._next.values()]
    return self._normalize(found[LOGITS][0]), newest, jnp.concatenate(rest or [jnp.zeros(0)])

  def _unpack(self, rest) -> dict[str, jax.Array]:
    shapes = [self.graph.inputs[name].shape for name in self._rest]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(rest, ends[:-1])
    return {
      name: part.reshape(shape) for name, part, shape in zip(self._rest, parts, shapes, strict=True)
    }
