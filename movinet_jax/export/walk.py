"""Turns a traced network into a graph of four-dimensional operations.

The walk follows the program that JAX traces, equation by equation. It computes at once whatever
depends on weights alone. A value is a tensor of the graph together with the shape that the program
sees, so reshapes in the program cost nothing. A rule for each primitive adds nodes (`rules`).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence, Set

import numpy as np
from jax.extend import core

from movinet_jax.export import views
from movinet_jax.export.fold import fold
from movinet_jax.export.graph import Shape, Tensor, add_node


class ExportError(ValueError):
  """A network does something that no graph, or no file format, can express."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
  """An array of the program whose numbers are known only when the graph runs.

  Attributes:
    tensor: holds its numbers, in order.
    shape: its shape in the program.
    held: the shape of what the tensor holds: 1 for axes that are still to be broadcast.
  """

  tensor: Tensor
  shape: tuple[int, ...]
  held: tuple[int, ...] = ()

  def __post_init__(self):
    if not self.held:
      object.__setattr__(self, 'held', self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Counter:
  """A count of the state plus constants: whole numbers that grow from call to call.

  Attributes:
    leaf: path of the count, which begins with 0 and never shrinks.
    plus: integers that are added to it, in the shape that the program sees.
    sign: 1, or -1 where the count is subtracted.
  """

  leaf: str
  plus: np.ndarray
  sign: int = 1

  @property
  def shape(self) -> tuple[int, ...]:
    return self.plus.shape


class Platform:
  """Stands for the index of the platform that the program will run on."""


@dataclasses.dataclass(frozen=True)
class Rules:
  """What a walk does with an equation, by the name of its primitive.

  Attributes:
    control: follows other programs; of the walk, the equation and its operands, to all results.
    named: the same by the name of a function that the program calls, to one result.
    counting: of counts and constants, to a count, a constant, or None where it is neither.
    plain: adds nodes; of the walk, the equation and its operands, to one result.
    spreading: names of `plain` that take values before they are broadcast.
  """

  control: Mapping[str, Callable]
  named: Mapping[str, Callable]
  counting: Mapping[str, Callable]
  plain: Mapping[str, Callable]
  spreading: Set[str]


class Walk:
  """One walk over a program.

  Attributes:
    apart: whether each video of a batch stays an image of its own, so that the batch can be free.
    counts: the tensor of each count of the state, by its path.
    divisors: for each count, the number that it must be a multiple of whenever a call begins.
    where: path of the module that the walk is in.
  """

  def __init__(self, rules: Rules, counts: dict[str, Tensor] | None = None, *, apart: bool):
    self._rules = rules
    self.apart = apart
    self.counts = counts or {}
    self.divisors: dict[str, int] = {}
    self.where = ''
    self._views: dict[tuple[Tensor, Shape], Tensor] = {}

  def run(self, program, constants: Sequence, operands: Sequence) -> list:
    """Follows a program.

    Args:
      program: a Jaxpr.
      constants: what it closes over.
      operands: values, counters and constants.

    Returns:
      its results, in the same forms.

    Raises:
      ExportError: a primitive has no rule; names the primitive and the module.
    """
    known = dict(zip(program.constvars, constants, strict=True))
    known |= zip(program.invars, operands, strict=True)

    def read(variable):
      return variable.val if isinstance(variable, core.Literal) else known[variable]

    outer = self.where
    for equation in program.eqns:
      self.where = _find_module(equation) or outer
      results = self._follow(equation, [read(one) for one in equation.invars])
      known |= zip(equation.outvars, results, strict=True)
    self.where = outer
    return [read(one) for one in program.outvars]

  def run_closed(self, closed, operands: Sequence) -> list:
    return self.run(closed.jaxpr, closed.consts, operands)

  def _follow(self, equation, operands) -> list:
    rules, name = self._rules, equation.primitive.name
    moves = any(isinstance(one, Value) for one in operands)
    counts = any(isinstance(one, Counter) for one in operands)
    if (moves or counts) and (rule := rules.named.get(equation.params.get('name'))):
      return [rule(self, equation, *operands)]
    if name in rules.control:
      return rules.control[name](self, equation, operands)
    if not moves and not counts:
      return fold(equation, operands)
    if counts:
      counted = rules.counting.get(name, lambda *_: None)(equation, *operands)
      if counted is not None:
        return [counted]
      operands = [self.read_count(one) if isinstance(one, Counter) else one for one in operands]
    if name not in rules.plain:
      shapes = ', '.join(str(tuple(np.shape(one) or one.shape)) for one in operands)
      self.refuse(f'has the primitive {name} (of {shapes}), for which there is no rule')
    if name not in rules.spreading:
      operands = [self.fill(one) if isinstance(one, Value) else one for one in operands]
    return [rules.plain[name](self, equation, *operands)]

  def refuse(self, what: str):
    raise ExportError(f'{self.where or "the network"} {what}')

  def add(self, op: str, *inputs, **params) -> Tensor:
    """Adds a node to the module that the walk is in."""
    return add_node(op, *inputs, where=self.where, **params)

  def see(self, value: Value, shape: Shape) -> Tensor:
    """Returns the tensor of a value as [N, H, W, C] of these sizes."""
    tensor = value.tensor
    while tensor.shape != shape and tensor.node is not None and tensor.node.op == 'reshape':
      tensor = tensor.node.inputs[0]
    if tensor.shape == shape:
      return tensor
    if (tensor, shape) not in self._views:
      self._views[tensor, shape] = self.add('reshape', tensor, shape=shape)
    return self._views[tensor, shape]

  def fill(self, value: Value) -> Value:
    """Broadcasts a value to its shape."""
    if value.held == value.shape:
      return value
    for parts in self.list_parts(value.shape):
      wide = views.view(value.shape, parts)
      narrow = views.broadcast_view(value.held, value.shape, wide)
      if narrow is not None:
        held = Value(value.tensor, value.held)
        return Value(self.add('broadcast', self.see(held, narrow), shape=wide), value.shape)
    self.refuse(f'broadcasts {value.held} to {value.shape}, which four axes cannot say')

  def find_views(self, value: Value) -> set[Shape]:
    """Lists the shapes that a value already has, so that they need no other reshape."""
    tensor, found = value.tensor, {value.tensor.shape}
    while tensor.node is not None and tensor.node.op == 'reshape':
      tensor = tensor.node.inputs[0]
      found.add(tensor.shape)
    return found

  def list_parts(self, shape: Sequence[int]) -> list[views.Parts]:
    """Lists views of an array as four axes; see `views`."""
    found = views.list_parts(shape)
    if not self.apart or len(shape) < 2:
      return found
    return [one for one in found if math.prod(shape[slice(*one[0])]) == shape[0]]

  def read_count(self, counter: Counter) -> Value:
    """Returns a count as a float32 value of the graph."""
    tensor = self.counts[counter.leaf]
    if counter.sign < 0:
      tensor = self.add('neg', tensor)
    plus = np.asarray(counter.plus, np.float32)
    if not plus.ndim and tensor.shape[0] > 1:
      self.refuse('reads a count that all videos of a batch share: export with --batch=1')
    if plus.any():
      parts = views.list_parts(plus.shape)
      apart = [one for one in parts if one[0][1] <= 1] or parts
      tensor = self.add('add', tensor, plus.reshape(views.view(plus.shape, apart[0])))
    return Value(tensor, counter.shape)


def _find_module(equation) -> str:
  """Returns the path of the module that an equation is from."""
  return str(equation.source_info.name_stack)
