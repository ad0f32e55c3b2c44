"""One network on one live stream: a frame in, the classes of what was seen so far out."""

import collections
import copy
import dataclasses
import time
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax.serve.memory import Exact, Memory

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

  The weights are constants of the compiled program, so XLA folds each batch norm into a
  scale and an offset once, not with every frame.
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
    start = model.init_state(1, size)
    if not start:
      raise ValueError(
        'a live stream needs a causal network: this one sees whole clips only; train '
        'or load a stream variant, such as movinet/a0-stream'
      )
    constants = jax.tree.map(jnp.asarray, variables)
    normalise = jax.nn.sigmoid if multi_label else jax.nn.softmax
    memory = memory or Exact()
    self._start = memory.begin(start)

    def run(video, state):
      return model.apply(constants, video, state)

    def step(video, carried):
      logits, carried = memory.step(run, video.astype(jnp.float32) / 255, carried)
      return normalise(logits[0]), carried

    shape = jax.ShapeDtypeStruct((1, frames, *size, 3), jnp.uint8)
    self._step = jax.jit(step).lower(shape, self._start).compile()
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
    probabilities, self._state = self._step(frames[None], self._state)
    return np.asarray(probabilities)


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
