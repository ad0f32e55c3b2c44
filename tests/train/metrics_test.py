import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.train import evaluation, metrics
from movinet_jax.train.metrics import Classification, MultiLabel

SCORES = np.array(
  [[3.0, 2.0, 1.0], [1.0, 5.0, 5.0], [0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [9.0, 9.0, 9.0]]
)
LABEL = np.array([0, 2, 1, 0, 7])
MASK = np.array([1, 1, 1, 1, 0])


def test_topk_by_hand_with_ties_to_the_lower_class():
  sums = Classification.get(SCORES, LABEL, MASK, topk=(1, 2, 3))
  # Right at once: row 0. Row 1 ties with class 1 and row 2 with class 0, which win.
  assert sums.correct == {1: 1, 2: 3, 3: 4}
  np.testing.assert_array_equal(sums.confusion, [[1, 0, 1], [1, 0, 0], [0, 1, 0]])
  np.testing.assert_array_equal(sums.class_accuracy(), [0.5, 0, 0])
  result = sums.compute()
  assert result['top1'] == 0.25
  assert result['top2'] == 0.75
  log_p = SCORES[:4] - np.log(np.exp(SCORES[:4]).sum(axis=1, keepdims=True))
  np.testing.assert_allclose(result['loss'], -log_p[range(4), LABEL[:4]].mean())


def test_the_compiled_count_agrees_with_the_final_one():
  for k in (1, 2, 3):
    got = metrics.count_correct(jnp.asarray(SCORES), jnp.asarray(LABEL), jnp.asarray(MASK), k)
    assert got == Classification.get(SCORES, LABEL, MASK, topk=(k,)).correct[k]


def test_nan_is_never_correct():
  scores = jnp.array([[jnp.nan, 1.0], [jnp.nan, jnp.nan], [1.0, jnp.nan]])
  assert metrics.count_correct(scores, jnp.array([0, 0, 0]), jnp.ones(3)) == 0
  with pytest.raises(ValueError, match=r'rows \[0, 1, 2\] are NaN'):
    Classification.get(scores, np.zeros(3, int))


def test_merging_in_any_division_is_the_whole():
  rng = np.random.default_rng(0)
  scores, label = rng.normal(size=(50, 7)), rng.integers(0, 7, 50)
  whole = Classification.get(scores, label)
  for cuts in ([10], [1, 2, 49], [25, 25]):
    edges = [0, *cuts, 50]
    parts = [Classification.get(scores[a:b], label[a:b]) for a, b in itertools.pairwise(edges)]
    merged = parts[0]
    for part in parts[1:]:
      merged = merged.merge(part)
    np.testing.assert_array_equal(merged.confusion, whole.confusion)
    assert merged.compute() == pytest.approx(whole.compute())


def test_class_without_videos_is_nan_and_left_out_of_the_mean():
  sums = Classification.get(np.eye(3)[[0, 1]], np.array([0, 0]))
  np.testing.assert_array_equal(sums.class_accuracy(), [0.5, np.nan, np.nan])
  assert sums.compute()['mean_class_accuracy'] == 0.5


@pytest.mark.parametrize('label', [-1, 3])
def test_labels_out_of_range_are_an_error(label):
  with pytest.raises(ValueError, match='3 classes, so wanted 0 to 2'):
    Classification.get(SCORES[:1], np.array([label]))


def test_average_precision_by_hand():
  scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
  positive = np.array([1, 0, 1, 0, 1]) > 0
  got = metrics.average_precision(scores, positive)
  np.testing.assert_allclose(got, (1 / 1 + 2 / 3 + 3 / 5) / 3)


def test_average_precision_does_not_depend_on_the_order_of_ties():
  scores, positive = np.array([0.5, 0.5, 0.5, 0.1]), np.array([1, 0, 0, 1]) > 0
  values = {
    round(metrics.average_precision(scores[p], positive[p]), 12)
    for p in (np.random.default_rng(s).permutation(4) for s in range(10))
  }
  assert values == {round((1 / 3 + 2 / 4) / 2, 12)}


def test_map_drops_the_class_without_a_positive():
  scores = np.array([[3.0, 1.0, 0.0], [2.0, 4.0, 0.0], [1.0, 2.0, 9.0]])
  label = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
  whole = MultiLabel.get(scores, label)
  merged = MultiLabel.get(scores[:1], label[:1]).merge(MultiLabel.get(scores[1:], label[1:]))
  want = {'mAP': ((1 + 2 / 3) / 2 + 1) / 2, 'classes_with_positives': 2, 'hit1': 2 / 3}
  assert whole.compute() == pytest.approx(want)
  assert merged.compute() == pytest.approx(want)
  assert np.isnan(whole.class_precision()[2])


def measure(multi_label, num_classes, right) -> dict:
  """The metrics of scores that are all right, or all wrong."""
  label = np.eye(num_classes)
  scores = 9 * label if right else -9 * label
  if multi_label:
    return MultiLabel.get(scores, label).compute()
  return Classification.get(scores, np.arange(num_classes)).compute()


@pytest.mark.parametrize('multi_label', [False, True])
@pytest.mark.parametrize('num_classes', [2, 4, 6, 10])
def test_every_metric_of_an_evaluation_knows_which_value_is_best(multi_label, num_classes):
  """By scores that are right and wrong, so that a direction told wrongly fails."""
  good, bad = (measure(multi_label, num_classes, right) for right in (True, False))
  for name in evaluation.list_metrics(num_classes, multi_label):
    better = {'max': good[name] > bad[name], 'min': good[name] < bad[name]}
    better['count'] = good[name] == bad[name]
    assert better[metrics.find_direction(name)], name
  assert metrics.find_direction('missing') == 'count'
  assert metrics.find_direction('top') is metrics.find_direction('tops1') is None


@pytest.mark.parametrize(
  ('name', 'mode', 'best'),
  [
    ('loss', None, 'min'),
    ('top1', None, 'max'),
    ('top3', None, 'max'),
    ('mAP', 'max', 'max'),
    ('loss', 'min', 'min'),
    ('my_score', 'min', 'min'),
    ('my_score', 'max', 'max'),
  ],
)
def test_the_best_value_is_the_metric_s_own(name, mode, best):
  assert metrics.choose_mode(name, mode) == best


@pytest.mark.parametrize(
  ('name', 'mode', 'facts'),
  [
    ('loss', 'max', ("best_mode is 'max'", 'loss', 'lower is better', "'min'")),
    ('top5', 'min', ("best_mode is 'min'", 'top5', 'higher is better', "'max'")),
    ('missing', None, ("'missing'", 'a count')),
    ('missing', 'min', ("'missing'", 'a count')),
    ('classes_with_positives', 'max', ("'classes_with_positives'", 'a count')),
    ('my_score', None, ("'my_score'", 'needs best_mode', 'max or min')),
    ('los', None, ("'los'", "did you mean 'loss'")),
  ],
)
def test_a_best_value_that_is_unknown_or_the_worst_is_refused(name, mode, facts):
  with pytest.raises(ValueError, match='best_m') as caught:
    metrics.choose_mode(name, mode)
  assert [fact for fact in facts if fact not in str(caught.value)] == []
