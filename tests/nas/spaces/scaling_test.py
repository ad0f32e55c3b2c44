"""Scaling coefficients: what spaces cost, which are admissible, networks of each."""

import itertools
import re

import numpy as np
import pytest

from nas import spaces
from nas.spaces import movinet, scaling

# Small enough for two cores to train; each coefficient of the grid changes something.
SMALL = {
  **{'stem': 16, 'widths': (16, 32), 'strides': (2, 2), 'depth': 3, 'project': 64},
  **{'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0), 'head': 32},
  **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0,)},
  **{'frames': 4, 'resolution': 64, 'frame_stride': 4},
}
GRID = (1.1, 1.25, 1.4)
AXES = ('depth', 'width', 'resolution', 'rate')
PUBLISHED = movinet.PUBLISHED._asdict()


def make_space(**options):
  return spaces.create('scaling', **{'base': SMALL, 'grid': GRID, 'num_classes': 5, **options})


def count_all(space, num_classes):
  """Mean over all vectors of choices, one by one."""
  table = movinet.make_cost_table(space, num_classes=num_classes)
  vectors = np.stack(np.unravel_index(range(space.space.sizes.prod()), space.space.sizes))
  return table.count(vectors.T).mean()


@pytest.mark.parametrize(
  'options',
  [
    {'depth': 1},
    {'depth': 3},
    {'depth': 2, 'se': 'search', 'causal': True},
    {'depth': 3, 'least': 2},
    {'depth': 2, 'least': 2, 'causal': True, 'temporal_softmax': True},
    {'widths': (16, 16), 'strides': (1, 1), 'conv': '2plus1d', 'se_kind': '2plus3d'},
  ],
)
def test_mean_costs_are_those_of_all_networks(options):
  small = {'expansions': (1.0,), 'multipliers': (1.0, 1.5), 'project': 16}
  space = movinet.make_space(**{**SMALL, **small, **options})
  assert scaling.count_mean_macs(space, 5) == pytest.approx(count_all(space, 5), 1e-12)


@pytest.mark.parametrize('phi', [0, 1, 2.5])
def test_mean_costs_of_the_full_space(phi):
  """The sum over its table: a term's decisions are independent of each other."""
  space = movinet.make_space(phi, merge_equal=True)
  terms = movinet.make_cost_table(space).terms
  total = sum(term.table.mean() for term in terms)
  assert scaling.count_mean_macs(space) == pytest.approx(total, 1e-12)


def test_the_published_space_and_coefficients():
  """A frame of φ = 0 costs more than A.1's 300 million, φ = 1 four times these."""
  zero, one, two = scaling.list_scaled(movinet.PUBLISHED, (0, 1, 2))
  assert (zero.frame_macs, zero.depth) == (pytest.approx(380.7e6, 1e-3), 10)
  assert (one.frames, one.resolution, one.frame_stride, one.depth) == (62, 256, 4, 14)
  assert (two.frames, two.resolution, two.frame_stride, two.depth) == (76, 304, 3.3, 18)
  assert [row.least for row in (zero, one, two)] == [1, 1, 2]
  space = movinet.make_space(2, merge_equal=True)
  assert two.widths == tuple(block.widths for block in space.blocks)
  assert (two.stems, two.projects) == (space.stems, space.projects)
  only = {axis: (value,) for axis, value in PUBLISHED.items()}
  settings = {'grid': only, 'baselines': (), 'tolerance': 0.3}
  (measured,) = scaling.make_space(**settings).candidates
  (printed,) = scaling.make_space(**settings, frame_macs=300e6).candidates
  assert measured.ratio == pytest.approx(one.mean_macs / zero.mean_macs * 250 / 248)
  assert measured.ratio == pytest.approx(3.0, abs=0.005)
  assert printed.ratio == pytest.approx(3.81, abs=0.005)
  assert measured.coefficients == PUBLISHED


def test_rows_of_scaled_spaces():
  space = make_space(baselines=())
  coefficients = {**PUBLISHED, 'width': 1.234567}  # no grid has it: an average
  rows = space.list_scaled(coefficients, (0.0, 2.0))
  assert rows == scaling.list_scaled(coefficients, (0.0, 2.0), SMALL, num_classes=5)
  assert (rows[0].least, rows[0].depth, rows[1].least, rows[1].depth) == (1, 3, 2, 6)
  with pytest.raises(ValueError, match=r'phi is 99\.0; wanted a number, from -5 to 8'):
    space.list_scaled(coefficients, (0.0, 99.0))
  lines = space.describe_network(space.sample(coefficients, 2, 0))
  assert [line.split()[0] for line in lines] == ['stem', 'block', 'block', 'project']


