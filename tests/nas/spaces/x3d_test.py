"""X3D's space: its networks, their factors, and multiply-adds without a trace."""

import re

import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax.models.x3d import VARIANTS, count_macs, make_spec
from nas import spaces
from nas.spaces import x3d

# Small enough for two cores to train.
TINY = {
  'frames': (1, 2, 4),
  'frame_stride': (1, 1.5, 2),
  'resolution': [32, 48],
  'depth': [0.5, 1.0],
  'width': (0.5, 1.0, 1.5),
  'bottleneck': (1.0, 2.3),
}
LARGE = {'resolution': 312, 'bottleneck': 2.25}
# Factors of the published networks, as make_spec takes them.
FACTORS = {
  'x2d': {},
  'xs': {'frames': 4, 'frame_stride': 12, 'resolution': 160, 'depth': 2.2},
  's': {'frames': 13, 'frame_stride': 6, 'resolution': 160, 'depth': 2.2},
  'm': {'frames': 16, 'frame_stride': 5, 'resolution': 224, 'depth': 2.2},
  'l': {'frames': 16, 'frame_stride': 5, 'depth': 5.0, **LARGE},
  'xl': {'frames': 16, 'frame_stride': 5, 'depth': 5.0, 'width': 2.9, **LARGE},
  'xxl': {'frames': 32, 'frame_stride': 2.5, 'depth': 10.1, 'width': 2.9, **LARGE},
}


@pytest.mark.parametrize('name', FACTORS)
def test_published_networks_lie_in_the_space(name):
  space = spaces.create('x3d')
  expanded = {'bottleneck': 2.25} if name != 'x2d' else {}
  choices = space.encode({**expanded, **FACTORS[name]})
  assert space.decode(choices) == VARIANTS[name]


# What tests/models/x3d_test.py traces, and the paper prints.
PUBLISHED = {
  'x2d': 20_662_304,
  'xs': 605_256_512,
  's': 1_962_892_112,
  'm': 4_732_468_736,
  'l': 18_367_710_176,
  'xl': 35_837_627_616,
  'xxl': 143_541_630_016,
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_multiply_adds_of_the_published_networks(name):
  assert count_macs(VARIANTS[name]) == PUBLISHED[name]


@pytest.mark.slow
@pytest.mark.parametrize('name', VARIANTS)
def test_multiply_adds_are_those_that_are_traced(name):
  spec = VARIANTS[name]
  shape = 1, spec.frames, spec.resolution, spec.resolution, 3
  found = mj.cost.count(mj.create(f'x3d/{name}', 400), shape)
  assert count_macs(spec) == found.macs


@pytest.mark.parametrize('fields', [{}, {'causal': True}, {'shortcut_norm': True, 'hidden': 7}])
@pytest.mark.parametrize(
  ('frames', 'resolution', 'factors'),
  [
    (1, 1, {'width': 1.0, 'depth': 1.0, 'bottleneck': 1.3}),
    (3, 17, {'width': 0.7, 'depth': 0.4, 'bottleneck': 2.35}),
    (2, 34, {'width': 1.5, 'depth': 1.2, 'bottleneck': 0.5}),
    (5, 63, {'width': 2.6, 'depth': 0.2, 'bottleneck': 6.0}),
  ],
)
def test_multiply_adds_of_odd_networks(frames, resolution, factors, fields):
  spec = make_spec(frames, resolution, 2, **factors, **fields)
  model = mj.create('x3d', 5, spec=spec)
  found = mj.cost.count(model, (1, frames, resolution, resolution, 3))
  assert count_macs(spec, 5) == found.macs


def test_networks_and_costs_of_a_tiny_space():
  space = x3d.make_space(**TINY, num_classes=3, causal=True, hidden=16)
  assert space.family == 'x3d'
  assert space.space.count() == 3 * 3 * 2 * 2 * 3 * 2
  choices = space.encode({'frames': 4, 'frame_stride': 1.5, 'width': 1.5})
  spec = space.decode(choices)
  assert (spec.frames, spec.frame_stride, spec.resolution) == (4, 1.5, 32)
  assert (spec.causal, spec.hidden) == (True, 16)
  assert space.macs(choices) == count_macs(spec, 3)
  for choices in space.space.enumerate():
    assert (space.encode(space.space.decode(choices)) == choices).all()


@pytest.mark.parametrize('axis', TINY)
def test_expanding_never_makes_cheaper(axis):
  """Frames, sizes and widths ascend, so do multiply-adds; the stride costs nothing."""
  space, rng = x3d.make_space(), np.random.default_rng(0)
  number = space.space.number(axis)
  for _ in range(5):
    choices, costs = space.space.sample(rng), []
    for value in range(len(space.values[axis])):
      choices[number] = value
      costs.append(space.macs(choices))
    assert costs == sorted(costs)
    assert (costs[0] == costs[-1]) == (axis == 'frame_stride')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'frames': 4}, 'frames should be a list, got 4'),
    ({'frames': ()}, 'frames is (); wanted numbers that ascend'),
    ({'frames': (1, 1.5)}, 'frames[1] should be int, got 1.5'),
    ({'resolution': (0, 32)}, 'resolution[0] is 0; wanted a whole number, from 1 to 1,000,000'),
    ({'depth': (1.0, float('nan'))}, 'depth[1] is nan; wanted a number, more than 0'),
    ({'width': (True, 2)}, 'width[0] should be int or float, got True'),
    ({'width': ('1', 2)}, "width[0] should be int or float, got '1'"),
    ({'width': (2.0, 1.0)}, 'width is (2.0, 1.0); wanted numbers that ascend'),
    ({'depth': (1, 1.0)}, 'depth is (1, 1.0); wanted numbers that ascend, none of them twice'),
    ({'bottleneck': (0.01, 1)}, 'inner is 0; wanted a whole number, 1 or more'),
    ({'num_classes': 0}, 'num_classes is 0; wanted a whole number, from 1 to'),
    ({'num_classes': 'ten'}, "num_classes should be int, got 'ten'"),
    ({'causal': 1}, 'causal should be bool, got 1'),
    ({'average': 'logit'}, "average is 'logit'; did you mean 'logits'"),
    ({'witdh': (1, 2)}, "unknown argument of a space 'witdh'; did you mean 'width'"),
    ({'stages': ()}, "unknown argument of a space 'stages'"),
  ],
)
def test_spaces_that_make_no_sense(options, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    spaces.create('x3d', **options)


@pytest.mark.parametrize(
  ('factors', 'message'),
  [
    ({'frames': 3}, 'frames has no value 3 in this space; the nearest is'),
    ({'dpeth': 1.0}, "unknown factor 'dpeth'; did you mean 'depth'"),
  ],
)
def test_factors_that_a_space_does_not_have(factors, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    x3d.make_space(**TINY).encode(factors)
