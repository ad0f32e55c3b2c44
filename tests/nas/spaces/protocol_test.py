"""What every space of networks tells of itself, and what it offers algorithms."""

import itertools
import json

import numpy as np
import pytest

from movinet_jax import models
from nas import spaces
from tests.nas.spaces.scaling_test import GRID
from tests.nas.spaces.scaling_test import SMALL as BASE
from tests.nas.spaces.tsnet_test import SMALL as TSNET
from tests.nas.spaces.tvn_test import TINY as TVN
from tests.nas.spaces.x3d_test import TINY as X3D

ARGUMENTS = {
  'movinet': BASE,
  'scaling': {'base': BASE, 'grid': GRID, 'num_classes': 5},
  'tsnet': TSNET,
  'tvn': TVN,
  'x3d': X3D,
}


@pytest.fixture(params=spaces.list_spaces())
def space(request):
  return spaces.create(request.param, **ARGUMENTS[request.param])


def draw(space):
  return space.space.canonical(space.space.sample(np.random.default_rng(0)))


def test_a_network_is_of_the_family_and_shown_as_text(space, capsys):
  spec = space.decode(draw(space))
  assert isinstance(spec, models.families()[space.family].Spec)
  lines = space.describe_network(spec)
  assert len(lines) > 1
  for line in lines:
    assert line.strip()
    assert '\n' not in line
  assert capsys.readouterr().out == ''


def test_parts_are_measured_where_there_are_any(space):
  if not hasattr(space, 'make_bench'):
    assert not hasattr(space, 'list_parts')
    return
  times = dict.fromkeys(map(str, space.list_parts()), 7)
  table = space.make_cost_table('latency_ns', times=space.find_times(times))
  spec = space.decode(draw(space))
  assert table.count(draw(space)) == 7 * (2 + sum(len(block.layers) for block in spec.blocks))
  assert space.make_bench(5, batch=2).about()['batch'] == 2


def test_one_network_has_one_name(space):
  identify = spaces.find_offer(space, 'identify', num_classes=5, limits={})
  rng = np.random.default_rng(0)
  drawn = [space.space.canonical(space.space.sample(rng)) for _ in range(50)]
  for one, other in itertools.pairwise(drawn):
    same = space.decode(one) == space.decode(other)
    assert (identify(one) == identify(other)) == same
  assert json.loads(identify(drawn[0]))['version'] == 1


def test_limits_that_are_counted_are_offered():
  space = spaces.create('tvn', **TVN)
  choices = draw(space)
  costs = space.count_costs(choices, 5)
  for name, most in costs.items():
    for limit, wanted in ((most, True), (most - 1, False)):
      limits = {name: limit, 'latency_ns': 1}
      fits = spaces.find_offer(space, 'fits', num_classes=5, limits=limits)
      assert fits(choices) is wanted
  measured = {'latency_ns': 1}
  assert spaces.find_offer(space, 'fits', num_classes=5, limits=measured) is None
  assert spaces.find_offer(space, 'macs', num_classes=5, limits={}) is None
  x3d = spaces.create('x3d', **X3D)
  assert spaces.find_offer(x3d, 'fits', num_classes=5, limits={'macs': 1}) is None
  assert spaces.find_offer(x3d, 'macs', num_classes=5, limits={})(draw(x3d)) > 0
