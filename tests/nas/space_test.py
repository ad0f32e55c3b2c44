import dataclasses
import itertools
import json

import numpy as np
import pytest

from nas.space import VERSION, OneOf, Space

FLAT = Space({'width': OneOf((8, 16), 'filters'), 'kernel': OneOf((1, 3, 5))})
NESTED = Space(
  {
    'blocks': [
      {
        'width': OneOf((8, 16), 'filters'),
        'layer': OneOf((None, {'kernel': OneOf((1, 3))})),
      },
      OneOf((OneOf(('a', 'b', 'c')), {'x': OneOf((OneOf((1, 2)), 3)), 'y': OneOf((4, 5))})),
    ],
    'stem': 16,
    'head': OneOf((True, False)),
  }
)
ALONE = Space(OneOf((1, 2, 3)))
FIXED = Space({'width': 8})
SPACES = pytest.mark.parametrize(
  'space', [FLAT, NESTED, ALONE, FIXED], ids=['flat', 'nested', 'alone', 'fixed']
)


def list_vectors(space):
  """Every vector, those that mean the same too."""
  return [np.array(v, np.int32) for v in itertools.product(*map(range, space.sizes))]


def test_the_order_of_decisions():
  """It is part of the format: found architectures are vectors in this order."""
  assert [(d.path, d.choices, d.tag, d.needs) for d in NESTED.decisions] == [
    ('blocks/0/width', 2, 'filters', ()),
    ('blocks/0/layer', 2, 'op', ()),
    ('blocks/0/layer:1/kernel', 2, 'op', ((1, 1),)),
    ('blocks/1', 2, 'op', ()),
    ('blocks/1:0', 3, 'op', ((3, 0),)),
    ('blocks/1:1/x', 2, 'op', ((3, 1),)),
    ('blocks/1:1/x:0', 2, 'op', ((3, 1), (5, 0))),
    ('blocks/1:1/y', 2, 'op', ((3, 1),)),
    ('head', 2, 'op', ()),
  ]
  assert [NESTED.number(d.path) for d in NESTED.decisions] == list(range(9))
  assert NESTED.sizes.tolist() == [2, 2, 2, 2, 3, 2, 2, 2, 2]
  assert len(NESTED) == 9


def test_the_order_of_keys_is_that_of_the_mapping():
  swapped = Space({'kernel': OneOf((1, 3, 5)), 'width': OneOf((8, 16), 'filters')})
  assert [d.path for d in swapped.decisions] == ['kernel', 'width']
  assert swapped != FLAT
  assert swapped.digest != FLAT.digest


@pytest.mark.parametrize(
  ('space', 'count'),
  [
    (FLAT, 2 * 3),
    (NESTED, 2 * (1 + 2) * (3 + (2 + 1) * 2) * 2),
    (ALONE, 3),
    (FIXED, 1),
  ],
)
def test_all_architectures_are_listed_once(space, count):
  found = [tuple(v) for v in space.enumerate()]
  assert space.count() == len(found) == len(set(found)) == count
  # Nothing is missing: they are what all vectors mean.
  assert set(found) == {tuple(space.canonical(v)) for v in list_vectors(space)}


@SPACES
def test_equal_trees_are_those_of_equal_canonical_vectors(space):
  vectors = list_vectors(space)
  trees = {}
  for vector in vectors:
    canonical = space.canonical(vector)
    assert canonical.dtype == np.int32
    np.testing.assert_array_equal(space.canonical(canonical), canonical)
    assert space.decode(vector) == space.decode(canonical)
    trees.setdefault(tuple(canonical), json.dumps(space.decode(canonical)))
  assert len(set(trees.values())) == len(trees) == space.count()


def test_decoding():
  assert NESTED.decode([1, 1, 1, 1, 2, 0, 1, 1, 0]) == {
    'blocks': ({'width': 16, 'layer': {'kernel': 3}}, {'x': 2, 'y': 5}),
    'stem': 16,
    'head': True,
  }
  assert NESTED.decode([0, 0, 1, 0, 2, 0, 1, 1, 1]) == {
    'blocks': ({'width': 8, 'layer': None}, 'c'),
    'stem': 16,
    'head': False,
  }
  assert ALONE.decode([2]) == 3
  assert FIXED.decode(np.zeros(0, np.int32)) == {'width': 8}


def test_describing_shows_open_decisions_only():
  assert NESTED.describe([0, 0, 1, 1, 2, 0, 1, 0, 0]) == {
    'blocks/0/width': 8,
    'blocks/0/layer': None,
    'blocks/1': {'x': '…', 'y': '…'},
    'blocks/1:1/x': '…',
    'blocks/1:1/x:0': 2,
    'blocks/1:1/y': 4,
    'head': True,
  }


@SPACES
def test_open_decisions_of_many_at_once(space):
  vectors = np.array(list_vectors(space))
  found = space.is_open(vectors)
  assert found.shape == vectors.shape
  for vector, opened in zip(vectors, found, strict=True):
    np.testing.assert_array_equal(space.is_open(vector), opened)
    paths = [d.path for d, o in zip(space.decisions, opened, strict=True) if o]
    assert list(space.describe(vector)) == paths


