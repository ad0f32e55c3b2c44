"""Tiny Video Networks are the published code's, layer by layer, and scale as said."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax import lax

import movinet_jax as mj
from configs.tvn import moments
from movinet_jax.models.tvn import (
  NUM_CLASSES,
  VARIANTS,
  Block,
  Op,
  Spec,
  list_layers,
  scale,
  scale_compound,
)
from movinet_jax.spec import from_json, to_json

# Millions of parameters and 10^9 multiply-adds of the published code, counted by a program
# of its own; with the classes of Moments in Time (339) or, TVN-3, Charades (157).
PUBLISHED = {
  '1': (339, 26.4, 4.33),
  '2': (157, 109, 34.6),
  '3': (157, 67, 53.6),
  '4': (339, 43.7, 25.9),
}


def count(spec, num_classes=5):
  model = mj.create('tvn', num_classes, spec=spec)
  return mj.cost.count(model, (1, spec.frames, spec.resolution, spec.resolution, 3))


@pytest.mark.parametrize('name', PUBLISHED)
def test_parameters_and_multiply_adds(name):
  classes, params, macs = PUBLISHED[name]
  found = count(VARIANTS[name], classes)
  for value, wanted in ((found.params / 1e6, params), (found.macs / 1e9, macs)):
    digits = len(str(wanted).partition('.')[2])
    assert round(value, digits) == wanted


# MoViNet, supplement, Tables 7 and 8: millions of parameters, and how far they may be off.
PRINTED = {'2': (110, 0.006), '3': (69.4, 0.025), '4': (44.2, 0.013)}


@pytest.mark.parametrize('name', PRINTED)
def test_parameters_agree_with_those_that_movinets_paper_prints(name):
  """With the 339 classes of Moments in Time. TVN-1's do not agree: 26.4 here, 11.1 there."""
  printed, apart = PRINTED[name]
  assert count(VARIANTS[name], NUM_CLASSES).params / 1e6 == pytest.approx(printed, rel=apart)


def test_the_second_mobile_network_has_about_the_printed_cost():
  """5.4 M and 10.1 GFLOPs, if these are operations, two a multiply-add."""
  found = count(VARIANTS['m2'], 339)
  assert found.params / 1e6 == pytest.approx(5.4, rel=0.03)
  assert round(2 * found.macs / 1e9, 1) == 10.1


def test_native_clips_of_appendix_a2():
  clips = {n: (s.resolution, s.frames, s.frame_stride) for n, s in VARIANTS.items()}
  assert clips['1'] == (224, 2, 4)
  assert clips['2'] == (256, 2, 7)
  assert clips['3'] == (160, 8, 2)
  assert clips['4'] == (128, 8, 4)


EVERYTHING = Spec(
  frames=7,
  resolution=21,
  frame_stride=1,
  blocks=(
    Block(
      6,
      *(2, 3),
      spatial=Op('conv', 4, 2, 'hard_swish'),
      temporal=Op('conv', 4, 2),
      **{'squeeze': 0.9, 'non_local': 3, 'gate': True, 'residual': True},
      activation='swish',
    ),
    Block(
      4,
      *(3, 2),
      spatial=Op('depthwise', 5, 3),
      temporal=Op('max', 2, 1),
      **{'squeeze': 0.1, 'gate': True, 'residual': True, 'inverted': True},
    ),
    Block(8, 1, 3, spatial=Op('max', 3, 1), temporal=Op('average', 3, 3)),
    Block(3, 2, spatial=Op('average', 2, 2), residual=True),
    Block(5, 1, 2, temporal=Op('conv', 2)),
  ),
)


@functools.cache
def make(spec, seed=0):
  """A model with random variables, statistics too: what begins at zero hides nothing."""
  model = mj.create('tvn', 4, spec=spec)
  shapes = jax.eval_shape(lambda: mj.init(model, jax.random.key(0), (1, 1, 8, 8, 3)))
  rng, made = np.random.default_rng(seed), {}
  for path, leaf in traverse_util.flatten_dict(shapes).items():
    low = 0.5 if path[-1] in ('var', 'scale') else -0.7
    made[path] = rng.uniform(low, 1.0, leaf.shape).astype(np.float32)
  return model, traverse_util.unflatten_dict(made)


def fast_jit(function):
  # These small programs cost far more to compile than to run.
  options = {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
  }
  return jax.jit(function, compiler_options=options)


