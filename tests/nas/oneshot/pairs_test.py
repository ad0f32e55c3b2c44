"""Every algorithm searches with every supernet, and alike on one device and on two."""

import sys

import jax
import numpy as np
import pytest

import nas.algorithms
from movinet_jax import cost
from movinet_jax.train import mesh
from nas import oneshot
from nas.objective import Objective
from tests.nas.oneshot.small import (
  LOSS,
  OPTIMIZER,
  make_batch,
  make_net,
  make_two_streams,
)
from tests.train import toy

NETS = {'movinet': make_net, 'tsnet': make_two_streams}
ALGORITHMS = sorted(nas.algorithms.list_algorithms(nas.algorithms.ONE_SHOT))
SETTINGS = {
  # Two samples of eight candidates, all on the first of two devices: the other trains none.
  'parsec': {'samples_per_nat': 1e-3},
  'reinforce': {'policy_delay': 0.0, 'filters_warmup': 0.0, 'ops_warmup': 0.0},
}
# What a search is compared by.
NAMES = 'choices', 'params', 'logits', 'collectives', 'collectives_in_branches'


def test_all_are_here():
  assert set(oneshot.list_supernets()) == set(NETS)
  assert set(ALGORITHMS) == set(SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('family', NETS)
def test_devices_agree(family, algorithm, tmp_path):
  """No branch communicates, so a device may have nothing to train."""
  path = tmp_path / 'found.npz'
  process = toy.start('tests.nas.oneshot.pairs_test', family, algorithm, path, devices=2)
  output, _ = process.communicate(timeout=600)
  assert process.returncode == 0, output
  with np.load(path) as file:
    alone, both = ({name: file[f'{name}_{n}'] for name in NAMES} for n in (1, 2))
  np.testing.assert_array_equal(alone['choices'], both['choices'])
  for name in ('params', 'logits'):
    assert alone[name].any()
    assert np.linalg.norm(both[name] - alone[name]) < 1e-6 * np.linalg.norm(alone[name])
  assert both['collectives'] >= 2  # weights' and scores'
  assert both['collectives_in_branches'] == 0


def search(net, name: str, devices: int) -> dict:
  """What three steps did, and how their program communicates."""
  algorithm, table = oneshot.find_algorithm(name), net.make_cost_table()
  place = mesh.make_mesh(jax.devices()[:devices])
  options = {'candidates': 8, 'optimizer': OPTIMIZER, 'algorithm': algorithm}
  step = oneshot.make_search_step(net, Objective(table), LOSS, place, **options)
  given = {'target': sum(table.bounds) / 2, 'total_steps': 8, 'learning_rate': 0.1}
  given |= {'policy_rate': 0.3, **SETTINGS[name]}
  settings = oneshot.make_settings(net.space.space, algorithm, **given)
  state = oneshot.make_state(net, settings, OPTIMIZER, algorithm)
  state = jax.device_put(state, mesh.replicated(place))
  shardings = mesh.replicated(place), mesh.split(place)
  program = jax.jit(step, in_shardings=shardings).lower(state, make_batch(0)).compile()
  choices = []
  for number in range(3):
    state, metrics = program(state, make_batch(number))
    choices.append(metrics['aux']['choices'])
  found = cost.find_collectives(program.as_text())
  params = np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.device_get(state.params))])
  counts = len(found), sum(one.in_branch for one in found)
  return dict(zip(NAMES, (np.stack(choices), params, state.policy.logits, *counts), strict=True))


def main(family, algorithm, path):
  """Searches on one device and on two, for `test_devices_agree`."""
  net = NETS[family]()
  found = {n: search(net, algorithm, n) for n in (1, 2)}
  np.savez(path, **{f'{name}_{n}': x for n, row in found.items() for name, x in row.items()})


if __name__ == '__main__':
  main(*sys.argv[1:])
