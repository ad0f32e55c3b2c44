"""The space of Auto-TSNet: its size beside the paper's, its networks and their exact costs."""

import dataclasses
import math

import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax.models import tsnet as family
from nas import spaces
from nas.spaces import tsnet

SMALL = {
  **{'sparse': ((8, 16), (16, 24)), 'dense': ((8, 16), (8, 16)), 'depths': ((1,), (1, 3))},
  **{'expansions': (1.5, 2.25), 'times': (1, 3), 'sizes': (3, 5), 'places': (1,)},
  **{'stems': (8, 8), 'hidden': 16, 'attention_width': 6, 'ratio': 4},
  **{'frames': 8, 'resolution': 24, 'frame_stride': 2},
}
PAPER = {'sparse': 8e24, 'dense': 6e24, 'attention': 4096, 'all': 2e53}  # sections 3.5 and 4.2


def test_the_paper_s_sizes():
  """As printed, Table 1 gives other numbers than the text.

  Five widths in the sparse stage 3 would give 8e24: its step or greatest width may be misprinted.
  With four fusions behind each of eleven groups the dense part is 1e5 times what the text says.
  """
  counted = tsnet.make_space().count_parts()
  assert counted['sparse'] == 42**11 * 3**2 * 4**2 * 4**4 * 5**3
  assert counted['sparse'] / PAPER['sparse'] == pytest.approx(0.41, abs=0.005)
  assert 42**11 * 3**2 * 4**2 * 5**4 * 5**3 / PAPER['sparse'] == pytest.approx(1.01, abs=0.005)
  assert counted['dense'] == 42**11 * 2**2 * 3**2 * 3**4 * 4**3 * 4**11
  assert counted['dense'] / PAPER['dense'] == pytest.approx(9.4e4, rel=0.01)
  assert counted['attention'] == PAPER['attention']
  assert PAPER['sparse'] * PAPER['dense'] * 4096 == pytest.approx(PAPER['all'], rel=0.02)


def test_networks_without_a_dense_stream_are_in_the_space():
  space = tsnet.make_space(**SMALL)
  parts = space.count_parts()
  sparse = parts['sparse'] * 2
  assert space.space.count() == sparse * (1 + parts['dense'] * 2)


def test_a_network_and_its_choices():
  space, rng = tsnet.make_space(**SMALL), np.random.default_rng(0)
  for _ in range(50):
    choices = space.space.canonical(space.space.sample(rng))
    np.testing.assert_array_equal(space.encode(space.decode(choices)), choices)
  with pytest.raises(ValueError, match='sparse has 11 groups; those of this space have'):
    space.encode(family.VARIANTS['manual-70'])
  spec = space.decode(space.largest())
  wide = dataclasses.replace(spec.sparse[0], features=40)
  with pytest.raises(ValueError, match='sparse/groups/0/features is 40, wanted'):
    space.encode(dataclasses.replace(spec, sparse=(wide, *spec.sparse[1:])))


def test_columns_of_a_description_are_apart():
  space = tsnet.make_space(**{**SMALL, 'expansions': (2.25, 2.34375)})
  lines = space.describe_network(space.decode(space.largest()))
  assert lines[0].split() == ['group', 'sparse', 'dense', 'fusion']
  assert (
    lines[2] == '    1      24 3x5x5 x2.34375 (1) glore      16 3x5x5 x2.34375 (1) glore    stack'
  )


def test_named_networks_lie_in_the_paper_s_space():
  space = tsnet.make_space()
  for name in ('auto-s', 'auto-s-plain', 'auto-s-sparse'):
    spec = family.VARIANTS[name]
    space = tsnet.make_space(mean=spec.mean, deviation=spec.deviation)
    assert space.decode(space.encode(spec)) == spec


@pytest.mark.parametrize('join', ['concat', 'sum'])
def test_costs_are_exact(join):
  """Of random networks of the paper's space by formula, and of small ones by their trace."""
  space, rng = tsnet.make_space(join=join), np.random.default_rng(0)
  tables = {cost: space.make_cost_table(cost, num_classes=7) for cost in ('macs', 'params')}
  for _ in range(200):
    choices = space.space.sample(rng)
    wanted = family.count(space.decode(choices), 7)
    assert {k: t.count(choices) for k, t in tables.items()} == {
      'macs': wanted.macs,
      'params': wanted.params,
    }
  space = tsnet.make_space(**SMALL, join=join)
  tables = {cost: space.make_cost_table(cost, num_classes=7) for cost in ('macs', 'params')}
  for _ in range(6):
    choices = space.space.sample(rng)
    traced = mj.cost.count(mj.create('tsnet', 7, spec=space.decode(choices)), (1, 8, 24, 24, 3))
    assert (tables['macs'].count(choices), tables['params'].count(choices)) == (
      traced.macs,
      traced.params,
    )


def test_streams_keep_nothing():
  space = tsnet.make_space(**SMALL)
  assert space.make_cost_table('state_bytes').bounds == (0, 0)


def test_the_largest_network_costs_most():
  for given in ({}, SMALL):
    space = tsnet.make_space(**given)
    table = space.make_cost_table()
    assert table.count(space.largest()) == table.bounds[1]
    assert table.count(space.smallest('macs', 400)) == table.bounds[0]


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'sparse': ((8, 12),) * 4}, 'a multiple of 8'),
    ({'dense': ((8,),)}, 'dense has 1 stages, depths has 4'),
    ({'fusions': ('conv', 'none')}, "begin with 'conv'"),
    ({'places': (3, 11)}, 'groups from 0 to 10'),
    ({'times': (2,)}, 'an odd number'),
    ({'expansions': (1.3,)}, 'eighths'),
    ({'expansions': (math.inf,)}, 'eighths'),
    ({'causal': True}, "unknown argument of a space 'causal'"),
  ],
)
def test_what_makes_no_space(given, message):
  with pytest.raises(ValueError, match=message):
    spaces.create('tsnet', **given)
