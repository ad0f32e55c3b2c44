"""X3Ds have the published widths, parameters and multiply-adds, and load both codes' weights."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax import convert
from movinet_jax.layers import Bottleneck, round_to_8
from movinet_jax.models.x3d import (
  VARIANTS,
  Spec,
  Stage,
  make_spec,
)
from tests.models.x3d_states import to_pytorch, to_pytorchvideo, to_slowfast

TINY = Spec(stem=8, stages=(Stage(8, 12, 1), Stage(16, 24, 2)), hidden=8, frames=4, resolution=32)

# Parameters as PyTorchVideo counts them, multiply-adds of the native clip: both from the
# published code, run, with the stem's temporal kernel of 5. The paper's Tables 1 and 3 print
# the latter (0.60, 1.96, 4.73, 18.37, 35.84 and 143.5 G).
PUBLISHED = {
  'x2d': (1_633_512, 20_662_304),
  'xs': (3_794_274, 605_256_512),
  's': (3_794_274, 1_962_892_112),
  'm': (3_794_274, 4_732_468_736),
  'l': (6_153_384, 18_367_710_176),
  'xl': (11_095_840, 35_837_627_616),
  'xxl': (20_474_340, 143_541_630_016),
}
# SlowFast's class has a norm more: 24 channels, scale and bias. Its test crops cost what
# the paper says of 30 views: 2.73, 6.2, 24.8, 48.4 and 194.1 G.
SLOWFAST_PARAMS = {'xs': 3_794_322, 'l': 6_153_432, 'xl': 11_095_904}
TEST_CROPS = {'s': (182, 2.727), 'm': (256, 6.186), 'l': (356, 24.778)}


@pytest.mark.parametrize('name', PUBLISHED)
def test_parameters_and_multiply_adds(name):
  model, spec = mj.create(f'x3d/{name}', 400), VARIANTS[name]
  found = mj.cost.count(model, (1, spec.frames, spec.resolution, spec.resolution, 3))
  assert (found.params, found.macs) == PUBLISHED[name]


@pytest.mark.parametrize('name', SLOWFAST_PARAMS)
def test_the_other_published_form_has_a_norm_more(name):
  model = mj.create(f'x3d/{name}', 400, shortcut_norm=True)
  assert mj.cost.count(model, (1, 1, 32, 32, 3)).params == SLOWFAST_PARAMS[name]


@pytest.mark.parametrize('name', TEST_CROPS)
def test_crops_of_the_paper_s_thirty_views(name):
  size, wanted = TEST_CROPS[name]
  shape = (1, VARIANTS[name].frames, size, size, 3)
  found = mj.cost.count(mj.create(f'x3d/{name}', 400), shape)
  assert found.macs / 1e9 == pytest.approx(wanted, abs=6e-4)


def test_widths_by_the_papers_rounding():
  assert [stage.features for stage in VARIANTS['xl'].stages] == [32, 72, 136, 280]
  assert [stage.inner for stage in VARIANTS['xl'].stages] == [72, 162, 306, 630]
  assert [stage.depth for stage in VARIANTS['xxl'].stages] == [11, 21, 51, 31]
  squeezes = {24: 8, 108: 8, 162: 16, 306: 24, 432: 32, 630: 40}
  assert {inner: round_to_8(inner / 16) for inner in squeezes} == squeezes


def make(spec=TINY, **options):
  model = mj.create('x3d', 5, spec=spec, **options)
  variables = mj.init(model, jax.random.key(0), (1, 4, 32, 32, 3))
  leaves, tree = jax.tree.flatten(variables)
  rng = np.random.default_rng(0)  # a fresh branch is multiplied by zero
  leaves = [x + 0.3 * np.abs(rng.normal(size=x.shape)).astype('float32') for x in leaves]
  return model, tree.unflatten(leaves)


CLIP = jax.random.normal(jax.random.key(1), (2, 4, 32, 32, 3))


def test_a_fresh_network_is_its_shortcuts():
  """The last norm of each branch begins at zero; kernels are drawn by PyTorch's fan-out."""
  model = mj.create('x3d/xs', 400)
  params = mj.init(model, jax.random.key(0), (1, 4, 32, 32, 3))['params']
  for name, part in params.items():
    if name.startswith('stage'):
      assert not part['project']['norm']['scale'].any()
  kernel = params['stage0_layer1']['depthwise']['conv']['kernel']
  assert kernel.std() == pytest.approx(np.sqrt(2 / (54 * 27)), rel=0.05)


def test_large_clips_are_classified_at_every_place():
  """A place is what the native clip would be: with one, averaging changes nothing."""
  model, variables = make()
  large = jax.random.normal(jax.random.key(2), (1, 6, 64, 48, 3))
  captured = model.apply(variables, large, capture_intermediates=True, mutable=['intermediates'])
  (logits, _), extra = captured
  places = extra['intermediates']['classifier']['__call__'][0][0]
  # Native maps are 4x4, these 8x6; windows of 4 frames fit 3 times into 6.
  assert places.shape == (1, 3, 5, 3, 5)
  np.testing.assert_allclose(logits, places.mean((1, 2, 3)), rtol=1e-5)
  other = mj.create('x3d', 5, spec=dataclasses.replace(TINY, average='probabilities'))
  probabilities = jax.nn.softmax(places).mean((1, 2, 3))
  found = other.apply(variables, large)[0]
  np.testing.assert_allclose(np.exp(found), probabilities, rtol=1e-5)
  one = jax.nn.softmax(other.apply(variables, CLIP)[0])
  alone = jax.nn.softmax(model.apply(variables, CLIP)[0])
  np.testing.assert_allclose(one, alone, rtol=1e-5)


