import collections
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.algorithms.policy import Scores
from nas.algorithms.reinforce import Draw, Reinforce
from nas.space import OneOf, Space

FLAT = Space({'op': OneOf((1, 3, 5)), 'width': OneOf((8, 16), 'filters')})
NESTED = Space(
  {
    'layer': OneOf((None, {'kernel': OneOf((1, 3, 5)), 'width': OneOf((8, 16), 'filters')})),
    'head': OneOf(('plain', {'squeeze': OneOf((False, True))})),
  }
)
DEEP = Space(
  {
    'a': OneOf((OneOf((OneOf((1, 2, 3)), 4)), 5)),
    'width': OneOf((8, 16, 24), 'filters'),
  }
)
SPACES = pytest.mark.parametrize('space', [FLAT, NESTED, DEEP], ids=['flat', 'nested', 'deep'])
PLAIN = {'filters_warmup': 0.0, 'ops_warmup': 0.0}
# At step 70 of 100 a 'filters' decision is replaced with probability 0.3, an 'op' 1/8.
WARM = {'policy_delay': 1.0, 'filters_warmup': 1.0, 'ops_warmup': 0.8}
WARM_PROBABILITY = {'filters': 0.3, 'op': 0.125}


def make(space=FLAT, **options):
  return Reinforce(space, **{'policy_rate': 0.1, 'total_steps': 100, **options})


def make_state(algorithm, seed=0, step=70):
  """A policy that prefers some choices."""
  state = algorithm.init(jax.random.key(0))
  exists = np.arange(state.logits.shape[1]) < algorithm.space.sizes[:, None]
  logits = np.random.default_rng(seed).normal(0, 1, exists.shape) * exists
  return state._replace(logits=jnp.float32(logits), step=jnp.int32(step))


def softmax(scores):
  exponents = np.exp(scores - np.max(scores))
  return exponents / exponents.sum()


def list_policies(algorithm, state):
  """Probabilities of the choices of each decision, as the definition says."""
  rows = zip(np.asarray(state.logits, np.float64), algorithm.space.sizes, strict=True)
  return [softmax(row[:size] / algorithm.temperature) for row, size in rows]


def list_replacements(space, warm):
  """(probability, distribution) of what a warm-up puts in place of each decision."""
  found = []
  for decision in space.decisions:
    last = np.eye(decision.choices)[-1]
    uniform = np.full(decision.choices, 1 / decision.choices)
    instead = last if decision.tag == 'filters' else uniform
    found.append((WARM_PROBABILITY[decision.tag] if warm else 0.0, instead))
  return found


def list_proposals(algorithm, state, warm):
  """All that may be proposed, with closed decisions too: choices, drawn, probability."""
  space = algorithm.space
  policies = list_policies(algorithm, state)
  replacements = list_replacements(space, warm)
  options = [[(k, drawn) for k in range(n) for drawn in (True, False)] for n in space.sizes]
  found = []
  for combined in itertools.product(*options):
    probability = math.prod(
      (1 - p) * policy[k] if drawn else p * instead[k]
      for (k, drawn), policy, (p, instead) in zip(combined, policies, replacements, strict=True)
    )
    if probability:
      found.append((*zip(*combined, strict=True), probability))
  choices, drawn, probability = map(np.array, zip(*found, strict=True))
  return Draw(jnp.int32(choices), jnp.array(drawn)), probability


def make_rewards(space, choices):
  """[R], something for each architecture, the same whatever closed decisions are."""
  rng = np.random.default_rng(1)
  table = {tuple(c): rng.normal() for c in space.enumerate()}
  return np.array([table[tuple(space.canonical(c))] for c in np.asarray(choices)])


