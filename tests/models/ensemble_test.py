"""Ensembles are means of networks that see their own frames; they stream like one."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax.models import ensemble, movinet, tsnet, tvn, x3d
from movinet_jax.models.ensemble import Member
from movinet_jax.spec import from_json, to_json

BASE = movinet.Spec(
  stem=4,
  blocks=(movinet.Block(4, 2, (movinet.Layer((3, 1, 1), 8),)),),
  project=8,
  head=8,
)
STREAM = dataclasses.replace(BASE, causal=True, conv='2plus1d', se='2plus3d')
OTHER = dataclasses.replace(STREAM, stem=6)
CLIP = jax.random.uniform(jax.random.key(0), (2, 7, 12, 16, 3))
SIX = ensemble.Spec((Member(STREAM, stride=3, resolution=9), Member(OTHER, stride=2)))
SEVEN = ensemble.Spec((Member(STREAM, stride=2), Member(STREAM, stride=2, offset=1)))
LATE = ensemble.Spec((Member(OTHER), Member(STREAM, 2, offset=1, resolution=9)))
# Scores of Charades, which weigh the frames of a video, beside networks of other families.
SOFT = dataclasses.replace(BASE, temporal_softmax=True, frames=4)
X3D = dataclasses.replace(x3d.SMALL['base'], stages=(x3d.Stage(4, 6, 1),))
TSNET = dataclasses.replace(
  tsnet.SMALL['base'],
  **{key: getattr(tsnet.SMALL['base'], key)[:1] for key in ('sparse', 'dense', 'fusions')},
)
TVN = dataclasses.replace(tvn.SMALL['base'], blocks=tvn.SMALL['base'].blocks[:1])
WHOLE = ensemble.Spec(
  (
    Member(SOFT, stride=2, offset=1),
    Member(TVN, stride=3, resolution=16, family='tvn'),
    Member(X3D, family='x3d'),
    Member(TSNET, family='tsnet'),
  )
)
FAMILIES = ensemble.Spec(
  (
    Member(dataclasses.replace(X3D, causal=True), resolution=9, family='x3d'),
    Member(dataclasses.replace(SOFT, causal=True), stride=2, offset=1),
    Member(dataclasses.replace(TSNET, causal=True), stride=3, offset=1, family='tsnet'),
  )
)


@functools.lru_cache
def make_members(spec):
  """Networks of an ensemble and variables of each, trained apart so to speak."""
  networks = [mj.create(member.family, 5, spec=member.spec) for member in spec.members]
  variables = [
    mj.init(network, jax.random.key(i), CLIP.shape) for i, network in enumerate(networks)
  ]
  return networks, variables


def fast_jit(function):
  # These small programs cost far more to compile than to run.
  options = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
  return jax.jit(function, compiler_options=options)


def one(network, variables, clip):
  return fast_jit(network.apply)(variables, clip)[0]


def resize(clip, height, width):
  shape = (*clip.shape[:2], height, width, 3)
  return jax.image.resize(clip, shape, 'bilinear', antialias=True)


def test_logits_are_the_mean_of_what_each_member_sees():
  (a, b), (va, vb) = make_members(SIX)
  model = mj.create('ensemble', 5, spec=SIX)
  logits, _ = fast_jit(model.apply)(ensemble.join([va, vb]), CLIP)
  seen_by_a, seen_by_b = resize(CLIP[:, [0, 3, 6]], 9, 12), CLIP[:, [0, 2, 4, 6]]
  wanted = (one(a, va, seen_by_a) + one(b, vb, seen_by_b)) / 2
  np.testing.assert_allclose(logits, wanted, atol=1e-6)
  assert np.abs(one(a, va, CLIP) - one(a, va, seen_by_a)).max() > 1e-3


@pytest.mark.parametrize('spec', [FAMILIES, WHOLE])
def test_members_of_any_family(spec):
  """Each sees its frames of a whole clip; what is normalized in a network stays its own."""
  networks, variables = make_members(spec)
  model = mj.create('ensemble', 5, spec=spec)
  logits, state = fast_jit(model.apply)(ensemble.join(variables), CLIP)
  assert bool(state) == spec.causal
  sizes = {None: (12, 16), 9: (9, 12), 16: (16, 21)}
  wanted = [
    one(network, own, resize(CLIP[:, member.offset :: member.stride], *sizes[member.resolution]))
    for network, own, member in zip(networks, variables, spec.members, strict=True)
  ]
  np.testing.assert_allclose(logits, np.mean(wanted, 0), atol=2e-6)


def test_a_member_without_frames_has_no_vote():
  (a, b), (va, vb) = make_members(SEVEN)
  model = mj.create('ensemble', 5, spec=SEVEN)
  variables = ensemble.join([va, vb])
  logits, state = fast_jit(model.apply)(variables, CLIP[:, :1])
  np.testing.assert_allclose(logits, one(a, va, CLIP[:, :1]), atol=1e-6)
  logits, state = fast_jit(model.apply)(variables, CLIP[:, 1:2], state)
  wanted = (one(a, va, CLIP[:, :1]) + one(b, vb, CLIP[:, 1:2])) / 2
  np.testing.assert_allclose(logits, wanted, atol=1e-6)
  assert state['frame'] == 2


@pytest.mark.parametrize('spec', [SIX, SEVEN, LATE, FAMILIES])
def test_streams(spec):
  """Frame by frame and in chunks that cut through the members' strides."""
  model = mj.create('ensemble', 5, spec=spec)
  variables = ensemble.join(make_members(spec)[1])
  step = fast_jit(model.apply)
  whole, wanted = step(variables, CLIP)
  zeros = model.init_state(2, (12, 16))
  for chunks, state in (((1,) * 7, zeros), ((1,) * 7, None), ((2, 5), None)):
    start = 0
    for frames in chunks:
      logits, state = step(variables, CLIP[:, start : start + frames], state)
      start += frames
    np.testing.assert_allclose(logits, whole, atol=2e-6)
    assert jax.tree.structure(state) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, wanted)


