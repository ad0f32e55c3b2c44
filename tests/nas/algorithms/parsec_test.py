"""PARSEC's weights and gradients, against sums over everything that could be drawn."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.algorithms.parsec import Drawn, Parsec
from nas.algorithms.policy import Scores
from nas.space import OneOf, Space

FLAT = Space({'op': OneOf((1, 3)), 'width': OneOf((8, 16, 24), 'filters')})  # 6 networks
NESTED = Space({'layer': OneOf((None, {'kernel': OneOf((1, 3, 5))}))})  # 4
DEEP = Space({'a': OneOf((OneOf((OneOf((1, 2)), 4)), 5))})  # 4
SPACES = pytest.mark.parametrize('space', [FLAT, NESTED, DEEP], ids=['flat', 'nested', 'deep'])
SAMPLES = pytest.mark.parametrize('count', [2, 3])


def make(space=FLAT, **options):
  return Parsec(space, **{'total_steps': 100, **options})


def make_state(algorithm):
  """A distribution that prefers some choices."""
  state = algorithm.init(jax.random.key(0))
  exists = np.arange(state.logits.shape[1]) < algorithm.space.sizes[:, None]
  logits = np.random.default_rng(0).normal(0, 1, exists.shape) * exists
  return state._replace(logits=jnp.float32(logits))


@functools.partial(jax.jit, static_argnames='space')
def find_gradients(space, options, state, drawn, scores):
  return jax.vmap(make(space, **options).gradient, (None, 0, 0))(state, drawn, scores)


class Everything:
  """All architectures of a space, and all tuples of K that a step could draw.

  Attributes:
    networks: [A, D].
    tuples: [T, K], numbers of networks.
    probability: [T].
    directions: [A, D, N], gradients of log P with respect to logits, as the definition says.
  """

  def __init__(self, algorithm, state, count):
    space, self.networks = algorithm.space, np.array(list(algorithm.space.enumerate()))
    alone = np.exp(np.asarray(algorithm.log_prob(state, self.networks), np.float64))
    np.testing.assert_allclose(alone.sum(), 1, rtol=1e-5)
    self.tuples = np.array(list(itertools.product(range(len(alone)), repeat=count)))
    self.probability = alone[self.tuples].prod(-1)
    chosen = np.eye(state.logits.shape[1])[self.networks]
    spread = chosen - np.asarray(algorithm.probabilities(state))
    self.directions = spread * space.is_open(self.networks)[..., None] / algorithm.temperature

  def estimate(self, algorithm, state, accuracy, penalty, log_likelihood=None):
    """[T, D, N]: what the algorithm makes of each tuple, of values [A] of the networks."""
    log_likelihood = np.log(accuracy) if log_likelihood is None else log_likelihood
    values = np.float32([accuracy - penalty, accuracy, log_likelihood])[:, self.tuples]
    scores = Scores(*values, jnp.ones(self.tuples.shape))
    drawn = Drawn(jnp.int32(self.networks[self.tuples]))
    options = {'temperature': algorithm.temperature, 'accuracy_share': algorithm.accuracy_share}
    return np.asarray(find_gradients(algorithm.space, options, state, drawn, scores))

  def mean(self, values):
    return np.tensordot(self.probability, values, 1)

  def spread(self, values):
    """The sum of the variances of values [T, D, N]."""
    return self.mean(np.square(values - self.mean(values)).sum((1, 2)))


def draw_values(count):
  rng = np.random.default_rng(3)
  return rng.uniform(0.2, 0.9, count), rng.uniform(0, 0.5, count)


@SPACES
@SAMPLES
@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_the_gradient_of_the_penalty_is_unbiased(space, count, temperature):
  algorithm = make(space, temperature=temperature)
  state = make_state(algorithm)
  every = Everything(algorithm, state, count)
  _, penalty = draw_values(len(every.networks))
  found = every.estimate(algorithm, state, np.full(len(penalty), 0.6), penalty)

  def expect(logits):
    log_probs = algorithm.log_prob(state._replace(logits=logits), every.networks)
    return -jnp.exp(log_probs) @ jnp.float32(penalty)

  wanted = np.asarray(jax.grad(expect)(state.logits))
  assert np.abs(wanted).max() > 0.01
  np.testing.assert_allclose(every.mean(found), wanted, atol=1e-6)


@SPACES
@SAMPLES
@pytest.mark.parametrize('share', [1.0, 0.3, 0.0])
def test_the_gradient_of_the_score_is_that_of_importance_sampling(space, count, share):
  """Control variates do not change its expectation, but K/(K - 1) does."""
  algorithm = make(space, accuracy_share=share)
  state = make_state(algorithm)
  every = Everything(algorithm, state, count)
  accuracy, _ = draw_values(len(every.networks))
  log_likelihood = -3 * accuracy[::-1]
  found = every.estimate(algorithm, state, accuracy, 0 * accuracy, log_likelihood)

  likelihood = np.exp(log_likelihood)[every.tuples]
  accuracies = accuracy[every.tuples]
  weights = share * accuracies / accuracies.sum(-1, keepdims=True)
  weights += (1 - share) * likelihood / likelihood.sum(-1, keepdims=True)
  sampled = np.einsum('tk,tkdn->tdn', weights, every.directions[every.tuples])
  wanted = every.mean(sampled)
  assert np.abs(wanted).max() > 0.003
  np.testing.assert_allclose(every.mean(found), wanted * count / (count - 1), atol=1e-6)
  # Scaled to the same expectation.
  assert every.spread(found) < 0.7 * every.spread(sampled * count / (count - 1))


@SPACES
@SAMPLES
def test_the_gradient_of_the_score_is_that_of_the_log_of_its_expectation(space, count):
  """Up to second order: for accuracies that hardly differ, exactly."""
  algorithm = make(space)
  state = make_state(algorithm)
  every = Everything(algorithm, state, count)
  accuracy = 0.6 + 0.02 * draw_values(len(every.networks))[0]
  found = every.mean(every.estimate(algorithm, state, accuracy, 0 * accuracy))

  def expect(logits):
    log_probs = algorithm.log_prob(state._replace(logits=logits), every.networks)
    return jnp.log(jnp.exp(log_probs) @ jnp.float32(accuracy))

  wanted = np.asarray(jax.grad(expect)(state.logits))
  scale = np.abs(wanted).max()
  assert scale > 3e-4
  np.testing.assert_allclose(found, wanted, atol=0.02 * scale)


@SPACES
def test_terms_add(space):
  """So the exact expectation of any step is known from the two tests above."""
  algorithm = make(space)
  state = make_state(algorithm)
  every = Everything(algorithm, state, 2)
  accuracy, penalty = draw_values(len(every.networks))
  both = every.estimate(algorithm, state, accuracy, penalty)
  score = every.estimate(algorithm, state, accuracy, 0 * penalty)
  alone = every.estimate(algorithm, state, 0 * accuracy + 0.6, penalty)
  np.testing.assert_allclose(both, score + alone, atol=1e-6)


def test_closed_decisions_get_nothing():
  algorithm = make(NESTED)
  state = make_state(algorithm)
  drawn = Drawn(jnp.int32([[0, 1], [0, 2]]))
  scores = make_scores([0.9, 0.1])
  np.testing.assert_array_equal(algorithm.gradient(state, drawn, scores)[1], 0)
  drawn = Drawn(jnp.int32([[1, 1], [0, 2]]))
  assert algorithm.gradient(state, drawn, scores)[1, 1] > 0.1


def make_scores(accuracy, log_likelihood=None):
  accuracy = jnp.float32(accuracy)
  other = jnp.log(accuracy + 1e-3) if log_likelihood is None else jnp.float32(log_likelihood)
  return Scores(accuracy, accuracy, other, jnp.ones_like(accuracy))


def draw(algorithm, state, count):
  keys = jax.random.split(jax.random.key(1), count)
  return jax.vmap(algorithm.propose, (None, 0))(state, keys)


def test_weights_by_hand():
  scores = make_scores([0.1, 0.2, 0.5], [-1.0, -3.0, -2.0])
  by_accuracy = np.array([1, 2, 5]) / 8
  by_likelihood = np.exp([-1, -3, -2]) / np.exp([-1, -3, -2]).sum()
  for share in (1.0, 0.25, 0.0):
    algorithm = make(accuracy_share=share)
    state = make_state(algorithm)
    found = algorithm.weigh(state, draw(algorithm, state, 3), scores)
    wanted = share * by_accuracy + (1 - share) * by_likelihood
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize('samples_per_nat', [0.0, 0.01])
def test_weights_are_equal_where_all_accuracies_are_0(samples_per_nat):
  algorithm = make(samples_per_nat=samples_per_nat)
  state = make_state(algorithm)
  drawn, scores = draw(algorithm, state, 4), make_scores(jnp.zeros(4))
  wanted = [0.5, 0.5, 0, 0] if samples_per_nat else [0.25] * 4
  np.testing.assert_allclose(algorithm.weigh(state, drawn, scores), wanted)
  np.testing.assert_allclose(algorithm.gradient(state, drawn, scores), 0, atol=1e-7)


def test_samples_follow_the_entropy():
  """K = samples_per_nat x entropy, rounded up; 2 at least, all candidates at most."""
  uniform = make().init(jax.random.key(0))
  entropy = np.log(6)
  for per_nat, wanted in [(0.0, 8), (0.1, 2), (1.0, 2), (1.5, 3), (3.0, 6), (100.0, 8)]:
    assert make(samples_per_nat=per_nat).samples(uniform, 8) == wanted
    if 0.1 < per_nat < 100:
      assert wanted == max(2, np.ceil(per_nat * entropy))
  certain = uniform._replace(logits=uniform.logits.at[:, 0].set(20.0))
  assert make(samples_per_nat=3.0).samples(certain, 8) == 2


@pytest.mark.parametrize('share', [1.0, 0.0])
def test_candidates_beyond_the_samples_count_nothing(share):
  everyone = make(accuracy_share=share)
  algorithm = make(accuracy_share=share, samples_per_nat=1.5)
  state = algorithm.init(jax.random.key(0))
  drawn = draw(algorithm, state, 8)
  scores = make_scores([0.3, 0.9, 0.6, 0.1, 0.8, 0.2, 0.4, 0.5])
  scores = scores._replace(reward=scores.accuracy - jnp.linspace(0, 0.4, 8))
  first = jax.tree.map(lambda x: x[:3], (drawn, scores))
  weights = algorithm.weigh(state, drawn, scores)
  np.testing.assert_array_equal(weights[3:], 0)
  np.testing.assert_allclose(weights[:3], everyone.weigh(state, *first), rtol=1e-6)
  wanted = everyone.gradient(state, *first)
  np.testing.assert_allclose(algorithm.gradient(state, drawn, scores), wanted, atol=1e-7)
  assert np.abs(wanted - everyone.gradient(state, drawn, scores)).max() > 0.01


def test_updates_by_hand():
  """Adam with beta1 0.9 and beta2 0.999, ascending."""
  algorithm = make(policy_rate=0.05)
  state = make_state(algorithm)
  logits, mean, squares = (np.float64(x) for x in (state.logits, *[np.zeros((2, 3))] * 2))
  for step in range(1, 6):
    drawn = Drawn(jnp.int32([[0, 1], [1, 2], [step % 2, 0]]))
    scores = make_scores([0.2 + 0.1 * step, 0.5, 0.3])
    gradient = np.asarray(algorithm.gradient(state, drawn, scores), np.float64)
    state = algorithm.update(state, drawn, scores)
    mean, squares = 0.9 * mean + 0.1 * gradient, 0.999 * squares + 0.001 * gradient**2
    roots = np.sqrt(squares / (1 - 0.999**step))
    logits += 0.05 * mean / (1 - 0.9**step) / np.where(roots > 0, roots, 1)
    np.testing.assert_allclose(state.logits, logits, rtol=1e-3, atol=1e-4)
  assert state.step == 5
  assert not state.logits[0, 2]  # which is no choice


def test_the_distribution_waits_for_the_weights():
  algorithm = make(policy_delay=0.02)
  state, moved = make_state(algorithm), []
  drawn, scores = draw(algorithm, state, 4), make_scores([0.1, 0.2, 0.3, 0.4])
  for _ in range(4):
    after = algorithm.update(state, drawn, scores)
    moved.append(bool((after.logits != state.logits).any()))
    state = after
  assert moved == [False, False, True, True]
  assert algorithm.learns_from() == 2
  assert make().learns_from() == 0


def test_metrics():
  algorithm = make(samples_per_nat=1.5)
  state = algorithm.init(jax.random.key(0))
  scores = make_scores([0.5, 0.7])._replace(reward=jnp.float32([0.4, 0.3]))
  found = algorithm.metrics(state, scores)
  assert found['penalty'] == pytest.approx(0.25)
  assert found['samples'] == 2
  assert found['entropy_total'] == pytest.approx(np.log(6))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'policy_rate': 0.0}, 'policy_rate is 0.0; wanted a number, more than 0'),
    ({'policy_delay': 1.5}, 'policy_delay is 1.5; wanted a number, from 0 to 1'),
    ({'accuracy_share': -0.1}, 'accuracy_share is -0.1; wanted a number, from 0 to 1'),
    ({'samples_per_nat': -1.0}, 'samples_per_nat is -1.0; wanted a number, 0 or more'),
  ],
)
def test_settings_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_one_candidate_has_nothing_to_be_compared_with():
  algorithm = make()
  state = make_state(algorithm)
  with pytest.raises(ValueError, match='there is 1: take 2 or more'):
    algorithm.update(state, draw(algorithm, state, 1), make_scores([0.5]))
