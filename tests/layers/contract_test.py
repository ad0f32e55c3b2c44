"""Every layer and model keeps the stream contract of movinet_jax.layers.stream.

Members are found by listing the rooms. A new layer whose fields have names known to GRID,
and a new family, which brings its own SMALL specs, are covered with no registration.
"""

import dataclasses
import functools
import itertools
import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from movinet_jax import layers, models, ops
from movinet_jax.registry import load_members

FRAMES = 6
CHUNKINGS = ((1,) * 6, (2, 2, 2), (3, 3), (1, 3, 2))
TOLERANCE = 1e-5  # of the largest value

# What to try for a field of this name; other fields keep their default.
GRID = {
  'causal': (True, False),
  'conv': (
    layers.PointwiseConv(5, parent=None),
    layers.DepthwiseConv((3, 3, 3), (2, 2), causal=True, parent=None),
  ),
  'deviation': (0.225,),
  'dropout': (0.5,),
  'features': (5,),
  'frames': (4,),
  'hidden': (3,),
  'inner': (6,),
  'kernel': ((3, 3, 3), (1, 5, 5)),
  'kernel_size': {2: ((3, 3),), 3: ((1, 3, 3), (3, 3, 3), (5, 1, 1))},
  'kind': ('2d', '3d', '2plus3d'),
  'layer': (layers.MaxPool((3, 1), (2, 1), parent=None),),
  'mean': (0.45,),
  'padding': ('same', 'centred'),
  'positions': (False, True),
  'rate': (0.5,),
  'stride': {2: ((2, 2),)},
  'use_bias': (True,),
  'values': ('logits', 'probabilities'),
  'width': (3,),
  'window': {2: ((3, 3),), 3: ((3, 2, 2),)},
}


def find_layers():
  """All modules that the files of the room define. What all networks share is no layer."""
  return [
    value
    for file in load_members(layers.__name__).values()
    for value in vars(file).values()
    if isinstance(value, type)
    and issubclass(value, nn.Module)
    and value.__module__ == file.__name__
    and value is not layers.Network
  ]


def make_grid(cls):
  """All ways to fill the fields of a layer, as keyword arguments."""
  hints = typing.get_type_hints(cls)
  choices = {}
  for field in dataclasses.fields(cls):
    if field.name in ('parent', 'name'):
      continue
    values = GRID.get(field.name)
    if isinstance(values, dict):  # by how many axes the field speaks of
      values = values.get(len(typing.get_args(hints[field.name])))
    if values:
      choices[field.name] = values
    elif field.default is dataclasses.MISSING:
      raise AssertionError(
        f'{cls.__name__}.{field.name} is required and the contract test does not know '
        f'what to try: add {field.name!r} to GRID in {__file__}'
      )
  return [dict(zip(choices, row, strict=True)) for row in itertools.product(*choices.values())]


def _clip(height, width, channels):
  return jax.random.normal(jax.random.key(0), (2, FRAMES, height, width, channels))


LAYER_CLIP, MODEL_CLIP = _clip(5, 4, 4), _clip(12, 11, 3)


def collect():
  """Parameters of the tests: (module, clip), and the refusals of the grid by class."""
  members, refused = [], {}
  for cls in find_layers():
    for options in make_grid(cls):
      module = cls(**options)
      name = '-'.join([cls.__name__, *(_label(v) for v in options.values())])
      try:
        jax.eval_shape(module.init, jax.random.key(0), LAYER_CLIP)
      except ValueError as e:
        refused.setdefault(cls, []).append((options, str(e)))
      else:
        members.append(pytest.param(module, LAYER_CLIP, id=name))
  for family, module in models.families().items():
    for name, spec in module.SMALL.items():
      # The native form compiles faster; DepthwiseConv itself is tried with the other.
      model = module.Model(spec, num_classes=3, form='native')
      slow = pytest.mark.slow  # to compile
      members.append(pytest.param(model, MODEL_CLIP, id=f'{family}-{name}', marks=slow))
  return members, refused


def _label(value):
  return type(value).__name__ if isinstance(value, nn.Module) else str(value)


MEMBERS, REFUSED = collect()


def is_causal(module):
  """Members that know no time, or only the past, are under the law."""
  return getattr(getattr(module, 'spec', module), 'causal', True)


CAUSAL = [p for p in MEMBERS if is_causal(p.values[0])]
WHOLE = [p for p in MEMBERS if not is_causal(p.values[0])]


