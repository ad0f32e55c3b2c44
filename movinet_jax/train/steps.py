"""Steps: pure functions (state, batch) -> (state, metrics) for the loop to take.

A batch is a dict of `video` [B, T, H, W, C] (uint8, or float in [0, 1]), `label` ([B]
int, or [B, N] for many classes per clip) and `mask` [B], 0 for padded clips.

Long clips train in constant memory through stream buffers (MoViNet supplement, A.3 and
C.4): the clip runs as k consecutive sub-clips and `jax.lax.scan` carries the stream.
Two boundaries are defined.

'exact': the loss is that of the whole clip, on the logits after the last sub-clip, and
gradients flow back through every buffer. Each sub-clip is computed a second time on the
way back, and only streams and statistics are kept between: memory grows by one stream
state per sub-clip. With frozen batch statistics, values and gradients are the whole
clip's; otherwise each sub-clip is normalised by its own frames.

'truncated': no gradient crosses a boundary, and memory does not depend on the number
of sub-clips. The loss is the mean over sub-clips of the loss on the *running* logits,
which have seen all frames so far. A loss on the last logits alone would not do: the
frames before the last boundary would reach it only through the carried pooling sum,
and cutting there would leave them without any gradient. This way every sub-clip
learns through its own part of the running mean.
"""

import functools
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.errors import ModifyScopeVariableError

from movinet_jax.schema import Count, Rate, checked
from movinet_jax.train.metrics import count_correct

Boundary = Literal['exact', 'truncated']  # see the top of this file
Mode = Literal['clip', 'stream', 'multiclip']


@checked
def make_train_step(
  model,
  tx,
  loss,
  *,
  seed: int,
  ema_decay: Rate = 0.99,
  ema_warmup: bool | None = True,
  accumulate: Count = 1,
  subclips: Count = 1,
  boundary: Boundary = 'exact',
  freeze: Literal['none', 'batch_norm', 'backbone'] = 'none',
):
  """Makes the supervised step.

  Args:
    model: a Flax module whose `apply(variables, video, state, train=True, ...)` gives
      (logits [B, N], state).
    tx: an optax transformation; `make_optimizer`'s also tells the learning rate.
    loss: (logits, label, mask [B]) -> masked mean, see losses.py.
    seed: of dropout and stochastic depth; the key of a step is fold_in(seed, step).
    ema_decay: of the averaged weights and statistics (supplement, B.1); 0 copies.
    ema_warmup: whether the decay of update n, counted from 1, is at most (1 + n) / (10 + n),
      as in TensorFlow's averages with `num_updates`, so that a short run forgets its
      initial weights; 0.99 is reached at update 890. False, or None as in the config of a
      run that began before there was this setting, uses ema_decay from the first update.
    accumulate: micro-batches per update, each of every `accumulate`-th clip, so that a
      sharded batch needs no communication to be divided. Their masked means combine
      exactly; batch statistics pass from one to the next.
    subclips: consecutive parts a clip is run in; all share one dropout mask.
    boundary: 'exact' or 'truncated', see the top of this file.
    freeze: 'none'; 'batch_norm' keeps and uses the running statistics; 'backbone' does
      so too and trains only parameters under 'classifier'.

  Returns:
    step(state, batch) -> (state, metrics) with float32 scalars loss, top1, grad_norm
    (before decay and clipping), learning_rate, and the bool `finite`.

  Raises:
    ValueError: here for arguments out of range; when tracing, for a batch or clip that
      does not divide, or a model that carries no stream.
  """
  forward = functools.partial(_forward, model, freeze)
  gradients = make_gradients(forward, loss, subclips=subclips, boundary=boundary)

  def step(state, batch):
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    grads, stats, sums = _accumulate(gradients, state, batch, key, accumulate)
    metrics = _read_metrics(sums, grads, state.step, getattr(tx, 'schedule', None))
    fresh = _count_fresh(state.step + 1, ema_decay, ema_warmup)
    return _update(state, tx, grads, stats, freeze, fresh), metrics

  return step


