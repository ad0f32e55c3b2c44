import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from movinet_jax.train.losses import make_loss
from movinet_jax.train.optimizers import make_optimizer
from movinet_jax.train.state import make_state
from movinet_jax.train.steps import make_eval_step, make_train_step
from tests.train.toy import (
  CLASSES,
  Toy,
  device_batch,
  make_batch,
  make_variables,
  max_difference,
)

LOSS = make_loss('softmax', label_smoothing=0.1)
# Plain descent with rate 1: the change of the parameters is the gradient.
PLAIN = optax.sgd(1.0)


def _one_step(model=None, batch=None, tx=PLAIN, **options):
  model = model or Toy()
  options = {'seed': 0, **options}
  step = jax.jit(make_train_step(model, tx, LOSS, **options))
  state = make_state(make_variables(model), tx)
  return step(state, batch or device_batch(make_batch()))


@pytest.fixture(scope='module')
def whole():
  return _one_step(Toy(dropout=0.5), freeze='batch_norm')


def test_metrics_by_hand():
  batch = device_batch(make_batch())
  state, metrics = _one_step(batch=batch)
  variables = make_variables()
  (logits, _), new = Toy().apply(
    variables, batch['video'] / 255.0, train=True, mutable=['batch_stats']
  )
  np.testing.assert_allclose(
    metrics['loss'], LOSS(logits, batch['label'], batch['mask']), rtol=1e-6
  )
  np.testing.assert_allclose(metrics['top1'], (logits.argmax(-1) == batch['label']).mean())
  assert bool(metrics['finite'])
  assert max_difference(state.batch_stats, new['batch_stats']) < 1e-6
  change = jax.tree.map(jnp.subtract, variables['params'], state.params)
  np.testing.assert_allclose(metrics['grad_norm'], optax.tree.norm(change), rtol=1e-4)
  mean = jax.tree.map(
    lambda a, b: 2 / 11 * a + 9 / 11 * b,
    variables,
    {'params': state.params, 'batch_stats': state.batch_stats},
  )
  assert max_difference(state.ema, mean) < 1e-6
  assert state.step == 1


def _average(updates, begin=0, **options):
  """The weight of an average's past after some updates: it is 1 away from weights that stay."""
  tx = optax.sgd(0.0)
  step = jax.jit(make_train_step(Toy(), tx, LOSS, seed=0, freeze='batch_norm', **options))
  state = make_state(make_variables(), tx)
  ema = jax.tree.map(lambda x: x + 1, state.ema)
  state = state.replace(step=state.step + begin, ema=ema)
  for _ in range(updates):
    state, _ = step(state, device_batch(make_batch()))
  gaps = jax.tree.map(jnp.subtract, state.ema, {k: getattr(state, k) for k in state.ema})
  return state, np.concatenate([np.ravel(gap) for gap in jax.tree.leaves(gaps)])


@pytest.mark.parametrize('begin', [0, 1, 99, 888, 889, 5000])
def test_the_average_follows_tensorflows_decay(begin):
  """min(decay, (1 + n) / (10 + n)) at update n, counted from 1."""
  wanted = 1.0
  for n in range(begin + 1, begin + 4):
    wanted *= min(0.99, (1 + n) / (10 + n))
  np.testing.assert_allclose(_average(3, begin)[1], wanted, rtol=1e-5, atol=1e-6)
  fixed = _average(3, begin, ema_warmup=False)[1]
  np.testing.assert_allclose(fixed, 0.99**3, rtol=1e-5)


def test_a_short_run_forgets_its_initial_weights():
  """Of 100 updates; a fixed decay keeps a third of them."""
  share = np.prod([min(0.99, (1 + n) / (10 + n)) for n in range(1, 101)])
  assert share == pytest.approx(2.1e-12, rel=0.1)
  assert np.abs(_average(100)[1]).max() < 1e-6
  assert _average(100, ema_warmup=False)[1].min() > 0.36


def test_a_long_run_averages_as_with_a_fixed_decay():
  """To the bit from update 890 on; None is how runs began before there was a warm-up."""
  states = [_average(2, 889, ema_warmup=warmup)[0] for warmup in (True, False, None)]
  assert max_difference(states[0].ema, states[1].ema) == 0
  assert max_difference(states[0].ema, states[2].ema) == 0
  early = [_average(2, 0, ema_warmup=warmup)[0] for warmup in (False, None)]
  assert max_difference(early[0].ema, early[1].ema) == 0


@pytest.mark.parametrize('frames_of', [2, 4])
def test_exact_subclips_are_the_whole_clip(whole, frames_of):
  state, metrics = _one_step(
    Toy(dropout=0.5), subclips=8 // frames_of, boundary='exact', freeze='batch_norm'
  )
  np.testing.assert_allclose(metrics['loss'], whole[1]['loss'], rtol=1e-5)
  np.testing.assert_allclose(metrics['grad_norm'], whole[1]['grad_norm'], rtol=1e-5)
  assert max_difference(state.params, whole[0].params) < 1e-5