@SPACES
@pytest.mark.parametrize('warm', [False, True], ids=['plain', 'warm'])
@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_the_expected_gradient_is_that_of_the_expected_reward(space, warm, temperature):
  algorithm = make(space, temperature=temperature, **(WARM if warm else PLAIN))
  state = make_state(algorithm)
  proposals, probability = list_proposals(algorithm, state, warm)
  np.testing.assert_allclose(probability.sum(), 1)
  rewards = make_rewards(space, proposals.choices)
  gradients = algorithm.gradients(state, proposals, jnp.float32(rewards - 0.37))
  expected = np.tensordot(probability, gradients, 1)

  def expect_reward(logits):
    total = 1.0
    for n, (p, instead) in enumerate(list_replacements(space, warm)):
      policy = jax.nn.softmax(logits[n, : len(instead)] / temperature)
      total *= ((1 - p) * policy + p * instead)[architectures[:, n]]
    return total @ jnp.float32(make_rewards(space, architectures))

  architectures = np.array(list(itertools.product(*map(range, space.sizes))))
  wanted = jax.grad(expect_reward)(state.logits)
  assert np.abs(wanted).max() > 0.01
  np.testing.assert_allclose(expected, wanted, atol=2e-6)


@SPACES
def test_probabilities_of_all_architectures(space):
  algorithm = make(space)
  state = make_state(algorithm)
  policies = list_policies(algorithm, state)
  architectures = np.array(list(space.enumerate()))
  found = np.exp(algorithm.log_prob(state, architectures))
  np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
  for choices, probability in zip(architectures, found, strict=True):
    opened = np.flatnonzero(space.is_open(choices))
    wanted = math.prod(policies[n][choices[n]] for n in opened)
    np.testing.assert_allclose(probability, wanted, rtol=1e-5)


@SPACES
@pytest.mark.parametrize('warm', [False, True], ids=['plain', 'warm'])
def test_proposals_are_as_frequent_as_they_are_probable(space, warm):
  algorithm = make(space, **(WARM if warm else PLAIN))
  state, count = make_state(algorithm), 40_000
  proposals, probability = list_proposals(algorithm, state, warm)
  keys = jax.random.split(jax.random.key(3), count)
  drawn = jax.jit(jax.vmap(algorithm.propose, (None, 0)))(state, keys)
  assert drawn.choices.dtype == jnp.int32
  possible, seen = map(list_tuples, (proposals, drawn))
  assert set(seen) <= set(possible)
  counts = collections.Counter(seen)
  frequency = np.array([counts[one] for one in possible]) / count
  spread = np.sqrt(probability * (1 - probability) / count)
  np.testing.assert_array_less(np.abs(frequency - probability), 5 * spread + 1 / count)


def list_tuples(proposals):
  return list(map(tuple, np.concatenate(proposals, -1).tolist()))


def propose_many(algorithm, state, count=2000):
  keys = jax.random.split(jax.random.key(5), count)
  return jax.vmap(algorithm.propose, (None, 0))(state, keys)


@SPACES
def test_open_decisions_are_those_of_the_space(space):
  choices = np.random.default_rng(0).integers(space.sizes, size=(50, len(space)))
  found = make(space).is_open(jnp.array(choices))
  np.testing.assert_array_equal(found, space.is_open(choices))


def test_warmups_decide_less_and_less():
  algorithm = make(NESTED, filters_warmup=0.2, ops_warmup=0.1)
  is_filters = np.array([d.tag == 'filters' for d in NESTED.decisions])
  for step, filters, ops in [(0, 1, 1), (5, 0.75, 0.5), (10, 0.5, 0), (20, 0, 0)]:
    proposals = propose_many(algorithm, make_state(algorithm, step=step))
    replaced = ~np.asarray(proposals.drawn)
    wanted = np.where(is_filters, filters, ops)
    np.testing.assert_allclose(replaced.mean(0), wanted, atol=0.05)
    # Certain at the ends, and the largest width whatever the policy prefers.
    np.testing.assert_array_equal(replaced.all(0), wanted == 1)
    np.testing.assert_array_equal(replaced.any(0), wanted > 0)
    assert (proposals.choices == NESTED.sizes - 1)[replaced & is_filters].all()
  assert algorithm.warmup(0, 0.0) == 0


