"""Neighbours differ in one decision; the control costs what the found network costs."""

import numpy as np
import pytest

from movinet_jax import schema
from nas.cost import CostTable, Term
from nas.oneshot import finalists
from nas.space import OneOf, Space

SPACE = Space(
  {
    'a': OneOf((1, 2, 3)),
    'b': OneOf((None, {'c': OneOf((0, 1))})),
    'd': OneOf((0, 1, 2, 3)),
  }
)
COST = CostTable([Term((0,), np.array([10, 20, 30])), Term((3,), np.array([0, 1, 2, 30]))])
PROBABILITIES = np.array(
  [[0.5, 0.3, 0.2, 0], [0.6, 0.4, 0, 0], [0.9, 0.1, 0, 0], [0.1, 0.2, 0.65, 0.05]]
)


def test_neighbours_are_the_most_probable_single_changes():
  chosen = np.array([0, 0, 1, 2])  # decision 2 is closed
  near = finalists.list_neighbours(SPACE, chosen, PROBABILITIES, 3)
  assert [list(n) for n in near] == [[0, 1, 0, 2], [1, 0, 0, 2], [2, 0, 0, 2]]
  everyone = finalists.list_neighbours(SPACE, chosen, PROBABILITIES, 100)
  assert len(everyone) == 2 + 1 + 3


def test_the_control_is_in_the_band_and_distinct():
  rng = np.random.default_rng(0)
  found = SPACE.encode({'a': 1, 'b': 0})  # costs 20 itself
  drawn = finalists.draw_in_band(SPACE, COST, rng, 21, 0.05, 100, found)
  costs = COST.count(np.stack(drawn))
  assert set(costs.tolist()) == {20, 21, 22}
  every = list(SPACE.enumerate())
  wanted = [c for c in every if 20 <= COST.count(c) <= 22 and (c != found).any()]
  assert len(drawn) == len(wanted) == len({d.tobytes() for d in drawn})
  assert finalists.draw_in_band(SPACE, COST, rng, 10**6, 0.01, 5, found) == []


def test_a_band_that_random_networks_miss_is_walked_into():
  space = Space([OneOf(tuple(range(10))) for _ in range(40)])
  cost = CostTable([Term((n,), np.arange(10)) for n in range(40)])
  rng = np.random.default_rng(0)
  tried = cost.count(rng.integers(0, 10, (100_000, 40)))
  assert tried.min() > 63  # a sum of 40 digits is 180 on average
  found = np.zeros(40, np.int32)
  drawn = np.stack(finalists.draw_in_band(space, cost, rng, 60, 0.05, 64, found))
  assert len(drawn) == 64
  assert np.abs(cost.count(drawn) - 60).max() <= 3
  # No place differs from another: digits are as small in all of them.
  means = drawn.mean(0)
  assert means.max() - means.min() < 2
  assert means.mean() == np.mean(cost.count(drawn)) / 40


def test_what_a_change_opens_is_what_the_policy_would_take():
  probabilities = np.array(
    [[0.5, 0.3, 0.2, 0], [0.9, 0.1, 0, 0], [0.2, 0.8, 0, 0], [0.1, 0.2, 0.65, 0.05]]
  )
  near = finalists.list_neighbours(SPACE, np.array([0, 0, 0, 2]), probabilities, 100)
  opened = [list(n) for n in near if n[1] == 1]
  assert opened == [[0, 1, 1, 2]]


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (
      {'neighbours': -1},
      r'finalists\.neighbours is -1; wanted a whole number, 0 or more',
    ),
    ({'control': 1.5}, r'finalists\.control should be int, got 1\.5'),
    ({'batches': 0}, r'finalists\.batches is 0; wanted a whole number, 1 or more'),
    ({'top': True}, r'finalists\.top should be int, got True'),
    ({'band': -1.0}, r'finalists\.band is -1\.0; wanted a number, from 0 to 1'),
    ({'band': None}, r'finalists\.band should be float, got None'),
  ],
)
def test_limits_that_make_no_sense(given, message):
  with pytest.raises(ValueError, match=message):
    schema.call(finalists.Comparison, given, 'finalists')


def test_rows_tell_what_was_changed():
  def judge(everyone):
    accuracy = everyone[:, 0] / 10
    return accuracy, accuracy - everyone[:, 3] / 100

  limits = finalists.Comparison(neighbours=4, control=3)
  near, control = finalists.compare(
    judge, SPACE, COST, np.array([1, 0, 0, 0]), PROBABILITIES, limits
  )
  assert len(near) == 5
  assert [row['reward'] for row in near] == sorted((row['reward'] for row in near), reverse=True)
  assert {} in [row['changed'] for row in near]
  assert {'a': 1} in [row['changed'] for row in near]
  assert all(abs(row['cost'] - 20) <= 1 for row in control)


class Net:
  """The logits of class 1 are the first choice; those of class 0 one."""

  def apply(self, params, video, choices):
    import jax.numpy as jnp

    first = jnp.full(video.shape[0], choices[0], jnp.float32)
    return jnp.stack([jnp.ones_like(first), first], -1), {}


def test_all_are_judged_on_the_same_whole_batches():
  def clips(mask):
    return {
      'video': np.zeros((2, 1, 2, 2, 3), np.uint8),
      'label': np.array([1, 0]),
      'mask': np.array(mask, np.float32),
      'name': np.array(['x', 'y']),
    }

  batches = [clips([1, 1]), clips([1, 0]), clips([1, 1])]
  judge = finalists.make_judge(Net(), {}, lambda a, c: a - COST.count(c) / 100, batches)
  accuracy, reward = judge(np.array([[2, 0, 0, 0], [0, 0, 0, 0]]))
  np.testing.assert_allclose(accuracy, [0.5, 0.5])
  np.testing.assert_allclose(reward, [0.2, 0.4])
  judge = finalists.make_judge(Net(), {}, lambda a, c: a, [clips([1, 0])])
  np.testing.assert_allclose(judge(np.array([[2, 0, 0, 0], [0, 0, 0, 0]]))[0], [1, 0])
