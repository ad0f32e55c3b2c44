"""Splits the buffers of a stream into single frames, so that no call copies those that stay.

A buffer of K frames and a new frame become the next buffer: its last K. As one array, all K would
be written anew. As K arrays, a call returns the new frame, and the caller forgets the oldest.
"""

import dataclasses

from movinet_jax.export.graph import Graph, Node, Tensor, add_node
from movinet_jax.export.program import Program
from movinet_jax.export.simplify import is_made_by, simplify


@dataclasses.dataclass(frozen=True)
class Buffer:
  """The frames that a stream keeps in one place.

  Attributes:
    frames: what the graph calls them, the oldest one first.
    newest: what the graph calls the frame that comes after them.
  """

  frames: tuple[str, ...]
  newest: str


def split_buffers(program: Program) -> tuple[Graph, list[Buffer]]:
  """Returns the program's graph with single frames in place of its buffers, and those buffers.

  A state that is no such buffer stays as it is.
  """
  graph, buffers, joined = program.graph, [], {}
  inputs, outputs, uses = dict(graph.inputs), dict(graph.outputs), graph.count_uses()
  for name, following in program.states.items():
    buffer = inputs[name]
    newest = _find_newest(buffer, outputs[following])
    if newest is None or uses[buffer] > 1:
      continue
    kept = buffer.shape[1] // newest.shape[1]
    frames = {f'{name}_{k}': Tensor(newest.shape) for k in range(kept)}
    del inputs[name]
    inputs |= frames
    outputs[following] = newest
    joined[buffer] = list(frames.values())
    buffers.append(Buffer(tuple(frames), following))

  def join(node: Node, alone) -> Tensor | None:
    first, *rest = node.inputs
    return add_node('concat', *joined[first], *rest, **node.params) if first in joined else None

  graph = simplify(Graph({**graph.inputs, **inputs}, outputs), {'concat': (join,)})
  return Graph(inputs, graph.outputs), buffers


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
  slides = params['start'] == (0, newest.shape[1], 0, 0) and params['limit'] == joined.shape
  return newest if slides and set(params['stride']) == {1} else None