def test_join_makes_the_variables_of_the_ensemble():
  model = mj.create('ensemble', 5, spec=SIX)
  joined = ensemble.join(make_members(SIX)[1])
  wanted = mj.init(model, jax.random.key(0), CLIP.shape)
  assert jax.tree.map(jnp.shape, joined) == jax.tree.map(jnp.shape, wanted)
  assert set(joined) == {'params', 'batch_stats'}
  assert set(joined['params']) == {'member0', 'member1'}


def test_published_ensembles():
  a6, a6_stream, a7 = (mj.create(f'ensemble/{n}').spec for n in ('a6', 'a6-stream', 'a7-stream'))
  for spec, suffix in ((a6, ''), (a6_stream, '-stream')):
    networks = [movinet.VARIANTS[f'a4{suffix}'], movinet.VARIANTS[f'a5{suffix}']]
    assert [member.spec for member in spec.members] == networks
    for member in spec.members:  # each at the frames that it is trained with
      assert -(-spec.frames // member.stride) == member.spec.frames
      assert spec.frame_stride * member.stride == member.spec.frame_stride
      assert (member.resolution or spec.resolution) == member.spec.resolution
  assert a7 == ensemble.VARIANTS['a5-pair-stream']


@pytest.mark.parametrize('name', ['a0', 'a1', 'a2', 'a3', 'a4', 'a5', 't0'])
def test_every_stream_has_its_pair(name):
  """Two networks at half the frame rate see all frames of the stream's native clip."""
  spec, stream = ensemble.VARIANTS[f'{name}-pair-stream'], movinet.VARIANTS[f'{name}-stream']
  assert [member.spec for member in spec.members] == [stream, stream]
  assert [(member.stride, member.offset) for member in spec.members] == [(2, 0), (2, 1)]
  for field in ('frames', 'resolution', 'frame_stride'):
    assert getattr(spec, field) == getattr(stream, field)


@pytest.mark.parametrize('spec', [SIX, FAMILIES, WHOLE])
def test_architectures_are_read_as_written(spec):
  data = json.loads(json.dumps(to_json(spec)))
  assert from_json(ensemble.Spec, data) == spec
  assert mj.create('ensemble', spec=data).spec == spec


def test_files_without_families_are_of_movinets():
  data = to_json(SIX)
  for member in data['members']:
    del member['family']
  assert from_json(ensemble.Spec, data) == SIX


def test_a6_has_the_parameters_of_a4_and_a5():
  model = mj.create('ensemble/a6', num_classes=600, form='native')
  variables = jax.eval_shape(model.init, jax.random.key(0), CLIP)
  count = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
  assert count == 11_349_463 + 18_650_523


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: Member(BASE, stride=0), 'stride is 0'),
    (lambda: Member(BASE, offset=-1), 'offset is -1'),
    (lambda: Member(BASE, resolution=0), 'resolution is 0'),
    (lambda: Member(BASE, family='x3d'), "'x3d' has the spec Spec"),
    (lambda: Member(BASE, family='movinets'), "did you mean 'movinet'"),
    (lambda: Member(SIX, family='ensemble'), 'not an ensemble'),
    (lambda: Member({'stem': 4}), "lacks the field 'blocks'"),
    (lambda: ensemble.Spec(()), 'needs members'),
    (lambda: ensemble.Spec((Member(BASE, 2, 1),)), r'got offsets \[1\]'),
    (lambda: ensemble.Spec((Member(BASE), Member(STREAM))), r'\[False, True\]'),
  ],
)
def test_specs_that_make_no_sense(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_calls_that_make_no_sense():
  base = mj.create('ensemble', 5, spec=ensemble.Spec((Member(BASE),)))
  with pytest.raises(ValueError, match='stream variant'):
    base.init_with_output(jax.random.key(0), CLIP, {'frame': 1})
  with pytest.raises(ValueError, match='trained apart'):
    base.init_with_output(jax.random.key(0), CLIP, train=True)
  with pytest.raises(ValueError, match=r'got \(12, 16, 3\)'):
    base.init(jax.random.key(0), CLIP[0, 0])
