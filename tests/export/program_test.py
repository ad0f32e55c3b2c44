"""The walk from a traced network to a graph: what it folds, names, refuses, and keeps right."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax import export, models, timing
from movinet_jax.export import parity

SIZE = (16, 16)


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


def test_five_thousand_float16_frames_keep_their_means():
  """Of a video that stays the same, means stay what they are; a sum stands still at 2048."""
  program = plan('stream-3d').program
  frame = np.random.default_rng(0).uniform(size=(1, *SIZE, 3)).astype(np.float32)
  found = parity.run_graph(program, [frame] * 5000, np.float16)[:, 0]
  *_, wanted = parity.run_graph(program, [frame] * 200, np.float32)[:, 0]
  assert np.abs(found[200:] - wanted).max() < 5e-3 * np.abs(wanted).max()


@pytest.mark.parametrize(('kind', 'after'), [('stream-2plus1d', 'se_mean_next')])
def test_means_are_continued_and_not_summed(kind, after):
  graph = plan(kind).program.graph
  names = [name for name in graph.outputs if name.endswith(after)]
  assert names
  for name in names:
    assert graph.outputs[name].node.op == 'add'  # of the mean, and a share of the difference
    assert not any(one.endswith(('total', 'count')) for one in graph.inputs)


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
  ],
)
def test_every_form_of_a_network_answers_as_it_does(fields):
  small = models.find_family('movinet').SMALL['stream-3d']
  model = models.create('movinet', 5, spec=dataclasses.replace(small, **fields))
  source = export.plan(model, timing.draw_weights(model), SIZE)
  reference = parity.Reference(source)
  images = [video[:, 0] for video in reference.list_videos()]
  found = parity.run_graph(source.program, [image[:1] for image in images], np.float32)
  wanted = np.stack(reference.logits)[:, :1]
  assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
  jax.clear_caches()
