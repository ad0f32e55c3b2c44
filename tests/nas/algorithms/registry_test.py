"""Algorithms are found by listing their folder, and tell what they take from a space."""

import dataclasses
import re
from typing import Annotated

import pytest

from nas import algorithms
from nas.algorithms.arguments import FromSpace, list_sources, take
from nas.algorithms.evolve import Evolve
from nas.algorithms.expand import Expand
from nas.algorithms.scale import Scale
from nas.space import OneOf, Space

TRIALS = {'evolve', 'expand', 'scale', 'uniform'}
PLANTED = """
import dataclasses
from typing import Annotated
from nas.algorithms.arguments import FromSpace

@dataclasses.dataclass(frozen=True)
class Planted:
  space: Annotated[object, FromSpace('space')]
  colour: Annotated[str, FromSpace('colour')]

  def propose(self, history, rng): ...
  def conclude(self, history): ...

class Shared:
  def propose(self, history, rng): ...
"""


def test_a_protocol_decides_who_is_in():
  assert set(algorithms.list_algorithms()) == TRIALS
  one_shot = algorithms.list_algorithms(algorithms.ONE_SHOT)
  assert 'reinforce' in one_shot
  assert not one_shot.keys() & TRIALS


def test_a_file_is_an_algorithm(tmp_path, monkeypatch):
  (tmp_path / 'planted.py').write_text(PLANTED)
  (tmp_path / 'helps.py').write_text('class Helps: ...\n')
  monkeypatch.setattr(algorithms, '__path__', [*algorithms.__path__, str(tmp_path)])
  found = algorithms.list_algorithms()
  assert set(found) == {*TRIALS, 'planted'}
  offers = {'space': 'a space', 'colour': 'red'}
  assert take(found['planted'], offers.get) == offers


def test_algorithms_say_what_they_take():
  drawn = {'space': 'space', 'fits': 'fits', 'identify': 'identify'}
  assert list_sources(Evolve) == drawn
  assert list_sources(Expand) == {'space': 'space', 'cost': 'macs'}
  assert set(list_sources(Scale)) == {'space', 'candidates', 'baselines'}


def test_what_a_space_does_not_offer_has_a_default_or_is_needed():
  space = Space({'a': OneOf((0, 1))})
  assert take(Evolve, {'space': space}.get) == {'space': space}
  with pytest.raises(ValueError, match=re.escape('needs a space that has macs')):
    take(Expand, {'space': space}.get)

  @dataclasses.dataclass
  class Listed:
    some: Annotated[list, FromSpace('some')] = dataclasses.field(default_factory=list)

  assert take(Listed, {}.get) == {}