@checked
def make_eval_step(model, *, mode: Mode = 'clip', chunk_frames: Count = 1):
  """Makes (variables, video [B, T, H, W, C]) -> logits [B, N], float32.

  Args:
    mode: 'clip' or 'multiclip' run the clip whole; 'stream' feeds it chunk by chunk,
      carrying the state, and gives the logits after the last frame.
    chunk_frames: frames per chunk in 'stream'; the last chunk may be shorter.

  Raises:
    ValueError: here for arguments out of range; when tracing, in 'stream', for a model
      that carries none.
  """

  def whole(variables, video):
    return model.apply(variables, to_float(video))[0].astype(jnp.float32)

  def stream(variables, video):
    def forward(_, stats, part, carried, key):
      del stats, key
      return *model.apply(variables, to_float(part), carried), None

    full = video.shape[1] // chunk_frames
    carry = _start(forward, None, None, video[:, :chunk_frames], None)
    if not full:
      return whole(variables, video)

    def body(carry, index):
      part = _take(video, index, chunk_frames)
      return forward(None, None, part, carry[1], None), None

    (logits, carried, _), _ = jax.lax.scan(body, carry, jnp.arange(full))
    rest = video[:, full * chunk_frames :]
    if rest.shape[1]:
      logits, _, _ = forward(None, None, rest, carried, None)
    return logits.astype(jnp.float32)

  return stream if mode == 'stream' else whole


FrameKind = Literal['alone', 'so_far']


@checked
def make_frame_step(model, kinds: tuple[FrameKind, ...]):
  """Makes (variables, video [B, T, H, W, C]) -> logits [B, K, T, N] of each frame, float32.

  Args:
    kinds: K of them. 'alone' classifies the features of each frame by themselves (MoViNet,
      supplement, C.5), 'so_far' is a stream's answer after each frame.

  Raises:
    ValueError: when tracing, for 'so_far' of a model that carries no stream, or 'alone' of one
      whose frames have no features of their own.
  """

  def alone(variables, video):
    return model.apply(variables, to_float(video), each_frame=True)[0]

  def so_far(variables, video):
    def forward(_, stats, frame, carried, key):
      del stats, key
      return *model.apply(variables, to_float(frame), carried), None

    _, begun, _ = _start(forward, None, None, video[:, :1], None)

    def body(carried, index):
      logits, carried, _ = forward(None, None, _take(video, index, 1), carried, None)
      return carried, logits

    _, logits = jax.lax.scan(body, begun, jnp.arange(video.shape[1]))
    return jnp.moveaxis(logits, 0, 1)

  run = {'alone': alone, 'so_far': so_far}

  def step(variables, video):
    return jnp.stack([run[kind](variables, video) for kind in kinds], 1).astype(jnp.float32)

  return step


# One forward pass of a clip or a part of one: (params, batch_stats, video, stream, key)
# -> (logits, stream, batch_stats).


def _forward(model, freeze, params, stats, video, stream, key):
  if freeze == 'backbone':
    params = jax.tree_util.tree_map_with_path(_stop_outside_classifier, params)
  variables = {'params': params, 'batch_stats': stats}
  run = functools.partial(
    model.apply, variables, to_float(video), stream, train=True, rngs={'dropout': key}
  )
  if freeze == 'none':
    (logits, stream), new = run(mutable=['batch_stats'])
    return logits.astype(jnp.float32), stream, new.get('batch_stats', stats)
  try:
    # Not mutable: a norm that would write its statistics after all is an error.
    with nn.intercept_methods(_use_running_statistics):
      logits, stream = run()
  except ModifyScopeVariableError as error:
    raise ValueError(
      'This model writes its batch statistics although they are frozen: the module '
      'that owns them is not called with `train=...`, so it cannot be told not to.'
    ) from error
  return logits.astype(jnp.float32), stream, stats


def _use_running_statistics(call, args, kwargs, context):
  # The model as a whole must stay in training, for its dropout; only the modules that
  # own statistics are told otherwise.
  if 'train' in kwargs and list_statistics(context):
    kwargs = {**kwargs, 'train': False}
  return call(*args, **kwargs)


def list_statistics(context) -> list[str]:
  """Names of the batch statistics that the module of an intercepted call owns itself."""
  if context.method_name != '__call__':
    return []
  own = context.module.variables.get('batch_stats', {})
  return sorted(name for name, value in own.items() if not isinstance(value, Mapping))