class Reference:
  """The published code's functions, written with XLA's own operations on whole videos."""

  def __init__(self, variables):
    self.params, self.stats = variables['params'], variables['batch_stats']

  def get(self, tree, path):
    return functools.reduce(lambda tree, key: tree[key], path.split('/'), tree)

  def norm(self, path, x, activation):
    params, stats = self.get(self.params, path), self.get(self.stats, path)
    y = (x - stats['mean']) / np.sqrt(stats['var'] + 1e-5)
    return ACTS[activation](y * params['scale'] + params['bias'])

  def conv(self, path, x, strides=(1, 1, 1), activation='identity'):
    layer = self.get(self.params, f'{path}/conv')
    kernel = layer.get('layer', layer)['kernel']
    if kernel.ndim == 2:
      kernel = kernel[None, None, None]
    if 'layer' in layer:  # along time: its rows are frames
      kernel = jnp.moveaxis(kernel, 1, 0)
    groups = 1 if kernel.shape[3] == x.shape[-1] else x.shape[-1]
    numbers = ('NDHWC', 'DHWIO', 'NDHWC')
    y = lax.conv_general_dilated(
      x, kernel, strides, 'SAME', None, None, numbers, feature_group_count=groups
    )
    return self.norm(f'{path}/norm', y, activation)

  def pool(self, kind, x, window, strides):
    shape = ((1, *window, 1), (1, *strides, 1), 'SAME')
    if kind == 'max':
      return lax.reduce_window(x, -jnp.inf, lax.max, *shape)
    total, ones = (lax.reduce_window(v, 0.0, lax.add, *shape) for v in (x, jnp.ones_like(x)))
    return total / ones

  def dense(self, path, x):
    layer = self.get(self.params, path)
    return x @ layer['kernel'] + layer.get('bias', 0)

  def op(self, at, name, op, x):
    k, s = op.kernel, op.stride
    image = name == 'spatial'
    window, strides = ((1, k, k), (1, s, s)) if image else ((k, 1, 1), (s, 1, 1))
    if op.kind in ('max', 'average'):
      return self.pool(op.kind, x, window, strides)
    if image:
      x = self.conv(f'{at}/reduce', x, activation=op.activation)
    return self.conv(f'{at}/{name}', x, strides, op.activation)

  def gates(self, at, block, x):
    mean = x.mean((1, 2, 3), keepdims=True)
    if block.squeeze:
      hidden = jax.nn.relu(self.dense(f'{at}/se/reduce', mean))
      x = x * jax.nn.sigmoid(self.dense(f'{at}/se/expand', hidden))
    if block.non_local:
      rows = x.reshape(len(x), -1, x.shape[-1])
      query, key, value = (
        self.dense(f'{at}/non_local/{name}', rows) for name in ('query', 'key', 'value')
      )
      weights = jax.nn.softmax(query @ jnp.swapaxes(key, 1, 2))
      found = (weights @ value).reshape(*x.shape[:-1], -1)
      x = x + self.conv(f'{at}/non_local/project', found)
    if block.gate:
      mean = x.mean((1, 2, 3), keepdims=True)
      x = x * jax.nn.sigmoid(self.dense(f'{at}/gate/conv', mean))
    return x

  def layer(self, at, block, x, first, use_time):
    before = x
    if block.inverted:
      x = self.conv(f'{at}/expand', x, activation='relu')
    for name, op in (('spatial', block.spatial), ('temporal', block.temporal)):
      if op and (name == 'spatial' or (use_time and x.shape[1] > 1)):
        op = op if first else dataclasses.replace(op, stride=1)
        x = self.op(at, name, op, x)
    same = x.shape[1] == before.shape[1]
    if not block.inverted:
      x = self.conv(f'{at}/expand', x)
    x = self.gates(at, block, x)
    if block.inverted:
      x = self.conv(f'{at}/project', x)
    if block.residual and same:
      step = block.spatial.stride if block.spatial and first else 1
      x = x + self.conv(f'{at}/shortcut', before, (1, step, step))
    return ACTS[block.activation](x)

  def __call__(self, spec, x):
    for i, block in enumerate(spec.blocks):
      use_time = True
      for j in range(block.repeats):
        x = self.layer(f'block{i}_layer{j}', block, x, j == 0, use_time)
        use_time = not use_time
    return self.dense('classifier', x.mean((1, 2, 3)))


