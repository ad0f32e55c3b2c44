"""One set of weights holds every two-stream network of a space, and each is the network alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from nas.oneshot import masked
from nas.oneshot.supernets.tsnet import Supernet
from nas.spaces import tsnet
from tests.nas.oneshot.supernets import checks
from tests.nas.spaces.tsnet_test import SMALL

CLASSES = 5
CLIP = jax.random.uniform(jax.random.key(0), (2, 6, 20, 20, 3))  # no multiple of the ratio


# A stage of three groups, of which the first has a second block, and attention inside and behind.
DEEP = ('depths', ((1,), (2, 1, 2))), ('places', (1, 2, 3))


@functools.cache
def make(join, remat=True, changes=()):
  """(supernet, weights, compiled apply); no scale is zero, so that branches count."""
  space = tsnet.make_space(**{**SMALL, **dict(changes)}, join=join)
  net = Supernet(space, CLASSES, remat=remat)
  params = jax.jit(net.init)(jax.random.key(1))
  params = checks.liven(params, 3)
  return net, params, jax.jit(net.apply)


def make_equally_wide(net):
  """What is fused with a group of 16 channels makes it as wide as the next one, of 24."""
  choices, space = net.space.largest(), net.space
  given = {(0, 'groups/1/features'): 16, (0, 'groups/2/features'): 24}
  given |= {(1, 'groups/1/features'): 8, (1, 'fusion/1'): 'sample'}
  for where, value in given.items():
    number = space.number(*where)
    choices[number] = space.space.values[number].index(value)
  return choices


def sample(net, count):
  """Networks with a dense stream, the largest first, and one without as the last."""
  rng, space = np.random.default_rng(0), net.space.space
  drawn = [net.space.largest(), *(space.sample(rng) for _ in range(count - 1))]
  for choices in drawn:
    choices[net.space.dense_number] = 1
  drawn[-1][net.space.dense_number] = 0
  return drawn


@pytest.mark.slow
@pytest.mark.parametrize(
  ('join', 'changes'),
  [('concat', ()), ('sum', ()), ('concat', DEEP)],
  ids=['concat', 'sum', 'deep'],
)
def test_every_network_is_itself_alone(join, changes):
  net, params, apply = make(join, changes=changes)
  for choices in [*sample(net, 5), make_equally_wide(net)]:
    model = mj.create('tsnet', CLASSES, spec=net.space.decode(choices))
    variables = net.extract(params, choices)
    wanted = jax.eval_shape(lambda m=model: mj.init(m, jax.random.key(0), CLIP.shape))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, wanted)
    run = functools.partial(model.apply, train=True, mutable=['batch_stats'])
    (wanted, _), _ = jax.jit(run)(variables, CLIP)
    logits, _ = apply(params, CLIP, choices)
    assert np.abs(logits - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_network_begins_as_it_does_alone():
  net = Supernet(tsnet.make_space(**SMALL, join='concat'), CLASSES)
  params, choices = jax.jit(net.init)(jax.random.key(1)), net.space.largest()
  model = mj.create('tsnet', CLASSES, spec=net.space.decode(choices))
  wanted = mj.init(model, jax.random.key(1), CLIP.shape)['params']
  compared = 0
  for (path, weights), alone in zip(
    jax.tree_util.tree_leaves_with_path(net.extract(params, choices)['params']),
    jax.tree.leaves(wanted),
    strict=True,
  ):
    if np.std(alone) == 0:
      np.testing.assert_array_equal(weights, alone, err_msg=str(path))
    elif weights.size > 400:  # the deviation is then known to about 4 %
      np.testing.assert_allclose(np.std(weights), np.std(alone), rtol=0.2, err_msg=str(path))
      compared += 1
  assert compared > 10
  drawn = np.concatenate([np.ravel(x) for x in jax.tree.leaves(params) if np.std(x) > 0])
  assert len(np.unique(drawn)) > 0.99 * len(drawn)  # none is handed out twice


@functools.cache
def make_gradient(join, remat=True):
  """Compiled (weights, choices) -> gradients of something that every logit moves."""
  net, _, _ = make(join, remat)

  def loss(params, choices):
    return jnp.sum(jnp.sin(net.apply(params, CLIP, choices)[0]))

  return jax.jit(jax.grad(loss))


def find_outside(net, params, choices):
  """Which weights one network alone does not have: True there."""
  leaves, tree = jax.tree.flatten(params)
  starts = np.cumsum([0, *(leaf.size for leaf in leaves)])
  names = tree.unflatten(
    [a + np.arange(leaf.size).reshape(leaf.shape) for a, leaf in zip(starts, leaves, strict=False)]
  )
  inside = jax.tree.leaves(net.extract(names, choices)['params'])
  taken = np.concatenate([np.ravel(leaf) for leaf in inside])
  assert len(taken) == len(set(taken.tolist()))
  return jax.tree.map(lambda x: ~np.isin(x, taken), names)


@pytest.mark.slow
def test_what_a_network_does_not_use_has_no_gradient_and_no_effect():
  net, params, apply = make('concat')
  for choices in sample(net, 3)[1:]:
    outside = find_outside(net, params, choices)
    grads = make_gradient('concat')(params, choices)
    strays = jax.tree.map(lambda g, out: float(np.abs(np.where(out, g, 0)).sum()), grads, outside)
    assert sum(jax.tree.leaves(strays)) == 0
    other = jax.tree.map(lambda p, out: jnp.where(out, p + 7.0, p), params, outside)
    logits, again = (apply(p, CLIP, choices)[0] for p in (params, other))
    np.testing.assert_allclose(logits, again, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_only_what_is_chosen_is_computed():
  """Were others computed and left out afterwards, 0 times what is no number is none."""
  net, params, _ = make('concat')
  choices = sample(net, 3)[1]
  sizes = len(net.space.sizes)

  def poison(path, x):
    keys = [key.key for key in path]
    spoilt = False
    if 'depthwise' in keys:
      stream, group = ('sparse', 'dense').index(keys[0]), keys[1].removeprefix('group')
      time, space = (
        choices[net.space.number(stream, f'groups/{group}/{name}')] for name in ('time', 'space')
      )
      return spoil_others(x, time * sizes + space, taps=keys[-1] == 'kernel')
    elif keys[0] == 'fusions':
      spoilt = keys[2] != net.space.fusions[choices[net.space.fusion_number(int(keys[1]))]]
    elif keys[1].startswith('attention'):
      place = net.space.places.index(int(keys[1].removeprefix('attention')))
      stream = ('sparse', 'dense').index(keys[0])
      spoilt = not choices[net.space.number(stream, f'attention/{place}')]
    return x * jnp.nan if spoilt else x

  def spoil_others(x, number, taps):
    """Of [.., taps of all kernels, C] or [..., kernels, C], what is not of this kernel."""
    chosen = masked.find_taps(net._kernels, number) if taps else number
    return (x * jnp.nan).at[..., chosen, :].set(x[..., chosen, :])

  poisoned = jax.tree_util.tree_map_with_path(poison, params)
  assert any(jnp.isnan(leaf).any() for leaf in jax.tree.leaves(poisoned))
  grads, clean = (make_gradient('concat')(p, choices) for p in (poisoned, params))
  jax.tree.map(np.testing.assert_array_equal, grads, clean)
  # Without a dense stream, nothing of it is computed.
  choices = sample(net, 3)[-1]
  spoilt = {
    **params,
    **jax.tree.map(lambda x: x * jnp.nan, {k: params[k] for k in ('dense', 'fusions')}),
  }
  grads, clean = (make_gradient('concat')(p, choices) for p in (spoilt, params))
  jax.tree.map(np.testing.assert_array_equal, grads, clean)


@pytest.mark.slow
def test_every_weight_is_some_network_s():
  """The largest widths with each kernel, fusion and shortcut in turn reach every variable."""
  net, params, _ = make('concat')
  space, tried = net.space.space, []
  kernels = [(t, s) for t in range(len(net.space.times)) for s in range(len(net.space.sizes))]
  for n in range(max(len(kernels), len(net.space.fusions))):
    choices = net.space.largest()
    for number, decision in enumerate(space.decisions):
      last = decision.path.split('/')[-1]
      if last in ('time', 'space'):
        choices[number] = kernels[n % len(kernels)][('time', 'space').index(last)]
      elif '/fusion/' in decision.path:
        choices[number] = n % len(net.space.fusions)
    tried.append(choices)
  # A stride of 1 between equal widths needs no projection; another width does.
  narrow = net.space.largest()
  for stream in (0, 1):
    narrow[net.space.number(stream, 'groups/0/features')] = 0
    narrow[net.space.number(stream, 'groups/2/features')] = 0
  tried.append(narrow)
  found = [make_gradient('concat')(params, choices) for choices in tried]
  assert checks.list_dead(found) == []


@pytest.mark.slow
def test_computing_again_changes_nothing_and_saves_memory():
  net, params, _ = make('concat')
  choices = sample(net, 2)[0]
  found = [make_gradient('concat', remat)(params, choices) for remat in (True, False)]
  for a, b in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * (np.abs(b).max() + 1))
  memory = [
    checks.measure_memory(make_gradient('concat', remat), params, choices)
    for remat in (True, False)
  ]
  assert memory[0] < 0.9 * memory[1]


def test_bfloat16_keeps_weights_and_logits_in_full():
  net = Supernet(tsnet.make_space(**SMALL), CLASSES, dtype=jnp.bfloat16)
  params = jax.eval_shape(net.init, jax.random.key(0))
  choices = jnp.asarray(net.space.largest())
  logits, state = jax.eval_shape(net.apply, params, CLIP, choices)
  assert (logits.dtype, state) == (jnp.float32, {})
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}
