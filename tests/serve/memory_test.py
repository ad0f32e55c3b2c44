"""Memories of a stream: what counts, by how much, for every causal network."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from movinet_jax import layers, models, ops, serve

FRAMES, SIZE = 11, (12, 11)
WINDOW = serve.Window(secs=2, fps=2)  # 4 frames: a state begins anew every 2
MEMORIES = [serve.Exact(), WINDOW, serve.Forgetting(half_life_secs=1.5, fps=2)]
# The leaves of states: running sums, which forgetting changes, and others, which it does not.
SUMS, OTHERS = {'total', 'peak', 'weight'}, {'mass', 'count', 'buffer', 'frame', 'logits'}


def find_causal():
  """The smallest causal networks of all families."""
  return [
    pytest.param(module.Model(spec, num_classes=3, form='native'), id=f'{family}-{name}')
    for family, module in models.families().items()
    for name, spec in module.SMALL.items()
    if getattr(spec, 'causal', False)
  ]


CAUSAL = find_causal()


def make_variables(model):
  """Random variables: what begins at zero (ReZero, positions) must not hide anything."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, *SIZE, 3)))
  random = np.random.default_rng(0)

  def draw(path, leaf):
    if path[-1].key == 'var':
      value = random.uniform(0.5, 1.5, leaf.shape)
    else:
      value = random.normal(0.1, max(int(np.prod(leaf.shape[:-1])), 1) ** -0.5, leaf.shape)
    return value.astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def make_steps(model):
  """Compiles (frame, carried) -> (logits, carried) of each memory, and what begins a stream."""
  variables, start = make_variables(model), model.init_state(1, SIZE)
  # These small programs cost far more to compile than to run.
  options = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}

  def compile_step(memory):
    def run(video, state):
      return model.apply(variables, video, state)

    step = jax.jit(lambda x, carried: memory.step(run, x, carried), compiler_options=options)
    return step, memory.begin(start)

  return compile_step


def stream(step, carried, frames):
  """Logits [T, N] frame by frame."""
  rows = []
  for frame in frames:
    logits, carried = step(frame[None, None], carried)
    rows.append(logits[0])
  return np.stack(rows)


@pytest.mark.slow  # to compile
@pytest.mark.parametrize('model', CAUSAL)
def test_memories_of_every_causal_network(model):
  frames = np.random.default_rng(1).uniform(size=(FRAMES, *SIZE, 3)).astype(np.float32)
  compile_step = make_steps(model)
  step, start = compile_step(serve.Exact())
  exact = stream(step, start, frames)
  # An answer of the window is that of an exact stream since the older state began.
  windowed = stream(*compile_step(WINDOW), frames)
  for number in range(FRAMES):
    began = max(0, number // 2 * 2 - 2)
    wanted = stream(step, start, frames[began : number + 1])[-1]
    np.testing.assert_allclose(windowed[number], wanted, atol=1e-5, err_msg=f'frame {number}')
  np.testing.assert_allclose(windowed[:4], exact[:4], atol=1e-6)
  assert np.abs(windowed[4:] - exact[4:]).max() > 1e-4
  forever = stream(*compile_step(serve.Forgetting(math.inf, 2)), frames)
  np.testing.assert_allclose(forever, exact, atol=1e-6)
  forgetful = stream(*compile_step(serve.Forgetting(0.5, 2)), frames)
  assert np.abs(forgetful[1:] - exact[1:]).max() > 1e-4
  np.testing.assert_allclose(forgetful[0], exact[0], atol=1e-6)


@pytest.mark.parametrize('memory', MEMORIES, ids=lambda memory: type(memory).__name__)
@pytest.mark.parametrize('model', CAUSAL)
def test_what_is_carried_stays_as_large(model, memory):
  variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, *SIZE, 3)))
  carried = jax.eval_shape(lambda: memory.begin(model.init_state(1, SIZE)))
  for frames in (1, 3):
    video = jax.ShapeDtypeStruct((1, frames, *SIZE, 3), jnp.float32)

    def step(variables, video, carried):
      return memory.step(lambda x, s: model.apply(variables, x, s), video, carried)

    _, after = jax.eval_shape(step, variables, video, carried)
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), one) for one in (carried, after)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize('model', CAUSAL)
def test_forgetting_changes_running_sums_and_nothing_else(model):
  zeros = model.init_state(2, SIZE)
  names = {path[-1] for path in traverse_util.flatten_dict(zeros)}
  assert names <= SUMS | OTHERS, 'a state has something new: should forgetting change it?'
  state = jax.tree.map(lambda leaf: leaf + jnp.asarray(8, leaf.dtype), zeros)
  after = traverse_util.flatten_dict(ops.forget(state, 0.25))
  softmax = {path[:-1] for path in after if path[-1] == 'peak'}
  for path, leaf in after.items():
    kept = path[-1] in OTHERS or (path[-1] == 'total' and path[:-1] in softmax)
    wanted = 8 if kept else 8 + math.log(0.25) if path[-1] == 'peak' else 2
    np.testing.assert_allclose(leaf, wanted, rtol=1e-6, err_msg=str(path))
  assert any(path[-1] in SUMS for path in after)


FORGETFUL = serve.Forgetting(half_life_secs=0.5, fps=4)
WEIGHTS = 0.5 ** (np.arange(FRAMES)[::-1] / 2)


