"""Auto-TSNets are what they are defined as, layer by layer, and cost what is said of them."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax import lax

import movinet_jax as mj
from movinet_jax.layers import Bottleneck
from movinet_jax.models import tsnet
from movinet_jax.models.tsnet import SMALL, VARIANTS, Group, Spec
from movinet_jax.spec import from_json, to_json

BASE = SMALL['base']


@functools.cache
def make(spec):
  """A model with random variables, statistics too: what begins at zero hides nothing."""
  model = mj.create('tsnet', 4, spec=spec, form='native')
  shapes = jax.eval_shape(lambda: mj.init(model, jax.random.key(0), (1, 1, 16, 16, 3)))
  rng, made = np.random.default_rng(0), {}
  for path, leaf in traverse_util.flatten_dict(shapes).items():
    low = 0.5 if path[-1] in ('var', 'scale') else -0.7
    made[path] = rng.uniform(low, 1.0, leaf.shape).astype(np.float32)
  return model, traverse_util.unflatten_dict(made)


CLIP = np.random.default_rng(1).normal(size=(2, 7, 19, 16, 3)).astype(np.float32)


# Even blocks of a stage, counted by hand.
SQUEEZED = {
  *('sparse_group0_block0', 'sparse_group2_block0', 'sparse_group3_block0'),
  *('dense_group0_block0', 'dense_group2_block0'),
}


class Reference:
  """The definition, written with XLA's convolutions and loops over frames."""

  def __init__(self, spec, variables):
    self.spec, self.head = spec, variables['params']
    self.params = variables['params']['streams']
    self.stats = variables['batch_stats']['streams']

  def get(self, path, tree=None):
    tree = self.params if tree is None else tree
    return functools.reduce(lambda tree, key: tree[key], path.split('/'), tree)

  def norm(self, path, x, epsilon=1e-5):
    params, stats = self.get(path), self.get(path, self.stats)
    return (x - stats['mean']) / np.sqrt(stats['var'] + epsilon) * params['scale'] + params['bias']

  def conv(self, path, x, stride=1, groups=1):
    kernel = self.get(path)['kernel']
    kernel = kernel[None, None, None] if kernel.ndim == 2 else kernel
    return lax.conv_general_dilated(
      x,
      kernel,
      (1, stride, stride),
      [(n // 2, n // 2) for n in kernel.shape[:3]],
      dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
      feature_group_count=groups,
    )

  def conv_norm(self, path, x, stride=1, groups=1):
    return self.norm(f'{path}/norm', self.conv(f'{path}/conv', x, stride, groups))

  def block(self, path, x, features, stride):
    y = nn.relu(self.conv_norm(f'{path}/expand', x))
    y = self.conv_norm(f'{path}/depthwise', y, stride, y.shape[-1])
    if path in SQUEEZED:
      weights = self.get(f'{path}/se')
      means = y.mean((1, 2, 3), keepdims=True)
      hidden = nn.relu(means @ weights['reduce']['kernel'] + weights['reduce']['bias'])
      y = y * nn.sigmoid(hidden @ weights['expand']['kernel'] + weights['expand']['bias'])
    y = self.conv_norm(f'{path}/project', nn.swish(y))
    if x.shape[-1] != features or stride > 1:
      x = self.conv_norm(f'{path}/shortcut', x, stride)
    return nn.relu(x + y)

  def attention(self, path, x):
    """Chen et al., in their own order: matrices of states or nodes by places."""
    weights, videos = self.get(path), []
    for video in x:
      rows = video.reshape(-1, x.shape[-1])
      states = (rows @ weights['state']['kernel'] + weights['state']['bias']).T
      nodes = (rows @ weights['nodes']['kernel'] + weights['nodes']['bias']).T
      graph = states @ nodes.T / len(rows)  # [S, N]
      mixed = weights['mix_nodes']['kernel'].T @ graph.T + weights['mix_nodes']['bias'][:, None]
      graph = weights['mix_states']['kernel'].T @ nn.relu(graph + mixed.T)
      back = (graph @ nodes).T @ weights['extend']['conv']['kernel']
      videos.append(back.reshape(video.shape))
    return x + self.norm(f'{path}/extend/norm', jnp.stack(videos), 1e-4)

  def fuse(self, i, sparse, dense):
    kind, ratio = self.spec.fusions[i], self.spec.ratio
    if kind == 'none':
      return sparse
    frames = dense.shape[1]
    window = {'sample': (0, 1), 'stack': (0, ratio), 'conv': (-1, 2)}[kind]
    seen = []
    for frame in range(0, frames, ratio):
      numbers = [frame + n for n in range(*window)]
      zeros = jnp.zeros_like(dense[:, 0])
      seen.append([dense[:, n] if 0 <= n < frames else zeros for n in numbers])
    if kind == 'conv':
      kernel = self.get(f'fusion{i}/conv')['kernel']
      fused = jnp.stack([sum(f @ k for f, k in zip(one, kernel, strict=True)) for one in seen], 1)
      fused = self.norm(f'fusion{i}/norm', fused)
    else:
      fused = jnp.stack([jnp.concatenate(one, -1) for one in seen], 1)
    if self.spec.join == 'concat':
      fused = nn.relu(fused) if kind == 'conv' else fused
      return jnp.concatenate([sparse, fused], -1)
    return sparse + (fused if kind == 'conv' else self.conv_norm(f'fusion{i}', fused))

  def stem(self, name, x):
    x = self.conv(f'{name}_stem_space', x, 2)
    return nn.relu(self.conv_norm(f'{name}_stem', x, groups=x.shape[-1]))

  def group(self, name, i, group, x):
    for j in range(group.depth):
      path, stride = f'{name}_group{i}_block{j}', 1 if j else group.stride
      x = self.block(path, x, group.features, stride)
    return self.attention(f'{name}_attention{i}', x) if group.attention else x

  def pool(self, name, x, size):
    x = nn.relu(self.conv_norm(f'{name}_project', x)).mean(1)
    rows, columns = (n - size + 1 for n in x.shape[1:3])
    windows = [
      x[:, i : i + size, j : j + size].mean((1, 2)) for i in range(rows) for j in range(columns)
    ]
    return jnp.stack(windows, 1)

  def run(self, x, size):
    """Logits; `size` is that of a native clip's last map."""
    x = (x - self.spec.mean) / self.spec.deviation
    sparse = self.stem('sparse', x[:, :: self.spec.ratio])
    dense = self.stem('dense', x) if self.spec.dense else None
    for i, group in enumerate(self.spec.sparse):
      sparse = self.group('sparse', i, group, sparse)
      if self.spec.dense:
        dense = self.group('dense', i, self.spec.dense[i], dense)
        sparse = self.fuse(i, sparse, dense)
    means = [self.pool('sparse', sparse, size)]
    if self.spec.dense:
      means.append(self.pool('dense', dense, size))
    y = nn.relu(jnp.concatenate(means, -1) @ self.head['hidden']['conv']['kernel'])
    y = y @ self.head['classifier']['kernel'] + self.head['classifier']['bias']
    if self.spec.average == 'logits':
      return y.mean(1)
    return nn.logsumexp(nn.log_softmax(y), 1) - np.log(y.shape[1])


@pytest.mark.parametrize('name', ['base', 'sum-probabilities', 'sparse'])
def test_networks_are_their_definition(name):
  """On a clip whose frames no ratio divides, larger than the native one, of uneven sizes."""
  spec = SMALL[name]
  if spec.join == 'sum':  # the other order of fusions, so that each is joined both ways
    spec = dataclasses.replace(spec, fusions=('conv', 'sample', 'none', 'stack'))
  model, variables = make(spec)
  found, state = jax.jit(model.apply)(variables, CLIP)
  wanted = Reference(spec, variables).run(CLIP, 1)
  np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-4 * np.abs(wanted).max())
  assert state == {}
  assert found.std(0).max() > 0.01  # not the same for both videos


def test_fused_frames_lie_side_by_side():
  """Frame by frame, and within a frame by channel: what a published kernel would expect."""
  x = jnp.arange(2 * 6 * 3).reshape(2, 6, 1, 1, 3)
  found = tsnet.pick_regular(x, 2, ratio=4, count=2)
  assert found[1, 1, 0, 0].tolist() == [*x[1, 4, 0, 0].tolist(), *x[1, 5, 0, 0].tolist()]
  same = tsnet.pick_from(x, 2, numbers=jnp.array([[0, 4], [0, 4]]))
  np.testing.assert_array_equal(found, same)
  other = tsnet.pick_from(x, 1, numbers=jnp.array([[1], [5]]))
  np.testing.assert_array_equal(other[:, 0], jnp.stack([x[0, 1], x[1, 5]]))


STREAM = SMALL['stream']


def test_videos_of_a_batch_may_be_at_different_frames():
  """Each has its own due frames: the sparse stream runs for the one and waits for the other."""
  model, variables = make(STREAM)
  apply = jax.jit(model.apply)
  ahead = apply(variables, CLIP[:1, :3])[1]
  behind = apply(variables, CLIP[1:, :2])[1]
  state = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), ahead, behind)
  for frames in (1, 3):
    both = jnp.concatenate([CLIP[:1, 3 : 3 + frames], CLIP[1:, 2 : 2 + frames]])
    found, after = apply(variables, both, state)
    wanted = [
      apply(variables, CLIP[:1, : 3 + frames]),
      apply(variables, CLIP[1:, : 2 + frames]),
    ]
    logits = jnp.concatenate([logits for logits, _ in wanted])
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    assert after['streams']['count'].tolist() == [3 + frames, 2 + frames]


