"""Progressive search against search in one step, where the best network is known.

python benchmarks/progressive.py          ten minutes

A space of two-stream networks is small enough that all are scored. Their cost is that of the
space. Their accuracy is from tables that are drawn by a seed: a term for each choice, which grows
with it, and a term for each pair of choices. A search sees it with noise. The reward is the hinge.

All searches have as many steps of as many candidates. One searches everything at once. The other
has three steps of a third of them, as configs/search/tsnet.py has: each has a target of its own
and holds what was decided before. Both know that there is a dense stream.

Prints a JSON line for each algorithm, way and number of steps: means over the tables of the
regret (what the found network's reward is below the best one's, in standard deviations of all
rewards), the cost over the target, and the entropy in nats that is left of what each step begins
with. The line 'exact' is of three steps that each find the best network they search.
"""

import functools
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from timing import describe_machine

from nas.algorithms.parsec import Parsec
from nas.algorithms.policy import Scores
from nas.algorithms.reinforce import Reinforce
from nas.objective import hinge_reward
from nas.oneshot import progressive
from nas.spaces import tsnet

SPACE = {
  **{'sparse': ((16, 24), (24, 40)), 'dense': ((8,), (8, 16)), 'depths': ((1,), (1,))},
  **{'expansions': (1.5, 2.25), 'times': (1, 3), 'sizes': (3,), 'places': (1,)},
  **{'fusions': ('none', 'sample', 'conv'), 'stems': (8, 8), 'hidden': 64, 'resolution': 32},
  **{'attention_width': 8},
}
# What each step searches.
STEPS = ('sparse/groups/*',), ('dense:1/groups/*', 'dense:1/fusion/*'), ('*/attention/*',)
TABLES, CANDIDATES, BUDGETS = 16, 8, (300, 1200, 4800)
MEAN, SPREAD, NOISE, BETA = 0.6, 0.05, 0.03, -0.5  # accuracies of all networks, and a trial's
GROWTH, PAIRS = 2.0, 0.5  # what a decision's best choice adds, and pairs', against chance's spread
ALGORITHMS = {
  'parsec': functools.partial(Parsec, policy_rate=0.025),
  'reinforce': functools.partial(
    Reinforce, policy_rate=0.01, filters_warmup=0.0, ops_warmup=0.0, policy_delay=0.1
  ),
}
NETWORKS = tsnet.make_space(**SPACE)
COST = NETWORKS.make_cost_table()
SIZES, WIDEST = NETWORKS.space.sizes, int(NETWORKS.space.sizes.max())


class Table(NamedTuple):
  """What accuracy is made of, D decisions of N choices; many tables have a leading axis.

  Attributes:
    base: of a network, added to what follows.
    alone: [D N], of each choice that matters.
    pairs: [D N, D N], of each two, symmetric.
  """

  base: np.ndarray
  alone: np.ndarray
  pairs: np.ndarray


def main():
  everyone = enumerate_networks()
  tables = [make_table(seed, everyone) for seed in range(TABLES)]
  best = [follow_exactly(table, everyone) for table in tables]
  row = {'benchmark': 'progressive', 'algorithm': 'exact', 'way': 'progressive'}
  print(json.dumps({**row, 'networks': len(everyone), **judge(tables, everyone, best)}), flush=True)
  for name, make in ALGORITHMS.items():
    for budget in BUDGETS:
      for way, find in (('one-step', search_at_once), ('progressive', search_in_steps)):
        choices, entropies = find(make, stack(tables), budget, find_targets(everyone))
        row = {'benchmark': 'progressive', 'algorithm': name, 'way': way, 'steps': budget}
        row |= {'networks': len(everyone), **judge(tables, everyone, choices), **entropies}
        print(json.dumps({**row, **describe_machine()}), flush=True)


def enumerate_networks() -> np.ndarray:
  """[K, D], all networks with a dense stream."""
  everyone = np.stack(list(NETWORKS.space.enumerate()))
  return everyone[everyone[:, NETWORKS.dense_number] == 1]


def make_table(seed: int, everyone: np.ndarray) -> Table:
  """Draws a table; accuracies of all networks have the mean MEAN and the deviation SPREAD."""
  rng, size = np.random.default_rng(seed), len(SIZES) * WIDEST
  growth = np.arange(WIDEST) / np.maximum(SIZES - 1, 1)[:, None]
  alone = (GROWTH * growth + rng.normal(size=growth.shape)).reshape(-1)
  pairs = np.triu(rng.normal(0, PAIRS / np.sqrt(len(SIZES)), (size, size)), 1)
  table = Table(np.zeros(()), alone, pairs + pairs.T)
  values = measure_all(table, everyone)
  factor = SPREAD / values.std()
  return Table(MEAN - factor * values.mean(), factor * alone, factor * (pairs + pairs.T))


def measure(table: Table, choices):
  """Accuracies of networks [..., D]. Decisions that are closed add nothing."""
  parents, wanted = NEEDS
  opened = jnp.where(wanted < 0, True, choices[..., parents] == wanted)
  chosen = jax.nn.one_hot(choices, WIDEST) * opened[..., None]
  flat = chosen.reshape(*chosen.shape[:-2], -1)
  return table.base + flat @ table.alone + ((flat @ table.pairs) * flat).sum(-1) / 2


