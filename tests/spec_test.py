"""Specs survive JSON, and JSON that is no spec is refused by the field that is wrong."""

import dataclasses
import json

import pytest

from movinet_jax import models
from movinet_jax.spec import from_json, to_json

VARIANTS = [
  pytest.param(module.Spec, spec, id=f'{family}/{name}')
  for family, module in models.families().items()
  for name, spec in module.VARIANTS.items()
]


@dataclasses.dataclass(frozen=True)
class Part:
  size: tuple[int, int]
  rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Whole:
  name: str
  parts: tuple[Part, ...]
  limit: int | None = None
  on: bool = False


WHOLE = Whole('w', (Part((1, 2)), Part((3, 4), 0.25)), limit=3)


@pytest.mark.parametrize(('cls', 'spec'), VARIANTS)
def test_every_variant_survives_json(cls, spec):
  again = from_json(cls, json.loads(json.dumps(to_json(spec))))
  assert again == spec
  assert hash(again) == hash(spec)


@pytest.mark.parametrize(('stride', 'written'), [(3, '3'), (3.0, '3'), (3.3, '3.3')])
def test_whole_strides_are_written_as_integers(stride, written):
  """So that files and keys of networks stay what they were."""
  movinet = models.families()['movinet']
  spec = dataclasses.replace(movinet.VARIANTS['a0'], frame_stride=stride)
  text = json.dumps(to_json(spec))
  assert f'"frame_stride": {written}}}' in text
  assert json.dumps(to_json(from_json(movinet.Spec, json.loads(text)))) == text


def test_round_trip_of_all_kinds():
  for spec in (WHOLE, dataclasses.replace(WHOLE, limit=None, on=True)):
    assert from_json(Whole, json.loads(json.dumps(to_json(spec)))) == spec


def test_defaults_may_be_left_out_and_whole_floats_written_as_integers():
  data = {'name': 'w', 'parts': [{'size': [1, 2], 'rate': 1}]}
  spec = from_json(Whole, data)
  assert spec == Whole('w', (Part((1, 2), 1.0),))
  assert type(spec.parts[0].rate) is float


def _edit(path, value):
  data = json.loads(json.dumps(to_json(WHOLE)))
  *way, last = path
  part = data
  for key in way:
    part = part[key]
  if value is None:
    del part[last]
  else:
    part[last] = value
  return data


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    (['nmae'], 'w', "Whole has no field 'nmae'; did you mean 'name'"),
    (['name'], None, "Whole lacks the field 'name'"),
    (['name'], 3, r'Whole\.name should be str, got 3'),
    (['parts'], 'ab', r'Whole\.parts should be a list'),
    (['parts', 1], [1], r'Whole\.parts\[1\] should be a table'),
    (['parts', 0, 'size'], [1], r'Whole\.parts\[0\]\.size wants 2 values'),
    (['parts', 0, 'size'], [1, 2.5], r'size\[1\] should be int, got 2\.5'),
    (['parts', 0, 'size'], [1, True], r'size\[1\] should be int, got True'),
    (['parts', 0, 'rate'], 'x', r'rate should be float'),
    (['limit'], 'x', r'Whole\.limit should be int'),
    (['on'], 1, r'Whole\.on should be bool'),
    (['version'], 2, 'version 2, this code reads 1'),
  ],
)
def test_what_is_wrong_is_named(path, value, message):
  with pytest.raises(ValueError, match=message):
    from_json(Whole, _edit(path, value))


HUGE = (10**9, 10**400, -(10**9), float('nan'), float('inf'), float('-inf'))


@pytest.mark.parametrize('value', HUGE)
def test_numbers_that_nothing_could_be_made_of_are_refused(value):
  """JSON can say them all."""
  for path in [('parts', 0, 'size', 1), ('parts', 1, 'rate'), ('limit',)]:
    if path[-1] != 'rate' and isinstance(value, float):
      continue
    with pytest.raises(ValueError, match='wanted at most 1,000,000') as error:
      from_json(Whole, json.loads(json.dumps(_edit(path, value))))
    assert len(str(error.value)) < 150


@pytest.mark.parametrize('family', models.families())
def test_no_number_of_any_family_may_be_huge(family):
  module = models.families()[family]
  data = json.loads(json.dumps(to_json(next(iter(module.VARIANTS.values())))))
  for path in list_numbers(data):
    changed = json.loads(json.dumps(data))
    part = changed
    for key in path[:-1]:
      part = part[key]
    part[path[-1]] = 10**9
    with pytest.raises(ValueError, match=r'version|wanted at most'):
      from_json(module.Spec, changed)


def list_numbers(node, path=()):
  if isinstance(node, (dict, list)):
    inside = node.items() if isinstance(node, dict) else enumerate(node)
    return [one for key, child in inside for one in list_numbers(child, (*path, key))]
  return [path] if type(node) in (int, float) else []