def test_the_whole_grid_of_the_paper():
  """4,096 combinations; the published ones lie among those that meet the constraint."""
  space = scaling.make_space(frame_macs=300e6, baselines=())
  assert len(space.candidates) == 1062
  # The eight rates are eight strides, 4.8 to 3.6 frames. Whole ones would be two, 5 and 4.
  assert len({candidate.rounded for candidate in space.candidates}) == 654
  whole = scaling.make_space(base={'whole_stride': True}, frame_macs=300e6, baselines=())
  assert len(whole.candidates) == 1108
  assert len({candidate.rounded for candidate in whole.candidates}) == 158
  for candidate in space.candidates:
    assert abs(candidate.ratio / 4 - 1) <= 0.1
  for axis in AXES:
    values = [candidate.coefficients[axis] for candidate in space.candidates]
    assert min(values) == 1.05
    assert max(values) == 1.4
    assert np.mean(values) == pytest.approx(PUBLISHED[axis], abs=0.14)


def test_all_that_meet_the_constraint_are_candidates():
  space = make_space(baselines=(), tolerance=0.15)
  base = movinet.make_space(**SMALL, merge_equal=True)
  found = {tuple(c.coefficients.values()): c for c in space.candidates}
  assert 5 < len(found) < 3**4
  known = {}
  for values in itertools.product(GRID, repeat=4):
    coefficients = dict(zip(AXES, values, strict=True))
    scaled = movinet.make_space(1, coefficients=coefficients, merge_equal=True, **SMALL)
    clip = scaled.base
    secs = clip.frames * clip.frame_stride / (4 * 4)
    costs = [scaling.count_mean_macs(s, 5) for s in (scaled, base)]
    ratio = costs[0] / costs[1] / secs
    assert (values in found) == (abs(ratio / 4 - 1) <= 0.15)
    if values in found:
      assert found[values].ratio == pytest.approx(ratio)
      known.setdefault(found[values].rounded, set()).add(scaled)
  # Rounded is what spaces have in common, and nothing else has.
  assert all(len(scaled) == 1 for scaled in known.values())
  assert len(set.union(*known.values())) == len(known) < len(found)


def test_networks_are_samples_of_the_scaled_space():
  space = make_space(phis=(1.0, 2.0), samples=4)
  space_again = make_space(phis=(1.0, 2.0), samples=4)
  for candidate in (*space.candidates[:5], *space.baselines.values()):
    coefficients = candidate.coefficients
    for phi in (1.0, 2.0):
      scaled = scaling.scale(SMALL, coefficients, phi)
      specs = []
      for sample in range(4):
        choices = encode(space, coefficients, sample=sample, phi=phi)
        specs.append(space.decode(choices))
        assert space_again.decode(choices) == specs[-1]
        assert scaled.decode(scaled.encode(specs[-1])) == specs[-1]
      assert len(set(specs)) > 1
  choices = encode(space, space.candidates[0].coefficients, sample=0, phi=1.0)
  others = [make_space(phis=(1.0, 2.0), samples=4, seed=n) for n in range(1, 6)]
  assert len({space.decode(choices), *(o.decode(choices) for o in others)}) > 1


def test_networks_of_one_number_are_alike_whatever_scales_them():
  """Each decision that two spaces have in common is taken at the same place."""
  space = make_space(phis=(1.0, 2.0), samples=4)

  def read(coefficients, phi, number):
    """Choices by path and size, but of later layers: which are left out moves them."""
    scaled = scaling.scale(SMALL, coefficients, phi)
    choices = scaled.encode(space.sample(coefficients, phi, number))
    decisions, sizes = scaled.space.decisions, scaled.space.sizes
    found = zip(decisions, sizes, choices, strict=True)
    return {
      (decision.path, int(size)): int(choice)
      for decision, size, choice in found
      if 'layers' not in decision.path or 'layers/0' in decision.path
    }

  first, second = (space.candidates[n].coefficients for n in (0, -1))
  for number in range(4):
    one, other, large = (read(*of, number) for of in ((first, 1.0), (second, 1.0), (first, 2.0)))
    for found in (other, large):
      common = one.keys() & found.keys()
      assert len(common) > 3
      assert all(one[key] == found[key] for key in common)
  assert read(first, 1.0, 0) != read(first, 1.0, 1)


def encode(space, coefficients, **more):
  values = {**coefficients, **more}
  return space.space.encode(
    {
      path: space.space.values[space.space.number(path)].index(value)
      for path, value in values.items()
    }
  )


def test_samples_are_uniform_over_decisions():
  """As many of the mean cost as the space has on average, over many seeds."""
  costs = []
  for seed in range(60):
    space = make_space(seed=seed, samples=10, baselines=(), grid=(1.25,))
    (candidate,) = space.candidates
    scaled = scaling.scale(SMALL, candidate.coefficients, 1.0)
    table = movinet.make_cost_table(scaled, num_classes=5)
    costs += [
      int(
        table.count(
          scaled.encode(space.decode(encode(space, candidate.coefficients, sample=n, phi=1.0)))
        )
      )
      for n in range(10)
    ]
  error = np.std(costs) / len(costs) ** 0.5
  assert abs(np.mean(costs) - scaling.count_mean_macs(scaled, 5)) < 3 * error