ACTS = {
  'identity': lambda x: x,
  'relu': jax.nn.relu,
  'swish': lambda x: x * jax.nn.sigmoid(x),
  'hard_swish': lambda x: x * jnp.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize(
  'spec',
  [EVERYTHING, dataclasses.replace(EVERYTHING, blocks=EVERYTHING.blocks[::-1])],
  ids=['forth', 'back'],
)
def test_every_operation_is_the_published_one(spec):
  """Even kernels, strides beyond the size that is left, and every second time operation."""
  model, variables = make(spec)
  clip = jax.random.uniform(jax.random.key(1), (2, 7, 21, 18, 3))
  found, _ = fast_jit(model.apply)(variables, clip)
  wanted = fast_jit(functools.partial(Reference(variables), spec))(clip)
  assert np.std(wanted) > 1e-3
  np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


def test_repeats_have_no_stride_and_every_second_one_no_time():
  spec = Spec(
    (Block(8, 1, 5, Op('max', 2, 2), Op('conv', 3, 2), residual=True), Block(4)),
    frames=4,
  )
  layers = [layer for _, layer in list_layers(spec)]
  assert [layer.temporal is not None for layer in layers] == [1, 0, 1, 0, 1, 0]
  assert [layer.spatial and layer.spatial.stride for layer in layers] == [
    *(2, 1, 1, 1, 1),
    None,
  ]
  assert [layer.temporal.stride for layer in layers[:5:2]] == [2, 1, 1]
  # The first changes the number of frames, so nothing is there to be added.
  assert [layer.residual for layer in layers] == [False, *(True,) * 4, False]


def test_where_one_frame_is_left_there_is_no_time():
  block = Block(4, 1, 3, temporal=Op('conv', 2, 2), residual=True)
  two, one = (Spec((block,) * 2, frames=n) for n in (2, 1))
  assert [bool(layer.temporal) for _, layer in list_layers(two)] == [
    True,
    *(False,) * 5,
  ]
  assert not any(layer.temporal for _, layer in list_layers(one))
  assert [layer.residual for _, layer in list_layers(two)] == [False, *(True,) * 5]


def test_clips_of_any_size_run_in_the_native_clip_s_layers():
  model, variables = make(EVERYTHING)
  for shape in ((1, 1, 1, 1, 3), (2, 3, 40, 5, 3), (1, 16, 8, 8, 3)):
    y, state = jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct(shape, float))
    assert (y.shape, state) == ((shape[0], 4), {})
  logits, _ = fast_jit(model.apply)(variables, jnp.ones((1, 1, 1, 1, 3)))
  assert np.isfinite(logits).all()


def test_every_parameter_learns():
  spec = dataclasses.replace(EVERYTHING, temporal_softmax=True)
  model, variables = make(spec)
  clip = jax.random.uniform(jax.random.key(1), (3, 7, 21, 21, 3))

  def objective(params):
    found, _ = model.apply(
      {**variables, 'params': params},
      *(clip, None),
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(2)},
    )
    return (found[0] ** 3).sum()

  grads = fast_jit(jax.grad(objective))(variables['params'])
  for path, grad in traverse_util.flatten_dict(grads, sep='/').items():
    assert np.isfinite(grad).all(), path
    # The softmax takes no notice of what is added to all scores.
    assert np.abs(grad).max() > 0 or path.endswith('key/bias'), path


def test_a_fresh_non_local_block_changes_nothing():
  with_it = Spec((Block(8, non_local=4),), frames=2, resolution=8)
  without = dataclasses.replace(with_it, blocks=(Block(8),))
  clip = jax.random.uniform(jax.random.key(1), (2, 2, 8, 8, 3))
  model = mj.create('tvn', 4, spec=with_it)
  variables = mj.init(model, jax.random.key(0), clip.shape)
  found, _ = model.apply(variables, clip)
  wanted, _ = mj.create('tvn', 4, spec=without).apply(variables, clip)
  np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_depthwise_kernels_begin_as_small_as_published():
  spec = Spec((Block(64, spatial=Op('depthwise', 4)),), resolution=8)
  params = mj.init(mj.create('tvn', 4, spec=spec), jax.random.key(0), (1, 1, 8, 8, 3))['params']
  kernel = params['block0_layer0']['spatial']['conv']['kernel']
  assert kernel.std() == pytest.approx((2 / (64 * 16)) ** 0.5, rel=0.1)


