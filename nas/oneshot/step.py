"""The one-shot search step: weights and algorithm learn in turns, in one compiled program.

Bender et al., TuNAS, CVPR 2020, as its published code does it. In a step, each candidate is
an architecture that the algorithm proposes. The weights take the sum of the candidates'
gradients on training clips, each weighed as the algorithm says. Then each candidate is
scored with the new weights on held-out clips, its reward weighs score against cost, and the
algorithm learns from the scores. An algorithm that weighs gradients by scores has the
candidates scored first, with the old weights. Then candidates whose weight is 0 are not
trained.

The algorithm proposes and learns outside of `jax.shard_map`, on values that all devices
share. Inside it, every device runs its own candidates, and nothing communicates but one
explicit sum of gradients at the end. A collective inside a branch that only some devices
take would hang or corrupt memory, so the weights are made device-varying before anything is
differentiated.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from movinet_jax.schema import Count, checked
from movinet_jax.train import losses, optimizers, steps
from movinet_jax.train.metrics import count_correct
from nas.algorithms.policy import Scores
from nas.algorithms.reinforce import Reinforce
from nas.objective import Objective
from nas.oneshot.settings import make_algorithm

SHARED, SPLIT = PartitionSpec(), PartitionSpec('data')
_log_loss = losses.make_loss('softmax')


@flax.struct.dataclass
class SearchState:
  """What a search carries from step to step; the numbers of its settings too.

  Attributes:
    step: int32, updates made so far, which is also the number of batches consumed.
    params: the supernet's weights, float32.
    opt_state: of the weights' optimizer.
    policy: the algorithm's state.
    settings: scalars that searches of one compiled program may differ in, see
      `make_settings`.
    held: [D] int32, the choices of decisions that are held fixed, -1 for those that are
      searched. None, which is no leaf, searches all.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  policy: Any
  settings: Mapping[str, jax.Array]
  held: jax.Array | None = None


def make_state(
  supernet,
  settings: Mapping[str, jax.Array],
  optimizer: Mapping = {},
  algorithm: type = Reinforce,
  held: Sequence[int] | None = None,
) -> SearchState:
  """The state that a search begins with. Arguments are those of the step.

  Args:
    held: [D], the choices of decisions that are held fixed, -1 for those that are searched.

  Raises:
    ValueError: `held` does not fit the space.
  """
  held = None if held is None else np.asarray(held, np.int32)
  key = jax.random.key(settings['seed'])
  params = supernet.init(key)
  state = SearchState(
    step=jnp.int32(0),
    params=params,
    opt_state=_make_optimizer(settings, optimizer).init(params),
    policy=make_algorithm(supernet.space.space, settings, algorithm, held).init(key),
    settings=dict(settings),
    held=held,
  )
  # Copies, because what a step donates it may own alone. Of strong types, as the step returns
  # them: for weak ones it would be compiled twice.
  return jax.tree.map(lambda x: jnp.array(x, x.dtype), state)


