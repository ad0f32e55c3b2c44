"""Precise batch norm: the exact moments of what each norm is given, and nothing else.

That a batch may be split over devices is tested in mesh_test.py.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import movinet_jax as mj
from movinet_jax import layers
from movinet_jax.models.x3d import Spec, Stage
from movinet_jax.train.precise_norm import combine, make_estimate
from movinet_jax.train.steps import make_eval_step
from tests.train.toy import Toy, make_batch, make_variables, max_difference


class TwoNorms(nn.Module):
  """Scales by `weight` and normalises, twice; the second time after dropout."""

  group_size: int | None = None

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    norm = {'group_size': self.group_size, 'epsilon': 1e-5}
    x = x * self.param('weight', nn.initializers.constant(3.0), ())
    x, _ = layers.BatchNorm(**norm, name='first')(x, train=train)
    x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
    x, _ = layers.BatchNorm(**norm, name='second')(x, train=train)
    return x.mean((1, 2, 3)), {}


def make_clips(batches=3, clips=4):
  """Batches whose means differ, so that the spread of means counts."""
  rng = np.random.default_rng(0)
  shape = (batches, clips, 2, 3, 3, 3)
  video = rng.normal(size=shape) + np.arange(batches).reshape(-1, *(1,) * 5)
  return [{'video': video.astype(np.float32)} for video in video]


def start(model, batches):
  """Variables whose running statistics are far from anything's."""
  variables = model.init(jax.random.key(0), jnp.asarray(batches[0]['video']))
  stats = jax.tree.map(lambda x: x + 50.0, variables['batch_stats'])
  return {'params': variables['params'], 'batch_stats': stats}


def normalise(x):
  axes = tuple(range(x.ndim - 1))
  return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)


def moments_by_hand(inputs):
  """Moments of all inputs put together, in float64."""
  x = np.concatenate(inputs).astype(np.float64)
  axes = tuple(range(x.ndim - 1))
  return {'mean': x.mean(axes), 'var': x.var(axes)}


@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('group_size', [None, 2])
def test_they_are_the_moments_of_all_batches_together(count, group_size):
  batches = make_clips(count)
  model = TwoNorms(group_size)
  found = make_estimate(model)(start(model, batches), batches)
  first = [3 * batch['video'].astype(np.float64) for batch in batches]
  size = group_size or 4
  # As in training, the second norm is given what the first made with its groups' moments.
  groups = [x[i : i + size] for x in first for i in range(0, 4, size)]
  second = [np.maximum(normalise(group), 0) for group in groups]
  for name, inputs in {'first': first, 'second': second}.items():
    for key, wanted in moments_by_hand(inputs).items():
      np.testing.assert_allclose(found[name][key], wanted, rtol=2e-5, err_msg=name)


def test_the_spread_of_means_counts():
  """What averaged variances, or averaged deviations, would lose."""
  batches = make_clips(3)
  model = TwoNorms()
  found = make_estimate(model)(start(model, batches), batches)['first']['var']
  each = [9 * batch['video'].var((0, 1, 2, 3)) for batch in batches]
  assert np.all(found > np.mean(each, 0) + 4)


def test_nothing_else_changes_and_chance_has_no_part():
  batches = make_clips()
  model = TwoNorms()
  variables = start(model, batches)
  before = jax.tree.map(np.asarray, variables)
  one, two = (make_estimate(model)(variables, batches) for _ in range(2))
  assert max_difference(one, two) == 0
  assert max_difference(variables, before) == 0
  # Nor does it matter what the statistics were.
  fresh = model.init(jax.random.key(0), jnp.asarray(batches[0]['video']))
  assert max_difference(make_estimate(model)(fresh, batches), one) == 0
  assert jax.tree.structure(one) == jax.tree.structure(before['batch_stats'])


def test_an_evaluated_batch_is_normalised_as_if_it_were_the_only_one():
  """Of one batch without dropout, evaluation then equals training."""
  model, batch = Toy(), make_batch()
  variables = make_variables()
  stats = make_estimate(model)(variables, [batch])
  evaluated = make_eval_step(model)({**variables, 'batch_stats': stats}, batch['video'])
  video = batch['video'] / np.float32(255)
  trained, _ = model.apply(variables, video, train=True, mutable=['batch_stats'])
  np.testing.assert_allclose(evaluated, trained[0], atol=1e-5)
  plain = make_eval_step(model)(variables, batch['video'])
  assert np.abs(plain - trained[0]).max() > 1e-2


@pytest.mark.parametrize('remat', [False, True])
def test_a_rematerialised_x3d(remat):
  spec = Spec(8, (Stage(8, 16, 1), Stage(16, 24, 2)), 16, frames=2, resolution=16)
  model = mj.create('x3d', 4, spec=spec, stochastic_depth=0.5, remat=remat)
  variables = mj.init(model, jax.random.key(0), (1, 2, 16, 16, 3))
  batches = [make_batch(n, clips=2, frames=2, size=16) for n in range(2)]
  plain = model.clone(remat=False, stochastic_depth=0.0)
  found = make_estimate(model)(variables, batches)
  wanted = make_estimate(plain)(variables, batches)
  assert max_difference(found, wanted) < 1e-6
  assert jax.tree.structure(found) == jax.tree.structure(variables['batch_stats'])


class OtherStatistics(nn.Module):
  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    self.variable('batch_stats', 'count', jnp.zeros, ())
    return x.mean((1, 2, 3)), {}


def test_what_cannot_be_recomputed_is_said():
  batches = make_clips()
  model = OtherStatistics()
  variables = {'batch_stats': {'count': jnp.zeros(())}}
  with pytest.raises(ValueError, match=r"OtherStatistics has the statistics \['count'\]"):
    make_estimate(model)(variables, batches)
  with pytest.raises(ValueError, match='there are 0 batches'):
    combine([])
  with pytest.raises(ValueError, match='there are 2 batches and 0 statistics'):
    combine([{}, {}])
