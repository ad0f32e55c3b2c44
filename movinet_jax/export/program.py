"""A call as a graph, of a network or a part: what comes in, goes out, and is remembered between."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax.export import states, views
from movinet_jax.export.graph import IMAGE, LOGITS, Graph, Tensor, add_node
from movinet_jax.export.rules import RULES
from movinet_jax.export.simplify import simplify
from movinet_jax.export.walk import Counter, ExportError, Value, Walk

BEFORE, AFTER = 'before', 'after'  # the features that a part of a network reads and makes
CALLS = 'calls'  # how many there were since the video began


class TurnError(ExportError):
  """A network does not do the same in every call of so many frames."""


@dataclasses.dataclass(frozen=True)
class Program:
  """A graph that sees the next frames of videos, or clips.

  Attributes:
    graph: its inputs are `image` and the states, its outputs `logits` and the states' next values;
      of a part of a network `before` and `after`, features [B * T, H, W, C].
    frames: that one call sees.
    batch: videos that it sees at once.
    free: whether it sees any other number of them just as well.
    states: for each state that comes in, the output that is the next call's. All begin with zeros.
    turn: after how many frames the network does the same again. The graph is right if `frames` is
      a multiple.
  """

  graph: Graph
  frames: int
  batch: int
  free: bool
  states: Mapping[str, str]
  turn: int

  def check_frames(self):
    """Raises a TurnError if calls of so many frames are not all the same."""
    if self.frames % self.turn:
      raise TurnError(
        f'the network does the same every {self.turn} frames, and {self.frames} in a call are not '
        f'a whole number of those: say --chunk={self.turn}, or a multiple'
      )


def build(model, variables, size, *, frames: int = 1, batch: int = 1) -> Program:
  """The graph of a network's next frames, or of a clip.

  Args:
    model: any network of the package.
    variables: its weights.
    size: (H, W) of a frame.
    frames: that one call sees.
    batch: videos that it sees at once.

  Raises:
    ExportError: the network has something that no graph can say.
  """
  return build_part(model, variables, (batch, frames, *size, 3), reads=IMAGE, gives=LOGITS)


def build_part(
  module, variables, shape: Sequence[int], *, reads: str = BEFORE, gives: str = AFTER
) -> Program:
  """The graph of a call of any module of the package, such as one layer of a network.

  Args:
    module: called with x, and with a stream's state if it has one.
    variables: its weights.
    shape: of x, [B, T, H, W, C].
    reads, gives: what the graph calls x and the module's answer.

  Raises:
    ExportError: the module has something that no graph can say.
  """
  closed, leaves = _trace(module, variables, shape)
  return _build(closed, leaves, shape, reads, gives)


def _trace(module, variables, shape):
  """The program of a call, and the shapes of the state's leaves by name; {} where it has none."""
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  _, state = jax.eval_shape(module.apply, variables, x)  # which has the shapes of that before
  leaves, tree = states.list_leaves(state), jax.tree.structure(state)
  if not leaves:
    return jax.make_jaxpr(lambda x: module.apply(variables, x)[:1])(x), {}

  def step(x, *leaves):
    y, after = module.apply(variables, x, jax.tree.unflatten(tree, leaves))
    return y, *jax.tree.leaves(after)

  return jax.make_jaxpr(step)(x, *leaves.values()), leaves


def _build(closed, leaves, shape, reads: str, gives: str) -> Program:
  batch, frames, *frame = shape
  counts = {name: Tensor((batch, 1, 1, 1)) for name in leaves if states.is_count(leaves[name])}
  walk = Walk(RULES, counts, apart=frames == 1)
  inputs = {reads: Tensor((batch * frames, *frame))}
  arguments = [Value(inputs[reads], shape)]
  for name, leaf in leaves.items():
    if name in counts:
      arguments.append(Counter(name, np.zeros(leaf.shape, np.int64)))
      continue
    own, count = states.name_leaf(name, leaves)
    inputs[own] = tensor = Tensor(views.view(leaf.shape, walk.list_parts(leaf.shape)[0]))
    tensor = add_node('mul', tensor, counts[count]) if count else tensor
    arguments.append(Value(tensor, leaf.shape))
  answer, *after = walk.run_closed(closed, arguments)
  after = dict(zip(leaves, after, strict=True))
  outputs = {gives: walk.see(walk.fill(answer), _view(answer.shape))}
  for name, value in after.items():
    if name in counts:
      continue
    own, count = states.name_leaf(name, leaves)
    tensor = walk.see(walk.fill(value), inputs[own].shape)
    if count:
      tensor = add_node('div', tensor, walk.read_count(after[count]).tensor)
    outputs[own + states.NEXT] = tensor
  graph = Graph(inputs, outputs)
  more = {name: _read_growth(name, after[name]) for name in counts}
  if counts:
    _count_calls(graph, counts, more, batch)
  spans = [(frames * divisor, more[name]) for name, divisor in walk.divisors.items()]
  turn = math.lcm(*(span // math.gcd(span, grown) for span, grown in spans))
  graph = _drop_unread(simplify(graph))
  free = frames == 1 and batch == 1 and all(one.shape[0] == 1 for _, one in graph.list_nodes())
  following = {name: name + states.NEXT for name in graph.inputs if name != reads}
  return Program(graph, frames, batch, free, following, turn)


def _view(shape) -> tuple[int, int, int, int]:
  """Features [B, T, H, W, C] as images, or logits [B, N]."""
  first, *rest = (math.prod(shape[:2]), *shape[2:]) if len(shape) == 5 else shape
  return first, *(1,) * (3 - len(rest)), *rest


def _drop_unread(graph: Graph) -> Graph:
  """The graph without states that no later call reads."""
  while True:
    read = {tensor for node, _ in graph.list_nodes() for tensor in node.tensors}
    read |= set(graph.outputs.values())
    unread = [name for name, tensor in graph.inputs.items() if tensor not in read]
    if not unread:
      return graph
    gone = {*unread, *(name + states.NEXT for name in unread)}
    graph = Graph(
      {name: tensor for name, tensor in graph.inputs.items() if name not in gone},
      {name: tensor for name, tensor in graph.outputs.items() if name not in gone},
    )


def _read_growth(name: str, after) -> int:
  """By how much a count grows in a call."""
  if not isinstance(after, Counter) or after.leaf != name or len(set(after.plus.ravel())) != 1:
    raise ExportError(f'{name} of the state is an integer, and no count that grows evenly')
  return int(after.plus.ravel()[0])


def _count_calls(graph: Graph, counts, more, batch: int):
  """Puts one number in place of all counts: of the calls so far."""
  calls = graph.inputs[CALLS] = Tensor((batch, 1, 1, 1))
  graph.outputs[CALLS + states.NEXT] = add_node('add', calls, np.float32(1))
  graph.substitute(
    {
      tensor: calls if more[name] == 1 else add_node('mul', calls, np.float32(more[name]))
      for name, tensor in counts.items()
    }
  )