@checked
def make_search_step(
  supernet,
  objective: Objective,
  loss: Callable,
  mesh,
  *,
  candidates: Count,
  algorithm: type = Reinforce,
  optimizer: Mapping = {},
  subclips: Count = 1,
  boundary: steps.Boundary = 'exact',
):
  """Makes the step of a search, for the loop to take.

  Args:
    supernet: see `nas.oneshot.supernets.Supernet`.
    objective: what candidates are rewarded for.
    loss: (logits, label, mask [B]) -> masked mean.
    mesh: devices; their number divides `candidates`.
    candidates: R, architectures a step over all devices.
    algorithm: class of the algorithm, see `nas.oneshot.algorithms.Algorithm`.
    optimizer: keyword arguments of optimizers.make_chain.
    subclips, boundary: run clips in parts through stream buffers, see train/steps.py.

  Returns:
    step(state, batch) -> (state, metrics). A batch has clips `video`, `label`, `mask` for
    the weights, and in `valid` such a batch again for the algorithm; R divides both. Metrics
    are scalars, and in `aux` what the R candidates were and got. The loss is the mean over
    the candidates that were trained.

  Raises:
    ValueError: counts that do not divide, or too few candidates for the algorithm; sub-clips
      that make no sense.
  """
  devices = mesh.devices.size
  if candidates % devices:
    raise ValueError(
      f'{candidates} candidates cannot be shared by {devices} devices: take a multiple'
    )
  algorithm.check_candidates(candidates)
  everywhere = NamedSharding(mesh, SHARED)
  call = _call_if_weighed if algorithm.scores_first else _call
  learn = _make_learn(supernet, loss, mesh, subclips, boundary, call)
  judge = _make_judge(supernet, objective, mesh, subclips)

  def step(state, batch):
    settings = state.settings
    policy = make_algorithm(supernet.space.space, settings, algorithm, state.held)
    key = jax.random.fold_in(jax.random.key(settings['seed']), state.step)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(candidates))
    # Drawn by every device for all: what each can make itself, none has to be sent.
    proposals = lax.with_sharding_constraint(
      jax.vmap(policy.propose, (None, 0))(state.policy, keys), everywhere
    )
    choices, held_out = proposals.choices, _deal(batch['valid'], candidates)

    scores = judge(state.params, choices, held_out, settings) if policy.scores_first else None
    weights = policy.weigh(state.policy, proposals, scores)
    clips = _deal(batch, candidates)
    grads, values = learn(state.params, choices, weights, clips, settings['weight_decay'])
    tx = _make_optimizer(settings, optimizer)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    if scores is None:
      scores = judge(params, choices, held_out, settings)
    learnt = policy.update(state.policy, proposals, scores)

    trained = weights != 0 if policy.scores_first else None
    norm = optax.tree.norm(grads)
    checked = jnp.array([norm, values.sum(), scores.reward.sum()])
    metrics = {
      'loss': values.mean(where=trained),
      'accuracy': scores.accuracy.mean(),
      'reward': scores.reward.mean(),
      'cost_ratio': scores.cost_ratio.mean(),
      'grad_norm': norm,
      'learning_rate': tx.schedule(state.step),
      'finite': jnp.isfinite(checked).all(),
      **policy.metrics(learnt, scores),
      'aux': {
        **{'choices': choices, 'accuracy': scores.accuracy, 'reward': scores.reward},
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


def _make_learn(supernet, loss, mesh, subclips, boundary, call):
  """(params, choices [R, D], weights [R], clips [R, B, ...], decay) -> gradients, losses [R].

  Gradients are the weighted sum over candidates.

  Args:
    call: (weight, add, total) -> (total, loss), which calls `add` with the total so far for a
      candidate that is to be trained.
  """

  def learn_one(params, decay, choices, clips):
    forward = make_forward(supernet, choices)
    gradients = steps.make_gradients(forward, loss, subclips=subclips, boundary=boundary)
    grads, _, value, _ = gradients(params, {}, clips, None)
    return jax.tree_util.tree_map_with_path(functools.partial(_decay, decay), grads, params), value

  def learn(params, choices, weights, clips, decay):
    # From here on the weights count as each device's own: gradients stay on it.
    params, decay = jax.tree.map(_vary, (params, decay))

    def body(total, row):
      choices, weight, clips = row

      def add(total):
        grads, value = learn_one(params, decay, choices, clips)
        return jax.tree.map(lambda t, g: t + weight * g, total, grads), value

      return call(weight, add, total)

    start = jax.tree.map(jnp.zeros_like, params)
    total, values = lax.scan(body, start, (choices, weights, clips))
    return lax.psum(total, 'data'), values

  return jax.shard_map(
    learn,
    mesh=mesh,
    in_specs=(SHARED, SPLIT, SPLIT, SPLIT, SHARED),
    out_specs=(SHARED, SPLIT),
  )


def _call(weight, add, total):
  del weight
  return add(total)


def _call_if_weighed(weight, add, total):
  """Leaves out a candidate whose weight is 0; its loss is 0 then."""
  return lax.cond(weight != 0, add, lambda total: (total, _vary(jnp.float32(0))), total)


def _make_judge(supernet, objective, mesh, subclips):
  """(params, choices [R, D], clips [R, B, ...], settings) -> Scores."""

  def score(params, choices, clips):
    params = jax.tree.map(_vary, params)

    def body(_, row):
      choices, clips = row
      run = steps.make_run(make_forward(supernet, choices), subclips=subclips)
      logits, _ = run(params, {}, clips['video'], None)
      label, mask = clips['label'], clips['mask']
      accuracy = count_correct(logits, label, mask) / jnp.maximum(jnp.sum(mask > 0), 1)
      return None, (accuracy, -_log_loss(logits, label, mask))

    return lax.scan(body, None, (choices, clips))[1]

  score = jax.shard_map(score, mesh=mesh, in_specs=(SHARED, SPLIT, SPLIT), out_specs=(SPLIT, SPLIT))

  def judge(params, choices, clips, settings):
    accuracy, log_likelihood = score(params, choices, clips)
    rewards = objective(accuracy, choices, settings)
    return Scores(rewards, accuracy, log_likelihood, objective.ratio(choices, settings))

  return judge


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
