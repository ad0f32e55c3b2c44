"""What a file takes and returns: arrays by name."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from movinet_jax.export.graph import IMAGE, LOGITS, Graph


@dataclasses.dataclass(frozen=True)
class Array:
  """An array that goes in or comes out.

  Attributes:
    shape: None for an axis of any size: the number of videos.
    dtype: such as 'float32'.
  """

  shape: tuple[int | None, ...]
  dtype: str = 'float32'

  def make_zeros(self, batch: int = 1) -> np.ndarray:
    """Zeros of this shape, with a size for the axis of any size."""
    return np.zeros([batch if size is None else size for size in self.shape], self.dtype)


@dataclasses.dataclass(frozen=True)
class Interface:
  """All that goes in and comes out of a call.

  Attributes:
    inputs: `image` and the states.
    outputs: `logits`, [B, N], and the states after the call.
    states: for each state the output that is its next value. All are zeros when a video begins.
  """

  inputs: Mapping[str, Array]
  outputs: Mapping[str, Array]
  states: Mapping[str, str]


def describe(graph: Graph, states: Mapping[str, str], *, free: bool = False) -> Interface:
  """The interface of a graph that is written with its own shapes.

  Args:
    states: of the program.
    free: whether the number of videos is.
  """

  def list_arrays(tensors):
    found = {}
    for name, tensor in tensors.items():
      shape = tensor.shape if name != LOGITS else (tensor.shape[0], tensor.shape[3])
      found[name] = Array((None, *shape[1:]) if free else shape)
    return found

  return Interface(list_arrays(graph.inputs), list_arrays(graph.outputs), dict(states))


def find_batch(interface: Interface) -> int | None:
  """How many videos a call sees; None for any number."""
  outputs = interface.outputs
  answer = LOGITS if LOGITS in outputs else next(iter(outputs))  # of a part of a network
  return outputs[answer].shape[0]


def fit_image(interface: Interface, video: np.ndarray, batch: int) -> np.ndarray:
  """Shapes frames of videos [B, T, H, W, 3] as a file takes them.

  Args:
    batch: videos of the session.

  Raises:
    ValueError: the file takes others.
  """
  wanted = interface.inputs[IMAGE].shape
  sizes = tuple(batch if size is None else size for size in wanted)
  flat = video.reshape(-1, *video.shape[2:]) if video.ndim == 5 and len(sizes) == 4 else video
  if flat.shape != sizes or (video.ndim == 5 and video.shape[0] != batch):
    raise ValueError(f'got frames {video.shape}; the file takes {IMAGE} {sizes} of {batch} videos')
  return flat
