"""The walk from a traced network to a graph: what it folds, names, refuses, and keeps right."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax import export, models, timing
from movinet_jax.export import formats, parity
from movinet_jax.models import tvn

SIZE = (16, 16)
STREAMS = [
  (family, kind)
  for family, module in models.families().items()
  for kind, spec in module.SMALL.items()
  if spec.causal
]


def plan(kind, family='movinet', **options):
  spec = models.find_family(family).SMALL[kind]
  model = models.create(family, 5, spec=spec)
  return export.plan(model, timing.draw_weights(model), SIZE, **options)


def test_a0_stream_has_the_operations_of_its_layers():
  """Norms are in the weights, activations are one operation each, kernels of time depthwise."""
  model = mj.create('movinet/a0-stream')
  graph = export.plan(model, timing.draw_weights(model), (172, 172)).program.graph
  found = graph.count_ops()
  depthwise = sum(node.op == 'conv' and node.params['groups'] > 1 for node, _ in graph.list_nodes())
  assert (found['conv'], depthwise) == (68 + 26, 26)
  assert found['hard_swish'] == 58
  assert found['reshape'] <= 23
  assert found['mul'] + found['add'] <= 80
  assert sum(found.values()) <= 345
  assert len(graph.inputs) == 29


class Sorting(nn.Module):
  """A network that no graph can say."""

  num_classes: int = 5
  form: str = 'auto'
  dtype: type = jnp.float32

  @property
  def spec(self):
    return models.find_family('movinet').SMALL['base']

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return Ranks(name='ranks')(x), {}

  def init_state(self, *_):
    return {}


class Ranks(nn.Module):
  @nn.compact
  def __call__(self, x):
    return jnp.sort(x.mean((1, 2, 3)), -1)


def test_what_no_rule_says_is_refused_by_name():
  with pytest.raises(export.ExportError, match=r'Sorting/ranks has the primitive sort'):
    export.plan(Sorting(), {}, SIZE, frames=2)


def check_files(source, folder):
  """Runs the files of a graph in runtimes of their own."""
  reference = parity.Reference(source)
  for name in ('onnx', 'tflite'):
    form = formats.load(name)
    interface = form.write(source, folder / form.FILE)
    session = form.make_session(folder / form.FILE, interface, reference.batch)
    found = reference.compare(session, 'float32')
    assert found.holds, (name, found)


@pytest.mark.parametrize('kind', ['max', 'average'])
def test_pools_of_tiny_video_networks(kind, tmp_path):
  spec = tvn.Spec(
    (
      tvn.Block(4, 2, 1, tvn.Op(kind, 3, 2), tvn.Op(kind, 3, 2), activation='swish'),
      tvn.Block(4, 1, 1, tvn.Op(kind, 2), inverted=True, residual=True),
    ),
    frames=4,
  )
  model = models.create('tvn', 5, spec=spec)
  check_files(export.plan(model, timing.draw_weights(model), (12, 12), frames=4), tmp_path)


def test_tensorflow_converts_where_litert_has_no_wheel(tmp_path, monkeypatch):
  form = formats.load('tflite')
  monkeypatch.setattr(form, 'CONVERTERS', ('no_such_converter',))
  check_files(plan('stream-2plus1d'), tmp_path)


@pytest.mark.parametrize(('family', 'kind'), STREAMS)
def test_means_are_continued_in_calls_of_several_turns(family, kind):
  frames = {'stream-sum': 6}.get(kind, 4)
  graph = plan(kind, family, frames=frames).program.graph
  calls = graph.inputs['calls']
  for name, tensor in graph.outputs.items():
    if not name.endswith('mean_next'):
      continue
    while tensor.node.op in ('slice', 'reshape'):  # of the means after each frame
      (tensor,) = tensor.node.tensors
    assert tensor.node.op == 'add', name  # of the mean, and a share of the difference
    assert calls not in tensor.node.tensors


def test_five_thousand_float16_frames_keep_their_means():
  """Of a video that stays the same, means stay what they are; a sum stands still at 2048."""
  program = plan('stream-3d').program
  frame = np.random.default_rng(0).uniform(size=(1, *SIZE, 3)).astype(np.float32)
  found = parity.run_graph(program, [frame] * 5000, np.float16)[:, 0]
  *_, wanted = parity.run_graph(program, [frame] * 200, np.float32)[:, 0]
  assert np.abs(found[200:] - wanted).max() < 5e-3 * np.abs(wanted).max()


def test_another_number_of_frames_is_a_graph_of_its_own():
  one, three = plan('stream-3d'), plan('stream-3d', frames=3)
  assert one.program.free
  assert not three.program.free
  assert one.program.states == three.program.states


def test_a_dtype_of_training_is_no_dtype_of_a_file():
  spec = models.find_family('movinet').SMALL['stream-3d']
  model = models.create('movinet', 5, spec=spec, dtype='bfloat16')
  source = export.plan(model, timing.draw_weights(model), SIZE)
  assert source.model.dtype == jnp.float32
  logits, _ = source.make_step()(np.zeros(source.shape, np.float32), source.begin())
  assert logits.dtype == jnp.float32


@pytest.mark.parametrize(
  'fields',
  [
    {'conv': '2plus1d'},
    {'conv': '3d'},
    {'se': '2d'},
    {'gate': 'keras_hard_sigmoid'},
    {'activation': 'swish'},
    {'activation': 'relu'},
    {'positions': True},
    {'se': '3d'},
    {'activation': 'hard_swish', 'gate': 'hard_sigmoid', 'head_activation': 'hard_swish'},
  ],
)
def test_every_form_of_a_network_answers_as_it_does(fields, tmp_path):
  small = models.find_family('movinet').SMALL['stream-3d']
  model = models.create('movinet', 5, spec=dataclasses.replace(small, **fields))
  check_files(export.plan(model, timing.draw_weights(model), SIZE), tmp_path)