def test_frames_that_are_not_due_cost_the_dense_stream_alone():
  model, variables = make(STREAM)
  _, before = model.apply(variables, CLIP[:, :1])
  logits, after = model.apply(variables, CLIP[:, 1:2], before)
  for name, part in before['streams'].items():
    if name.startswith('sparse_'):
      jax.tree.map(np.testing.assert_array_equal, part, after['streams'][name])
  assert np.abs(logits - model.apply(variables, CLIP[:, :1])[0]).max() > 1e-3
  # The sparse stream is in a branch of the program, and in it only.
  program = jax.make_jaxpr(model.apply)(variables, CLIP[:, 1:2], before)
  branches = [
    [len(list(_walk(branch.jaxpr))) for branch in eqn.params['branches']]
    for eqn in _walk(program.jaxpr)
    if eqn.primitive.name == 'cond'
  ]
  skip, run = max(branches, key=sum)
  assert skip == 0
  assert run > 100
  assert len([counts for counts in branches if 0 in counts]) == 1


@pytest.mark.slow  # to compile
def test_streams_are_trained_in_parts():
  """Statistics and gradients leave the branch that the sparse stream is in."""
  model, variables = make(dataclasses.replace(STREAM, ratio=3))
  model = model.clone(remat=True, stochastic_depth=0.2, dropout=0.2)

  def loss(params):
    given, state = {**variables, 'params': params}, None
    for part in (CLIP[:, :1], CLIP[:, 1:4]):  # the second has a due frame, which is its last
      before = given['batch_stats']
      rngs = {'dropout': jax.random.key(0)}
      how = {'train': True, 'mutable': ['batch_stats'], 'rngs': rngs}
      (logits, state), new = model.apply(given, part, state, **how)
      given = {**given, **new}
    return (logits**2).sum(), (before, given['batch_stats'])

  grads, (before, after) = jax.jit(jax.grad(loss, has_aux=True))(variables['params'])
  moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before, after)
  assert min(jax.tree.leaves(moved)) > 0
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
  assert np.abs(grads['streams']['sparse_stem_space']['kernel']).max() > 0


