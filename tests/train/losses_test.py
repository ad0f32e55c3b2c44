import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.train import losses

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [9.0, 9.0, 9.0]])


def test_softmax_by_hand():
  log_p = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
  smooth = np.array([[0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3], [0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3]])
  want = -(smooth * log_p[:2]).sum(axis=1).mean()
  got = losses.softmax_cross_entropy(
    jnp.asarray(LOGITS),
    jnp.array([0, 2, -1]),
    jnp.array([1, 1, 0]),
    label_smoothing=0.1,
  )
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert got.dtype == jnp.float32


def test_sigmoid_by_hand():
  label = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1]])
  p = 1 / (1 + np.exp(-LOGITS))
  want = -(label * np.log(p) + (1 - label) * np.log(1 - p))[:2].mean()
  got = losses.sigmoid_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(label), jnp.array([1, 1, 0]))
  np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize('fill', [np.nan, np.inf, 1e30])
def test_what_is_masked_does_not_count(fill):
  logits = np.array([[1.0, 2.0], [fill, fill]])
  label, mask = jnp.array([1, 0]), jnp.array([1.0, 0.0])
  got = losses.softmax_cross_entropy(jnp.asarray(logits), label, mask)
  want = losses.softmax_cross_entropy(jnp.asarray(logits[:1]), label[:1], mask[:1])
  assert got == want


def test_all_masked_is_zero():
  assert losses.masked_mean(jnp.array([5.0, jnp.nan]), jnp.zeros(2)) == 0


def test_bfloat16_logits_are_computed_in_float32():
  logits = jnp.asarray(LOGITS[:2], jnp.bfloat16)
  got = losses.softmax_cross_entropy(logits, jnp.array([0, 2]), jnp.ones(2))
  want = losses.softmax_cross_entropy(logits.astype(jnp.float32), jnp.array([0, 2]), jnp.ones(2))
  assert got == want


def test_unknown_loss_names_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'softmax'"):
    losses.make_loss('softmaxx')
  with pytest.raises(ValueError, match=r'label_smoothing is 1\.5'):
    losses.make_loss('softmax', label_smoothing=1.5)


COUNTS = np.array([90, 9, 1])


def test_balanced_weights_by_hand():
  weights = losses.count_weights('softmax', COUNTS)
  np.testing.assert_allclose(weights, 100 / (3 * COUNTS))
  # Each class has the same share, and the mean over the videos is 1.
  np.testing.assert_allclose(weights * COUNTS, 100 / 3)
  sigmoid = losses.count_weights('sigmoid', [90, 9, 1], videos=120)
  np.testing.assert_allclose(sigmoid, [30 / 90, 111 / 9, 119])


@pytest.mark.parametrize('beta', [0.9, 0.999, 0.999999])
def test_effective_weights_by_hand(beta):
  """Cui et al., equation 2: 1 + beta + beta^2 + … of n videos."""
  effective = np.array([sum(beta**k for k in range(n)) for n in COUNTS])
  weights = losses.count_weights('softmax', COUNTS, beta=beta)
  np.testing.assert_allclose(weights * effective, (weights * effective)[0])
  np.testing.assert_allclose((weights * COUNTS).sum(), COUNTS.sum())
  others = np.array([sum(beta**k for k in range(100 - n)) for n in COUNTS])
  sigmoid = losses.count_weights('sigmoid', COUNTS, beta=beta)
  np.testing.assert_allclose(sigmoid, others / effective)


def test_effective_weights_lie_between_ones_and_balanced_ones():
  np.testing.assert_allclose(losses.count_weights('softmax', COUNTS, beta=0.0), 1)
  np.testing.assert_allclose(
    losses.count_weights('softmax', COUNTS, beta=1 - 1e-9),
    losses.count_weights('softmax', COUNTS),
    rtol=1e-6,
  )


@pytest.mark.parametrize('name', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('beta', [None, 0.9])
def test_a_class_without_videos_spoils_no_other(name, beta):
  found = losses.count_weights(name, [30, 0, 10], beta=beta)
  assert np.isfinite(found).all()
  np.testing.assert_array_equal(
    found[[0, 2]], losses.count_weights(name, [30, 10], videos=40, beta=beta)
  )
  assert found[1] == {'softmax': 0, 'sigmoid': 1}[name]


def test_weighted_softmax_is_a_mean_over_clips():
  weights, label, mask = (0.5, 1.0, 4.0), jnp.array([0, 2, -1]), jnp.array([1, 1, 0])
  weighed = losses.make_loss('softmax', label_smoothing=0.1, class_weights=weights)
  plain = losses.make_loss('softmax', label_smoothing=0.1)
  ones = [plain(LOGITS[i : i + 1], label[i : i + 1], jnp.ones(1)) for i in range(2)]
  want = (0.5 * ones[0] + 4.0 * ones[1]) / 2  # by two clips, and not by 4.5
  np.testing.assert_allclose(weighed(jnp.asarray(LOGITS), label, mask), want, rtol=1e-6)


def test_weighted_sigmoid_by_hand():
  weights, label = np.array([2.0, 1.0, 5.0]), np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1]])
  p = 1 / (1 + np.exp(-LOGITS))
  want = -(weights * label * np.log(p) + (1 - label) * np.log(1 - p))[:2].mean()
  loss = losses.make_loss('sigmoid', class_weights=tuple(weights))
  got = loss(jnp.asarray(LOGITS), jnp.asarray(label), jnp.array([1, 1, 0]))
  np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize('name', ['softmax', 'sigmoid'])
def test_weighted_means_of_micro_batches_combine_exactly(name):
  """As steps do it: by their mask sums."""
  rng = np.random.default_rng(0)
  logits, mask = rng.normal(size=(12, 3)), np.array([1] * 5 + [0] + [1] * 2 + [0] * 4)
  label = rng.integers(0, 3, 12)
  label = label if name == 'softmax' else np.eye(3)[label]
  loss = losses.make_loss(name, class_weights='balanced', counts=COUNTS)
  parts = [slice(0, 4), slice(4, 8), slice(8, 12)]
  means = [loss(logits[p], label[p], mask[p]) * mask[p].sum() / mask.sum() for p in parts]
  np.testing.assert_allclose(sum(means), loss(logits, label, mask), rtol=1e-6)


def test_weights_by_name():
  loss = losses.make_loss('softmax', class_weights={'c': 3.0}, labels=('a', 'b', 'c'))
  np.testing.assert_array_equal(loss.keywords['weights'], [1, 1, 3])


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'class_weights': 'balance'}, "class_weights should be 'balanced' or 'effective' .*'balance'"),
    ({'class_weights': (1.0, 2.0)}, 'class_weights has 2 numbers, but there are 3 classes'),
    (
      {'class_weights': (1.0, -2.0, 1.0)},
      r'class_weights\[1\] is -2.0; wanted a number, 0 or more',
    ),
    ({'class_weights': (0.0, 0.0, 0.0)}, 'all 0'),
    ({'class_weights': {'dd': 1.0}}, "unknown class in class_weights 'dd'"),
    ({'class_weights': 'balanced', 'beta': 0.9}, 'beta is for loss.class_weights=effective: leave'),
    ({'beta': 0.9}, 'beta is for loss.class_weights=effective: leave it out'),
    ({'class_weights': 'effective', 'beta': 1.0}, 'beta is 1.0'),
    ({'class_weights': 'balanced', 'counts': None}, 'needs counts'),
  ],
)
def test_weights_that_do_not_fit(options, words):
  with pytest.raises(ValueError, match=words):
    losses.make_loss(**{'labels': ('a', 'b', 'c'), 'counts': COUNTS, **options})
