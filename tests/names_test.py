"""A name that is wrong gets an answer that helps."""

import pytest

from movinet_jax.names import check_name, find, show, suggest

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


def test_short_names_are_completed_and_long_lists_cut():
  assert suggest('tra', [*TABLE, 'trace']) == (
    "; did you mean 'trace' or 'train'? (choices: evaluate, stream, trace, train)"
  )
  labels = [f'label {i:03}' for i in range(600)]
  assert suggest('xyz', labels).endswith('label 011, … 588 more)')
  assert "did you mean 'label 599'?" in suggest('lable 599', labels)


def test_check_name():
  check_name('train', ('train', 'test'), 'split')
  with pytest.raises(ValueError, match="unknown split 'trian'; did you mean 'train'"):
    check_name('trian', ('train', 'test'), 'split')


def test_a_text_is_shown_on_one_line():
  assert show('walk 踊り') == 'walk 踊り'
  assert show('a\nb\x1b[2J\udce9') == r'a\nb\x1b[2J\udce9'
  assert show('abcdefghij', 10) == 'abcdefghij'
  assert show('abcdefghijk', 10) == 'abcd…ghijk'
  assert show('', 3) == ''
