"""One network on one live stream: a frame in, the classes of what was seen so far out."""

import collections
import copy
import dataclasses
import functools
import time
import warnings
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax import inference
from movinet_jax.export.program import ExportError, TurnError
from movinet_jax.layers import Network
from movinet_jax.serve.frame import FrameStep, trial
from movinet_jax.serve.frame.step import can_run, describe
from movinet_jax.serve.memory import Exact, Memory, Window

# Percentiles are of so many latest calls, so that memory does not grow with the stream.
LATENCY_WINDOW = 10_000


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What a stream shows so far.

  Attributes:
    frame: number of the latest frame since the video began, from 0.
    probabilities: [N] float32; of each class by itself if videos have several.
    latency_ms: from the frames on the host to the probabilities on the host.
  """

  frame: int
  probabilities: np.ndarray
  latency_ms: float

  def top(self, k: int, labels) -> list[tuple[str, float]]:
    """The k most probable classes, best first."""
    order = np.argsort(-self.probabilities, kind='stable')[:k]
    return [(labels[i], float(self.probabilities[i])) for i in order]


class Live:
  """Feeds a stream to a causal network, frame by frame or a few frames a call.

      live = Live(model, variables, size=(172, 172))
      for frame in frames:
        prediction = live(frame[None])

  An answer is of all frames of the video, as in evaluation, unless another `memory` is given:
  `Window` or `Forgetting` for a camera that never stops.

  On a CPU it computes in float32 whatever the network's `dtype`: a CPU computes bfloat16 by way of
  float32. One frame a call runs as `serve.frame.FrameStep` if the memory is `Exact` or a `Window`,
  on a CPU always. An NVIDIA GPU compiles that and the network as it is written, and tries which one
  is faster. Everything else runs as the network is written.

  Attributes:
    step: what runs a call; its `program` is the compiled one.
    tried: on a GPU, median milliseconds of the programs that were tried, by name; else empty.
    latency: of the latest calls.
  """

  def __init__(
    self,
    model: nn.Module,
    variables: Mapping,
    size: tuple[int, int],
    frames: int = 1,
    *,
    multi_label: bool = False,
    memory: Memory | None = None,
  ):
    """Compiles for calls with `frames` frames uint8 of `size` (height, width).

    Probabilities are a sigmoid's if the network was trained for several labels a video. The
    memory is `Exact` by default.

    Raises:
      ValueError: the network is not causal.
    """
    if jax.default_backend() == 'cpu' and hasattr(model, 'dtype'):
      model = model.clone(dtype=jnp.float32)
    start = model.init_state(1, size)
    if not start:
      raise ValueError(
        'a live stream needs a causal network: this one sees whole clips only; train '
        'or load a stream variant, such as movinet/a0-stream'
      )
    normalize = jax.nn.sigmoid if multi_label else jax.nn.softmax
    call, memory = (model, variables, size, normalize), memory or Exact()
    make_network = functools.partial(NetworkStep, *call, frames=frames, memory=memory, start=start)
    self.step, self.tried = _make_step(call, frames, memory, make_network)
    self._start = self.step.begin()
    self.latency = Latency()
    self.reset()

  def fork(self) -> 'Live':
    """Another stream of the same network, at its beginning.

    It shares the compiled program and `latency`, and has a state of its own.
    """
    other = copy.copy(self)
    other.reset()
    return other

  def reset(self):
    """Begins a new video."""
    self._frame = -1
    self.forget()

  def forget(self):
    """Forgets all frames so far: the next one begins a scene. Frames are counted on."""
    self._state = self._start

  @property
  def frames(self) -> int:
    """How many frames of this video there were."""
    return self._frame + 1

  def __call__(self, frames: np.ndarray) -> Prediction:
    """Takes the next frames, uint8 [T, H, W, 3]."""
    began = time.perf_counter()
    probabilities = self._answer(frames)
    latency_ms = 1e3 * (time.perf_counter() - began)
    self.latency.add(latency_ms)
    self._frame += frames.shape[0]
    return Prediction(self._frame, probabilities, latency_ms)

  def _answer(self, frames: np.ndarray) -> np.ndarray:
    """The probabilities after the next frames."""
    probabilities, self._state = self.step(frames[None], self._state)
    return np.asarray(probabilities)


def _make_step(call, frames: int, memory: Memory, make_network):
  """Compiles what runs a call; returns it, and what was tried."""
  model, _, size, _ = call
  known = isinstance(model, Network) and isinstance(memory, Exact | Window)
  if frames > 1 or not known or not can_run(model.dtype):
    return make_network(), {}
  make_frame = functools.partial(FrameStep, *call, memory if isinstance(memory, Window) else None)
  try:
    if jax.default_backend() == 'cpu':
      return make_frame(), {}
    found = trial.choose(make_frame, make_network, size, jnp.dtype(model.dtype).name)
    return found.step, found.ms
  except TurnError:  # two streams or several members take frames by turns
    return make_network(), {}
  except ExportError as fault:
    warnings.warn(f'the stream runs as the network is written, slower: {fault}', stacklevel=3)
    return make_network(), {}


class NetworkStep:
  """A network's next frames with any memory, compiled for any device as the network is written.

  The weights are constants of the program, so XLA folds each batch norm into a scale and an offset
  once, not with every frame.

  Attributes:
    program: the compiled program.
    compile_secs: how long XLA took, or reading its cache.
  """

  def __init__(
    self, model, variables, size, normalize, *, frames: int, memory: Memory, start, device=None
  ):
    """Compiles it.

    `start` is the network's state of a video that has not begun. `device` is as of `FrameStep`.
    """
    constants = jax.tree.map(jnp.asarray, variables)
    self._start = memory.begin(start)

    def run(video, state):
      return model.apply(constants, video, state)

    def step(video, carried):
      logits, carried = memory.step(run, video.astype(jnp.float32) / 255, carried)
      return normalize(logits[0]), carried

    pixels = jax.ShapeDtypeStruct((1, frames, *size, 3), jnp.uint8)
    options = inference.find_options(device.platform if device else jax.default_backend())
    given = describe((pixels, self._start), device)
    lowered = jax.jit(step, compiler_options=options).lower(*given)
    began = time.perf_counter()
    self.program = lowered.compile()
    self.compile_secs = time.perf_counter() - began

  def begin(self):
    """The state of a video that has not begun."""
    return self._start

  def __call__(self, frames: np.ndarray, state) -> tuple[jax.Array, Any]:
    """Takes the next frames, uint8 [1, T, H, W, 3]; returns probabilities [N] and the state."""
    return self.program(frames, state)


class Latency:
  """Percentiles of the latest calls."""

  def __init__(self):
    self._window = collections.deque(maxlen=LATENCY_WINDOW)

  def add(self, ms: float):
    self._window.append(ms)

  def percentiles(self) -> dict[str, float]:
    """p50, p90 and p99 in milliseconds; {} before the first call."""
    if not self._window:
      return {}
    values = np.percentile(self._window, (50, 90, 99))
    return dict(zip(('p50_ms', 'p90_ms', 'p99_ms'), map(float, values), strict=True))