@functools.lru_cache
def make_variables(module, shape):
  """Random variables: what begins at zero (ReZero, positions) must not hide anything."""
  clip = jnp.zeros((1, 1, *shape[2:]))
  variables = jax.eval_shape(module.init, jax.random.key(0), clip)
  flat, made = traverse_util.flatten_dict(variables), {}
  random = np.random.default_rng(0)
  for path, leaf in flat.items():
    if path[-1] == 'var':
      value = random.uniform(0.5, 1.5, leaf.shape)
    else:
      fan_in = max(int(np.prod(leaf.shape[:-1])), 1)
      value = random.normal(0.1, fan_in**-0.5, leaf.shape)
    made[path] = np.asarray(value, leaf.dtype)
  return traverse_util.unflatten_dict(made)


def run(module, variables, clip, chunks, state=None):
  """Outputs of all chunks, and the last state."""
  outputs, start = [], 0
  for frames in chunks:
    y, state = module.apply(variables, clip[:, start : start + frames], state)
    outputs.append(y)
    start += frames
  return outputs, state


def is_pooled(outputs, chunks):
  return outputs[0].ndim == 2 or any(y.shape[1] != n for y, n in zip(outputs, chunks, strict=True))


def differentiate(module, chunks, pooled, variables, clip):
  """Outputs, state, and gradients of what a whole clip and its chunks have in common."""
  rest = {k: v for k, v in variables.items() if k != 'params'}

  def loss(params, clip):
    outputs, state = run(module, {'params': params, **rest}, clip, chunks)
    y = outputs[-1] if pooled else jnp.concatenate(outputs, 1)
    weights = jax.random.normal(jax.random.key(1), y.shape)
    return (y * weights).sum(), (outputs, state)

  params = variables.get('params', {})
  grads, (outputs, state) = jax.grad(loss, (0, 1), has_aux=True)(params, clip)
  return {'outputs': outputs, 'state': state, 'grads': grads}


def check_law(module, clip):
  """A clip run whole equals the clip run in chunks of any sizes."""
  variables = make_variables(module, clip.shape)
  zeros = layers.init_state(module, clip.shape[0], clip.shape[2:])
  whole_out, _ = jax.eval_shape(lambda v, x: run(module, v, x, (FRAMES,)), variables, clip)
  pooled = is_pooled(whole_out, (FRAMES,))

  def all_ways(variables, clip):
    ways = {
      chunks: differentiate(module, chunks, pooled, variables, clip)
      for chunks in ((FRAMES,), *CHUNKINGS)
    }
    return list(ways.values()), run(module, variables, clip, (FRAMES,), zeros)

  (whole, *ways), from_zeros = fast_jit(all_ways)(variables, clip)
  assert_near(from_zeros, (whole['outputs'], whole['state']), 'None is zeros')
  assert jax.tree.structure(zeros) == jax.tree.structure(whole['state'])
  by_frame = ways[0]['outputs']
  for chunks, way in zip(CHUNKINGS, ways, strict=True):
    assert_near(way['state'], whole['state'], f'state, {chunks}')
    assert_near(way['grads'], whole['grads'], f'gradients, {chunks}')
    if pooled:
      ends = np.cumsum(chunks) - 1
      assert_near(way['outputs'], [by_frame[i] for i in ends], f'outputs, {chunks}')
      assert_near(way['outputs'][-1:], whole['outputs'], f'last output, {chunks}')
    else:
      y = [np.concatenate(way['outputs'], 1)]
      assert_near(y, whole['outputs'], f'outputs, {chunks}')


def check_causality(module, clip, seen=3):
  """Frames that are NaN do not reach the outputs of frames before them."""
  variables = make_variables(module, clip.shape)
  apply = fast_jit(lambda v, x: module.apply(v, x)[0])
  y, dark = apply(variables, clip), apply(variables, clip.at[:, seen:].set(jnp.nan))
  assert np.isnan(dark).any(), 'the NaN frames were not looked at'
  if y.ndim == 5 and y.shape[1] == FRAMES:
    assert_near(dark[:, :seen], y[:, :seen], 'NaN frames')


def fast_jit(function):
  # These small programs cost far more to compile than to run.
  options = {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
  }
  return jax.jit(function, compiler_options=options)


