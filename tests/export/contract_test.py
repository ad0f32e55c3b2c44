"""Every family as every format: the written file in its own runtime, against the network."""

import functools

import pytest

from movinet_jax import export, models, timing
from movinet_jax.export import formats, parity

SIZE, CLASSES = (16, 16), 5
# What takes longest: the other kinds of two-stream networks have the same operations.
SLOW = [('tsnet', kind) for kind in ('sum-probabilities', 'sparse', 'stream-sum', 'stream-sparse')]
NETWORKS = [
  pytest.param(family, kind, marks=[pytest.mark.slow] * ((family, kind) in SLOW))
  for family in models.families()
  for kind in models.find_family(family).SMALL
]

# Operations that XNNPACK has no kernel for: a file with one of them runs in several parts.
APART = {'CUMSUM', 'STRIDED_SLICE', 'SELECT_V2', 'GREATER', 'REDUCE_MAX', 'BATCH_MATMUL'}


def make_model(family, kind):
  spec = models.find_family(family).SMALL[kind]
  return models.create(family, CLASSES, spec=spec)


@functools.cache
def plan(family, kind, **options):
  model = make_model(family, kind)
  if not model.spec.causal:
    options.setdefault('frames', min(6, model.spec.frames))
  return export.plan(model, timing.draw_weights(model), SIZE, **options)


@functools.cache
def refer(family, kind):
  return parity.Reference(plan(family, kind))


def make_session(source, name, folder, weights='float32', batch=1):
  form = formats.load(name)
  path = folder / form.FILE
  return form.make_session(path, form.write(source, path, weights), batch)


@pytest.mark.parametrize('name', formats.list_formats())
@pytest.mark.parametrize(('family', 'kind'), NETWORKS)
def test_a_file_answers_as_its_network_does(family, kind, name, tmp_path):
  source, reference = plan(family, kind), refer(family, kind)
  session = make_session(source, name, tmp_path, batch=reference.batch)
  first = reference.compare(session, 'float32')
  session.reset()
  again = reference.compare(session, 'float32')
  assert first == again  # a video after another is as the first one
  assert first.holds, first
  assert first.states < 1e-5
  assert first.calls == (parity.CALLS_COMPARED if source.model.spec.causal else 1)
  if name == 'tflite':
    found = formats.load(name).count_operations(tmp_path / 'model.tflite')
    check_operations(found, source)
    assert session.accelerated or found.keys() & APART


def check_operations(found, source):
  """One operation for each node, depthwise where the network is, and nothing that is slow."""
  wanted = source.program.graph.count_ops()
  depthwise = sum(
    node.op == 'conv' and node.params['groups'] > 1 for node, _ in source.program.graph.list_nodes()
  )
  assert found.get('DEPTHWISE_CONV_2D', 0) == depthwise
  assert found['CONV_2D'] == wanted['conv'] - depthwise
  assert not {'CAST', 'GATHER', 'DEQUANTIZE', 'WHILE', 'IF'} & found.keys()
  # silu is two operations, and so is a padding that is not the convolution's own.
  pairs = wanted['silu'] + found.get('PAD', 0)
  assert sum(found.values()) <= sum(wanted.values()) + pairs + len(source.program.graph.outputs)


@pytest.mark.parametrize(('family', 'kind'), NETWORKS)
def test_states_can_be_swapped_for_what_follows_them(family, kind):
  graph, states = plan(family, kind).program.graph, plan(family, kind).program.states
  inputs = set(graph.inputs.values())
  outputs = [graph.outputs[after] for after in states.values()]
  assert len(set(outputs)) == len(outputs)  # each has memory of its own
  assert not inputs & set(outputs)  # none is passed straight through
  for name, after in states.items():
    assert graph.inputs[name].shape == graph.outputs[after].shape
  # Clients without names may go by the order: output i goes to input i.
  assert list(states) == list(graph.inputs)[1:]
  assert list(states.values()) == list(graph.outputs)[1:]
  assert bool(states) == source_is_stream(family, kind)


def source_is_stream(family, kind):
  return models.find_family(family).SMALL[kind].causal