def test_the_baseline_is_the_debiased_mean_with_the_step_inside():
  algorithm = make(baseline_momentum=0.9, **PLAIN)
  state = algorithm.init(jax.random.key(0))
  assert algorithm.baseline(state) == 0
  rewards = np.float32([[1, 3], [5, 5], [0, 2]])
  proposals = propose_many(algorithm, state, 2)
  for r in rewards:
    state = algorithm.update(state, proposals, Scores(r))
  weights = 0.9 ** np.arange(2, -1, -1)
  wanted = weights @ [2, 5, 1] / weights.sum()
  np.testing.assert_allclose(algorithm.baseline(state), wanted, rtol=1e-6)
  found = algorithm.metrics(state, Scores(rewards[-1]))
  np.testing.assert_allclose(found['baseline'], wanted, rtol=1e-6)
  np.testing.assert_allclose(found['advantage'], 1 - wanted, rtol=1e-5)
  assert found['rl_rate'] == algorithm.rate(2)


def test_the_rate_waits_and_then_grows_to_the_end():
  algorithm = make(policy_rate=0.01, total_steps=40, policy_delay=0.25, policy_growth=10.0)
  found = [float(algorithm.rate(step)) for step in range(41)]
  assert found[:10] == [0.0] * 10
  np.testing.assert_allclose(found[10:], 0.01 * 10 ** (np.arange(31) / 30), rtol=1e-5)


def update_by_hand(algorithm, logits, squares, step, baseline, proposals, rewards):
  """Logits and second moment after an update of FLAT with a known baseline."""
  gradients = []
  for choices, drawn, reward in zip(*map(np.asarray, proposals), rewards, strict=True):
    gradient = np.zeros_like(logits)
    for n, size in enumerate(FLAT.sizes):
      if drawn[n]:
        chosen = np.eye(size)[choices[n]]
        gradient[n, :size] = (reward - baseline) * (chosen - softmax(logits[n, :size]))
    gradients.append(gradient)
  squares = 0.99 * squares + 0.01 * np.mean(np.square(gradients), 0)
  corrected = np.sqrt(squares) / np.sqrt(1 - 0.99 ** (step + 1))
  move = np.mean(gradients, 0) / np.where(corrected > 0, corrected, 1)
  return logits + float(algorithm.rate(step)) * move, squares


def test_updates_by_hand():
  """The second moment is the mean of squares, where candidates disagree too."""
  algorithm = make(second_moment=0.99, total_steps=8, **PLAIN)
  state = make_state(algorithm, step=0)
  logits, squares = np.float64(state.logits), np.zeros(state.logits.shape)
  total = weight = 0.0
  for step in range(8):
    drawn = jnp.array([[True, True], [True, False], [True, True]])
    proposals = Draw(jnp.int32([[0, 1], [0, 0], [step % 3, 1]]), drawn)
    rewards = np.float32([1 + step, -2, 0.5])
    state = algorithm.update(state, proposals, Scores(rewards))
    total, weight = 0.95 * total + 0.05 * rewards.mean(), 0.95 * weight + 0.05
    logits, squares = update_by_hand(
      algorithm, logits, squares, step, total / weight, proposals, rewards
    )
    np.testing.assert_allclose(state.squares, squares, rtol=1e-4)
    np.testing.assert_allclose(state.logits, logits, rtol=1e-4, atol=1e-6)
  assert state.step == 8


def test_second_moment_and_baseline_warm_up_while_the_rate_is_0():
  algorithm = make(**PLAIN)
  before = make_state(algorithm, step=3)
  after = algorithm.update(before, propose_many(algorithm, before, 4), Scores(jnp.arange(4.0)))
  np.testing.assert_array_equal(after.logits, before.logits)
  assert (np.asarray(after.squares) > 0).any()
  assert algorithm.baseline(after) == 1.5


def test_the_entropy_is_a_term_of_its_own():
  """Its gradient is not divided by any second moment, and counts where open."""
  space, rate = NESTED, 0.1
  algorithm = make(space, entropy=0.5, policy_delay=0.0, policy_growth=1.0, **PLAIN)
  state = make_state(algorithm, step=0)
  # Decision 0 opens 1 and 2, in one of two; rewards are equal, so all else is 0.
  choices = jnp.int32([[0, 1, 1, 0, 0], [1, 0, 1, 0, 1]])
  proposals = Draw(choices, jnp.ones((2, 5), bool))
  found = algorithm.update(state, proposals, Scores(jnp.ones(2))).logits - state.logits
  for n, (policy, opened) in enumerate(
    zip(list_policies(algorithm, state), [1, 0.5, 0.5, 1, 0], strict=True)
  ):
    entropy = -policy @ np.log(policy)
    np.testing.assert_allclose(algorithm.entropies(state)[n], entropy, rtol=1e-5)
    wanted = -opened * rate * 0.5 * policy * (np.log(policy) + entropy)
    np.testing.assert_allclose(found[n, : len(policy)], wanted, atol=1e-6)