@pytest.mark.parametrize('axis', AXES)
def test_an_axis_alone_is_scaled_to_the_nearest_realizable_cost(axis):
  space = make_space(baselines=(axis,))
  baseline = space.baselines[axis]
  assert {a: v for a, v in baseline.coefficients.items() if v != 1} == {
    axis: baseline.coefficients[axis]
  }
  base = movinet.make_space(**SMALL, merge_equal=True)
  ratios = {}
  for factor in np.arange(1.05, 9, 0.05).round(2):
    coefficients = {**dict.fromkeys(AXES, 1.0), axis: factor}
    scaled = scaling.scale(SMALL, coefficients, 1.0)
    clip = scaled.base
    secs = clip.frames * clip.frame_stride / (4 * 4)
    costs = [scaling.count_mean_macs(s, 5) for s in (scaled, base)]
    ratios[factor] = costs[0] / costs[1] / secs
  nearest = min(ratios, key=lambda factor: abs(np.log(ratios[factor] / 4)))
  assert baseline.coefficients[axis] == nearest
  assert baseline.ratio == pytest.approx(ratios[nearest])
  assert nearest in space.values[axis]


def test_coefficients_that_are_included_need_not_meet_the_constraint():
  space = make_space(include={'published': PUBLISHED}, baselines=('width',))
  assert list(space.baselines) == ['width', 'published']
  assert space.baselines['published'].coefficients == PUBLISHED
  assert space.baselines['published'].ratio < 3.6
  encode(space, PUBLISHED, sample=2, phi=1.0)


def test_what_nothing_meets_is_said_before_anything_is_trained():
  # Depths of 1.25 and 1.4 are one number of layers. A rate of 1.4 is a stride of 2.9 frames,
  # of which 6 last as long as the base's 4 frames of stride 4.
  message = (
    'none of 81 combinations of coefficients multiplies the cost by 40 to within 10 %; '
    'depth 1.25, width 1.4, resolution 1.4, rate 1.4 comes nearest, with 6.101: widen'
  )
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    make_space(target=40.0)
  with pytest.raises(ValueError, match=r'none of 1 combinations .* by 4 .* 0\.01 %; depth'):
    make_space(grid=(1.2,), tolerance=0.0001)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'base': 3}, 'space.base should be a table, got 3'),
    ({'base': {'phi': 1}}, "base has no key 'phi'"),
    ({'base': {'clip': (8, 32, 1)}}, "base has no key 'clip'"),
    ({'base': {**SMALL, 'widht': 3}}, "unknown argument of a space 'widht'; did you"),
    (
      {'base': {**SMALL, 'frame_stride': 1}},
      'rate alone cannot multiply the cost by 4',
    ),
    ({'grid': (1.2, 1.1)}, 'grid.depth is (1.2, 1.1); wanted numbers that ascend'),
    ({'grid': (0.9, 1.1)}, 'grid.depth[0] is 0.9; wanted a number, from 1 to 16'),
    ({'grid': (1.2, 99.0)}, 'grid.depth[1] is 99.0; wanted a number, from 1 to 16'),
    (
      {'grid': {'depth': GRID}},
      'lacks grid.width',
    ),
    ({'target': -4}, 'target is -4.0; wanted a number, more than 0 and 100 or less'),
    ({'tolerance': 10}, 'tolerance is 10.0; wanted a number, from 0 to 1'),
    (
      {'frame_macs': '300e6'},
      "frame_macs should be float, got '300e6'",
    ),
    ({'baselines': ('widht',)}, "baselines[0] is 'widht'; did you mean 'width'"),
    ({'include': {'width': PUBLISHED}}, "include has 'width', which is a baseline"),
    (
      {'include': {'mine': {'depth': 2}}},
      'lacks include.mine.width',
    ),
    ({'phis': ()}, 'phis is (); wanted numbers that ascend'),
    ({'phis': (2.0, 1.0)}, 'phis is (2.0, 1.0); wanted numbers that ascend'),
    ({'phis': (0.0,)}, 'phis[0] is 0.0; wanted a number, more than 0'),
    ({'phis': (1.0, 9.0)}, 'phis[1] is 9.0; wanted a number, from -5 to 8'),
    ({'phis': (1.0, 5.0)}, 'depth cannot be scaled to φ = 5: depth is 3: with φ = 5'),
    ({'samples': 0}, 'samples is 0; wanted a whole number, from 1 to 1,000,000'),
    ({'seed': 1.5}, 'seed should be int, got 1.5'),
  ],
)
def test_settings_that_make_no_sense(options, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    make_space(**options)
