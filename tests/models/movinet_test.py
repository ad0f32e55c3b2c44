"""MoViNets: published sizes, published differences, and how they train."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax.models.movinet import VARIANTS, Block, Bottleneck, Layer, Spec

TINY = Spec(
  stem=4,
  blocks=(
    Block(4, 2, (Layer((3, 1, 1), 8),)),
    Block(6, 1, (Layer((1, 2, 2), 8), Layer((3, 1, 1), 8))),
  ),
  project=8,
  head=8,
)
CLIP = jax.random.uniform(jax.random.key(0), (4, 3, 12, 12, 3))

# Counted in the TensorFlow reference with 600 classes: trainable and moving statistics
# of the base, the same of the stream, and of its state for one video of native size the
# numbers and the tensors. Where positions are encoded, the reference keeps a frame count
# for them beside the pooling's; here the two are one: that many fewer.
PUBLISHED = {
  'a0': (3_111_799, 14_272, 3_748_031, 17_952, 674_208, 43, 0),
  'a1': (4_690_296, 27_616, 6_447_352, 34_208, 1_220_585, 67, 0),
  'a2': (5_249_562, 31_360, 7_326_962, 39_088, 2_707_115, 73, 0),
  'a3': (7_397_545, 45_744, 10_986_618, 56_528, 4_568_947, 124, 33),
  'a4': (11_349_463, 73_264, 18_136_182, 92_144, 12_350_175, 178, 47),
  'a5': (18_650_523, 112_832, 31_495_934, 140_800, 18_773_511, 222, 59),
  't0': (1_727_414, 13_088, 2_368_958, 16_160, 326_463, 38, 0),
}


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def count_parts(model):
  """Parameters, moving statistics and state for one frame of native size, as shapes."""
  side = model.spec.resolution
  frame = jax.ShapeDtypeStruct((1, 1, side, side, 3), jnp.float32)
  (_, state), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), frame)
  assert set(variables) == {'params', 'batch_stats'}
  return count(variables['params']), count(variables['batch_stats']), state


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_sizes(name):
  *sizes, numbers, tensors, shared = PUBLISHED[name]
  base, stream = (
    # Of the same shapes as the default form, and faster to trace.
    count_parts(mj.create(f'movinet/{name}{suffix}', form='native'))
    for suffix in ('', '-stream')
  )
  assert [*base[:2], *stream[:2]] == sizes
  assert base[2] == {}
  assert count(stream[2]) + shared == numbers
  assert len(jax.tree.leaves(stream[2])) + shared == tensors


# In the classifier of the published training configs; all others say, or leave, swish.
HARD_HEADS = {'a1-stream', 'a4-stream', 't0-stream'}


def test_only_three_heads_have_the_hard_activation():
  heads = {n: VARIANTS[n].head_activation for n in VARIANTS if 'printed' not in n}
  assert len(heads) == 14
  assert {name for name, active in heads.items() if active == 'hard_swish'} == HARD_HEADS
  assert set(heads.values()) == {'hard_swish', 'swish'}


def rows(spec):
  """Layers of each block as (KT, KS, expand); block 2 is the first, as in the papers."""
  return {
    i: [(*layer.kernel[:2], layer.expand) for layer in block.layers]
    for i, block in enumerate(spec.blocks, 2)
  }


# Supplement, tables 11, 14, 15, 16. (block, layer): as released, as printed; None where
# the table has no such row.
PRINTED = {
  'a0': {
    (2, 0): ((1, 5, 24), (1, 5, 40)),
    (3, 0): ((3, 3, 80), (5, 3, 80)),
    (6, 0): ((5, 3, 384), (5, 3, 344)),
  },
  'a3': {(5, 6): ((3, 3, 264), None), (5, 7): ((3, 3, 264), None)},
  'a4': {
    (3, 0): ((3, 3, 168), (5, 3, 168)),
    (4, 5): ((3, 3, 160), (3, 3, 152)),
  },
  'a5': {
    (3, 10): ((3, 3, 192), None),
    (4, 10): ((3, 3, 376), None),
    (4, 11): ((3, 3, 376), None),
    (4, 12): ((3, 3, 376), None),
    (5, 10): ((3, 3, 376), None),
  },
}


def find_differences(released, printed):
  found = {}
  released, printed = rows(released), rows(printed)
  for block, ours in released.items():
    theirs = printed[block] + [None] * (len(ours) - len(printed[block]))
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
      if a != b:
        found[block, i] = (a, b)
  return found


@pytest.mark.parametrize('suffix', ['', '-stream'])
@pytest.mark.parametrize('name', PRINTED)
def test_printed_variants_differ_where_documented(name, suffix):
  released, printed = VARIANTS[name + suffix], VARIANTS[f'{name}-printed{suffix}']
  assert find_differences(released, printed) == PRINTED[name]
  # Apart from these layers and the activation of B.1 nothing differs: block by block, then
  # everything else.
  for a, b in zip(released.blocks, printed.blocks, strict=True):
    assert dataclasses.replace(a, layers=()) == dataclasses.replace(b, layers=())
  hard = {'activation': 'hard_swish', 'head_activation': 'hard_swish'}
  assert printed == dataclasses.replace(released, blocks=printed.blocks, **hard)


def test_printed_networks_are_of_hard_swish_and_released_ones_of_swish():
  """Supplement, B.1, and the released code; streams are hard in both."""
  for name in PRINTED:
    released, printed = VARIANTS[name], VARIANTS[f'{name}-printed']
    assert (released.activation, released.head_activation) == ('swish', 'swish')
    assert (printed.activation, printed.head_activation) == ('hard_swish', 'hard_swish')
    assert released.gate == printed.gate == 'sigmoid'


def test_only_these_are_printed():
  assert {n.split('-')[0] for n in VARIANTS if '-printed' in n} == set(PRINTED)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'conv': '2d'}, "conv is '2d' .*2plus1d"),
    ({'se': 'none'}, "se is 'none' .*2plus3d"),
    ({'activation': 'swich'}, "did you mean 'swish'"),
    ({'gate': 'nothing'}, "gate is 'nothing' .*sigmoid"),
    ({'head_activation': 'nothing'}, "head_activation is 'nothing' .*swish"),
    ({'stem': 0}, 'stem is 0; wanted a whole number, 1 or more'),
    ({'blocks': ()}, 'wanted one block or more'),
    ({'blocks': (Block(4, 2, ()),)}, 'each with a layer'),
  ],
)
def test_specs_that_make_no_sense(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **change)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: Layer((0, 3, 3), 8), r'kernel\[0\] is 0; wanted a whole number, 1 or more'),
    (lambda: Layer((3, 3, 3), 0), 'expand is 0'),
    (lambda: Block(4, 0, TINY.blocks[0].layers), 'stride is 0'),
    (lambda: Block(0, 1, TINY.blocks[0].layers), 'features is 0'),
  ],
)
def test_sizes_of_nothing_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('shape', [(3, 12, 12, 3), (1, 3, 12, 12, 4)])
def test_what_is_no_video_is_refused(shape):
  with pytest.raises(ValueError, match=r'takes video \[B, T, H, W, 3\]'):
    mj.create('movinet', spec=TINY).init(jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
  ('clip', 'message'),
  [
    (CLIP[:1], 'a stream state of 4 videos cannot go on with 1'),
    (CLIP[:, :, :8], r'keeps are \(6, 6, 8\) here, the new ones \(4, 6, 8\)'),
  ],
)
def test_a_state_of_other_videos_is_refused(clip, message):
  model = mj.create('movinet', spec=TINY, causal=True)
  state = model.init_state(4, (12, 12))
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), clip, state))


@pytest.fixture(scope='module')
def variables():
  """Of every TINY model here; ReZero scales are not zero, so that branches count."""
  made = mj.init(mj.create('movinet', 5, spec=TINY), jax.random.key(0), CLIP.shape)

  def fill(path, leaf):
    return leaf + 0.7 * (path[-2].key == 'rezero')

  return jax.tree_util.tree_map_with_path(fill, made)


def train_pass(model, variables, key=0):
  """(loss, batch statistics after), gradients of a training pass."""

  def loss(params):
    (logits, _), changed = model.apply(
      {**variables, 'params': params},
      CLIP,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.key(key)},
    )
    return jnp.sum(jnp.sin(logits)), (logits, changed['batch_stats'])

  return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])


def test_rematerialisation_changes_nothing(variables):
  """Also with randomness in what is recomputed."""
  options = {'spec': TINY, 'stochastic_depth': 0.5, 'dropout': 0.5}
  plain, remat = (
    train_pass(mj.create('movinet', 5, remat=r, **options), variables) for r in (False, True)
  )
  near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(near, remat, plain)
  # The parameters are the same tree, so a checkpoint of either loads into the other.
  jaxpr = jax.make_jaxpr(mj.create('movinet', 5, remat=True, spec=TINY).apply)
  assert 'remat' in str(jaxpr(variables, CLIP))


def test_bfloat16_computes_and_float32_stays(variables):
  half = mj.create('movinet', 5, spec=TINY, dtype='bfloat16')
  full = mj.create('movinet', 5, spec=TINY)
  kept = jax.eval_shape(half.init, jax.random.key(0), CLIP)
  assert jax.tree.map(lambda a: a.dtype, kept) == jax.tree.map(lambda a: a.dtype, variables)
  see = functools.partial(half.apply, capture_intermediates=True, mutable=['intermediates'])
  (logits, _), seen = jax.eval_shape(see, variables, CLIP)
  assert logits.dtype == jnp.float32
  for name in ('stem', 'block1_layer1', 'project', 'classifier'):
    assert seen['intermediates'][name]['__call__'][0][0].dtype == jnp.bfloat16, name
  ours, theirs = (jax.jit(m.apply)(variables, CLIP)[0] for m in (half, full))
  assert 0 < np.abs(ours - theirs).max() < 0.03 * np.abs(theirs).max()
  (_, (logits, stats)), grads = train_pass(half, variables)
  for leaf in jax.tree.leaves((logits, stats, grads)):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize('option', ['dropout', 'stochastic_depth'])
def test_randomness_is_the_keys(variables, option):
  model = mj.create('movinet', 5, spec=TINY, **{option: 0.5})

  @jax.jit
  def train(key):
    options = {'train': True, 'mutable': ['batch_stats'], 'rngs': {'dropout': key}}
    return model.apply(variables, CLIP, **options)[0][0]

  first, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-3
  plain = mj.create('movinet', 5, spec=TINY)
  np.testing.assert_array_equal(*(m.apply(variables, CLIP)[0] for m in (model, plain)))


def test_stochastic_depth_grows_linearly():
  model, rates = mj.create('movinet', 5, spec=TINY, stochastic_depth=0.3), []

  def note(call, args, options, context):
    if isinstance(context.module, Bottleneck) and context.method_name == '__call__':
      rates.append(context.module.drop_rate)
    return call(*args, **options)

  with nn.intercept_methods(note):
    jax.eval_shape(model.init, jax.random.key(0), CLIP)
  assert rates == pytest.approx([0.1, 0.2, 0.3])


def test_groups_share_statistics(variables):
  """Groups of two train like two batches of two; the whole batch does otherwise."""
  grouped = mj.create('movinet', 5, spec=TINY, norm_group=2)
  whole = mj.create('movinet', 5, spec=TINY)

  def train(model, clip):
    return jax.jit(
      lambda: model.apply(variables, clip, train=True, mutable=['batch_stats'])[0][0]
    )()

  pairs = np.concatenate([train(whole, CLIP[:2]), train(whole, CLIP[2:])])
  np.testing.assert_allclose(train(grouped, CLIP), pairs, atol=1e-5)
  assert np.abs(train(whole, CLIP) - pairs).max() > 1e-3
