"""The one-shot search step: weights and policy learn in turns, in one compiled program.

Bender et al., TuNAS, CVPR 2020, as its published code does it. In a step, each candidate
is an architecture drawn from the policy. The weights take the mean of the candidates'
gradients on training clips; then each candidate is scored with the new weights on held-out
clips, its reward weighs score against cost, and the policy learns from the rewards.

Architectures are drawn and learnt from outside of `jax.shard_map`, on values that all
devices share; inside it every device runs its own candidates and nothing communicates but
one explicit mean of gradients at the end. A collective inside a branch that only some
devices take would hang or corrupt memory, so the weights are made device-varying before
anything is differentiated.
"""

import functools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from movinet_jax.names import check_name
from movinet_jax.train import optimizers, steps
from movinet_jax.train.metrics import count_correct
from nas.algorithms.reinforce import RANGES, Reinforce
from nas.objective import Objective

SHARED, SPLIT = PartitionSpec(), PartitionSpec('data')


@flax.struct.dataclass
class SearchState:
  """What a search carries from step to step; the numbers of its settings too.

  Attributes:
    step: int32, updates made so far, which is also the number of batches consumed.
    params: the supernet's weights, float32.
    opt_state: of the weights' optimizer.
    policy: the algorithm's state.
    settings: scalars that searches of one compiled program may differ in, see SETTINGS.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  policy: Any
  settings: Mapping[str, jax.Array]


# What may differ between searches that share a compiled step, and TuNAS's defaults, given
# for a batch of 4,096 clips.
SETTINGS: dict[str, float] = {
  'seed': 0,
  'target': 0.0,  # cost wanted, in the cost's own unit
  'beta': -0.1,  # weight of the relative distance from it
  'memory_target': 1.0,  # of the optional second cost
  'memory_beta': 0.0,
  'total_steps': 27_050,
  'learning_rate': 2.64,
  'warmup': 0.025,  # share of the steps
  'weight_decay': 4e-5,  # in float32; TuNAS has 3e-5 with bfloat16
  'policy_rate': 4.8e-3,
  'policy_growth': 10.0,
  'policy_delay': 0.25,
  'filters_warmup': 0.25,
  'ops_warmup': 0.25,
  'second_moment': 0.999,
  'epsilon': 1e-8,
  'baseline_momentum': 0.95,
  'entropy': 0.0,
  'temperature': 1.0,
}


def make_settings(space, **given: float) -> dict[str, jax.Array]:
  """SETTINGS with those given, as arrays.

  Raises:
    ValueError: an unknown name, or a number out of its range.
  """
  for name in given:
    check_name(name, SETTINGS, 'setting of a search')
  values = {**SETTINGS, **given}
  for name, value in values.items():
    fits, wanted = _RANGES.get(name) or RANGES[_POLICY[name]]
    if not isinstance(value, numbers.Real) or not fits(value):
      raise ValueError(f'{name} is {value!r}, wanted {wanted}')
  for name in ('filters_warmup', 'ops_warmup'):
    if values[name] > values['policy_delay']:
      raise ValueError(
        f'{name} is {values[name]} of the steps, more than policy_delay, '
        f'{values["policy_delay"]}: the policy would learn from what it did not draw'
      )
  make_policy(space, values)  # checks what else it needs
  return {
    name: jnp.asarray(value, jnp.int32 if name in _WHOLE else jnp.float32)
    for name, value in values.items()
  }


_WHOLE = ('seed', 'total_steps')
# Names that the policy's own settings have as hyperparameters of the algorithm.
_POLICY = {
  'policy_rate': 'learning_rate',
  'policy_growth': 'growth',
  'policy_delay': 'delay',
  **{
    name: name
    for name in (
      *('total_steps', 'filters_warmup', 'ops_warmup', 'second_moment', 'epsilon'),
      *('baseline_momentum', 'entropy', 'temperature'),
    )
  },
}
_COST = (lambda value: 0 < value < math.inf, 'a cost above 0')
_WEIGHT = (lambda value: -math.inf < value <= 0, '0 or less: cost is no merit')
# What the other settings may be, and how that is said.
_RANGES = {
  'seed': (
    lambda value: 0 <= value < 2**31 and value % 1 == 0,
    'a whole number from 0 to 2,147,483,647',
  ),
  'target': _COST,
  'beta': _WEIGHT,
  'memory_target': _COST,
  'memory_beta': _WEIGHT,
  'learning_rate': (lambda value: 0 <= value < math.inf, '0 or more'),
  'warmup': (lambda value: 0 <= value < 1, 'a share in [0, 1)'),
  'weight_decay': (lambda value: 0 <= value < math.inf, '0 or more'),
}


def make_policy(space, settings: Mapping) -> Reinforce:
  """The algorithm of a search with these settings."""
  return Reinforce(space, **{own: settings[name] for name, own in _POLICY.items()})


def make_state(supernet, settings: Mapping[str, jax.Array], optimizer: Mapping = {}):
  """The state that a search begins with."""
  key = jax.random.key(settings['seed'])
  params = supernet.init(key)
  state = SearchState(
    step=jnp.int32(0),
    params=params,
    opt_state=_make_optimizer(settings, optimizer).init(params),
    policy=make_policy(supernet.space.space, settings).init(key),
    settings=dict(settings),
  )
  return jax.tree.map(jnp.array, state)  # copies: what a step donates, it may own alone


def make_search_step(
  supernet,
  objective: Objective,
  loss: Callable,
  mesh,
  *,
  candidates: int,
  optimizer: Mapping = {},
  subclips: int = 1,
  boundary: str = 'exact',
):
  """Makes the step of a search, for the loop to take.

  Args:
    supernet: `apply(params, video, choices, stream) -> (logits [B, N], stream)` and
      `space.space`, whose decisions its choices are.
    objective: what candidates are rewarded for.
    loss: (logits, label, mask [B]) -> masked mean.
    mesh: devices; their number divides `candidates`.
    candidates: R, architectures a step over all devices.
    optimizer: keyword arguments of optimizers.make_chain.
    subclips, boundary: run clips in parts through stream buffers, see train/steps.py.

  Returns:
    step(state, batch) -> (state, metrics). A batch has clips `video`, `label`, `mask` for
    the weights, and in `valid` such a batch again for the policy; R divides both. Metrics
    are scalars, and in `aux` what the R candidates were and got.

  Raises:
    ValueError: counts that do not divide; sub-clips that make no sense.
  """
  steps.check_subclips(subclips, boundary)
  devices = mesh.devices.size
  if candidates < 1 or candidates % devices:
    raise ValueError(
      f'{candidates} candidates cannot be shared by {devices} devices: take a multiple'
    )
  everywhere = NamedSharding(mesh, SHARED)
  learn = _make_learn(supernet, loss, mesh, subclips, boundary)
  score = _make_score(supernet, mesh, subclips)

  def step(state, batch):
    settings = state.settings
    policy = make_policy(supernet.space.space, settings)
    key = jax.random.fold_in(jax.random.key(settings['seed']), state.step)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(candidates))
    # Drawn by every device for all: what each can make itself, none has to be sent.
    proposals = lax.with_sharding_constraint(
      jax.vmap(policy.propose, (None, 0))(state.policy, keys), everywhere
    )
    choices = proposals.choices

    grads, values = learn(state.params, choices, _deal(batch, candidates), settings['weight_decay'])
    tx = _make_optimizer(settings, optimizer)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    accuracy = score(params, choices, _deal(batch['valid'], candidates))
    rewards = objective(accuracy, choices, settings)
    learnt = policy.update(state.policy, proposals, rewards)

    norm = optax.tree.norm(grads)
    metrics = {
      'loss': values.mean(),
      'accuracy': accuracy.mean(),
      'cost_ratio': objective.ratio(choices, settings).mean(),
      'grad_norm': norm,
      'learning_rate': tx.schedule(state.step),
      'finite': jnp.isfinite(jnp.array([norm, values.sum(), rewards.sum()])).all(),
      **policy.metrics(learnt, rewards),
      'aux': {
        **{'choices': choices, 'accuracy': accuracy, 'reward': rewards},
        'probabilities': policy.probabilities(learnt),
      },
    }
    after = state.replace(step=state.step + 1, params=params, opt_state=opt_state, policy=learnt)
    return after, metrics

  return step


def _deal(batch, candidates):
  """The clips of each candidate: [R * B, ...] -> [R, B, ...]."""
  clips = {name: batch[name] for name in ('video', 'label', 'mask')}
  rows = clips['mask'].shape[0]
  if rows % candidates:
    raise ValueError(
      f'a batch of {rows} clips cannot be dealt to {candidates} candidates; take a multiple'
    )
  return jax.tree.map(lambda x: x.reshape(candidates, -1, *x.shape[1:]), clips)


def make_forward(supernet, choices):
  """A pass of one architecture, as train.steps has it; there are no statistics."""

  def forward(params, stats, video, stream, key):
    del stats, key
    logits, stream = supernet.apply(params, steps.to_float(video), choices, stream)
    return logits, stream, {}

  return forward


def _make_learn(supernet, loss, mesh, subclips, boundary):
  """(weights, choices [R, D], clips [R, B, ...], decay) -> mean gradients, losses [R]."""

  def learn_one(params, decay, choices, clips):
    forward = make_forward(supernet, choices)
    gradients = steps.make_gradients(forward, loss, subclips=subclips, boundary=boundary)
    grads, _, value, _ = gradients(params, {}, clips, None)
    return jax.tree_util.tree_map_with_path(functools.partial(_decay, decay), grads, params), value

  def learn(params, choices, clips, decay):
    # From here on the weights count as each device's own: gradients stay on it.
    params, decay = jax.tree.map(_vary, (params, decay))

    def body(total, row):
      grads, value = learn_one(params, decay, *row)
      return jax.tree.map(jnp.add, total, grads), value

    total, values = lax.scan(
      body, jax.tree.map(lambda p: jnp.zeros_like(p), params), (choices, clips)
    )
    mean = jax.tree.map(lambda g: g / len(choices), total)
    return lax.pmean(mean, 'data'), values

  return jax.shard_map(
    learn,
    mesh=mesh,
    in_specs=(SHARED, SPLIT, SPLIT, SHARED),
    out_specs=(SHARED, SPLIT),
  )


def _make_score(supernet, mesh, subclips):
  """(weights, choices [R, D], clips [R, B, ...]) -> accuracies [R]."""

  def score(params, choices, clips):
    params = jax.tree.map(_vary, params)

    def body(_, row):
      choices, clips = row
      run = steps.make_run(make_forward(supernet, choices), subclips=subclips)
      logits, _ = run(params, {}, clips['video'], None)
      right = count_correct(logits, clips['label'], clips['mask'])
      return None, right / jnp.maximum(jnp.sum(clips['mask'] > 0), 1)

    return lax.scan(body, None, (choices, clips))[1]

  return jax.shard_map(score, mesh=mesh, in_specs=(SHARED, SPLIT, SPLIT), out_specs=SPLIT)


def _vary(x):
  return lax.pcast(x, ('data',), to='varying')


def _decay(decay, path, gradient, weight):
  """Adds L2 to what the architecture used; all else has a gradient of exactly 0."""
  if not optimizers.is_decayed(path):
    return gradient
  return gradient + jnp.where(gradient != 0, decay * weight, 0)


def _make_optimizer(settings, options):
  def schedule(step):
    total = settings['total_steps'].astype(jnp.float32)
    rate = settings['learning_rate'] * 0.5 * (1 + jnp.cos(jnp.pi * step / total))
    return rate * jnp.minimum(step / jnp.maximum(settings['warmup'] * total, 1), 1)

  # L2 is in the gradients already.
  return optimizers.make_chain(schedule, **{**options, 'weight_decay': 0.0})