@SPACES
def test_probabilities_and_the_most_probable(space):
  algorithm = make(space, temperature=3.0)
  state = make_state(algorithm)
  found = algorithm.probabilities(state)
  for row, policy in zip(found, list_policies(algorithm, state), strict=True):
    np.testing.assert_allclose(row[: len(policy)], policy, rtol=1e-5)
    assert not row[len(policy) :].any()
  best = np.array([policy.argmax() for policy in list_policies(algorithm, state)])
  np.testing.assert_array_equal(algorithm.most_probable(state), space.canonical(best))


def test_one_compilation_serves_all_hyperparameters():
  traces = []

  @jax.jit
  def run(options):
    traces.append(1)
    algorithm = make(NESTED, **options)
    state = make_state(algorithm, step=0)
    for _ in range(3):
      state = algorithm.update(state, propose_many(algorithm, state, 4), Scores(jnp.arange(4.0)))
    return state

  plain = {
    'policy_rate': 0.1,
    'total_steps': 4,
    'policy_delay': 0.25,
    'policy_growth': 10.0,
    'second_moment': 0.999,
    'epsilon': 1e-8,
    'baseline_momentum': 0.95,
    'entropy': 0.1,
    'temperature': 1.0,
    'filters_warmup': 0.25,
    'ops_warmup': 0.0,
  }
  first = run(plain)
  second = run({**plain, 'policy_rate': 0.3, 'total_steps': 9, 'ops_warmup': 0.2})
  assert len(traces) == 1
  assert not np.allclose(first.logits, second.logits)
  fixed = jax.jit(lambda: run.__wrapped__(plain))()
  np.testing.assert_allclose(first.logits, fixed.logits, rtol=1e-3)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'policy_rate': 0}, 'policy_rate is 0.0; wanted a number, more than 0'),
    ({'policy_rate': float('nan')}, 'policy_rate is nan'),
    ({'policy_rate': '0.1'}, "policy_rate should be float, got '0.1'"),
    ({'total_steps': 0}, 'total_steps is 0; wanted a whole number, 1 or more'),
    ({'total_steps': 2.5}, 'total_steps should be int, got 2.5'),
    ({'total_steps': float('inf')}, 'total_steps should be int, got inf'),
    ({'policy_delay': 1.5}, 'policy_delay is 1.5; wanted a number, from 0 to 1'),
    ({'policy_delay': 100}, 'policy_delay is 100.0'),
    ({'policy_growth': 0.0}, 'policy_growth is 0.0'),
    ({'second_moment': 1.0}, 'second_moment is 1.0; wanted a number, 0 or more and less than 1'),
    ({'epsilon': 0.0}, 'epsilon is 0.0'),
    ({'baseline_momentum': 1}, 'baseline_momentum is 1'),
    ({'entropy': -1.0}, 'entropy is -1.0; wanted a number, 0 or more'),
    ({'temperature': 0.0}, 'temperature is 0.0'),
    ({'filters_warmup': -0.1}, 'filters_warmup is -0.1'),
    (
      {'ops_warmup': 0.3},
      'ops_warmup is 0.3 of the steps but policy_delay only 0.25.*in its place',
    ),
    ({'policy_delay': 0.1, 'ops_warmup': 0.0}, 'filters_warmup is 0.25 .* policy_delay only 0.1'),
  ],
)
def test_hyperparameters_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_nothing_to_search():
  with pytest.raises(ValueError, match='nothing to search'):
    make(Space({'width': 8}))


def test_one_reward_for_each_candidate():
  algorithm = make()
  state = make_state(algorithm)
  proposals = propose_many(algorithm, state, 4)
  for rewards in (jnp.float32(1), jnp.ones(3), jnp.ones((4, 1))):
    with pytest.raises(ValueError, match='one reward for each'):
      algorithm.update(state, proposals, Scores(rewards))
