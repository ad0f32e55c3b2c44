"""MoViNet's space: its networks, its φ, and costs that are those of networks alone."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax.models.movinet import VARIANTS
from nas.cost import LIMB
from nas.spaces import movinet

SMALL = {
  **{'stem': 8, 'widths': (8, 16), 'strides': (1, 2), 'depth': 2, 'project': 16},
  **{'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0), 'head': 8},
  **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0,)},
  **{'frames': 3, 'resolution': 24, 'frame_stride': 1},
}
KINDS = ('macs', 'params', 'state_bytes')
STREAM = {'conv': '2plus1d', 'se_kind': '2plus3d', 'causal': True, 'positions': True}
FORMS = [
  {},
  {'causal': True, 'se': 'search'},
  STREAM,
  {'conv': '2plus1d', 'se_kind': '2d', 'causal': True},
]


def count_alone(space, choices, num_classes, clip):
  model = mj.create('movinet', num_classes, spec=space.decode(choices))
  found = mj.cost.count(model, (1, *clip, 3))
  return {kind: getattr(found, kind) for kind in KINDS}


def make_tables(space, num_classes, clip):
  return {
    kind: movinet.make_cost_table(space, kind, num_classes=num_classes, clip=clip)
    for kind in KINDS
  }


@pytest.mark.parametrize('form', FORMS)
def test_costs_of_a_small_space_are_those_of_networks_alone(form):
  """Odd sizes, every kind of cost; of the many architectures one of each block pair."""
  space = movinet.make_space(**{**SMALL, 'widths': (8,), 'strides': (2,), **form})
  tables = make_tables(space, 5, (3, 23, 18))
  limbs = jax.jit(jax.vmap(tables['macs'].limbs))
  everyone = np.stack(list(space.space.enumerate()))
  high, low = limbs(everyone)
  exact = np.asarray(high, np.int64) * LIMB + np.asarray(low)
  np.testing.assert_array_equal(exact, tables['macs'].count(everyone))
  for choices in everyone:
    found = {kind: table.count(choices) for kind, table in tables.items()}
    assert found == count_alone(space, choices, 5, (3, 23, 18))
  for table in tables.values():
    found = table.count(everyone)
    assert table.bounds == (found.min(), found.max())


@pytest.mark.slow
def test_costs_of_the_full_space_are_those_of_networks_alone():
  rng = np.random.default_rng(0)
  for form, count in (({}, 100), (STREAM, 100)):
    space = movinet.make_space(**form)
    clip = (space.base.frames, space.base.resolution, space.base.resolution)
    tables = make_tables(space, 600, clip)
    for _ in range(count):
      choices = space.space.sample(rng)
      found = {kind: table.count(choices) for kind, table in tables.items()}
      assert found == count_alone(space, choices, 600, clip)


def test_the_largest_network_costs_most():
  space = movinet.make_space()
  table = movinet.make_cost_table(space)
  assert table.count(space.largest()) == table.bounds[1]


def test_the_base_space_is_that_of_a2():
  """Widths, depth and kernels as printed; a single one of A2's layers lies outside."""
  space, a2 = movinet.make_space(), VARIANTS['a2']
  assert space.find_outside(a2) == [
    'block 2 layer 1: expand is 160, the space has 144, 192, 240, 288, 336, 384'
  ]
  assert [block.depth for block in space.blocks] == [10] * 5
  inside = _replace_expand(a2, 2, 1, 144)
  assert space.decode(space.encode(inside)) == inside
  with pytest.raises(ValueError, match='block 2 layer 1: expand is 160'):
    space.encode(a2)


# Layers whose expansion lies in the space of the φ that fits a released network best.
FITS = [('a0', -2.0, 12), ('a1', -1.8, 15), ('a3', 0.87, 20), ('a4', 1.7, 36)]


@pytest.mark.parametrize(('name', 'phi', 'layers'), FITS)
def test_how_much_of_the_others_lies_in_their_space(name, phi, layers):
  space = movinet.make_space(phi, merge_equal=True)
  spec = VARIANTS[name]
  outside = [line for line in space.find_outside(spec) if ': expand' in line]
  total = sum(len(block.layers) for block in spec.blocks)
  assert total - len(outside) == layers
  nearest = space.decode(space.encode(space.project(spec)))
  assert nearest == space.project(spec)
  assert space.find_outside(space.project(spec)) == []


def test_networks_come_back():
  rng = np.random.default_rng(0)
  for form in FORMS:
    space = movinet.make_space(**form)
    for _ in range(30):
      spec = space.decode(space.space.sample(rng))
      assert space.decode(space.encode(spec)) == spec


def test_phi_scales_everything():
  rng = np.random.default_rng(0)
  sizes = [movinet.make_space(phi, merge_equal=True) for phi in (-1, 0, 1, 2)]
  means = []
  for space in sizes:
    drawn = rng.integers(space.space.sizes, size=(1000, len(space.space)))
    means.append(movinet.make_cost_table(space).count(drawn).mean())
  for small, large in itertools.pairwise(sizes):
    assert small.base.resolution < large.base.resolution
    assert small.base.frame_stride > large.base.frame_stride
    assert small.blocks[4].widths < large.blocks[4].widths
    assert small.blocks[0].depth < large.blocks[0].depth
  # Four times as large on average, says supplement A.1: where cost grows with the square
  # of the width. Depthwise kernels grow with the width itself.
  assert all(2.5 < large / small < 3.5 for small, large in itertools.pairwise(means))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'phi': -2.0}, r'φ = -2 rounds two choices into one: block 0 has base width 16'),
    ({'multipliers': (1.0, 0.5)}, 'multipliers of block 0 must ascend'),
    ({'se': 'maybe'}, "se is True, False or 'search', got 'maybe'"),
    ({'strides': (1, 2)}, '5 widths and 2 strides'),
    ({'activation': 'swich'}, "did you mean 'swish'"),
  ],
)
def test_spaces_that_make_no_sense(options, message):
  with pytest.raises(ValueError, match=message):
    movinet.make_space(**options)


def _replace_expand(spec, block, layer, expand):
  layers = list(spec.blocks[block].layers)
  layers[layer] = dataclasses.replace(layers[layer], expand=expand)
  blocks = list(spec.blocks)
  blocks[block] = dataclasses.replace(blocks[block], layers=tuple(layers))
  return dataclasses.replace(spec, blocks=tuple(blocks))