def assert_near(ours, theirs, what):
  def check(path, a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, f'{what}: {a.shape} is not {b.shape}'
    error = np.abs(a - b).max() / max(np.abs(b).max(), 1e-3)
    assert error <= TOLERANCE, f'{what}{jax.tree_util.keystr(path)}: {error}'

  assert jax.tree.structure(ours) == jax.tree.structure(theirs), what
  jax.tree_util.tree_map_with_path(check, ours, theirs)


@pytest.mark.parametrize(('module', 'clip'), CAUSAL)
def test_law(module, clip):
  check_law(module, clip)


@pytest.mark.parametrize(('module', 'clip'), CAUSAL)
def test_causality(module, clip):
  check_causality(module, clip)


@pytest.mark.parametrize(('module', 'clip'), WHOLE)
def test_what_is_not_causal_remembers_nothing(module, clip):
  variables = make_variables(module, clip.shape)
  _, state = jax.eval_shape(module.apply, variables, clip)
  assert state == {}
  if hasattr(module, 'spec'):
    with pytest.raises(ValueError, match='stream variant'):
      module.apply(variables, clip, {'some': jnp.zeros(1)})


@pytest.mark.parametrize(('module', 'clip'), MEMBERS)
def test_types(module, clip):
  """States are nested dicts; bfloat16 stays, but sums over time are float32."""
  half = clip.astype(jnp.bfloat16)
  if 'dtype' in module.__dataclass_fields__:
    module = module.clone(dtype=jnp.bfloat16)
  if isinstance(module, layers.ConvNorm):
    module = module.clone(conv=module.conv.clone(dtype=jnp.bfloat16))
  variables = jax.eval_shape(module.init, jax.random.key(0), half)
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
  y, state = jax.eval_shape(module.apply, variables, half)
  makes_logits = hasattr(module, 'spec') or isinstance(module, layers.Average)
  assert y.dtype == (jnp.float32 if makes_logits else jnp.bfloat16)
  assert isinstance(state, dict)
  for path, leaf in traverse_util.flatten_dict(state).items():
    assert all(isinstance(key, str) for key in path)
    wanted = jnp.bfloat16 if path[-1] == 'buffer' else (jnp.float32, jnp.int32)
    assert leaf.dtype in np.atleast_1d(wanted), path


def test_every_member_is_here():
  """Each class has a case, each family small specs; refusals say what they need."""
  classes = {type(p.values[0]) for p in MEMBERS}
  assert len(find_layers()) > 5
  assert set(find_layers()) <= classes
  for family, module in models.families().items():
    assert module.Model in classes, f'{family} has no SMALL specs'
  for cls, refusals in REFUSED.items():
    for options, message in refusals:
      assert any(key in message for key in options), (cls, options, message)


class _Strange(nn.Module):
  wobble: int


def test_unknown_fields_are_not_skipped():
  with pytest.raises(AssertionError, match="add 'wobble' to GRID"):
    make_grid(_Strange)


class _OffByOne(layers.DepthwiseConv):
  """Keeps the frames before the last ones."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    kernel = self.param('kernel', nn.initializers.normal(), (3, 1, 1, 1, x.shape[-1]))
    b, _, *rest = x.shape
    buffer = state['buffer'] if state else jnp.zeros((b, 2, *rest))
    full, _ = ops.prepend(buffer, x)
    y = ops.depthwise_conv3d(full, kernel, time='valid')
    return y, {'buffer': full[:, -3:-1]}


class _Forgetful(layers.DepthwiseConv):
  """Is causal within a chunk, and remembers nothing."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    kernel = self.param('kernel', nn.initializers.normal(), (3, 1, 1, 1, x.shape[-1]))
    return ops.depthwise_conv3d(x, kernel, time='causal'), {}


class _Clairvoyant(layers.DepthwiseConv):
  """Says causal and looks one frame ahead."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    kernel = self.param('kernel', nn.initializers.normal(), (3, 1, 1, 1, x.shape[-1]))
    return ops.depthwise_conv3d(x, kernel, time='same'), {}


class _DetachedState(layers.GlobalPool):
  """Gives the right numbers, and lets no gradient through its state."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    y, state = layers.GlobalPool(causal=True)(x, jax.lax.stop_gradient(state))
    return y, state


class _StartsAtOne(layers.GlobalPool):
  """Begins with another state than zeros."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    start = {'total': jnp.ones((x.shape[0], 1, 1, 1, x.shape[-1])), 'count': 1}
    return layers.GlobalPool(causal=True)(x, state or start)


@pytest.mark.parametrize(
  'planted', [_OffByOne, _Forgetful, _Clairvoyant, _DetachedState, _StartsAtOne]
)
def test_planted_bugs_break_the_law(planted):
  with pytest.raises(AssertionError):
    check_law(planted(causal=True), LAYER_CLIP)


def test_planted_look_ahead_breaks_causality():
  with pytest.raises(AssertionError, match='NaN frames'):
    check_causality(_Clairvoyant(causal=True), LAYER_CLIP)