def test_specs_are_json():
  for spec in (*VARIANTS.values(), EVERYTHING):
    assert from_json(Spec, to_json(spec)) == spec


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: Op('conv', 1), 'kernel is 1; wanted 2 or more.*say None'),
    (lambda: Op('conv', 2, 0), 'stride is 0'),
    (lambda: Op('conv', 2, 1, 'rleu'), "activation is 'rleu'; did you mean 'relu'"),
    (lambda: Block(8, spatial=Op('cnov', 2)), "'cnov'; did you mean 'conv'"),
    (lambda: Block(8, temporal=Op('depthwise', 2)), "time operation 'depthwise'"),
    (lambda: Block(0), 'features is 0'),
    (lambda: Block(8, squeeze=1.5), 'squeeze is 1.5; wanted a number, from 0 to 1'),
    (lambda: Block(8, non_local=-1), 'non_local is -1'),
    (lambda: Spec(()), r'blocks is \(\); wanted one value'),
    (lambda: scale(VARIANTS['1'], width=0), 'width is 0.0; wanted a number, more than 0'),
  ],
)
def test_what_makes_no_sense(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_twice_the_resolution_is_four_times_the_cost():
  small, large = (count(scale(VARIANTS['1'], resolution=n)) for n in (1, 2))
  assert large.params == small.params
  assert large.macs / small.macs == pytest.approx(4, rel=0.02)


def test_width_and_depth_of_table_8():
  spec = VARIANTS['1']
  wide, deep = scale(spec, width=2), scale(spec, depth=4)
  assert [b.features for b in wide.blocks] == [2 * b.features for b in spec.blocks]
  assert [b.repeats for b in deep.blocks] == [4 * b.repeats for b in spec.blocks]
  assert count(wide).params / count(spec).params == pytest.approx(4, rel=0.03)
  assert len(list_layers(deep)) == 4 * len(list_layers(spec))
  assert (VARIANTS['1-2x-wide'], VARIANTS['1-4x-deep']) == (wide, deep)
  odd = scale(VARIANTS['2'], width=2)
  assert odd.blocks[-1].features == 696  # a whole product stays


def test_compound_scaling_is_efficientnet_s():
  spec = VARIANTS['1']
  assert scale_compound(spec, 0) == spec
  found = scale_compound(spec, 2)
  # 1.2² repeats, 1.1² channels and 1.15² of the side: 1.44, 1.21 and 1.3225.
  assert [b.repeats for b in found.blocks] == [3, 2, 3, 3]
  assert [b.features for b in found.blocks] == [80, 152, 152, 312]
  assert found.resolution == 296
  other = scale_compound(spec, 1, depth=2, width=4, resolution=1)
  assert other == scale(spec, depth=2, width=4)


def test_hard_swish_everywhere():
  found = VARIANTS['1-swish']
  assert {b.activation for b in found.blocks} == {'hard_swish'}
  ops = [b.spatial for b in found.blocks]
  assert [op.activation for op in ops] == ['hard_swish', 'relu', *['hard_swish'] * 2]
  assert count(found).macs == count(VARIANTS['1']).macs


def test_no_network_is_a_stream():
  with pytest.raises(ValueError, match="no option 'causal'"):
    mj.create('tvn/1', causal=True)


@pytest.mark.parametrize('name', moments.TABLE)
def test_each_is_trained_on_its_native_clip(name):
  cfg, spec = moments.get_config(name).to_dict(), VARIANTS[name]
  for clip in cfg['clip'].values():
    assert (clip['frames'], clip['size']) == (spec.frames, spec.resolution)
    assert clip['fps'] * spec.frame_stride == pytest.approx(25)
  assert set(moments.TABLE) == set(VARIANTS)


SMALL = Spec((Block(8, repeats=2, spatial=Op('max', 2, 2)),), frames=2, resolution=8)


def test_training_drops_out_before_the_classifier():
  model = mj.create('tvn', 4, spec=SMALL, dropout=0.5)
  clip = jax.random.uniform(jax.random.key(1), (2, 2, 8, 8, 3))
  variables = mj.init(model, jax.random.key(0), clip.shape)

  def run(key, train):
    rngs = {'dropout': jax.random.key(key)}
    kept = {'train': train, 'mutable': ['batch_stats'], 'rngs': rngs}
    return model.apply(variables, clip, **kept)[0][0]

  assert not np.allclose(run(0, True), run(1, True), rtol=1e-3)
  np.testing.assert_array_equal(run(0, False), run(1, False))


def test_layers_are_computed_again_where_asked():
  clip = jnp.ones((1, 2, 8, 8, 3))

  def program(remat):
    model = mj.create('tvn', 4, spec=SMALL, remat=remat)
    variables = mj.init(model, jax.random.key(0), clip.shape)
    text = str(jax.make_jaxpr(lambda v: model.apply(v, clip)[0])(variables))
    return text.count('checkpoint') + text.count('remat')

  assert program(False) == 0
  assert program(True) >= 2  # both layers
