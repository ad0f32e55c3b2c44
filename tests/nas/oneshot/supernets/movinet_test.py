"""One set of weights holds every network of a space, and each is the network alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from nas.oneshot.supernets.movinet import Supernet
from nas.spaces import movinet
from tests.nas.oneshot.supernets import checks

CLASSES = 5
BASE = {
  **{'stem': 16, 'widths': (16, 24, 24), 'strides': (2, 1, 2), 'depth': 2},
  **{'project': 32, 'head': 16, 'expansions': (1.5, 2.0), 'multipliers': (1.0, 1.5)},
  **{'kernels': ((1, 3, 3), (3, 3, 3), (5, 1, 1)), 'stem_multipliers': (1.0, 1.5)},
}
FORMS = {
  'clips': {'se': 'search'},
  'causal': {'causal': True},
  'streams': {
    **{'conv': '2plus1d', 'se_kind': '2plus3d', 'causal': True, 'positions': True},
    **{'activation': 'hard_swish', 'gate': 'hard_sigmoid', 'se': 'search'},
  },
}
CLIP = jax.random.uniform(jax.random.key(0), (2, 6, 18, 18, 3))


@functools.cache
def make(form, remat=True):
  """(supernet, weights, compiled apply); no scale is zero, so that branches count."""
  space = movinet.make_space(**BASE, **FORMS[form])
  net = Supernet(space, CLASSES, remat=remat)
  params = jax.jit(net.init)(jax.random.key(1))
  params = checks.liven(params, 2)
  params['classifier']['kernel'] *= 100  # else the bias is nearly all of the logits
  return net, params, jax.jit(net.apply)


def sample(net, count):
  rng = np.random.default_rng(0)
  return [net.space.largest(), *(net.space.space.sample(rng) for _ in range(count - 1))]


def run_alone(net, params, choices, clip):
  """The network by itself with the weights cut out, its norms by the batch."""
  model = mj.create('movinet', CLASSES, spec=net.space.decode(choices))
  run = functools.partial(model.apply, train=True, mutable=['batch_stats'])
  (logits, _), _ = jax.jit(run)(net.extract(params, choices), clip)
  return logits


@pytest.mark.parametrize('form', FORMS)
def test_every_network_is_itself_alone(form):
  net, params, apply = make(form)
  for choices in sample(net, 4):
    logits, _ = apply(params, CLIP, choices)
    wanted = run_alone(net, params, choices, CLIP)
    assert np.abs(logits - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_what_is_cut_out_has_the_shape_of_the_network():
  for form in FORMS:
    net, params, _ = make(form)
    for choices in sample(net, 3):
      model = mj.create('movinet', CLASSES, spec=net.space.decode(choices))
      wanted = jax.eval_shape(lambda m=model: mj.init(m, jax.random.key(0), CLIP.shape))
      found = net.extract(params, choices)
      assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, wanted)


@functools.cache
def make_gradient(form, remat=True):
  """Compiled (weights, choices) -> gradients of something that every logit moves."""
  net, _, _ = make(form, remat)

  def loss(params, choices):
    return jnp.sum(jnp.sin(net.apply(params, CLIP, choices)[0]))

  return jax.jit(jax.grad(loss))


def test_what_a_network_does_not_use_has_no_gradient_and_no_effect():
  net, params, apply = make('clips')
  choices = net.space.space.canonical(sample(net, 5)[3])
  grads = make_gradient('clips')(params, choices)
  used = jax.tree.map(lambda g: (g != 0).astype(jnp.int32), grads)
  inside = jax.tree.leaves(net.extract(used, choices)['params'])
  everywhere = jax.tree.leaves(used)
  count = sum(int(leaf.sum()) for leaf in inside)
  assert count == sum(int(leaf.sum()) for leaf in everywhere)
  assert 0 < count < sum(leaf.size for leaf in everywhere)
  # Whatever stands where there is no gradient, the network is the same.
  other = jax.tree.map(lambda p, g: jnp.where(g == 0, p + 7.0, p), params, grads)
  logits, again = (apply(p, CLIP, choices)[0] for p in (params, other))
  np.testing.assert_allclose(logits, again, rtol=1e-5)


def test_every_weight_is_some_network_s():
  """The largest widths with each kernel in turn reach every variable."""
  net, params, _ = make('clips')
  space, tried = net.space.space, []
  for kernel in range(3):
    choices = net.space.largest()
    for n, decision in enumerate(space.decisions):
      if decision.path.endswith('kernel'):
        choices[n] = kernel
    tried.append(choices)
  # A stride of 1 between equal widths needs no projection; another width does.
  tried.append(net.space.largest())
  tried[-1][space.number('blocks/1/features')] = 0
  found = [make_gradient('clips')(params, choices) for choices in tried]
  assert checks.list_dead(found) == []


@pytest.mark.parametrize('form', ['causal', 'streams'])
def test_a_clip_in_parts_is_the_network_s_own(form):
  """Norms take the statistics of a part, so parts equal parts, not the whole."""
  net, params, apply = make(form)
  for choices in sample(net, 3):
    model = mj.create('movinet', CLASSES, spec=net.space.decode(choices))
    variables = net.extract(params, choices)
    run = jax.jit(functools.partial(model.apply, train=True, mutable=['batch_stats']))
    state, alone = None, None
    for part in (CLIP[:, :4], CLIP[:, 4:5], CLIP[:, 5:]):
      logits, state = apply(params, part, choices, state)
      (wanted, alone), _ = run(variables, part, alone)
    assert np.abs(logits - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize('form', ['clips', 'streams'])
def test_only_the_chosen_kernels_are_computed(form):
  """Were others computed and left out afterwards, 0 times what is no number is none."""
  net, params, _ = make(form)
  choices = sample(net, 3)[2]
  chosen = {
    (f'block{p.block}', 'rest' if p.layer else 'first'): int(choices[p.numbers['kernel']])
    for p in net.space.places
  }  # of two layers a block

  def poison(path, x):
    keys = [key.key for key in path]
    spoilt = 'kernels' in keys and int(keys[3]) != chosen[keys[0], keys[1]]
    return x * jnp.nan if spoilt else x

  poisoned = jax.tree_util.tree_map_with_path(poison, params)
  assert any(jnp.isnan(leaf).any() for leaf in jax.tree.leaves(poisoned))
  grads = make_gradient(form)(poisoned, choices)
  clean = make_gradient(form)(params, choices)
  for a, b in zip(*map(jax.tree.leaves, (grads, clean)), strict=True):
    np.testing.assert_array_equal(a, b)


def test_computing_again_changes_nothing():
  net, params, _ = make('clips')
  choices = sample(net, 2)[1]
  found = [make_gradient('clips', remat)(params, choices) for remat in (True, False)]
  for a, b in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * (np.abs(b).max() + 1))


def test_computing_again_saves_memory():
  net, params, _ = make('clips')
  memory = [
    checks.measure_memory(make_gradient('clips', remat), params, net.space.largest())
    for remat in (True, False)
  ]
  assert memory[0] < 0.8 * memory[1]


def test_bfloat16_keeps_weights_and_logits_in_full():
  space = movinet.make_space(**BASE, **FORMS['streams'])
  net = Supernet(space, CLASSES, dtype=jnp.bfloat16)
  params = jax.eval_shape(net.init, jax.random.key(0))
  logits, state = jax.eval_shape(net.apply, params, CLIP, jnp.asarray(space.largest()))
  assert logits.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  assert state['block0']['first']['buffer'].dtype == jnp.bfloat16


def test_what_cannot_be_searched_is_refused():
  space = movinet.make_space(temporal_softmax=True)
  with pytest.raises(ValueError, match='temporal_softmax'):
    Supernet(space, CLASSES)