def _list_needs():
  """The decision and choice that each decision needs: [D] each, -1 where none."""
  needs = [
    decision.needs[-1] if decision.needs else (0, -1) for decision in NETWORKS.space.decisions
  ]
  return np.array(needs).T


NEEDS = _list_needs()


@jax.jit
def _measure_rows(table, choices):
  return jax.lax.map(functools.partial(measure, table), choices, batch_size=4096)


def measure_all(table: Table, everyone) -> np.ndarray:
  return np.asarray(_measure_rows(table, jnp.asarray(everyone)), np.float64)


def find_targets(everyone: np.ndarray) -> list[float]:
  """Medians of the costs that networks have in each of the three steps."""
  found, held = [], np.zeros(len(SIZES), np.int64)
  for step, opened in enumerate(open_decisions()):
    held = np.where(opened, progressive.OPEN, held)
    able = np.where(held == progressive.OPEN, everyone, 0)
    able[:, NETWORKS.dense_number] = step > 0
    found.append(float(np.median(COST.count(np.unique(able, axis=0)))))
  return found


def follow_exactly(table: Table, everyone: np.ndarray) -> np.ndarray:
  """[D], what three steps find that each find the best network they search."""
  choices = np.zeros(len(SIZES), np.int64)
  for step, (opened, target) in enumerate(
    zip(open_decisions(), find_targets(everyone), strict=True)
  ):
    choices[NETWORKS.dense_number] = step > 0
    able = np.unique(np.where(opened, everyone, choices), axis=0)
    values = hinge_reward(measure_all(table, able), COST.count(able) / target, BETA)
    choices = able[np.argmax(values)]
  return choices


def open_decisions() -> list[np.ndarray]:
  """[D] bool for each step."""
  return [
    progressive.hold(NETWORKS.space, patterns, given={'dense': int(step > 0)}) == progressive.OPEN
    for step, patterns in enumerate(STEPS)
  ]


def stack(tables):
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *tables)


def search_at_once(make, tables, budget: int, targets):
  held = np.where(np.any(open_decisions(), axis=0), progressive.OPEN, 0)
  held[NETWORKS.dense_number] = 1
  held = np.tile(held, (TABLES, 1))
  choices, left, bound = search(tables, held, targets[-1], 0, make=make, steps=budget)
  return choices, summarise([left], [bound])


def search_in_steps(make, tables, budget: int, targets):
  choices, rows = np.zeros((TABLES, len(SIZES)), np.int32), []
  for step, (opened, target) in enumerate(zip(open_decisions(), targets, strict=True)):
    choices = np.array(choices)
    choices[:, NETWORKS.dense_number] = step > 0
    held = np.where(opened, progressive.OPEN, choices)
    choices, *entropies = search(tables, held, target, step, make=make, steps=budget // len(STEPS))
    rows.append(entropies)
  return choices, summarise(*zip(*rows, strict=True))


def summarise(left, bound) -> dict:
  """Means over the tables, for each step."""
  return {
    'entropy_left': [round(float(x.mean()), 3) for x in left],
    'entropy_bound': [round(float(x.mean()), 3) for x in bound],
  }


@functools.partial(jax.jit, static_argnames=('make', 'steps'))
def search(tables, held, target, seed, *, make, steps):
  """Searches all tables at once: choices [P, D], and entropies left and at first, [P] each."""

  def search_one(table, held, key):
    algorithm = make(NETWORKS.space, total_steps=steps, held=held)

    def step(state, key):
      noise_key, *keys = jax.random.split(key, CANDIDATES + 1)
      proposals = jax.vmap(algorithm.propose, (None, 0))(state, jnp.stack(keys))
      noise = NOISE * jax.random.normal(noise_key, (CANDIDATES,))
      accuracy = measure(table, proposals.choices) + noise
      ratio = jax.vmap(COST.value)(proposals.choices) / target
      scores = Scores(hinge_reward(accuracy, ratio, BETA), accuracy, jnp.log(accuracy), ratio)
      return algorithm.update(state, proposals, scores), None

    state, _ = jax.lax.scan(step, algorithm.init(key), jax.random.split(key, steps))
    entropies = algorithm.entropy_total(state), algorithm.entropy_bound()
    return algorithm.most_probable(state), *entropies

  keys = jax.random.split(jax.random.key(seed), len(held))
  return jax.vmap(search_one)(tables, held, keys)


def judge(tables, everyone, choices) -> dict:
  """Regrets and cost ratios of what was found, by the last step's target."""
  target, regrets, ratios = find_targets(everyone)[-1], [], []
  costs = COST.count(everyone) / target
  for table, mine in zip(tables, np.asarray(choices), strict=True):
    values = np.asarray(hinge_reward(measure_all(table, everyone), costs, BETA))
    ratios.append(float(COST.count(mine)) / target)
    found = float(hinge_reward(measure_all(table, mine[None])[0], ratios[-1], BETA))
    regrets.append((values.max() - found) / values.std())
  return {
    'regret': round(float(np.mean(regrets)), 3),
    'regret_error': round(float(np.std(regrets, ddof=1) / np.sqrt(TABLES)), 3),
    'regret_worst': round(float(np.max(regrets)), 3),
    'cost_ratio': round(float(np.mean(ratios)), 3),
  }


if __name__ == '__main__':
  main()