def _walk(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for value in eqn.params.values():
      if hasattr(value, 'jaxpr') and eqn.primitive.name != 'cond':
        yield from _walk(value.jaxpr)


def test_names_of_parameters():
  """Supernets, checkpoints and conversions know them."""
  _, variables = make(BASE)
  params = variables['params']
  assert set(params) == {'streams', 'hidden', 'classifier'}
  names = set(params['streams'])
  assert {name for name in names if name.startswith('sparse')} == {
    *('sparse_stem_space', 'sparse_stem', 'sparse_project', 'sparse_attention3'),
    *('sparse_group0_block0', 'sparse_group1_block0', 'sparse_group3_block0'),
    *('sparse_group2_block0', 'sparse_group2_block1'),
  }
  assert {name for name in names if name.startswith('fusion')} == {'fusion3'}
  assert params['streams']['fusion3']['conv']['kernel'].shape == (3, 3, 6)
  attention = params['streams']['sparse_attention3']
  shapes = jax.tree.map(jnp.shape, attention)
  assert shapes == {
    'state': {'kernel': (5, 6), 'bias': (6,)},
    'nodes': {'kernel': (5, 3), 'bias': (3,)},
    'mix_nodes': {'kernel': (3, 3), 'bias': (3,)},
    'mix_states': {'kernel': (6, 6)},
    'extend': {'conv': {'kernel': (6, 5)}, 'norm': {'scale': (5,), 'bias': (5,)}},
  }
  block = params['streams']['sparse_group2_block0']
  assert set(block) == {'expand', 'depthwise', 'se', 'project', 'shortcut'}
  # What is fused behind group 1 comes in here: 4 channels, and 2 of each of 2 frames.
  assert block['expand']['conv']['kernel'].shape == (8, 6)
  assert block['shortcut']['conv']['kernel'].shape == (8, 5)


def test_a_fresh_network_is_its_shortcuts():
  """The last norm of each branch begins at zero, that of attention too."""
  model = mj.create('tsnet', 4, spec=BASE)
  params = mj.init(model, jax.random.key(0), (1, 1, 16, 16, 3))['params']['streams']
  last = [
    part.get('project') or part.get('extend')
    for name, part in params.items()
    if 'block' in name or 'attention' in name
  ]
  assert len(last) == 11
  assert not any(part['norm']['scale'].any() for part in last)


@pytest.mark.parametrize('name', SMALL)
def test_formulas_count_what_is_traced(name):
  for frames, size in ((7, (33, 40)), (1, (8, 8))):
    found = mj.cost.count(mj.create('tsnet', 3, spec=SMALL[name]), (1, frames, *size, 3))
    wanted = found.macs, found.params, found.state_bytes
    assert tsnet.count(SMALL[name], 3, frames, size) == wanted


@pytest.mark.parametrize('name', ['manual-70', 'auto-s', 'auto-s-stream'])
def test_formulas_count_named_networks(name):
  spec = VARIANTS[name]
  shape = (1, spec.frames, spec.resolution, spec.resolution, 3)
  found = mj.cost.count(mj.create(f'tsnet/{name}'), shape)
  assert tsnet.count(spec) == (found.macs, found.params, found.state_bytes)


# Parameters and multiply-adds of the native clip, 32 frames and 400 classes.
PINNED = {
  'manual-85': (8_564_334, 1_994_997_200),
  'manual-70': (7_528_496, 2_042_601_384),
  'manual-55': (7_058_318, 1_954_713_200),
  'manual-70-sparse': (6_997_066, 1_401_163_816),
  'manual-70-fusion0': (7_331_200, 1_952_050_984),
  'manual-70-fusion5': (7_528_496, 2_042_601_384),
  'manual-70-fusion10': (7_835_648, 2_154_738_984),
  'manual-70-fusion-searched': (7_459_056, 2_035_673_384),
  'manual-70-attention2': (7_724_048, 2_331_433_128),
  'manual-70-attention4': (8_006_320, 2_449_538_472),
  'manual-70-attention6': (8_444_688, 2_505_954_216),
  'manual-70-attention-searched': (7_767_408, 2_246_069_928),
  'auto-s-sparse': (6_649_776, 1_398_316_984),
  'auto-s': (8_475_712, 2_429_311_704),
  'auto-s-plain': (7_661_184, 2_020_840_152),
  'auto-m': (8_475_712, 4_642_732_056),
  'auto-m-plain': (7_661_184, 3_958_222_872),
  'auto-l': (13_323_956, 15_526_498_720),
  'auto-l-plain': (12_509_428, 14_255_409_568),
}
# The paper's Tables 3, 5, 6 and 8: size, millions of parameters, GFLOPs of a view, and by how
# many percent the counts here differ.
PRINTED = [
  ('manual-70', 160, 7.71, 2.03, -2.4, 0.6),
  ('manual-70-sparse', 160, None, 1.4, None, 0.1),
  ('manual-70-attention2', 160, 8.03, 2.19, -3.8, 6.5),
  ('manual-70-attention4', 160, 8.24, 2.41, -2.8, 1.6),
  ('manual-70-attention6', 160, 8.37, 2.51, 0.9, -0.2),
  ('manual-70-attention-searched', 160, 8.15, 2.4, -4.7, -6.4),
  ('auto-s-sparse', 160, None, 1.39, None, 0.6),
  ('auto-s-plain', 160, 7.7, 2.05, -0.5, -1.4),
  ('auto-s', 160, 8.6, 2.46, -1.4, -1.2),
  ('auto-s-plain', 182, 7.7, 2.8, -0.5, 0.7),
  ('auto-s', 182, 8.6, 3.4, -1.4, -1.3),
  ('auto-m-plain', 256, 7.7, 5.2, -0.5, -0.5),
  ('auto-m', 256, 8.6, 6.1, -1.4, -1.1),
  ('auto-l-plain', 356, 12.2, 18.1, 2.5, 6.1),
  ('auto-l', 356, 13.2, 19.9, 0.9, 4.7),
]


def test_every_named_network_is_pinned():
  named = {name for name in VARIANTS if not name.endswith('-stream')}
  assert named == set(PINNED)


@pytest.mark.parametrize('name', PINNED)
def test_parameters_and_multiply_adds(name):
  found = tsnet.count(VARIANTS[name])
  assert (found.params, found.macs) == PINNED[name]
  stream = tsnet.count(VARIANTS[f'{name}-stream'])
  assert stream.params == found.params
  assert stream.state_bytes > found.state_bytes == 0


@pytest.mark.parametrize(('name', 'size', 'params', 'macs', 'params_off', 'macs_off'), PRINTED)
def test_differences_from_the_printed_numbers(name, size, params, macs, params_off, macs_off):
  """The paper leaves parts of these networks open; docs/networks.md says what was chosen."""
  found = tsnet.count(VARIANTS[name], size=(size, size))
  assert round(100 * (found.macs / 1e9 / macs - 1), 1) == macs_off
  if params:
    assert round(100 * (found.params / 1e6 / params - 1), 1) == params_off


def test_the_sparse_stream_has_its_share():
  """Sparse stream alone, of the whole: 85 % is more than eight channels a group leave."""
  shares = {}
  for name in ('manual-85', 'manual-70', 'manual-55'):
    whole = VARIANTS[name]
    alone = tsnet.keep_sparse(whole)
    shares[name] = round(100 * tsnet.count(alone).macs / tsnet.count(whole).macs, 1)
  assert shares == {'manual-85': 82.9, 'manual-70': 68.6, 'manual-55': 56.4}


def test_manual_networks_are_x3d_s_in_depth():
  spec = VARIANTS['manual-70']
  stages = tsnet.list_stages(spec.sparse)
  depths = [0] * 4
  for group, (stage, before) in zip(spec.sparse, stages, strict=True):
    assert before == depths[stage]
    depths[stage] += group.depth
  assert depths == [3, 5, 11, 7]
  assert spec.frames // spec.ratio == 4
  fused = [i for i, fusion in enumerate(spec.fusions) if fusion == 'conv']
  assert [stages[i][0] for i in fused] == [0, 1, 2, 2, 3]


def test_auto_networks_are_of_the_paper_s_space():
  """Tables 1 and 2, and what section 5.10 says of Figure 3."""
  channels = {
    'sparse': ((32, 48, 8), (64, 88, 8), (128, 176, 16), (248, 344, 24)),
    'dense': ((8, 16, 8), (8, 24, 8), (16, 32, 8), (32, 56, 8)),
  }
  spec = VARIANTS['auto-s']
  for name, groups in spec.streams.items():
    for group, (stage, _) in zip(groups, tsnet.list_stages(groups), strict=True):
      least, most, step = channels[name][stage]
      assert group.features in range(least, most + 1, step)
      assert group.expansion in np.arange(1.5, 6.1, 0.75)
      assert group.kernel in {(t, k, k) for t in (1, 3, 5) for k in (3, 5)}
    assert sum(group.kernel[1] == 5 for group in groups) > 5
    assert sum(group.kernel[0] == 1 for group in groups) > 5
  attended = [i for i, group in enumerate(spec.sparse) if group.attention]
  assert [tsnet.list_stages(spec.sparse)[i][0] for i in attended] == [2, 2]
  assert not any(group.attention for group in spec.dense)


def test_drop_connect_grows_by_the_stage():
  model, variables = make(BASE)
  model, found = model.clone(stochastic_depth=0.6), {}

  def note(call, args, kwargs, context):
    if isinstance(context.module, Bottleneck):
      found[context.module.name] = context.module.drop_rate
    return call(*args, **kwargs)

  with nn.intercept_methods(note):
    jax.eval_shape(model.apply, variables, CLIP)
  assert len(found) == 9
  for name, rate in found.items():
    assert rate == pytest.approx(0.4 if int(name.split('_')[1][-1]) < 2 else 0.6), name


def test_blocks_are_computed_again_where_asked():
  def program(remat):
    model, variables = make(BASE)
    model = model.clone(remat=remat)
    text = str(jax.make_jaxpr(lambda v: model.apply(v, CLIP)[0])(variables))
    return text.count('checkpoint') + text.count('remat')

  assert program(False) == 0
  assert program(True) >= 9  # blocks


ROW = (Group(8, 1.5, (3, 3, 3), stride=2), Group(8, 1.5, (3, 3, 3)))


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: Spec(()), r'sparse is \(\); wanted one value'),
    (lambda: Spec(ROW, ROW[:1], ('none',)), '1 dense groups beside 2 sparse ones: give as many'),
    (lambda: Spec(ROW, ROW), '0 fusions for 2 dense groups: give one'),
    (lambda: Spec(ROW, (), ('none',)), '1 fusions for 0 dense groups'),
    (
      lambda: Spec(ROW, (ROW[0], ROW[0]), ('none', 'none')),
      'group 1 has stride 1 in the sparse stream and 2 in the dense one: give both the same',
    ),
    (lambda: Spec(ROW, ROW, ('none', 'cnov')), r"fusions\[1\] is 'cnov'; did you mean 'conv'"),
    (lambda: Spec(ROW, join='add'), "join is 'add'"),
    (lambda: Group(8, 0.0, (3, 3, 3)), 'expansion is 0.0; wanted a number, more than 0'),
    (lambda: Group(8, 0.1, (3, 3, 3)), 'expansion is 0.1, which leaves no channel'),
    (lambda: Group(8, 1.0, (3, 0, 3)), r'kernel\[1\] is 0'),
    (lambda: Spec(ROW, ratio=0), 'ratio is 0'),
    (lambda: tsnet.place_attention(Spec(ROW), (1, 2), 8), r'places are \(1, 2\); wanted .* 0 to 1'),
  ],
)
def test_specs_that_make_no_sense(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_specs_are_json():
  for spec in (*VARIANTS.values(), *SMALL.values()):
    assert from_json(Spec, to_json(spec)) == spec
