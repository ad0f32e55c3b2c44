"""Rewards weigh accuracy against one cost or two, on the host and in a compiled step."""

import jax
import numpy as np
import pytest

from nas.cost import CostTable, Term
from nas.objective import REWARDS, Objective

COST = CostTable([Term((0,), np.array([50, 100, 150])), Term((1,), np.array([0, 50]))])
MEMORY = CostTable([Term((1,), np.array([8, 24]))])
CHOICES = np.array([[0, 0], [1, 0], [2, 1]], np.int32)
ACCURACY = np.array([0.5, 0.6, 0.7], np.float32)
SETTINGS = {'target': 100.0, 'beta': -0.1, 'memory_target': 16.0, 'memory_beta': -0.5}


@pytest.mark.parametrize('reward', REWARDS)
def test_one_cost_by_hand(reward):
  wanted = REWARDS[reward](ACCURACY, np.array([0.5, 1.0, 2.0]), -0.1)
  objective = Objective(COST, reward)
  np.testing.assert_allclose(objective(ACCURACY, CHOICES, SETTINGS), wanted, rtol=1e-6)
  np.testing.assert_allclose(objective.ratio(CHOICES, SETTINGS), [0.5, 1, 2])


def test_a_second_cost_presses_only_above_its_target():
  with_memory, without = Objective(COST, memory=MEMORY), Objective(COST)
  press = jax.jit(with_memory)(ACCURACY, CHOICES, SETTINGS)
  press -= without(ACCURACY, CHOICES, SETTINGS)
  np.testing.assert_allclose(press, [0, 0, -0.5 * (24 / 16 - 1)], atol=1e-6)


def test_unknown_rewards_are_refused():
  with pytest.raises(ValueError, match="unknown reward 'mnass'; did you mean 'mnas'"):
    Objective(COST, 'mnass')


@pytest.mark.parametrize(
  ('name', 'ratio', 'wanted'),
  [
    ('absolute', 1.5, 0.8 - 0.05),
    ('absolute', 0.5, 0.8 - 0.05),
    ('hinge', 1.5, 0.8 - 0.05),
    ('hinge', 0.5, 0.8),
    ('mnas', 2.0, 0.8 / 2**0.1),
    ('mnas', 0.5, 0.8 * 2**0.1),
    ('mnas_hard', 2.0, 0.8 / 2**0.1),
    ('mnas_hard', 0.5, 0.8),
  ],
)
def test_rewards(name, ratio, wanted):
  np.testing.assert_allclose(REWARDS[name](0.8, ratio, -0.1), wanted, rtol=1e-6)
  assert REWARDS[name](0.8, 1.0, -0.1) == pytest.approx(0.8)


@pytest.mark.parametrize('name', REWARDS)
def test_rewards_of_cost_are_refused(name):
  with pytest.raises(ValueError, match=r'beta is 0.1, wanted 0 or less'):
    REWARDS[name](0.8, 1.0, 0.1)
