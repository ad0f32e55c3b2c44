"""What a search maximises: accuracy, weighed against what a network costs.

The absolute reward is TuNAS's (Bender et al., CVPR 2020). The hinge is Auto-TSNet's (Gong et
al., ICCV 2021, section 4.1). The others are MnasNet's (Tan et al., CVPR 2019). The optional
press on a second cost is for the memory of streams (MoViNet, supplement A.3, last paragraph).
"""

import dataclasses
import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from movinet_jax.names import check_name
from nas.cost import CostTable


def absolute_reward(quality, cost_ratio, beta):
  """Q + beta |x - 1| for a cost of x times the target; TuNAS, beta -0.1.

  The best architecture costs the target only where -beta exceeds the slope dQ/dx there;
  otherwise it costs more.

  Raises:
    ValueError: beta is a number above 0, which rewards missing the target.
  """
  _check_beta(beta)
  return quality + beta * jnp.abs(cost_ratio - 1)


def hinge_reward(quality, cost_ratio, beta):
  """Q + beta max(0, x - 1): only what costs more than the target is penalized."""
  _check_beta(beta)
  return quality + beta * jnp.maximum(cost_ratio - 1, 0)


def mnas_reward(quality, cost_ratio, beta):
  """Q x^beta (MnasNet's soft constraint; beta -0.07 there)."""
  _check_beta(beta)
  return quality * cost_ratio**beta


def mnas_hard_reward(quality, cost_ratio, beta):
  """Q min(x^beta, 1): as `mnas_reward`, but costs below the target earn nothing."""
  _check_beta(beta)
  return quality * jnp.minimum(cost_ratio**beta, 1)


def _check_beta(beta):
  if isinstance(beta, numbers.Real) and not beta <= 0:
    raise ValueError(f'beta is {beta}, wanted 0 or less: cost lowers the reward')


REWARDS = {
  'absolute': absolute_reward,
  'hinge': hinge_reward,
  'mnas': mnas_reward,
  'mnas_hard': mnas_hard_reward,
}


@dataclasses.dataclass(frozen=True)
class Objective:
  """Rewards of networks by accuracy and cost.

  Attributes:
    cost: of a network, in the unit of the target.
    reward: name of a form in REWARDS.
    memory: a second cost that is pressed below a target of its own, such as bytes of
      stream state: it bears on the temporal widths of kernels.

  Raises:
    ValueError: an unknown reward.
  """

  cost: CostTable
  reward: str = 'absolute'
  memory: CostTable | None = None

  def __post_init__(self):
    check_name(self.reward, REWARDS, 'reward')

  def ratio(self, choices, settings: Mapping) -> jax.Array:
    """[R], costs of networks [R, D] over settings['target']."""
    return jax.vmap(self.cost.value)(choices) / settings['target']

  def __call__(self, accuracy, choices, settings: Mapping) -> jax.Array:
    """Rewards [R].

    Args:
      accuracy: [R].
      choices: [R, D].
      settings: target and beta; with a second cost, memory_target and memory_beta too.
        Numbers, or traced: one compilation serves a study.
    """
    rewards = REWARDS[self.reward](accuracy, self.ratio(choices, settings), settings['beta'])
    if self.memory is None:
      return rewards
    over = jax.vmap(self.memory.value)(choices) / settings['memory_target'] - 1
    return rewards + settings['memory_beta'] * jnp.maximum(over, 0)
