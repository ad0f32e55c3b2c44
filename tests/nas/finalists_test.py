"""Neighbours differ in one decision; the control costs what the found network costs."""

import numpy as np

from nas import finalists
from nas.cost import CostTable, Term
from nas.space import OneOf, Space

SPACE = Space(
  {
    'a': OneOf((1, 2, 3)),
    'b': OneOf((None, {'c': OneOf((0, 1))})),
    'd': OneOf((0, 1, 2, 3)),
  }
)
COST = CostTable(
  [Term((0,), np.array([10, 20, 30])), Term((3,), np.array([0, 1, 2, 30]))]
)
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
  drawn = finalists.draw_in_band(SPACE, COST, rng, 21, 0.05, 100)
  costs = COST.count(np.stack(drawn))
  assert set(costs.tolist()) == {20, 21, 22}
  every = list(SPACE.enumerate())
  wanted = [c for c in every if 20 <= COST.count(c) <= 22]
  assert len(drawn) == len(wanted) == len({d.tobytes() for d in drawn})
  assert finalists.draw_in_band(SPACE, COST, rng, 10**6, 0.01, 5) == []


def test_rows_tell_what_was_changed():
  def judge(everyone):
    accuracy = everyone[:, 0] / 10
    return accuracy, accuracy - everyone[:, 3] / 100

  near, control = finalists.compare(
    judge, SPACE, COST, np.array([1, 0, 0, 0]), PROBABILITIES, neighbours=4, control=3
  )
  assert len(near) == 5
  assert [row['reward'] for row in near] == sorted(
    (row['reward'] for row in near), reverse=True
  )
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