def pool_forgetfully(pool, clip, frames=1):
  state = FORGETFUL.begin(layers.init_state(pool, clip.shape[0], clip.shape[2:]))
  for chunk in np.split(clip, clip.shape[1] // frames, 1):
    y, state = FORGETFUL.step(lambda x, s: pool.apply({}, x, s), chunk, state)
  return np.asarray(y)[:, 0, 0, 0]


@pytest.mark.parametrize(
  'pool',
  [layers.GlobalPool(causal=True), layers.SlidingPool((4, 3, 2), causal=True)],
  ids=lambda pool: type(pool).__name__,
)
def test_forgetting_is_a_weighted_mean(pool):
  clip = np.random.default_rng(0).normal(size=(2, FRAMES, 3, 2, 5)).astype(np.float32)
  means = clip.mean((2, 3))
  wanted = np.einsum('t,btc->bc', WEIGHTS, means) / WEIGHTS.sum()
  np.testing.assert_allclose(pool_forgetfully(pool, clip), wanted, atol=1e-6)


@pytest.mark.parametrize('shift', [0, 300, -300])
def test_forgetting_weighs_a_softmax_over_time_too(shift):
  clip = 9 * np.random.default_rng(0).normal(size=(2, FRAMES, 1, 1, 5)) + shift
  logits = clip[:, :, 0, 0].astype(np.float32)
  weights = WEIGHTS[:, None] * np.exp((logits - shift) / 8)
  wanted = (weights * logits).sum(1) / weights.sum(1)
  ours = pool_forgetfully(layers.TemporalSoftmaxPool(64), np.float32(clip))
  np.testing.assert_allclose(ours, wanted, rtol=1e-4)


def test_a_peak_of_the_past_is_forgotten_too():
  """Its share is e^-200 at last, which float32 cannot hold beside the peak."""
  pool, memory = layers.TemporalSoftmaxPool(1), serve.Forgetting(0.01, 1)
  state = memory.begin(layers.init_state(pool, 1, (1, 1, 1)))
  for logit in (100.0, *[-100.0] * 6):
    video = jnp.full((1, 1, 1, 1, 1), logit)
    y, state = memory.step(lambda x, s: pool.apply({}, x, s), video, state)
  assert y.item() == pytest.approx(-100)


def test_frames_of_one_call_weigh_the_same():
  clip = np.random.default_rng(0).normal(size=(1, 6, 1, 1, 3)).astype(np.float32)
  weights = np.repeat(0.5 ** np.array([2, 1, 0]), 2)
  wanted = np.einsum('t,btc->bc', weights, clip[:, :, 0, 0]) / weights.sum()
  pool = layers.GlobalPool(causal=True)
  np.testing.assert_allclose(pool_forgetfully(pool, clip, frames=2), wanted, atol=1e-6)


def test_nothing_forgotten_is_the_same_to_the_bit():
  clip = np.random.default_rng(0).normal(size=(2, FRAMES, 3, 2, 5)).astype(np.float32)
  for pool in (layers.GlobalPool(causal=True), layers.TemporalSoftmaxPool()):
    clip = clip if isinstance(pool, layers.GlobalPool) else clip[:, :, :1, :1]
    answers = []
    for memory in (serve.Exact(), serve.Forgetting(math.inf, 2)):
      state = memory.begin(layers.init_state(pool, 2, clip.shape[2:]))
      for frame in np.split(clip, FRAMES, 1):
        y, state = memory.step(lambda x, s, pool=pool: pool.apply({}, x, s), frame, state)
      answers.append(np.asarray(y))
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
  ('secs', 'fps', 'frames', 'calls'),
  [(10, 5, 1, 25), (10, 5, 8, 3), (10, 2.5, 1, 12), (1, 5, 8, 1), (0.01, 1, 1, 1)],
)
def test_a_window_is_rounded_to_calls(secs, fps, frames, calls):
  assert serve.Window(secs, fps).count_calls(frames) == calls


def test_bad_memories_are_refused():
  with pytest.raises(ValueError, match=r"memory 'windw'; did you mean 'window'"):
    serve.make_memory('windw', 1, 1)
  for kind, secs, fps in (('window', 0, 1), ('forget', -1, 1), ('window', math.nan, 1)):
    with pytest.raises(ValueError, match='wanted a number above 0'):
      serve.make_memory(kind, secs, fps)
  with pytest.raises(ValueError, match='fps is inf'):
    serve.Window(1, math.inf)
  assert serve.make_memory('exact', 0, 0) == serve.Exact()
  for memory, pair in itertools.product(MEMORIES[1:], [(math.inf, 3)]):
    if isinstance(memory, serve.Forgetting):
      assert dataclasses.astuple(serve.make_memory('forget', *pair)) == pair


def test_live_forgets_when_told_and_counts_on():
  model = models.families()['movinet'].Model(
    models.families()['movinet'].SMALL['stream-3d'], num_classes=3
  )
  live = serve.Live(model, make_variables(model), SIZE, memory=WINDOW)
  frames = np.random.default_rng(1).integers(0, 256, (6, 1, *SIZE, 3), np.uint8)
  first = [live(frame).probabilities for frame in frames[:3]]
  live.forget()
  again = [live(frame) for frame in frames[:3]]
  np.testing.assert_array_equal(first, [one.probabilities for one in again])
  assert [one.frame for one in again] == [3, 4, 5]
  assert live.frames == 6
  live.reset()
  assert live(frames[0]).frame == 0
