"""What a stream keeps between frames, in arrays that no call copies without need.

A buffer of K frames and a new frame become the next buffer: its last K. As one array, all K would
be written anew. As K arrays, a call returns the new frame, and the caller forgets the oldest.
Everything else, such as running means, is small.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax.export.graph import Graph, Node, Shape, Tensor, add_node
from movinet_jax.export.program import Program
from movinet_jax.export.simplify import is_made_by, simplify

# The frames of each buffer, the oldest one first, and everything else.
State = tuple[list[tuple[jax.Array, ...]], list[jax.Array]]


@dataclasses.dataclass(frozen=True)
class Buffer:
  """The frames that a stream keeps in one place.

  Attributes:
    frames: what the graph calls them, the oldest one first.
    newest: what the graph calls the frame that comes after them.
  """

  frames: tuple[str, ...]
  newest: str


@dataclasses.dataclass(frozen=True)
class Kept:
  """All that a stream keeps.

  Attributes:
    buffers: those that are kept in single frames.
    shapes: the shape of each input of the graph.
    following: for each other state, the graph's name of its next value.
    dtype: of the frames; everything else is float32.
    joined: whether everything else is one vector.
  """

  buffers: Sequence[Buffer]
  shapes: Mapping[str, Shape]
  following: Mapping[str, str]
  dtype: jnp.dtype
  joined: bool

  def begin(self) -> State:
    """The state of a video that has not begun."""
    rest = {after: jnp.zeros(self.shapes[name]) for name, after in self.following.items()}
    frames = [
      tuple(jnp.zeros(self.shapes[name], self.dtype) for name in one.frames) for one in self.buffers
    ]
    return frames, self._pack(rest)

  def read(self, state: State) -> dict[str, jax.Array]:
    """The graph's inputs that a state stands for, by name."""
    frames, rest = state
    found = {}
    for buffer, own in zip(self.buffers, frames, strict=True):
      found |= zip(buffer.frames, own, strict=True)
    if self.joined and rest:
      sizes = [math.prod(self.shapes[name]) for name in self.following]
      rest = jnp.split(rest[0], np.cumsum(sizes)[:-1])
    for name, part in zip(self.following, rest, strict=True):
      found[name] = part.reshape(self.shapes[name])
    return found

  def write(self, outputs: Mapping[str, jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
    """What is new after a call: a frame for each buffer, and everything else."""
    newest = [outputs[buffer.newest].astype(self.dtype) for buffer in self.buffers]
    return newest, self._pack(outputs)

  def move_on(self, state: State, new: tuple[list[jax.Array], list[jax.Array]]) -> State:
    """The state after a call."""
    newest, rest = new
    return [(*old[1:], one) for old, one in zip(state[0], newest, strict=True)], rest

  def _pack(self, outputs: Mapping[str, jax.Array]) -> list[jax.Array]:
    """Everything else, by the names of its next values."""
    rest = [outputs[name].astype(jnp.float32) for name in self.following.values()]
    return [jnp.concatenate([one.ravel() for one in rest])] if self.joined and rest else rest


def split_buffers(program: Program, dtype=jnp.float32, joined: bool = True) -> tuple[Graph, Kept]:
  """Returns the program's graph with single frames in place of its buffers, and what it keeps.

  Args:
    program: stays as it is.
    dtype, joined: as of `Kept`.
  """
  graph, buffers, parts = program.graph, [], {}
  inputs, outputs, uses = dict(graph.inputs), dict(graph.outputs), graph.count_uses()
  following = dict(program.states)
  for name, after in program.states.items():
    buffer = inputs[name]
    newest = _find_newest(buffer, outputs[after])
    if newest is None or uses[buffer] > 1:
      continue
    count = buffer.shape[1] // newest.shape[1]
    frames = {f'{name}_{k}': Tensor(newest.shape) for k in range(count)}
    del inputs[name], following[name]
    inputs |= frames
    outputs[after] = newest
    parts[buffer] = list(frames.values())
    buffers.append(Buffer(tuple(frames), after))

  def join(node: Node, alone) -> Tensor | None:
    first, *rest = node.inputs
    if not isinstance(first, Tensor) or first not in parts:
      return None
    return add_node('concat', *parts[first], *rest, **node.params)

  graph = simplify(Graph({**graph.inputs, **inputs}, outputs), {'concat': (join,)})
  shapes = {name: tensor.shape for name, tensor in inputs.items()}
  return Graph(inputs, graph.outputs), Kept(buffers, shapes, following, dtype, joined)


def _find_newest(buffer: Tensor, following: Tensor) -> Tensor | None:
  """Finds the new frame, if what follows a buffer is the end of the buffer joined with a frame."""
  if not is_made_by(following, 'slice') or not is_made_by(following.node.inputs[0], 'concat'):
    return None
  joined, params = following.node.inputs[0], following.node.params
  first, *rest = joined.node.inputs
  # Several frames a call lie along the first axis.
  if first is not buffer or len(rest) != 1 or joined.node.params['axis'] != 1:
    return None
  (newest,) = rest
  if not isinstance(newest, Tensor):
    return None
  slides = params['start'] == (0, newest.shape[1], 0, 0) and params['limit'] == joined.shape
  return newest if slides and set(params['stride']) == {1} else None
