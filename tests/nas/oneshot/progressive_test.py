"""Steps search what is named, hold what was found, and take first choices for the rest."""

import numpy as np
import pytest

from nas.cost import CostTable, Term
from nas.oneshot import finalists, progressive
from nas.space import OneOf, Space

SPACE = Space(
  {
    'first': {'kernel': OneOf((1, 3, 5)), 'width': OneOf((8, 16), 'filters')},
    'second': OneOf((None, {'kernel': OneOf((1, 3)), 'width': OneOf((8, 16, 24), 'filters')})),
  }
)


def test_all_is_searched_by_default():
  assert progressive.hold(SPACE, ('*',)) is None


def test_what_is_not_searched_has_its_first_choice_or_what_was_found():
  first = progressive.hold(SPACE, ('first/*',))
  assert list(first) == [-1, -1, 0, 0, 0]
  found = np.array([2, 1, 0, 0, 0])
  second = progressive.hold(SPACE, ('second:1/*',), found, {'second': 1})
  assert list(second) == [2, 1, 1, -1, -1]
  kernels = progressive.hold(SPACE, ('*kernel',), None, {'second': 1, 'first/width': 1})
  assert list(kernels) == [-1, 1, 1, -1, 0]


def test_what_steps_may_hold_before_they_have_run():
  """Choices that a step before searches are not known yet."""
  steps = [(('first/kernel',), {}), (('second:1/*',), {'second': 1})]
  assert list(progressive.preview(SPACE, steps)) == [-1, 0, 1, -1, -1]
  steps.append((('first/width',), {'first/kernel': 2}))
  assert list(progressive.preview(SPACE, steps)) == [2, -1, 1, -1, -1]
  with pytest.raises(ValueError, match='no decision that matters'):
    progressive.preview(SPACE, [(('first/*',), {}), (('second:1/*',), {})])
  # A search before has found that there is a second one.
  found = np.array([2, 1, 1, 0, 2])
  steps = [(('first/*',), {}), (('second:1/kernel',), {})]
  assert list(progressive.preview(SPACE, steps, found)) == [-1, -1, 1, -1, 2]


def test_all_but_what_is_given_is_searched_by_default():
  assert list(progressive.hold(SPACE, None, None, {'second': 1})) == [-1, -1, 1, -1, -1]
  assert progressive.hold(SPACE, None) is None


def test_held_choices_are_put_into_networks():
  held = np.array([2, -1, 0, 0, 0])
  drawn = np.array([[0, 1, 1, 1, 2], [1, 0, 1, 0, 0]])
  assert progressive.impose(held, drawn).tolist() == [[2, 1, 0, 0, 0], [2, 0, 0, 0, 0]]
  assert progressive.impose(None, drawn) is drawn


@pytest.mark.parametrize(
  ('searched', 'given', 'message'),
  [
    (('first/kernl',), {}, "did you mean 'first/kernel'"),
    (('third/*',), {}, "'third/[*]'"),
    (('first/*',), {'first/kernel': 0}, 'first/kernel is held at choice 0 and is searched too'),
    (('first/*',), {'second': 2}, 'second has choices 0 to 1, got 2'),
    (('first/*',), {'secnd': 1}, "did you mean 'second'"),
    (('second:1/*',), {}, 'no decision that matters is searched: second:1/[*]'),
  ],
)
def test_what_makes_no_sense_is_refused(searched, given, message):
  with pytest.raises(ValueError, match=message):
    progressive.hold(SPACE, searched, None, given)


def make_table():
  rng = np.random.default_rng(0)
  tables = [((0, 1), (3, 2)), ((2, 3), (2, 2)), ((4,), (3,)), ((0, 4), (3, 3))]
  return CostTable([Term(n, rng.integers(1, 100, shape)) for n, shape in tables])


@pytest.mark.parametrize('held', [[2, -1, 1, -1, -1], [-1] * 5, [0, 1, 0, 0, 0]])
def test_bounds_are_of_the_networks_that_agree(held):
  table, held = make_table(), np.array(held)
  grid = np.stack(np.meshgrid(*map(np.arange, SPACE.sizes), indexing='ij'), -1).reshape(-1, 5)
  agree = grid[((held < 0) | (grid == held)).all(-1)]
  part = table.hold(held)
  assert part.bounds == (table.count(agree).min(), table.count(agree).max())
  np.testing.assert_array_equal(part.count(agree), table.count(agree))
  assert table.hold(None) is table


def test_finalists_agree_with_what_is_held():
  held, chosen = np.array([2, -1, 1, -1, 1]), np.array([2, 0, 1, 1, 1])
  probabilities = np.full((5, 3), 1 / 3)
  near = finalists.list_neighbours(SPACE, chosen, probabilities, 100, held)
  assert sorted(map(list, near)) == [[2, 0, 1, 0, 1], [2, 1, 1, 1, 1]]
  rng, table = np.random.default_rng(0), make_table()
  drawn = finalists.draw_in_band(SPACE, table, rng, 150, 0.9, 20, chosen, held)
  assert drawn
  for choices in drawn:
    np.testing.assert_array_equal(choices[[0, 2, 4]], [2, 1, 1])
