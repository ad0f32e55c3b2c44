"""A stream through a file: what its runtime holds between calls."""

import abc
import copy
from collections.abc import Callable, Mapping

import numpy as np

from movinet_jax.export.graph import IMAGE, LOGITS
from movinet_jax.export.interface import Interface, find_batch, fit_image


class Session(abc.ABC):
  """Runs a file call after call; the states go from each call to the next.

      session = export.read('mine/model.onnx').make_session()
      for frames in video:
        logits = session(frames)

  Attributes:
    interface: what goes in and comes out.
    batch: videos at a time.
    traces: whether `step` may be part of a program that JAX traces.
  """

  traces = False

  def __init__(self, interface: Interface, batch: int = 1):
    """Begins a video.

    Args:
      batch: videos at a time, where the file takes any number.
    """
    self.interface, self.batch = interface, find_batch(interface) or batch
    self.reset()

  def reset(self):
    """Begins a new video: all states are zeros."""
    self._states = {
      name: self.interface.inputs[name].make_zeros(self.batch) for name in self.interface.states
    }

  def fork(self) -> 'Session':
    """Another stream through the same file, at the beginning of a video."""
    other = copy.copy(self)
    other.reset()
    return other

  def __call__(self, video: np.ndarray) -> np.ndarray:
    """Takes the next frames, or a clip.

    Args:
      video: [B, T, H, W, 3] float32 in [0, 1].

    Returns:
      logits [B, N].
    """
    logits, self._states = self.step(np.asarray(video, np.float32), self._states)
    return np.asarray(logits)

  def step(self, video: np.ndarray, states: Mapping) -> tuple[np.ndarray, dict]:
    """One call without memory: the states come in and go out, as the file has them."""
    image = fit_image(self.interface, video, self.batch)
    found = self._run({IMAGE: image, **states})
    return found[LOGITS], {name: found[after] for name, after in self.interface.states.items()}

  def make_call(self, inputs: Mapping) -> Callable[[], None]:
    """A call to repeat, for timing: of a new video, always on the same inputs.

    The states go on from call to call. Nothing is copied that the runtime can keep.

    Args:
      inputs: arrays by name, all but the states.
    """
    self.reset()

    def call():
      found = self._run({**inputs, **self._states})
      self._states = {name: found[after] for name, after in self.interface.states.items()}

    return call

  def read_states(self) -> dict[str, np.ndarray]:
    """The states now, by name; their values are in the order of the network's."""
    return {name: np.asarray(value) for name, value in self._states.items()}

  @abc.abstractmethod
  def _run(self, inputs: Mapping) -> Mapping:
    """One call: named arrays in, named arrays out."""
