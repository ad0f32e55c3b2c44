"""The space of Tiny Video Networks: all its vectors are networks, the published ones too."""

import collections
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax.models.tvn import VARIANTS, Block, Op, Spec, count_costs, list_layers
from nas import spaces
from nas.algorithms.evolve import Evolve
from nas.algorithms.moves import draw
from nas.history import Trial
from nas.spaces.tvn import BLOCK, MOBILE, drop_idle, make_space

TINY = {
  'resolution': (4, 8),
  'frames': (1, 2, 4),
  'frame_stride': (1, 2),
  'longest_frames': 4,
  'most_blocks': 2,
  'features': (2, 4),
  'expand': (1, 2),
  'repeats': (1, 2),
  'kernels': (2, 3),
  'strides': (2, 1),
  'squeeze': (0.0, 0.5),
  'non_local': (0, 2),
  **MOBILE,
}
# What the search has taken from real numbers, and a width between the ladder's.
PUBLISHED_VALUES = {
  'features': tuple(sorted((*BLOCK['features'], 348))),
  'squeeze': (
    0.0,
    *sorted({b.squeeze for s in VARIANTS.values() for b in s.blocks if b.squeeze}),
  ),
}
PUBLISHED = ('1', '2', '3', '4', 'm1', 'm2')


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_networks_lie_in_it(name):
  mobile = MOBILE if name.startswith('m') else {}
  space = make_space(**PUBLISHED_VALUES, **mobile)
  choices = space.encode(VARIANTS[name])
  assert space.decode(choices) == VARIANTS[name]


def test_what_is_outside_is_said():
  with pytest.raises(ValueError) as raised:
    make_space().encode(VARIANTS['2'])
  message = str(raised.value)
  assert 'blocks/6/features is 348, the space has 32, 48' in message
  assert 'blocks/4/squeeze:1 is 0.947219' in message
  with pytest.raises(ValueError, match=r'blocks/1/inverted is True.*\n.*hard_swish'):
    make_space(**PUBLISHED_VALUES).encode(VARIANTS['m1'])
  long = dataclasses.replace(VARIANTS['1'], blocks=(Block(32),) * 9, frame_stride=99)
  with pytest.raises(ValueError, match=r'stride is 99.*\n.*blocks is 9, the space has 1'):
    make_space().encode(long)


def test_the_sizes_that_the_paper_prints():
  """2^34 is a block's; 2^45 is that of a clip and one block, not of eight.

  Where all operations have an activation; that they may have none makes a block's 2^37.
  """
  relu = {'activations': ('relu',)}
  block = math.log2(make_space(most_blocks=1, **relu).space.count())
  space = make_space()
  clip = math.log2(10 * sum(len(space.list_strides(n)) for n in space.values['frames']))
  assert round(block - clip) == 35
  assert round(block) == 45
  assert round(math.log2(make_space(most_blocks=1).space.count()) - clip) == 37
  assert round(math.log2(space.space.count())) == 303


def test_the_count_is_exact():
  """Every network is found by one canonical vector, and none is counted twice."""
  few = {'features': (2,), 'expand': (1,), 'repeats': (1,), 'squeeze': (0.0,)}
  few |= {'non_local': (0,), 'residual': (False,), 'spatial': ('max', None)}
  few |= {'temporal': (None,), 'kernels': (2,), 'inverted': (False,)}
  space = make_space(**{**TINY, **few, 'activations': ('relu',)})
  decoded = [space.decode(choices) for choices in space.space.enumerate()]
  assert len(decoded) == len(set(decoded)) == space.space.count() == (2 * 4) * (6 + 36)


@pytest.mark.parametrize('most', [3, 8])
def test_random_networks_have_each_number_of_blocks_alike(most):
  space, rng, draws = make_space(most_blocks=most), np.random.default_rng(0), 1000
  drawn = [space.decode(draw(space.space, rng).choices) for _ in range(draws)]
  found = collections.Counter(len(spec.blocks) for spec in drawn)
  assert set(found) == set(range(1, most + 1))
  error = math.sqrt((most - 1) / draws) / most
  assert all(abs(n / draws - 1 / most) < 4.5 * error for n in found.values())


