"""Auto-TSNet's search configs: the paper's numbers, and what they make."""

import numpy as np
import pytest

from configs.search import tsnet as config
from launch.config import load_config
from launch.runs import search
from movinet_jax.models import tsnet
from nas import algorithms, oneshot
from nas.oneshot import progressive

CLASSES = 100


def resolve(variant, step=''):
  given = config.get_config(variant).to_dict()
  if step:
    given = search.list_steps(given)[step]
  return search.resolve(given, num_classes=CLASSES)


@pytest.mark.parametrize('variant', config.VARIANTS)
def test_every_variant_is_a_search(variant):
  found = resolve(variant)
  assert found.algorithm.__name__ == 'Parsec'
  assert found.objective.reward == 'hinge'
  least, most = found.objective.cost.hold(found.held).bounds
  assert least < found.target < most


def test_no_other_variant():
  with pytest.raises(ValueError, match='no variant'):
    config.get_config('both')


def test_the_paper_s_steps():
  """Sections 5.2 and 5.5: targets, and epochs of 54,000 videos in batches of 256."""
  wanted = {
    'step1_sparse': (1.4e9, 800),
    'step2_dense': (2e9, 400),
    'step3_attention': (2.5e9, 200),
  }
  steps = search.list_steps(config.get_config().to_dict())
  assert list(steps) == list(wanted)
  for name, (target, epochs) in wanted.items():
    assert steps[name]['search']['target'] == target
    assert steps[name]['loop']['total_steps'] * 256 == pytest.approx(epochs * 54_000, rel=1e-3)


def test_what_each_step_searches():
  """Together all decisions but whether there is a dense stream, and none of them twice."""
  space = resolve('progressive').space
  steps = search.list_steps(config.get_config().to_dict())
  searched = [
    np.array([progressive.hold(space, step['searched'], None, {'dense': 1}) < 0])
    for step in steps.values()
  ]
  times = np.concatenate(searched).sum(0)
  assert times[space.number('dense')] == 0
  assert np.delete(times, space.number('dense')).tolist() == [1] * (len(space) - 1)
  first = resolve('progressive', 'step1_sparse')
  assert (
    first.networks.decode(first.space.sample(np.random.default_rng(0)) * (first.held < 0)).dense
    == ()
  )


@pytest.mark.parametrize('variant', ['fusion', 'attention'])
def test_ablations_search_manual_tsnet(variant):
  """Tables 7 and 8: all but fusions, or attention, is Manual-TSNet-70 %."""
  found, manual = resolve(variant), tsnet.VARIANTS['manual-70']
  choices = progressive.impose(found.held, np.zeros(len(found.space), np.int32))
  spec = found.networks.decode(choices)
  assert spec.sparse == manual.sparse
  assert spec.dense == manual.dense
  if variant == 'attention':
    assert spec.fusions == manual.fusions
    assert found.held[found.held < 0].size == 12
  else:
    assert found.held[found.held < 0].size == 11


def test_a_step_s_networks_are_those_of_the_whole_space():
  whole, step = resolve('one-step'), resolve('progressive')
  assert whole.space == step.space


def test_any_algorithm_runs_on_any_supernet():
  """By one key of the config."""
  files = (
    'tsnet.py:quickstart',
    'tsnet.py',
    'quickstart.py',
    'movinet.py:a2',
    'movinet.py:a0-stream',
  )
  for file in files:
    for name in algorithms.list_algorithms(algorithms.ONE_SHOT):
      given = load_config(
        f'configs/search/{file}',
        [f'--config.search.algorithm={name}', '--config.search.reward=hinge'],
      )
      found = search.resolve(given.to_dict(), num_classes=4)
      assert found.algorithm is oneshot.find_algorithm(name)