def to_float(video):
  """uint8 [0, 255] -> float32 [0, 1]; floats as they are."""
  # Bytes stay bytes until a sub-clip is used: the whole clip as floats would be the
  # largest array of all.
  return video.astype(jnp.float32) / 255 if video.dtype == jnp.uint8 else video


def _take(video, index, frames):
  return jax.lax.dynamic_slice_in_dim(video, index * frames, frames, axis=1)


@checked
def make_run(forward, *, subclips: Count = 1):
  """Makes (params, batch_stats, video, key) -> (logits, batch_stats) of whole clips.

  Args:
    forward: a pass over a clip or a part of one, (params, batch_stats, video, stream,
      key) -> (logits, stream, batch_stats); stream None begins a clip.
    subclips: consecutive parts a clip is run in.
  """
  run = _run_whole if subclips == 1 else functools.partial(_run_subclips, subclips)
  return functools.partial(run, forward)


@checked
def make_gradients(forward, loss, *, subclips: Count = 1, boundary: Boundary = 'exact'):
  """Makes (params, batch_stats, batch, key) -> (gradients, batch_stats, loss, logits).

  Args are those of `make_run` and of `make_train_step`. What it makes takes a `weight`,
  too, which gradients and loss are multiplied by.
  """
  run = make_run(forward, subclips=subclips)
  if subclips > 1 and boundary == 'truncated':
    return functools.partial(_truncated_gradients, forward, loss, subclips)
  return functools.partial(_clip_gradients, loss, run)


# Gradients are summed over a loop as they come, unscaled, because XLA then adds up those of
# each device and reduces them over devices once, after the loop; a product in between would
# have it reduce them in every turn. So the loss is what is weighted.


def _clip_gradients(loss, run, params, stats, batch, key, weight=1.0):
  def objective(params):
    logits, new_stats = run(params, stats, batch['video'], key)
    value = weight * loss(logits, batch['label'], batch['mask'])
    return value, (logits, new_stats)

  (value, (logits, stats)), grads = jax.value_and_grad(objective, has_aux=True)(params)
  return grads, stats, value, logits


def _run_whole(forward, params, stats, video, key):
  logits, _, stats = forward(params, stats, video, None, key)
  return logits, stats


def _run_subclips(subclips, forward, params, stats, video, key):
  frames = count_frames(video.shape[1], subclips)
  carry = _start(forward, params, stats, video[:, :frames], key)

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def body(carry, index):
    _, stream, stats = carry
    return forward(params, stats, _take(video, index, frames), stream, key), None

  (logits, _, stats), _ = jax.lax.scan(body, carry, jnp.arange(subclips))
  return logits, stats


def _truncated_gradients(forward, loss, subclips, params, stats, batch, key, weight=1.0):
  video, weight = batch['video'], weight / subclips
  frames = count_frames(video.shape[1], subclips)
  start = _start(forward, params, stats, video[:, :frames], key)

  def body(carry, index):
    (_, stream, stats), total, value = carry

    def objective(params):
      # The stream enters as a constant of this function: here is the boundary.
      out = forward(params, stats, _take(video, index, frames), stream, key)
      return weight * loss(out[0], batch['label'], batch['mask']), out

    (part, out), grads = jax.value_and_grad(objective, has_aux=True)(params)
    return (out, jax.tree.map(jnp.add, total, grads), value + part), None

  carry = (start, jax.tree.map(jnp.zeros_like, params), _zeros((), None, video))
  ((logits, _, stats), total, value), _ = jax.lax.scan(body, carry, jnp.arange(subclips))
  return total, stats, value, logits


def count_frames(whole: int, subclips: int) -> int:
  """The frames of a sub-clip. Raises a ValueError for a clip that they do not divide."""
  frames, left = divmod(whole, subclips)
  if left or not frames:
    raise ValueError(
      f'a clip of {whole} frames cannot be run as {subclips} sub-clips of equal length'
    )
  return frames


def _start(forward, params, stats, video, key):
  logits, stream, _ = _zeros_like_outputs(forward, params, stats, video, key)
  if not jax.tree.leaves(stream):
    raise ValueError(
      'This model returns no stream state, so the parts of a clip would know nothing of '
      'each other: take a stream variant, or run clips whole (subclips=1, mode=clip).'
    )
  return logits, stream, stats


