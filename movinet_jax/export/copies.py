"""Several copies of a graph side by side: what a call costs by itself then counts once for all.

Runtimes need microseconds to be called at all. Parts of a small network take no longer than that,
so they are timed several at a time.
"""

import dataclasses

import numpy as np

from movinet_jax.export.graph import COPY, Graph, Node, Tensor
from movinet_jax.export.program import Program


def repeat(program: Program, count: int) -> Program:
  """A program that does the same several times, each on inputs, states and weights of its own.

  Copies are named `before`, `before__1`, `before__2`, ...; runtimes run one after the other.
  """
  if count == 1:
    return program
  copies = [_copy(program.graph, number) for number in range(count)]
  inputs, outputs = ({}, {})
  for graph in copies:
    inputs |= graph.inputs
    outputs |= graph.outputs
  states = {
    _rename(name, number): _rename(after, number)
    for number in range(count)
    for name, after in program.states.items()
  }
  return dataclasses.replace(program, graph=Graph(inputs, outputs), states=states)


def _rename(name: str, number: int) -> str:
  return f'{name}{COPY}{number}' if number else name


def _copy(graph: Graph, number: int) -> Graph:
  inputs = {name: Tensor(one.shape, dtype=one.dtype) for name, one in graph.inputs.items()}
  known = dict(zip(graph.inputs.values(), inputs.values(), strict=True))
  for node, tensor in graph.list_nodes():
    operands = [known[one] if isinstance(one, Tensor) else one for one in node.inputs]
    if node.op == 'conv':
      operands[1:] = [_change(one, number) for one in operands[1:]]
    known[tensor] = Tensor(
      tensor.shape, Node(node.op, operands, node.params, node.where), tensor.dtype
    )
  return Graph(
    {_rename(name, number): tensor for name, tensor in inputs.items()},
    {_rename(name, number): known[tensor] for name, tensor in graph.outputs.items()},
  )


def _change(weights, number: int) -> np.ndarray:
  """Weights that no converter takes for those of another copy, which it would store once."""
  return np.asarray(weights, np.float32) * np.float32(1 + number / 1024)