def test_blocks_beyond_the_number_do_not_matter():
  """Their decisions are closed: in vectors, descriptions and mutations."""
  space, rng = make_space(), np.random.default_rng(0)
  for _ in range(100):
    sampled = space.space.sample(rng)
    choices = space.space.canonical(sampled)
    spec = space.decode(sampled)
    assert space.decode(choices) == spec
    described = [p for p in space.space.describe(choices) if p.startswith('blocks/')]
    assert {int(p.split('/')[1]) for p in described} == set(range(len(spec.blocks)))
    idle = sampled.copy()
    last = space.space.number('blocks/7/gate')
    idle[last] = 1 - idle[last]
    same = np.array_equal(space.space.canonical(idle), choices)
    assert same == (space.decode(idle) == spec) == (len(spec.blocks) < 8)


def test_a_mutation_of_the_number_keeps_the_blocks_that_stay():
  """And draws those that it adds: from any number to each other."""
  space, rng = make_space(most_blocks=3), np.random.default_rng(0)
  evolve = Evolve(space.space, budget=2, population=1, tournament=1)
  numbers, added = set(), set()
  for number in range(1500):
    choices = draw(space.space, rng).choices
    child = evolve.mutate(Trial(number, choices), rng)
    if child.note['mutated'] != 'number_of_blocks':
      continue
    before, after = space.decode(choices).blocks, space.decode(child.choices).blocks
    kept = min(len(before), len(after))
    assert before[:kept] == after[:kept]
    numbers.add((len(before), len(after)))
    added |= {block.features for block in after[kept:]}
  assert numbers == {(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)}
  assert len(added) > 5


def test_strides_depend_on_frames():
  space = make_space(frames=(1, 8, 128), frame_stride=(1, 2, 3, 40))
  strides = {n: space.list_strides(n) for n in (1, 8, 128)}
  assert strides == {1: (1,), 8: (1, 2, 3), 128: (1, 2)}


def test_random_networks_have_blocks_of_all_kinds():
  space, rng = make_space(**MOBILE), np.random.default_rng(0)
  specs = [space.decode(space.space.sample(rng)) for _ in range(400)]
  kinds = collections.Counter(
    (name, op.kind)
    for s in specs
    for b in s.blocks
    for name in ('spatial', 'temporal')
    if (op := getattr(b, name))
  )
  assert len(kinds) == 4 + 3
  blocks = [b for s in specs for b in s.blocks]
  for test in (
    *(lambda b: b.squeeze, lambda b: b.non_local, lambda b: b.gate),
    *(lambda b: b.residual, lambda b: b.inverted, lambda b: b.spatial is None),
    *(lambda b: b.activation == 'identity', lambda b: b.activation == 'hard_swish'),
  ):
    assert 0.1 < np.mean([bool(test(b)) for b in blocks]) < 0.9


def trace(spec):
  shape = (1, spec.frames, spec.resolution, spec.resolution, 3)
  return mj.cost.count(mj.create('tvn', 5, spec=spec), shape)


@pytest.mark.parametrize('soft', [False, True])
@pytest.mark.parametrize('name', ['1', '4', 'm2'])
def test_published_networks_cost_what_is_counted(name, soft):
  spec = dataclasses.replace(VARIANTS[name], temporal_softmax=soft)
  found = trace(spec)
  assert count_costs(spec, 5) == {'params': found.params, 'macs': found.macs}


def test_random_networks_build_and_cost():
  space, rng = make_space(**MOBILE, repeats=(1, 2)), np.random.default_rng(1)
  for _ in range(6):
    choices = space.space.canonical(space.space.sample(rng))
    spec = space.decode(choices)
    found = trace(spec)
    assert count_costs(spec, 5) == {'params': found.params, 'macs': found.macs}
    assert found.macs > 0
    assert space.decode(space.encode(spec)) == spec


def fast_jit(function):
  # These small programs cost far more to compile than to run.
  options = {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
  }
  return jax.jit(function, compiler_options=options)


