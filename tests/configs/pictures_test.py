"""Headers of configs say how large pictures have to be built; the clips say the same."""

import re

import pytest

from configs.movinet import kinetics600
from configs.x3d import kinetics400
from movinet_jax.data import EvalClip, TrainClip

CASES = [(module, name) for module in (kinetics600, kinetics400) for name in module.TABLE]


def read_sizes(text: str) -> dict[str, int]:
  """Pixels by variant, from the rows `variant` and `pixels` of a header."""
  names, pixels = re.search(r'Pictures:.*?variant +(.*?)\n +pixels +(.*?)\n', text, re.S).groups()
  return dict(zip(names.split(), map(int, pixels.split()), strict=True))


@pytest.mark.parametrize(('module', 'name'), CASES)
def test_headers_say_what_to_build(module, name):
  clips = module.get_config(name).clip.to_dict()
  wanted = max(TrainClip(**clips['train']).least_side, EvalClip(**clips['eval']).least_side)
  assert read_sizes(module.__doc__)[name.removesuffix('-stream')] == wanted


@pytest.mark.parametrize('module', [kinetics600, kinetics400])
def test_the_command_builds_pictures_for_all_variants(module):
  assert f'--short-side {max(read_sizes(module.__doc__).values())}' in module.__doc__
