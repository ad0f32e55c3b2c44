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
