"""Costs of MoViNet's space are those of its networks alone."""

import jax
import numpy as np
import pytest

import movinet_jax as mj
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
    kind: movinet.make_cost_table(space, kind, num_classes=num_classes, clip=clip) for kind in KINDS
  }


def count_compiled(table, choices) -> list[int]:
  """Exact costs as a compiled step has them."""
  high, low = jax.jit(jax.vmap(table.limbs))(choices)
  return [int(h) * LIMB + int(x) for h, x in zip(high, low, strict=True)]


def test_costs_of_layers_that_change_the_width_alone():
  """A stride of 1 needs a projection where widths differ, and none where they do not."""
  options = {'widths': (8, 8), 'strides': (1, 1), 'depth': 1, 'expansions': (1.0,)}
  space = movinet.make_space(**{**SMALL, **options, 'kernels': ((1, 3, 3),)})
  tables, everyone = make_tables(space, 5, (3, 9, 9)), list(space.space.enumerate())
  specs = [space.decode(choices) for choices in everyone]
  same = [len({spec.stem, *(b.features for b in spec.blocks)}) == 1 for spec in specs]
  assert any(same)
  assert not all(same)
  for choices in everyone:
    found = {kind: table.count(choices) for kind, table in tables.items()}
    assert found == count_alone(space, choices, 5, (3, 9, 9))


@pytest.mark.parametrize('form', FORMS)
def test_costs_of_a_small_space_are_those_of_networks_alone(form):
  """Odd sizes, every kind of cost; of the many architectures one of each block pair."""
  space = movinet.make_space(**{**SMALL, 'widths': (8,), 'strides': (2,), **form})
  tables = make_tables(space, 5, (3, 23, 18))
  everyone = np.stack(list(space.space.enumerate()))
  for table in tables.values():
    np.testing.assert_array_equal(count_compiled(table, everyone), table.count(everyone))
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
    drawn = np.stack([space.space.sample(rng) for _ in range(count)])
    found = {kind: count_compiled(table, drawn) for kind, table in tables.items()}
    for i, choices in enumerate(drawn):
      alone = count_alone(space, choices, 600, clip)
      assert {kind: values[i] for kind, values in found.items()} == alone
