"""Supernets of one file each: a space names its own."""

import dataclasses
import sys
import typing

import jax
import numpy as np
import pytest

from movinet_jax.train import losses, mesh
from nas import oneshot
from nas.cost import CostTable, Term
from nas.objective import Objective
from nas.oneshot import supernets
from nas.space import OneOf, Space
from nas.spaces import movinet, x3d

PLANTED = '''
"""Means of a clip's colors, each power of which may be left out."""

import dataclasses
import typing

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Supernet:
  space: typing.Any
  num_classes: int
  scale: float = 1.0

  def init(self, key):
    return {'classifier': {'kernel': jnp.zeros((2, 3, self.num_classes))}}

  def apply(self, params, x, choices, state=None):
    powers = [choices[n] * (self.scale * x.mean((1, 2, 3))) ** (n + 1) for n in range(2)]
    logits = sum(p @ params['classifier']['kernel'][n] for n, p in enumerate(powers))
    return logits, {}
'''


@dataclasses.dataclass(frozen=True)
class Colors:
  """Networks that use powers of the mean color."""

  supernet: typing.ClassVar[str] = 'colors'
  space = Space({'first': OneOf((False, True)), 'second': OneOf((False, True))})


@pytest.fixture
def make_planted(tmp_path, monkeypatch):
  (tmp_path / 'colors.py').write_text(PLANTED)
  monkeypatch.setattr(supernets, '__path__', [*supernets.__path__, str(tmp_path)])
  yield oneshot.find_supernet(Colors())
  del sys.modules['nas.oneshot.supernets.colors']


def make_batch(number, count):
  rng = np.random.default_rng(number)
  label = rng.integers(3, size=count).astype(np.int32)
  video = 0.2 * rng.uniform(size=(count, 2, 4, 4, 3)) + 0.8 * np.eye(3)[label][:, None, None, None]
  return {'video': video.astype(np.float32), 'label': label, 'mask': np.ones(count, np.float32)}


def test_a_planted_supernet_is_searched(make_planted):
  """Nothing of the step is MoViNet's."""
  net = make_planted(Colors(), 3)
  cost = CostTable([Term((0,), np.array([1, 2])), Term((1,), np.array([1, 2]))])
  settings = oneshot.make_settings(
    net.space.space,
    **{'target': 3.0, 'beta': -2.0, 'total_steps': 100, 'learning_rate': 1.0},
    **{'policy_rate': 0.1, 'policy_delay': 0.1, 'filters_warmup': 0.0, 'ops_warmup': 0.0},
  )
  step = oneshot.make_search_step(
    net,
    Objective(cost),
    losses.make_loss('softmax'),
    mesh.make_mesh(jax.devices()[:1]),
    candidates=4,
    optimizer={'name': 'sgd'},
  )
  step, state = jax.jit(step), oneshot.make_state(net, settings, {'name': 'sgd'})
  for number in range(100):
    batch = {**make_batch(2 * number, 16), 'valid': make_batch(2 * number + 1, 16)}
    state, metrics = step(state, batch)
  found = oneshot.make_algorithm(net.space.space, settings).most_probable(state.policy)
  assert found.sum() == 1  # one power costs the target
  assert metrics['accuracy'] > 0.5


def test_a_space_names_its_supernet():
  assert oneshot.list_supernets() == ['movinet', 'tsnet']
  space = movinet.make_space()
  assert oneshot.find_supernet(space).__module__ == 'nas.oneshot.supernets.movinet'
  with pytest.raises(ValueError, match='has no supernet'):
    oneshot.find_supernet(x3d.make_space())


def test_a_supernet_that_is_not_there(monkeypatch):
  monkeypatch.setattr(Colors, 'supernet', 'movine')
  with pytest.raises(ValueError, match="did you mean 'movinet'"):
    oneshot.find_supernet(Colors())