@SPACES
def test_vectors_are_encoded_as_they_are_decoded(space):
  for vector in space.enumerate():
    chosen = dict(zip((d.path for d in space.decisions), vector.tolist(), strict=True))
    np.testing.assert_array_equal(space.encode(chosen), vector)


def test_encoding_some_decisions():
  found = FLAT.encode({'kernel': 2})
  assert found.tolist() == [0, 2]
  # Closed ones do not count.
  found = NESTED.encode({'blocks/0/layer:1/kernel': 1, 'head': 1})
  assert found.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1]
  with pytest.raises(ValueError, match="no decision at 'kernle'"):
    FLAT.encode({'kernle': 2})
  with pytest.raises(ValueError, match='kernel has choices 0 to 2, got 3'):
    FLAT.encode({'kernel': 3})


@SPACES
def test_json_and_back(space):
  text = json.dumps(space.to_json())
  found = Space.from_json(json.loads(text))
  assert found == space
  assert hash(found) == hash(space)
  assert found.digest == space.digest
  assert found.decisions == space.decisions
  for vector in space.enumerate():
    assert found.decode(vector) == space.decode(vector)


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (
      {'version': VERSION + 1, 'tree': 1},
      f'version {VERSION + 1}, this code reads {VERSION}',
    ),
    ({'tree': 1}, 'version None'),
    ({'version': VERSION}, 'no search space'),
    ([1], 'no search space'),
    ({'version': VERSION, 'tree': {'unknown': 1}}, 'no part of a search space'),
    ({'version': VERSION, 'tree': {'one_of': [], 'tag': 'op'}}, 'at least one choice'),
    ({'version': VERSION, 'tree': {'one_of': [1], 'tag': 'new'}}, "got 'new'"),
  ],
)
def test_other_data_is_refused(data, message):
  with pytest.raises(ValueError, match=message):
    Space.from_json(data)


@pytest.mark.parametrize(
  ('choices', 'message'),
  [
    ([0], r'2 whole numbers, got int64\[1\]'),
    ([0, 0, 0], r'2 whole numbers, got int64\[3\]'),
    ([[0, 0]], r'got int64\[1, 2\]'),
    ([0.0, 1.0], r'got float64\[2\]'),
    ([True, False], r'got bool\[2\]'),
    ([0, 3], 'kernel has choices 0 to 2, got 3'),
    ([-1, 0], 'width has choices 0 to 1, got -1'),
  ],
)
def test_bad_vectors_are_refused(choices, message):
  for method in (FLAT.check, FLAT.decode, FLAT.describe, FLAT.canonical):
    with pytest.raises(ValueError, match=message):
      method(choices)


@SPACES
def test_samples_are_uniform(space):
  rng = np.random.default_rng(0)
  found = np.array([space.sample(rng) for _ in range(4000)]).reshape(4000, len(space))
  assert found.dtype == np.int32
  for column, size in zip(found.T, space.sizes, strict=True):
    frequency = np.bincount(column, minlength=size) / 4000
    np.testing.assert_allclose(frequency, 1 / size, atol=5 * 0.5 / np.sqrt(4000))
  np.testing.assert_array_equal(found[0], space.sample(np.random.default_rng(0)))


def test_a_space_does_not_change():
  layers = [OneOf((1, 3))]
  tree = {'layers': layers, 'width': OneOf([8, 16], 'filters')}
  space = Space(tree)
  before = space.to_json()
  layers.append(OneOf((5, 7)))
  tree['more'] = OneOf((1, 2))
  assert space.to_json() == before
  with pytest.raises(TypeError):
    space.tree['more'] = 1
  with pytest.raises(TypeError):
    space.tree['layers'][0] = 1
  for frozen in (space.tree['width'], space.decisions[0]):
    with pytest.raises(dataclasses.FrozenInstanceError):
      frozen.tag = 'op'


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: OneOf(()), 'at least one choice'),
    (lambda: OneOf((1, 2), 'kernel'), "got 'kernel'"),
    (lambda: OneOf((1, 3, 1)), 'has the choice 1 twice'),
    (lambda: OneOf(({'k': 1}, {'k': 1})), 'twice'),
    (lambda: OneOf((OneOf((1, 2)), OneOf((1, 2)))), 'twice'),
    (lambda: OneOf((object(), 1)), 'made of mappings'),
    (lambda: Space({'kernel': {1, 3}}), 'made of mappings'),
  ],
)
def test_bad_trees_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_lists_and_tuples_are_the_same():
  assert Space([OneOf([1, 2])]) == Space((OneOf((1, 2)),))


def test_a_space_too_large_to_list_can_be_begun():
  """Nothing of it is gathered before the first architecture comes."""
  layer = OneOf(({'kernel': OneOf((1, 3, 5)), 'expand': OneOf((1, 2))}, None))
  space = Space([layer] * 60)
  first = list(itertools.islice(space.enumerate(), 3))
  assert len({tuple(v) for v in first}) == 3


def test_filters_are_numbers():
  with pytest.raises(ValueError, match='choices of filters ascend'):
    OneOf((1, 'a'), 'filters')
