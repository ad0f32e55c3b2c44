"""Targets of the search are what the released networks cost by the search's own tables."""

import pytest

from configs.search import movinet as config
from movinet_jax.models.movinet import VARIANTS
from nas.spaces.movinet import make_cost_table, make_space

# What a space is made of, beside fields of a network's spec.
SIZES = ('phi', 'merge_equal')


def make_space_of(spec, options):
  """A space that a network lies in: its own widths, kernels and expansions, at a search's form."""
  layers = [(block, layer) for block in spec.blocks for layer in block.layers]
  fields = {key: value for key, value in options.items() if key not in SIZES}
  return make_space(
    stem=spec.stem,
    widths=[block.features for block in spec.blocks],
    strides=[block.stride for block in spec.blocks],
    depth=max(len(block.layers) for block in spec.blocks),
    kernels=sorted({layer.kernel for _, layer in layers}),
    expansions=sorted({layer.expand / block.features for block, layer in layers}),
    multipliers=(1.0,),
    stem_multipliers=(1.0,),
    project=spec.project,
    merge_equal=True,
    **fields,
  )


@pytest.mark.parametrize('variant', [f'a{n}{form}' for n in range(6) for form in ('', '-stream')])
def test_a_target_is_the_cost_of_the_released_network(variant):
  cfg, released = config.get_config(variant), VARIANTS[variant]
  space = make_space_of(released, cfg.space.to_dict())
  table = make_cost_table(space, 'macs', num_classes=600)
  assert cfg.search.target == table.count(space.encode(released))


def test_variants_that_are_not_there():
  with pytest.raises(ValueError, match='a5-stream'):
    config.get_config('a2-causal')
