"""Two streams of one graph on the same images."""

from movinet_jax.export.graph import IMAGE, LOGITS, Graph, Node, Tensor

YOUNGER = 'younger_'  # before the names of what the second stream keeps


def branch(graph: Graph) -> Graph:
  """Returns a graph with a second stream, which has states of its own and gives no answer.

  What depends on the image alone is computed once.
  """
  own = {name: Tensor(one.shape) for name, one in graph.inputs.items() if name != IMAGE}
  new = {graph.inputs[name]: tensor for name, tensor in own.items()}
  for node, tensor in graph.list_nodes():
    if any(one in new for one in node.tensors):
      inputs = [new.get(one, one) if isinstance(one, Tensor) else one for one in node.inputs]
      new[tensor] = Tensor(tensor.shape, Node(node.op, inputs, node.params, node.where))
  inputs = {YOUNGER + name: tensor for name, tensor in own.items()}
  outputs = {
    YOUNGER + name: new.get(tensor, tensor)
    for name, tensor in graph.outputs.items()
    if name != LOGITS
  }
  return Graph({**graph.inputs, **inputs}, {**graph.outputs, **outputs})