def test_exact_with_live_statistics_is_autodiff_of_the_chunks():
  batch = device_batch(make_batch())
  state, metrics = _one_step(batch=batch, subclips=2)
  variables = make_variables()

  def objective(params):
    stats, stream = variables['batch_stats'], None
    for part in (batch['video'][:, :4], batch['video'][:, 4:]):
      (logits, stream), new = Toy().apply(
        {'params': params, 'batch_stats': stats},
        part / 255.0,
        stream,
        train=True,
        mutable=['batch_stats'],
      )
      stats = new['batch_stats']
    return LOSS(logits, batch['label'], batch['mask']), stats

  (value, stats), grads = jax.value_and_grad(objective, has_aux=True)(variables['params'])
  np.testing.assert_allclose(metrics['loss'], value, rtol=1e-5)
  assert max_difference(state.batch_stats, stats) < 1e-6
  change = jax.tree.map(jnp.subtract, variables['params'], state.params)
  assert max_difference(change, grads) < 1e-5


def test_truncated_is_the_mean_of_running_losses_without_the_past():
  batch = device_batch(make_batch())
  options = {'subclips': 2, 'freeze': 'batch_norm'}
  state, metrics = _one_step(batch=batch, boundary='truncated', **options)
  exact, _ = _one_step(batch=batch, boundary='exact', **options)
  variables = make_variables()

  def objective(params):
    stream, total = None, 0.0
    for part in (batch['video'][:, :4], batch['video'][:, 4:]):
      logits, stream = Toy().apply(
        {**variables, 'params': params}, part / 255.0, jax.lax.stop_gradient(stream)
      )
      total += LOSS(logits, batch['label'], batch['mask']) / 2
    return total

  value, grads = jax.value_and_grad(objective)(variables['params'])
  change = jax.tree.map(jnp.subtract, variables['params'], state.params)
  np.testing.assert_allclose(metrics['loss'], value, rtol=1e-5)
  assert max_difference(change, grads) < 1e-5
  assert max_difference(state.params, exact.params) > 1e-3


def test_truncated_early_frames_get_a_gradient():
  """With brightness only in the first sub-clip, all learning must come from there."""
  batch = device_batch(make_batch())
  video = batch['video'].at[:, 4:].set(0)
  state, _ = _one_step(
    batch={**batch, 'video': video},
    subclips=2,
    boundary='truncated',
    freeze='batch_norm',
  )
  kernel = 'Conv_0'
  change = state.params[kernel]['kernel'] - make_variables()['params'][kernel]['kernel']
  assert np.abs(change).max() > 1e-3


def test_truncated_learns():
  step = make_train_step(
    Toy(), tx := optax.adam(0.02), LOSS, seed=0, subclips=2, boundary='truncated'
  )
  step, state = jax.jit(step), make_state(make_variables(), tx)
  history = []
  for number in range(60):
    state, metrics = step(state, device_batch(make_batch(number)))
    history.append(float(metrics['top1']))
  assert np.mean(history[:5]) < 0.6
  assert np.mean(history[-10:]) > 0.85


