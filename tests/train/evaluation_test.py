import numpy as np
import pytest

from movinet_jax.train.evaluation import evaluate, evaluate_frames, list_metrics, make_predict
from movinet_jax.train.steps import make_eval_step, make_frame_step
from tests.train.toy import Toy, make_batch, make_variables

SCORES = {
  'a': ([4.0, 1.0, 0.0], 0),
  'b': ([1.0, 0.0, 3.0], 2),
  'c': ([2.0, 2.0, 0.0], 1),
  'd': ([0.0, 0.0, 1.0], 0),
}


def _predict(variables, batch):
  del variables
  return batch['logits']


def _batches(names, size=3, table=SCORES):
  """Batches as a loader makes them: the last padded with a repeated clip, masked."""
  for start in range(0, len(names), size):
    part = names[start : start + size]
    mask = np.array([1.0] * len(part) + [0.0] * (size - len(part)))
    part = part + [part[-1]] * (size - len(part))
    yield {
      'logits': np.array([table[name][0] for name in part]),
      'label': np.array([table[name][1] for name in part]),
      'mask': mask,
      'name': part,
    }


def test_every_video_counts_once_whatever_the_batches():
  for size in (1, 2, 3, 4, 9):
    found = evaluate(_predict, None, _batches(list('abcd'), size), expected=6, topk=(1, 2))
    assert (found.evaluated, found.missing, found.views) == (4, 2, 4)
    assert found.metrics['top1'] == 0.5
    assert found.metrics['top2'] == 1.0
    np.testing.assert_array_equal(found.confusion, [[1, 0, 1], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found.per_class, [0.5, 0, 1])


def test_multiclip_averages_probabilities_not_logits():
  table = {'x': ([8.0, 0.0, 0.0], 1), 'y': ([0.0, 1.0, 0.0], 1)}
  batches = [
    {
      'logits': np.array([table[k][0] for k in 'xyyy']),
      'label': np.ones(4, int),
      'mask': np.ones(4),
      'name': ['v'] * 4,
    }
  ]
  found = evaluate(_predict, None, batches, mode='multiclip')
  p = np.exp([[8.0, 0, 0]] + [[0, 1.0, 0]] * 3)
  mean = (p / p.sum(axis=1, keepdims=True)).mean(axis=0)
  np.testing.assert_allclose(found.metrics['loss'], -np.log(mean[1]))
  assert found.metrics['top1'] == 1.0  # the mean of the logits would say class 0
  assert (found.evaluated, found.views) == (1, 4)
  with pytest.raises(ValueError, match="'v' came 4 times"):
    evaluate(_predict, None, batches)


def test_many_labels_give_map():
  table = {
    'a': ([3.0, 1.0, 0.0], [1, 0, 0]),
    'b': ([2.0, 4.0, 0.0], [0, 1, 0]),
    'c': ([1.0, 2.0, 9.0], [1, 0, 0]),
  }
  want = ((1 + 2 / 3) / 2 + 1) / 2
  for mode in ('clip', 'multiclip'):
    found = evaluate(_predict, None, _batches(list('abc'), 2, table), mode=mode, multi_label=True)
    assert found.metrics['mAP'] == pytest.approx(want)
    assert found.confusion is None


def test_mistakes_are_clear():
  with pytest.raises(ValueError, match='no video to evaluate'):
    evaluate(_predict, None, [])
  with pytest.raises(ValueError, match="did you mean 'stream'"):
    evaluate(_predict, None, [], mode='streem')
  table = {**SCORES, 'b': ([np.nan, 0, 0], 2)}
  with pytest.raises(ValueError, match='not finite for 1 clips: b'):
    evaluate(_predict, None, _batches(list('abcd'), table=table))
  batch = next(_batches(list('aab')))
  with pytest.raises(ValueError, match="disagree about its label: 'a'"):
    evaluate(_predict, None, [{**batch, 'label': np.array([0, 1, 2])}], mode='multiclip')
  with pytest.raises(ValueError, match='and no name'):
    evaluate(_predict, None, [{k: v for k, v in batch.items() if k != 'name'}])


def test_a_network_gives_the_same_as_clip_and_as_stream():
  model, variables = Toy(), make_variables()
  found = {}
  for mode in ('clip', 'stream', 'multiclip'):
    predict = make_predict(make_eval_step(model, mode=mode, chunk_frames=3))
    found[mode] = evaluate(predict, variables, (make_batch(n) for n in range(3)), mode=mode)
  assert found['clip'].evaluated == 24
  for mode in ('stream', 'multiclip'):
    assert found[mode].metrics == pytest.approx(found['clip'].metrics, abs=1e-5)
    np.testing.assert_array_equal(found[mode].confusion, found['clip'].confusion)


def _frame_batches(labels, **changed):
  """Three videos of two frames and three classes; the last of them is only padding."""
  logits = np.zeros((4, 1, 2, 3))
  logits[0, 0, :, 1] = 1  # class 1 in both frames
  logits[1, 0, 1, 2] = 1  # a tie, of which the lower class is taken, and class 2
  logits[2, 0, 0, 2] = 1
  batch = {'logits': logits, 'label': np.array(labels), 'mask': np.array([1, 1, 1, 0])}
  return [{**batch, 'name': list('abcc'), **changed}]


@pytest.mark.parametrize(
  'labels', [[1, 2, 2, 0], [[0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]]], ids=['one', 'several']
)
def test_frames_are_right_or_wrong_one_by_one(labels):
  found = evaluate_frames(_predict, None, _frame_batches(labels), kinds=['alone'], expected=5)
  assert (found.evaluated, found.missing) == (3, 2)
  np.testing.assert_allclose(found.accuracy['alone'], [2 / 3, 2 / 3])
  np.testing.assert_allclose(found.deviation['alone'], np.sqrt([2 / 9, 2 / 9]))
  np.testing.assert_allclose(found.error['alone'], np.sqrt([2 / 27, 2 / 27]))


def test_frames_of_a_video_that_fails_or_comes_twice():
  labels = [1, 2, 2, 0]
  failed = _frame_batches(labels, failed=np.array([0, 1, 0, 0]), mask=np.array([1, 0, 1, 0]))
  found = evaluate_frames(_predict, None, failed, kinds=['alone'])
  assert found.evaluated == 2
  with pytest.raises(ValueError, match="'c' came 2 times"):
    evaluate_frames(_predict, None, _frame_batches(labels, mask=np.ones(4)), kinds=['alone'])
  bad = _frame_batches(labels)
  bad[0]['logits'][1, 0, 0, 0] = np.nan
  with pytest.raises(ValueError, match='not finite for 1 clips: b'):
    evaluate_frames(_predict, None, bad, kinds=['alone'])


def test_a_stream_answers_after_each_frame():
  model, variables, batch = Toy(), make_variables(), make_batch(frames=3)
  found = make_predict(make_frame_step(model, ('so_far',)))(variables, batch)
  assert found.shape == (8, 1, 3, 4)
  for frames in (1, 3):
    part = {**batch, 'video': batch['video'][:, :frames]}
    wanted = make_predict(make_eval_step(model))(variables, part)
    np.testing.assert_allclose(found[:, 0, frames - 1], wanted, rtol=1e-5, atol=1e-6)


def test_the_names_of_metrics_are_known_before():
  found = list_metrics(12, multi_label=False)
  assert found == ['top1', 'top5', 'loss', 'mean_class_accuracy']
  assert 'top5' not in list_metrics(5, multi_label=False)
  assert 'mAP' in list_metrics(3, multi_label=True)
