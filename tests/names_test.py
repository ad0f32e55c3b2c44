"""A name that is wrong gets an answer that helps."""

import pytest

from movinet_jax.names import find, suggest

TABLE = {'train': 1, 'evaluate': 2, 'stream': 3}


def test_find():
  assert find(TABLE, 'evaluate', 'verb') == 2


@pytest.mark.parametrize('name', ['evalute', 'Evaluate', 'evaluate '])
def test_near_misses_are_named(name):
  with pytest.raises(ValueError) as e:
    find(TABLE, name, 'verb')
  assert str(e.value) == (
    f"unknown verb {name!r}; did you mean 'evaluate'? (choices: evaluate, stream, train)"
  )


def test_far_misses_get_the_choices_only():
  assert suggest('xyz', TABLE) == ' (choices: evaluate, stream, train)'
  assert suggest(9, [1, 2]) == ' (choices: 1, 2)'
