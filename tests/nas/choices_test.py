"""What choices are called, and how many networks trained each."""

import json

import numpy as np
import pytest

from nas.choices import count_trained, describe_changes, find_chosen
from nas.space import OneOf, Space

KERNELS = ((1, 3, 3), (1, 5, 5), (3, 3, 3), (5, 1, 1))


def test_closed_decisions_are_not_trained():
  space = Space({'layer': OneOf(({'kernel': OneOf((1, 3))}, None))})
  vectors = np.array([[0, 0], [0, 1], [1, 1], [1, 1], [1, 0]], np.int8)
  assert count_trained(space, vectors).tolist() == [[2, 3], [1, 1]]


def test_changes_are_said_once():
  layer = {'kernel': OneOf(KERNELS), 'expand': OneOf((24, 40)), 'se': True}
  mix = OneOf(({'op': 'pool'}, {'op': 'conv', 'size': OneOf((3, 5))}))
  space = Space({'layers': [OneOf((layer, None))] * 2, 'mix': mix, 'width': OneOf((1, 2))})
  before = space.encode({'layers/0': 0, 'layers/1': 1, 'mix': 0})
  changes = {
    'layers/0 → left out': {'layers/0': 1, 'layers/1': 1},
    'layers/0:0/kernel → 1×5×5': {'layers/0:0/kernel': 1, 'layers/1': 1},
    'layers/1 → kept (kernel 3×3×3, expand 40, se yes)': {
      **{'layers/1': 0, 'layers/1:0/kernel': 2, 'layers/1:0/expand': 1}
    },
    'mix → op conv, size 5': {'layers/1': 1, 'mix': 1, 'mix:1/size': 1},
    'mix → op conv, size 3, width → 2': {'layers/1': 1, 'mix': 1, 'width': 1},
  }
  first, rows = space.describe(before), []
  for chosen in changes.values():
    after = space.describe(space.encode(chosen))
    changed = {k: v for k, v in after.items() if k not in first or first[k] != v}
    rows.append(changed)
  # As they are and as a file has them.
  for given in (rows, json.loads(json.dumps(rows))):
    assert [describe_changes(space, changed) for changed in given] == list(changes)


def test_changes_of_another_space_are_refused():
  with pytest.raises(ValueError, match='another space: b is 1, the space has no such'):
    describe_changes(Space({'a': OneOf((1, 2))}), {'b': 1})
  with pytest.raises(ValueError, match='of another space: a is 3, the space has 1 or 2'):
    find_chosen(Space({'a': OneOf((1, 2))}), {'a': 3})