def test_tiny_networks_run_and_learn():
  space, rng = make_space(**TINY), np.random.default_rng(2)
  for _ in range(2):
    spec = space.decode(space.space.sample(rng))
    model = mj.create('tvn', 3, spec=spec)
    clip = jnp.asarray(
      rng.uniform(size=(2, spec.frames, spec.resolution, spec.resolution, 3)),
      jnp.float32,
    )
    variables = mj.init(model, jax.random.key(0), clip.shape)

    def loss(params, model=model, variables=variables, clip=clip):
      variables = {**variables, 'params': params}
      (y, _), _ = model.apply(variables, clip, train=True, mutable=['batch_stats'])
      return jax.nn.log_softmax(y)[:, 0].mean()

    grads = fast_jit(jax.grad(loss))(variables['params'])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_the_first_choices_are_the_cheapest_network():
  """Whatever else is chosen for a single decision, nothing is saved."""
  space = make_space(**MOBILE)
  zeros = np.zeros(len(space.space), np.int32)
  first = count_costs(space.decode(zeros), 5)
  for n in np.flatnonzero(space.space.is_open(zeros)):
    for choice in range(1, space.space.sizes[n]):
      other = zeros.copy()
      other[n] = choice
      found = count_costs(space.decode(other), 5)
      assert found['params'] >= first['params'], space.space.describe(other)
      assert found['macs'] >= first['macs'], space.space.describe(other)


def test_idle_time_operations_are_left_out():
  """Where one frame is left they do nothing: the same network is one spec."""
  time = Op('conv', 2, 2)
  spec = Spec((Block(4, temporal=time), Block(4, temporal=time)), frames=2)
  found = drop_idle(spec)
  assert [b.temporal for b in found.blocks] == [time, None]
  assert list_layers(found) == list_layers(spec)
  space = make_space(frames=(1,), frame_stride=(1,), most_blocks=1)
  assert all(
    space.decode(space.space.sample(np.random.default_rng(i))).blocks[0].temporal is None
    for i in range(9)
  )


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'feature': (8,)}, "unknown argument of a space 'feature'; did you mean 'features'"),
    ({'features': 8}, 'features should be a list, got 8'),
    ({'features': ()}, r'features is \(\); wanted one value or more'),
    ({'features': (8, 8)}, r'features is \(8, 8\); wanted .* each once'),
    ({'features': (0,)}, r'features\[0\] is 0; wanted a whole number, from 1'),
    ({'features': (8.5,)}, r'features\[0\] should be int, got 8.5'),
    ({'kernels': (1, 2)}, r'kernels\[0\] is 1; wanted a whole number, from 2'),
    ({'kernels': (10**7,)}, r'10000000; wanted .* to 1,000,000'),
    ({'spatial': ('cnov',)}, r"spatial\[0\] is 'cnov'; did you mean 'conv'"),
    ({'activations': ('relux',)}, "did you mean 'relu'"),
    ({'squeeze': (0.0, 2.0)}, r'squeeze\[1\] is 2.0; wanted a number, from 0 to 1'),
    ({'most_blocks': 0}, 'most_blocks is 0; wanted a whole number, from 1'),
    ({'frames': (1, 512)}, '512 frames, every 1, span more than longest_frames'),
    ({'temporal_softmax': 3}, 'temporal_softmax should be bool'),
  ],
)
def test_arguments_that_do_not_fit(given, message):
  with pytest.raises(ValueError, match=message):
    spaces.create('tvn', **given)


def test_other_fields_reach_the_spec():
  space = make_space(temporal_softmax=True, most_blocks=1)
  assert space.decode(np.zeros(len(space.space), np.int32)).temporal_softmax
  with pytest.raises(ValueError, match='temporal_softmax is False, the space has True'):
    space.encode(Spec((Block(32),), frames=1, resolution=32, frame_stride=1))


def test_it_is_found_by_name():
  space = spaces.create('tvn', **TINY)
  spec = space.decode(np.zeros(len(space.space), np.int32))
  assert mj.create(space.family, 3, spec=spec).spec == spec