def _temp_bytes(frames, boundary):
  tx = PLAIN
  step = make_train_step(Toy(), tx, LOSS, seed=0, subclips=frames // 8, boundary=boundary)
  state = jax.eval_shape(lambda: make_state(make_variables(), tx))
  batch = {
    'video': jax.ShapeDtypeStruct((2, frames, 32, 32, 3), jnp.uint8),
    'label': jax.ShapeDtypeStruct((2,), jnp.int32),
    'mask': jax.ShapeDtypeStruct((2,), jnp.float32),
  }
  compiled = jax.jit(step).lower(state, batch).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_truncated_memory_does_not_grow_with_frames():
  short, long = (_temp_bytes(frames, 'truncated') for frames in (16, 256))
  assert long <= 1.1 * short
  # The measure itself must see growth where there is growth.
  assert _temp_bytes(256, 'exact') > 1.1 * _temp_bytes(16, 'exact')


def test_exact_memory_grows_by_one_stream_state_per_subclip():
  """Not by the activations of a sub-clip, which are some forty times as large."""
  short, long = (_temp_bytes(frames, 'exact') for frames in (16, 256))
  state = jax.tree.leaves(Toy().init_state(2, (32, 32)))
  state_bytes = sum(leaf.nbytes for leaf in state)
  assert (long - short) / ((256 - 16) // 8) < 2 * state_bytes


@pytest.mark.parametrize('mask', [[1] * 8, [1, 1, 1, 0, 1, 0, 0, 0]])
def test_accumulation_is_the_big_batch(mask):
  batch = device_batch({**make_batch(), 'mask': np.array(mask, np.float32)})
  big, big_metrics = _one_step(batch=batch, freeze='batch_norm')
  # Four micro-batches of two; with the second mask one of them is all padding.
  small, small_metrics = _one_step(batch=batch, freeze='batch_norm', accumulate=4)
  assert max_difference(big.params, small.params) < 1e-6
  for name in ('loss', 'top1', 'grad_norm'):
    np.testing.assert_allclose(big_metrics[name], small_metrics[name], rtol=1e-5)


def test_padding_does_not_teach():
  batch = device_batch(make_batch())
  mask = batch['mask'].at[5:].set(0)
  a, _ = _one_step(batch={**batch, 'mask': mask}, freeze='batch_norm')
  other = batch['video'].at[5:].set(0)
  b, _ = _one_step(batch={**batch, 'mask': mask, 'video': other}, freeze='batch_norm')
  assert max_difference(a.params, b.params) < 1e-7


def test_the_key_is_the_steps_alone():
  model, batch = Toy(dropout=0.5), device_batch(make_batch())
  step = jax.jit(make_train_step(model, PLAIN, LOSS, seed=0, freeze='batch_norm'))
  state = make_state(make_variables(model), PLAIN)
  first, again = step(state, batch), step(state, batch)
  later = step(state.replace(step=jnp.int32(5)), batch)
  assert first[1]['loss'] == again[1]['loss']
  assert first[1]['loss'] != later[1]['loss']


def test_freezing():
  variables = make_variables()
  state, _ = _one_step(freeze='batch_norm')
  assert max_difference(state.batch_stats, variables['batch_stats']) == 0
  assert max_difference(state.params['Conv_0'], variables['params']['Conv_0']) > 1e-4
  # A real optimizer: its decay and momentum must not reach what is frozen either.
  tx = make_optimizer(batch_size=8, total_steps=10, weight_decay=0.1)
  state, metrics = _one_step(freeze='backbone', tx=tx)
  assert max_difference(state.batch_stats, variables['batch_stats']) == 0
  for name, before in variables['params'].items():
    moved = max_difference(state.params[name], before) > 0
    assert moved == (name == 'classifier')
  np.testing.assert_allclose(metrics['learning_rate'], 1.8 * 8 / 1024, rtol=1e-6)


def test_what_is_frozen_does_not_use_up_the_clipping_norm():
  moved = []
  for weight_decay in (0.0, 1e3):
    tx = make_optimizer(batch_size=8, total_steps=10, weight_decay=weight_decay)
    moved.append(_one_step(freeze='backbone', tx=tx)[0].params['classifier'])
  assert max_difference(*moved) == 0


def test_freezing_a_norm_that_cannot_be_frozen_is_an_error():
  class Stubborn(nn.Module):
    @nn.compact
    def __call__(self, x, state=None, *, train=False):
      x = nn.BatchNorm(use_running_average=not train)(x)  # takes no `train`
      return nn.Dense(4, name='classifier')(x.mean(axis=(1, 2, 3))), {}

  with pytest.raises(ValueError, match='writes its batch statistics although'):
    _one_step(Stubborn(), freeze='batch_norm')
  with pytest.raises(ValueError, match='no stream state'):
    _one_step(Stubborn(), subclips=2)


def test_nan_is_flagged():
  batch = device_batch(make_batch())
  video = (batch['video'] / 255.0).at[0, 0, 0, 0, 0].set(jnp.nan)
  _, metrics = _one_step(batch={**batch, 'video': video})
  assert not bool(metrics['finite'])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'subclips': 3}, '8 frames cannot be run as 3 sub-clips'),
    ({'subclips': 16}, '8 frames cannot be run as 16 sub-clips'),
    ({'accumulate': 3}, '8 clips cannot be divided into 3'),
    ({'accumulate': 0}, 'accumulate is 0'),
    ({'boundary': 'exat'}, "did you mean 'exact'"),
    ({'freeze': 'bakbone'}, "did you mean 'backbone'"),
    ({'ema_decay': 1.0}, 'ema_decay is 1.0'),
  ],
)
def test_mistakes_are_clear(options, message):
  with pytest.raises(ValueError, match=message):
    _one_step(**options)


@pytest.mark.parametrize('chunk_frames', [1, 3, 20])
def test_streamed_evaluation_is_the_whole_clip(chunk_frames):
  variables, video = make_variables(), device_batch(make_batch())['video']
  clip = make_eval_step(Toy())(variables, video)
  stream = make_eval_step(Toy(), mode='stream', chunk_frames=chunk_frames)
  np.testing.assert_allclose(stream(variables, video), clip, atol=1e-5)


class Frames(nn.Module):
  """Carries nothing from chunk to chunk."""

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return nn.Dense(CLASSES)(x.mean((1, 2, 3))), {}


def test_a_model_without_a_stream_is_not_evaluated_as_one():
  video = jnp.zeros((2, 6, 4, 4, 3))
  variables = Frames().init(jax.random.key(0), video)
  for chunk_frames in (1, 6):
    stream = make_eval_step(Frames(), mode='stream', chunk_frames=chunk_frames)
    with pytest.raises(ValueError, match='no stream state'):
      stream(variables, video)