def _zeros_like_outputs(forward, params, stats, video, key):
  # No stream means zeros (the stream contract), and the shapes and types that come out
  # of the first sub-clip are those a scan must be given.
  out = jax.eval_shape(lambda v: forward(params, stats, v, None, key), video)
  return jax.tree.map(lambda s: _zeros(s.shape, s.dtype, video), out)


def _zeros(shape, dtype, video):
  # Made of the clip: under shard_map, what a scan begins with must be marked as differing
  # between devices, as what it goes on with is.
  return jnp.zeros(shape, dtype) + jnp.zeros_like(video[0, 0, 0, 0, 0], dtype)


# From gradients to the next state.


def _accumulate(gradients, state, batch, key, accumulate):
  count = jnp.maximum(jnp.sum(batch['mask'].astype(jnp.float32)), 1.0)

  def run(stats, batch, key, weight=1.0):
    grads, stats, value, logits = gradients(state.params, stats, batch, key, weight)
    right = count_correct(logits, batch['label'], batch['mask']) / count
    return stats, (grads, {'loss': value, 'top1': right})

  if accumulate == 1:
    stats, (grads, sums) = run(state.batch_stats, batch, key)
    return grads, stats, sums

  def body(carry, index):
    stats, total = carry
    part = jax.tree.map(lambda x: _every_nth(x, index, accumulate), batch)
    share = jnp.sum(part['mask'].astype(jnp.float32)) / count
    new = run(stats, part, jax.random.fold_in(key, index), share)
    return (new[0], jax.tree.map(jnp.add, total, new[1])), None

  zeros = jax.tree.map(jnp.zeros_like, state.params)
  total = (zeros, {'loss': jnp.zeros(()), 'top1': jnp.zeros(())})
  (stats, (grads, sums)), _ = jax.lax.scan(body, (state.batch_stats, total), jnp.arange(accumulate))
  return grads, stats, sums


def _every_nth(x, index, n):
  if x.shape[0] % n:
    raise ValueError(
      f'A batch of {x.shape[0]} clips cannot be divided into {n} micro-batches; choose '
      'a number that divides it.'
    )
  parts = x.reshape(x.shape[0] // n, n, *x.shape[1:])
  return jax.lax.dynamic_index_in_dim(parts, index, axis=1, keepdims=False)


def _read_metrics(sums, grads, step, schedule):
  norm = optax.tree.norm(grads)
  metrics = {**sums, 'grad_norm': norm}
  metrics['finite'] = jnp.isfinite(norm) & jnp.isfinite(sums['loss'])
  if schedule is not None:
    metrics['learning_rate'] = jnp.asarray(schedule(step), jnp.float32)
  return metrics


def _count_fresh(update, decay, warmup):
  """Share of the new weights in their average after an update, counted from 1."""
  # 9 / (10 + n) is 1 - (1 + n) / (10 + n). Where the decay is reached, rounding is that of
  # an average with a fixed one.
  return jnp.maximum(1 - decay, 9 / (10 + update)) if warmup else 1 - decay


def _update(state, tx, grads, stats, freeze, fresh):
  trained = jax.tree_util.tree_map_with_path(
    lambda path, _: freeze != 'backbone' or _in_classifier(path), state.params
  )
  if not any(jax.tree.leaves(trained)):
    raise ValueError("freeze='backbone' leaves nothing to train: no 'classifier'.")

  # Frozen arrays are shown to the optimizer as zeros, so that they count neither in
  # the decay nor in the norm that clips.
  def only(tree):
    return jax.tree.map(lambda x, on: x if on else jnp.zeros_like(x), tree, trained)

  updates, opt_state = tx.update(grads, state.opt_state, only(state.params))
  params = optax.apply_updates(state.params, only(updates))
  new = {'params': params, 'batch_stats': stats}
  ema = optax.incremental_update(new, state.ema, fresh)
  return state.replace(step=state.step + 1, ema=ema, opt_state=opt_state, **new)


def _in_classifier(path):
  return any(getattr(key, 'key', None) == 'classifier' for key in path)


def _stop_outside_classifier(path, x):
  return x if _in_classifier(path) else jax.lax.stop_gradient(x)
