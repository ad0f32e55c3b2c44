"""Costs of MoViNet's space are those of its networks alone."""

import collections
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax.cost.count import count_macs
from movinet_jax.models.movinet import (
  Block,
  Bottleneck,
  Costs,
  Layer,
  count_bottleneck,
  count_head,
  count_stem,
)
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
  """Odd sizes, every kind of cost; each block with one of the two last widths."""
  space = movinet.make_space(**{**SMALL, 'widths': (8,), 'strides': (2,), **form})
  tables = make_tables(space, 5, (3, 23, 18))
  everyone = np.stack(list(space.space.enumerate()))
  for table in tables.values():
    np.testing.assert_array_equal(count_compiled(table, everyone), table.count(everyone))
  blocks = everyone[:, :-1].sum(1)
  for choices in everyone[(blocks + everyone[:, -1]) % 2 == 0]:
    found = {kind: table.count(choices) for kind, table in tables.items()}
    assert found == count_alone(space, choices, 5, (3, 23, 18))
  for table in tables.values():
    found = table.count(everyone)
    assert table.bounds == (found.min(), found.max())


def trace_layer(spec, part):
  """What a bottleneck costs alone, from one trace of its initialization and its output."""
  layer = Bottleneck(spec, part.layer, part.width, part.stride)
  x = jax.ShapeDtypeStruct((1, spec.frames, *part.size, part.before), jnp.float32)
  run = lambda x: layer.init_with_output(jax.random.key(0), x)  # noqa: E731
  traced, ((_, state), variables) = jax.make_jaxpr(run, return_shape=True)(x)
  return Costs(
    sum(count_macs(traced.jaxpr).values()),
    sum(leaf.size for leaf in jax.tree.leaves(variables['params'])),
    sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
  )


def cover_pairs(parts):
  """Some of the layers: any two of their sizes that some layer has, one of these has too.

  An operation of a layer, and so its cost, has two of them: channels in and out, or
  channels and a kernel.
  """
  places, chosen = collections.defaultdict(list), []
  for part in parts:
    sizes = {'before': part.before, 'width': part.width, **dataclasses.asdict(part.layer)}
    pairs = set(itertools.combinations(sizes.items(), 2))
    places[part.size, part.stride, part.before == part.width].append((part, pairs))
  for found in places.values():
    left = set.union(*(pairs for _, pairs in found))
    while left:
      part, pairs = max(found, key=lambda one: len(one[1] & left))
      left -= pairs
      chosen.append(part)
  return chosen


@pytest.mark.parametrize('form', [{}, STREAM], ids=['base', 'stream'])
def test_costs_of_layers_are_those_of_layers_alone(form):
  """Of the full space, at its own sizes."""
  space = movinet.make_space(**form)
  parts = [part for part in movinet.list_parts(space) if part.kind == 'layer']
  chosen = cover_pairs(parts)
  assert len(parts) > 2000
  assert len(chosen) > 400
  for part in chosen:
    given = part.layer, part.before, part.width, part.stride, space.base.frames, part.size
    assert count_bottleneck(space.base, *given) == trace_layer(space.base, part), str(part)


@pytest.mark.parametrize('form', [{}, STREAM, {**STREAM, 'temporal_softmax': True}])
def test_costs_of_stems_and_heads(form):
  """Each width of the stem and the last convolution, around a layer of a known cost."""
  space = movinet.make_space(**form)
  base, layer = space.base, Layer((1, 1, 1), 8, False)
  clip = base.frames, base.resolution, base.resolution
  size = [-(-n // 2) for n in clip[1:]]
  for n, (width, project) in enumerate(itertools.product(space.blocks[-1].widths, space.projects)):
    stem = space.stems[n % len(space.stems)]
    spec = dataclasses.replace(
      base, stem=stem, blocks=(Block(width, 1, (layer,)),), project=project
    )
    found = mj.cost.count(mj.create('movinet', 600, spec=spec), (1, *clip, 3))
    counted = [
      count_stem(stem, base.frames, size),
      count_bottleneck(spec, layer, stem, width, 1, base.frames, size),
      count_head(spec, width, project, 600, base.frames, size),
    ]
    total = Costs(*map(sum, zip(*counted, strict=True)))
    assert total == (found.macs, found.params, found.state_bytes)


@pytest.mark.slow
def test_costs_of_the_full_space_are_those_of_networks_alone():
  """Sums over parts, each of which is compared above."""
  rng = np.random.default_rng(0)
  for form, count in (({}, 2), (STREAM, 2)):
    space = movinet.make_space(**form)
    clip = (space.base.frames, space.base.resolution, space.base.resolution)
    tables = make_tables(space, 600, clip)
    drawn = np.stack([space.space.sample(rng) for _ in range(count)])
    found = {kind: count_compiled(table, drawn) for kind, table in tables.items()}
    for i, choices in enumerate(drawn):
      alone = count_alone(space, choices, 600, clip)
      assert {kind: values[i] for kind, values in found.items()} == alone
