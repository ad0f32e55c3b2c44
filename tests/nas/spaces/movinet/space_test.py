"""MoViNet's space: its networks, its φ, and costs that are those of networks alone."""

import dataclasses
import itertools

import numpy as np
import pytest

from movinet_jax.models.movinet import VARIANTS
from nas.spaces import movinet

SMALL = {
  **{'stem': 8, 'widths': (8, 16), 'strides': (1, 2), 'depth': 2, 'project': 16},
  **{'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0), 'head': 8},
  **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0,)},
  **{'frames': 3, 'resolution': 24, 'frame_stride': 1},
}
STREAM = {'conv': '2plus1d', 'se_kind': '2plus3d', 'causal': True, 'positions': True}
FORMS = [
  {},
  {'causal': True, 'se': 'search'},
  STREAM,
  {'conv': '2plus1d', 'se_kind': '2d', 'causal': True},
]


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


# Released networks: φ, and how many layers lie in its space: block width, kernel and
# expansion. The φ that fits best, then that of the shipped search.
FITS = [
  *(('a0', -1.95, 11), ('a1', -2.1, 8), ('a2', 0.0, 25), ('a3', 0.9, 14)),
  *(('a4', 1.8, 36), ('a5', 1.6, 12)),
  *(('a0', -2.0, 11), ('a1', -1.0, 3), ('a3', 1.0, 10), ('a4', 2.0, 6), ('a5', 3.0, 0)),
]


@pytest.mark.parametrize(('name', 'phi', 'layers'), FITS)
def test_how_much_of_the_released_networks_lies_in_their_space(name, phi, layers):
  """What lies in it comes back from choices as it was; the rest is named."""
  space, spec = movinet.make_space(phi, merge_equal=True), VARIANTS[name]
  nearest = space.decode(space.encode(space.project(spec)))
  assert nearest == space.project(spec)
  outside, inside = space.find_outside(spec), 0
  for i, (block, given) in enumerate(zip(space.blocks, spec.blocks, strict=True)):
    if given.features not in block.widths:
      assert any(line.startswith(f'block {i}: features') for line in outside)
      continue
    for j, layer in enumerate(given.layers[: block.depth]):
      if not any(line.startswith(f'block {i} layer {j}:') for line in outside):
        assert nearest.blocks[i].layers[j] == layer
        inside += 1
  assert inside == layers


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


def test_coefficients_are_what_phi_multiplies_by():
  ones = {'depth': 1.0, 'width': 1.0, 'resolution': 1.0, 'rate': 1.0}
  base, published = movinet.make_space(), movinet.PUBLISHED
  assert movinet.make_space(1, coefficients=published) == movinet.make_space(1)
  assert movinet.make_space(1, coefficients=published._asdict()) == movinet.make_space(1)
  assert movinet.make_space(1, coefficients=ones) == base
  deep = movinet.make_space(2, coefficients={**ones, 'depth': 2.0})
  assert [(block.least, block.depth) for block in deep.blocks] == [(4, 40)] * 5
  shallow = [dataclasses.replace(block, least=1, depth=10) for block in deep.blocks]
  assert (tuple(shallow), deep.base) == (base.blocks, base.base)
  wide = movinet.make_space(1, coefficients={**ones, 'width': 2.0})
  assert (wide.stems, wide.projects) == ((32, 40), (768, 1024, 1280))
  assert [block.widths[1] for block in wide.blocks] == [48, 96, 192, 192, 384]
  fast = movinet.make_space(1, coefficients={**ones, 'resolution': 1.5, 'rate': 2.5})
  clip = fast.base.frames, fast.base.resolution, fast.base.frame_stride
  assert clip == (125, 336, 2)
  assert fast.blocks == base.blocks
  assert base.family == 'movinet'


@pytest.mark.parametrize(
  ('phi', 'least', 'clip'),
  # d = 1.36^φ layers at least; 5 / 1.24^φ is 7.69, 6.2, 5, 4.03, 3.25 and 2.62.
  [
    (-2, 1, (32, 168, 7.7)),
    (-1, 1, (40, 192, 6.2)),
    (0, 1, (50, 224, 5)),
    (1, 1, (62, 256, 4)),
    (2, 2, (76, 304, 3.3)),
    (3, 3, (96, 352, 2.6)),
  ],
)
def test_depth_and_frame_rate_of_each_phi(phi, least, clip):
  space = movinet.make_space(phi, merge_equal=True)
  assert {block.least for block in space.blocks} == {least}
  assert (space.base.frames, space.base.resolution, space.base.frame_stride) == clip
  whole = movinet.make_space(phi, merge_equal=True, whole_stride=True).base.frame_stride
  assert isinstance(whole, int)
  assert abs(whole - clip[2]) <= 0.5
  rng = np.random.default_rng(0)
  for _ in range(50):
    spec = space.decode(space.space.sample(rng))
    assert min(len(block.layers) for block in spec.blocks) >= least
  smallest = space.decode(space.smallest('macs', 600))
  assert {len(block.layers) for block in smallest.blocks} == {least}


def test_a_network_of_too_few_layers_is_outside():
  small, large = movinet.make_space(), movinet.make_space(2)
  assert len(small.space) < len(large.space)
  assert len(large.space) == len(movinet.make_space(2, least=3).space)
  spec = large.decode(large.smallest('macs', 600))
  assert large.decode(large.encode(spec)) == spec
  first = dataclasses.replace(spec.blocks[0], layers=spec.blocks[0].layers[:1])
  short = dataclasses.replace(spec, blocks=(first, *spec.blocks[1:]))
  assert large.find_outside(short) == ['block 0: 1 layers, at least 2']
  assert len(large.project(short).blocks[0].layers) == 2
  with pytest.raises(ValueError, match='least is 11, more than depth, which is 10'):
    movinet.make_space(least=11)


def test_a_network_is_shown():
  space = movinet.make_space()
  assert (space.family, space.make_bench(5).frames) == ('movinet', 50)
  lines = space.describe_network(VARIANTS['a0'])
  assert lines[0].split() == ['stem', '8']
  assert lines[2].split() == ['block', '1', '32', *['3x3x3:80'] * 3]
  assert lines[-1].split() == ['project', '480']


def _replace_expand(spec, block, layer, expand):
  layers = list(spec.blocks[block].layers)
  layers[layer] = dataclasses.replace(layers[layer], expand=expand)
  blocks = list(spec.blocks)
  blocks[block] = dataclasses.replace(blocks[block], layers=tuple(layers))
  return dataclasses.replace(spec, blocks=tuple(blocks))
