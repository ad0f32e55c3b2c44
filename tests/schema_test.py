"""Plain data as values of annotated types, and what is said of data that does not fit."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax import schema
from movinet_jax.schema import (
  ASCENDING,
  DISTINCT,
  SOME,
  Count,
  Limit,
  Natural,
  NotNegative,
  Positive,
  Range,
  Rate,
  Seed,
  Share,
)

NAN, INF = float('nan'), float('inf')


@dataclasses.dataclass(frozen=True)
class Part:
  size: tuple[Count, Count]
  rate: Rate = 0.5


def make_loader(workers: Natural = 1, *, path: str, part: Part | None = None, mode='train'):
  return workers, path, part, mode


@pytest.mark.parametrize(
  ('kind', 'value', 'made'),
  [
    (int, 3, 3),
    (int, np.int32(3), 3),
    (float, 3, 3.0),
    (float, 0.5, 0.5),
    (float, np.float64(0.5), 0.5),
    (bool, True, True),
    (str, 'x', 'x'),
    (int | None, None, None),
    (int | str, 'x', 'x'),
    (Count | None, None, None),
    (Count | str, 3, 3),
    (Literal['max', 'min'], 'min', 'min'),
    (tuple[int, float], [1, 2], (1, 2.0)),
    (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    (tuple, [1, 'x'], (1, 'x')),
    (Mapping[str, float], {'a': 1}, {'a': 1.0}),
    (Part, {'size': [1, 2]}, Part((1, 2))),
    (tuple[Part, ...], [{'size': [1, 2], 'rate': 0}], (Part((1, 2), 0.0),)),
    (Annotated[tuple[Count, ...], ASCENDING], [1, 2], (1, 2)),
  ],
)
def test_values_of_their_types(kind, value, made):
  found = schema.build(kind, value, 'x')
  assert found == made
  assert type(found) is type(made)


@pytest.mark.parametrize(
  ('kind', 'value', 'facts'),
  [
    (int, 2.5, ('x should be int', '2.5')),
    (int, True, ('x should be int', 'True')),
    (int, '3', ('x should be int', "'3'")),
    (float, 10**400, ('x is 1000', 'at most')),
    (float, 'much', ('x should be float', "'much'")),
    (bool, 1, ('x should be bool', '1')),
    (str, 3, ('x should be str', '3')),
    (int | None, 'a', ('x should be int', "'a'")),
    (int | str, 2.5, ('x should be int or str', '2.5')),
    (Count | str, 2.5, ('x should be int or str', '2.5')),
    (Count | str, 0, ('x is 0', '1 or more')),
    (Count | None, 0, ('x is 0', '1 or more')),
    (Literal['max', 'min'], 'mix', ("x is 'mix'", "did you mean 'm")),
    (tuple[int, int], [1], ('x wants 2 values', '[1]')),
    (tuple[int, ...], 'ab', ('x should be a list', "'ab'")),
    (tuple[int, ...], 3, ('x should be a list', '3')),
    (tuple[Count, ...], [1, 0], ('x[1] is 0', '1 or more')),
    (Mapping, [1], ('x should be a table', '[1]')),
    (Mapping[str, float], {'a': 'b'}, ('x.a should be float', "'b'")),
    (Part, 3, ('x should be a table', '3')),
    (Part, {}, ('x lacks', "'size'")),
    (Part, {'size': [1, 2], 'rat': 1}, ("x has no field 'rat'", "did you mean 'rate'")),
    (Part, {'size': [1, 0]}, ('x.size[1] is 0', 'a whole number, 1 or more')),
    (Part, {'size': [1, 2], 'rate': 1.0}, ('x.rate is 1.0', '0 or more and less than 1')),
    (Annotated[tuple[int, ...], SOME], [], ('x is ()', 'one value or more')),
    (Annotated[tuple[int, ...], DISTINCT], [3, 3], ('x is (3, 3)', 'each once')),
    (Annotated[tuple[int, ...], DISTINCT], [], ('x is ()', 'one value or more')),
    (Annotated[tuple[int, ...], ASCENDING], [3, 2], ('x is (3, 2)', 'ascend')),
    (Annotated[tuple[int, ...], ASCENDING], [2, 2], ('x is (2, 2)', 'none of them twice')),
    (Annotated[tuple[int, ...], ASCENDING], [], ('x is ()', 'ascend')),
    (Annotated[int, Limit(lambda n: n % 2, 'an odd number')], 4, ('x is 4', 'an odd number')),
  ],
)
def test_what_does_not_fit_is_named(kind, value, facts):
  with pytest.raises(ValueError, match=re.escape(facts[0])) as error:
    schema.build(kind, value, 'x')
  assert all(fact in str(error.value) for fact in facts)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('kind', [int, Count, Natural])
def test_no_whole_number_is_larger_than_jax_counts(kind):
  assert schema.build(kind, 2**31 - 1, 'x') == 2**31 - 1
  with pytest.raises(ValueError, match='x is 2147483648, wanted at most 2,147,483,647'):
    schema.build(kind, 2**31, 'x')


@pytest.mark.parametrize(
  ('kind', 'takes', 'refuses', 'wanted'),
  [
    (Count, (1, 10**9), (0, -1), 'a whole number, 1 or more'),
    (Natural, (0, 1), (-1,), 'a whole number, 0 or more'),
    (Seed, (0, 2**31 - 1), (-1, 2**31), 'a whole number, from 0 to 2,147,483,647'),
    (Share, (0, 0.5, 1), (-0.1, 1.1, NAN), 'a number, from 0 to 1'),
    (Rate, (0, 0.999), (-0.1, 1, NAN), 'a number, 0 or more and less than 1'),
    (Positive, (1e-9, 3), (0, -1, NAN, INF), 'a number, more than 0'),
    (NotNegative, (0, 3.0), (-1e-9, NAN, INF), 'a number, 0 or more'),
    (Annotated[float, Range(above=0, most=1)], (0.1, 1), (0, 2), 'more than 0 and 1 or less'),
    (Annotated[float, Range(above=0, below=1)], (0.1,), (0, 1), 'more than 0 and less than 1'),
    (Annotated[float, Range(most=0)], (0, -3.5), (0.1, -INF, NAN), 'a number, 0 or less'),
    (Annotated[float, Range()], (0, -3.5), (INF, NAN), 'a number, finite'),
  ],
)
def test_ranges(kind, takes, refuses, wanted):
  for value in takes:
    assert schema.build(kind, value, 'x') == value
  for value in refuses:
    with pytest.raises(ValueError, match=r'^x is .*; wanted ') as error:
      schema.build(kind, value, 'x')
    assert wanted in str(error.value)


def test_a_section_is_the_arguments_of_a_callable():
  made = schema.call(make_loader, {'path': 'a', 'part': {'size': (1, 2)}}, 'loader')
  assert made == (1, 'a', Part((1, 2)), 'train')
  assert schema.call(make_loader, {'workers': 2}, 'loader', path='b')[:2] == (2, 'b')
  bound = schema.bind(make_loader, {'path': 'a'}, 'loader')
  assert bound() == (1, 'a', None, 'train')
  assert schema.call(Part, {'size': [1, 2]}, 'part') == Part((1, 2))


@pytest.mark.parametrize(
  ('section', 'facts'),
  [
    ({'path': 'a', 'wrokers': 2}, ("loader has no key 'wrokers'", "did you mean 'workers'")),
    ({}, ('lacks loader.path',)),
    ({'path': 'a', 'workers': -1}, ('loader.workers is -1; wanted a whole number, 0 or more',)),
    ({'path': 'a', 'part': {}}, ('loader.part lacks', "'size'")),
    ({'path': 'a', 'part': {'size': [1, 0]}}, ('loader.part.size[1] is 0',)),
  ],
)
def test_sections_that_do_not_fit(section, facts):
  with pytest.raises(ValueError, match=re.escape(facts[0])) as error:
    schema.call(make_loader, section, 'loader')
  assert all(fact in str(error.value) for fact in facts)


def test_a_section_has_none_of_the_arguments_that_are_given():
  with pytest.raises(ValueError, match="loader has no key 'path'"):
    schema.call(make_loader, {'path': 'a'}, 'loader', path='b')


def test_what_a_callable_takes_under_any_name_is_its_own_affair():
  def make(depth: Count, **fields):
    return depth, fields

  assert schema.call(make, {'depth': 1, 'conv': object}, 'space') == (1, {'conv': object})
  with pytest.raises(ValueError, match=r'space\.depth is 0'):
    schema.call(make, {'depth': 0, 'conv': '3d'}, 'space')


def test_what_plain_data_cannot_express_passes():
  def make(model: jnp.ndarray, done: 'type | None' = None):
    return model

  assert schema.call(make, {'model': 'anything'}) == 'anything'


def test_an_annotation_that_is_wrong_is_found_out():
  """Planted: without it, the tests above could pass with annotations that nobody reads."""

  def make(workers: 'Annotated[int, Range(2)]' = 1):
    return workers

  with pytest.raises(ValueError, match='workers is 1; wanted a whole number, 2 or more'):
    schema.call(make, {'workers': 1})

  def lost(workers: 'Nowhere' = 1):  # noqa: F821
    return workers

  with pytest.raises(NameError, match='Nowhere'):
    schema.call(lost, {'workers': 1})


@dataclasses.dataclass(frozen=True)
class Checked:
  rate: Rate
  sides: tuple[Count, ...] = (1,)
  limit: Count | None = None
  name: str = ''

  def __post_init__(self):
    schema.verify(self, but=jnp.ndarray)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'rate': 1.0}, 'rate is 1.0'),
    ({'rate': '0.5'}, "rate should be float, got '0.5'"),
    ({'rate': 0.5, 'sides': (1, 0)}, 'sides[1] is 0'),
    ({'rate': 0.5, 'limit': 0}, 'limit is 0'),
  ],
)
def test_a_dataclass_can_check_itself(given, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    Checked(**given)


def test_what_has_no_limit_or_is_traced_is_not_checked():
  assert Checked(0, name=3).name == 3
  assert Checked(jnp.float32(2.0)).rate == 2.0
