"""Spaces know their smallest network, by which limits are refused that none is within."""

import numpy as np
import pytest

import movinet_jax as mj
from nas import spaces

COSTS = ('macs', 'params')
CLASSES = 7
_FEW = {
  **{'resolution': (8,), 'frames': (1,), 'frame_stride': (1,), 'features': (2, 4)},
  **{'expand': (1,), 'repeats': (1, 2), 'squeeze': (0.0,), 'non_local': (0,)},
  **{'gate': (False,), 'residual': (False,), 'activations': ('relu',)},
  **{'kernels': (3, 2), 'strides': (1, 2), 'most_blocks': 1},
}
SMALL = {
  'movinet': [{}, {'se': 'search'}, {'phi': -1.0, 'merge_equal': True}, {'phi': 3.0}],
  'tsnet': [{}, {'join': 'sum'}],
  'tvn': [
    {**_FEW, 'frames': (2, 1), 'gate': (True, False)},
    # One frame is left sooner by a convolution, which has more parameters.
    {**_FEW, 'frames': (4, 2), 'expand': (2,), 'temporal': (None, 'conv')},
    # To leave it sooner saves what is added to every frame.
    {**_FEW, 'frames': (1, 2), 'residual': (True,)},
    # What is inside out has fewer channels at its end.
    {**_FEW, 'expand': (8,), 'inverted': (False, True)},
    {**_FEW, 'frames': (2,), 'spatial': ('conv', 'depthwise')},
    # Of one frame an operation on time is idle, and yet there is no other choice.
    {**_FEW, 'frames': (1, 2), 'temporal': ('conv', 'max')},
    {**_FEW, 'spatial': (None, 'max'), 'temporal': (None,), 'most_blocks': 2},
  ],
  'x3d': [
    {
      **{'frames': (1, 2), 'frame_stride': (1,), 'resolution': (16,)},
      **{'depth': (1, 2), 'width': (0.7, 1.0), 'bottleneck': (1.0,)},
    }
  ],
}
SAMPLED = {'scaling'}  # Its networks are random ones: none is known to be smallest.


def make_count(name, space):
  """choices -> macs and params, by the fastest way that a space has."""
  if hasattr(space, 'make_cost_table'):
    tables = {cost: space.make_cost_table(cost, num_classes=CLASSES) for cost in COSTS}
    return lambda choices: {k: int(table.count(choices)) for k, table in tables.items()}
  if name == 'tvn':
    return lambda choices: space.count_costs(choices, CLASSES)

  def trace(choices):
    spec = space.decode(choices)
    shape = 1, spec.frames, spec.resolution, spec.resolution, 3
    found = mj.cost.count(mj.create(space.family, CLASSES, spec=spec), shape)
    return {cost: getattr(found, cost) for cost in COSTS}

  return trace


def find_least(name, space):
  """Of each cost, over all networks."""
  if hasattr(space, 'make_cost_table'):  # which eliminates decisions
    return {cost: space.make_cost_table(cost, num_classes=CLASSES).bounds[0] for cost in COSTS}
  everyone = list(map(make_count(name, space), space.space.enumerate()))
  return {cost: min(costs[cost] for costs in everyone) for cost in COSTS}


def test_all_spaces_are_tested():
  assert SMALL.keys() | SAMPLED == spaces.list_spaces().keys()


CASES = [(name, given) for name, all_given in SMALL.items() for given in all_given]


@pytest.mark.parametrize(('name', 'given'), CASES)
def test_no_network_is_smaller(name, given):
  space = spaces.create(name, **given)
  count, least = make_count(name, space), find_least(name, space)
  for cost in COSTS:
    smallest = space.smallest(cost, CLASSES)
    np.testing.assert_array_equal(smallest, space.space.canonical(smallest))
    assert count(smallest)[cost] == least[cost]


def test_no_network_near_it_nor_at_random_is_smaller_in_the_paper_s_space():
  """Of Tiny Video Networks, which are too many to look at all."""
  space, rng = spaces.create('tvn'), np.random.default_rng(0)
  for cost in COSTS:
    smallest = space.smallest(cost, CLASSES)
    least = space.count_costs(smallest, CLASSES)[cost]
    for number in np.flatnonzero(space.space.is_open(smallest)):
      for choice in range(space.space.sizes[number]):
        other = smallest.copy()
        other[number] = choice
        assert space.count_costs(other, CLASSES)[cost] >= least
    for _ in range(50):
      drawn = space.space.sample(rng)
      assert space.count_costs(drawn, CLASSES)[cost] >= least