def test_pixels_are_centred_where_the_spec_says():
  model, variables = make()
  centred = mj.create('x3d', 5, spec=TINY, mean=0.45, deviation=0.225)
  found = centred.apply(variables, CLIP)[0]
  wanted = model.apply(variables, (CLIP - 0.45) / 0.225)[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_drop_connect_grows_by_the_stage():
  """Each stage's rate is constant: 0.4, 0.6, 0.8 and 1 of the given one."""
  spec = make_spec(1, 32, 1, width=0.5, depth=1.0, hidden=8)
  model = mj.create('x3d', 5, spec=spec, stochastic_depth=0.5)
  variables = jax.eval_shape(lambda: mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3)))
  found = {}

  def note(call, args, kwargs, context):
    if isinstance(context.module, Bottleneck):
      found[context.module.name] = context.module.drop_rate
    return call(*args, **kwargs)

  with nn.intercept_methods(note):
    jax.eval_shape(model.apply, variables, CLIP)
  assert len(found) == 11
  for name, rate in found.items():
    assert rate == pytest.approx(0.5 * (int(name[5]) + 2) / 5), name


SMALLEST = make_spec(4, 32, 1, width=0.5, depth=1.0, hidden=8)


@pytest.mark.parametrize('rename', [to_pytorchvideo, to_slowfast])
@pytest.mark.parametrize('shortcut_norm', [False, True])
def test_state_dicts_of_both_codes_load(rename, shortcut_norm, tmp_path):
  spec = dataclasses.replace(SMALLEST, shortcut_norm=shortcut_norm)
  model, variables = make(spec)
  state = to_pytorch(variables, rename)
  state['blocks.0.norm.num_batches_tracked'] = np.array(3)
  np.savez(tmp_path / 'weights.npz', **state)
  loaded, report = convert.load_with_report(tmp_path / 'weights.npz', model)
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  assert report.unexpected == ()
  assert report.skipped == ('blocks.0.norm.num_batches_tracked',)


@pytest.mark.parametrize('rename', [to_pytorchvideo, to_slowfast])
@pytest.mark.parametrize('has_norm', [False, True])
def test_a_state_dict_of_the_other_form_is_refused(rename, has_norm):
  """A norm that is left out, or begins anew, would be another network."""
  state = to_pytorch(make(dataclasses.replace(SMALLEST, shortcut_norm=has_norm))[1], rename)
  model = mj.create('x3d', 5, spec=SMALLEST, shortcut_norm=not has_norm)
  assert convert.find_fields(state, model) == {'shortcut_norm': has_norm}
  with pytest.raises(convert.ConversionError, match=f'with shortcut_norm={has_norm}'):
    convert.load_arrays(state, model)
  _, report = convert.load_arrays(state, model, partial=True)
  assert bool(report.unexpected) == has_norm


def test_networks_whose_widths_all_change_are_of_both_forms():
  """Where every shortcut has a norm anyway, a file fits whatever the spec says."""
  spec = dataclasses.replace(SMALLEST, stem=4)
  _, variables = make(spec)
  for shortcut_norm in (False, True):
    model = mj.create('x3d', 5, spec=spec, shortcut_norm=shortcut_norm)
    loaded, _ = convert.load_arrays(to_pytorch(variables), model)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_the_paper_counts_kernels_alone():
  """Tables 1 and 2 print 3.76 M of XS, S and M: without norms and biases."""
  shapes = jax.eval_shape(lambda: mj.init(mj.create('x3d/s'), jax.random.key(0), CLIP.shape))
  leaves = jax.tree.leaves(shapes['params'])
  assert sum(leaf.size for leaf in leaves if leaf.ndim > 1) == 3_758_738
  assert sum(leaf.size for leaf in leaves) == PUBLISHED['s'][0]


def test_pytorch_files(tmp_path):
  torch = pytest.importorskip('torch', reason='PyTorch reads its own files')
  model, variables = make(SMALLEST)
  state = {k: torch.tensor(v) for k, v in to_pytorch(variables).items()}
  torch.save({'model_state': state}, tmp_path / 'x3d.pyth')
  loaded = convert.load(tmp_path / 'x3d.pyth', model)
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'average': 'votes'}, "average is 'votes' .*logits"),
    ({'deviation': 0.0}, 'deviation is 0.0; wanted a number, more than 0'),
    ({'stages': ()}, r'stages is \(\); wanted one value or more'),
    ({'stem': 0}, 'stem is 0'),
  ],
)
def test_specs_that_make_no_sense(given, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **given)


def test_streams_are_the_same_weights():
  """A stream sees no later frame; its parameters are those of the whole-clip network."""
  shapes = [
    jax.eval_shape(lambda n=n: mj.init(mj.create(n, 5), jax.random.key(0), (1, 1, 32, 32, 3)))
    for n in ('x3d/xs', 'x3d/xs-stream')
  ]
  assert jax.tree.map(jnp.shape, shapes[0]) == jax.tree.map(jnp.shape, shapes[1])


def test_rematerialisation_changes_nothing():
  """Bottlenecks are computed again in the backward pass, to the same gradients."""
  _, variables = make()

  def objective(params, remat):
    model = mj.create('x3d', 5, spec=TINY, remat=remat)
    state = {**variables, 'params': params}
    (logits, _), _ = model.apply(state, CLIP, train=True, mutable=['batch_stats'])
    return (logits**2).sum()

  plain, again = (
    jax.jit(jax.grad(lambda p, r=remat: objective(p, r)))(variables['params'])
    for remat in (False, True)
  )
  for a, b in zip(*map(jax.tree.leaves, (plain, again)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * (np.abs(a).max() + 1))
  program = str(jax.make_jaxpr(lambda p: objective(p, True))(variables['params']))
  assert program.count('checkpoint') + program.count('remat') >= 3  # bottlenecks
