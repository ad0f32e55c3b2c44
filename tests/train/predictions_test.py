"""Predictions of single videos: which are right, and files that hold any text."""

import csv
import io
import json

import numpy as np
import pytest

from movinet_jax.train.evaluation import evaluate
from movinet_jax.train.metrics import MultiLabel
from movinet_jax.train.predictions import Predictions, find_format

NAMES = ['a,b "c"/日本.mp4', "'$x$'\\n;.mp4", ' spaces .mp4', 'line\nend\r.mp4', '=1+1', 'plain']
LABELS = ('walk; run', 'say "hi", twice', '踊り', '', 'e')


def predict(variables, batch):
  del variables
  return batch['logits']


def make_batches(multi_label, views=1, seed=0):
  """Batches of NAMES in pairs, one view after another; the last video could not be decoded."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(views, len(NAMES), len(LABELS)))
  labels = rng.integers(0, len(LABELS), len(NAMES))
  if multi_label:
    labels = (rng.random(logits.shape[1:]) < 0.4).astype(np.float32)
  failed = np.array([name == 'plain' for name in NAMES])
  for start in range(0, len(NAMES), 2):
    part = slice(start, start + 2)
    for view in logits:
      yield {
        'logits': view[part],
        'label': labels[part],
        'mask': (~failed[part]).astype(np.float32),
        'failed': failed[part],
        'name': np.array(NAMES[part]),
      }


def read(path, text):
  if path.endswith('.jsonl'):
    return [json.loads(line) for line in text.split('\n')[:-1]]
  return list(csv.DictReader(io.StringIO(text, newline='')))


@pytest.mark.parametrize(('mode', 'views'), [('clip', 1), ('stream', 1), ('multiclip', 3)])
@pytest.mark.parametrize('suffix', ['.csv', '.jsonl'])
def test_accuracy_of_the_file_is_that_of_the_evaluation(mode, views, suffix):
  found = evaluate(predict, None, make_batches(False, views), mode=mode, topk=(1, 2), expected=6)
  assert (found.evaluated, found.missing) == (5, 1)
  rows = found.predictions.list_rows(LABELS, 2, {'plain': 'truncated, "badly"'})
  read_rows = read(suffix, find_format(f'x{suffix}')(rows))
  assert sorted(row['name'] for row in read_rows) == sorted(NAMES)
  assert [r['failure'] for r in read_rows if r['name'] == 'plain'] == ['truncated, "badly"']
  good = [row for row in read_rows if row['name'] != 'plain']
  assert {str(row['views']) for row in good} == {str(views)}
  assert {row['label'] for row in read_rows} <= set(LABELS)
  if suffix == '.csv':
    best = [[row['label_1'], row['label_2']] for row in good]
    right = [row['right'] == 'true' for row in good]
    scores = [float(row['score_1']) for row in good]
  else:
    best = [[one['label'] for one in row['top']] for row in good]
    right = [row['right'] for row in good]
    scores = [row['top'][0]['score'] for row in good]
  assert np.mean(right) == found.metrics['top1']
  own = [row['label'] for row in good]
  assert np.mean([top[0] == label for top, label in zip(best, own, strict=True)]) == np.mean(right)
  hits = [label in top for top, label in zip(best, own, strict=True)]
  assert np.mean(hits) == found.metrics['top2']
  assert 1 / len(LABELS) <= min(scores) <= max(scores) <= 1


@pytest.mark.parametrize(('mode', 'views'), [('clip', 1), ('multiclip', 3)])
def test_precision_of_the_file_is_that_of_the_evaluation(mode, views):
  batches = make_batches(True, views)
  found = evaluate(predict, None, batches, mode=mode, multi_label=True)
  rows = found.predictions.list_rows(LABELS, len(LABELS), {})
  rows = [row for row in read('.jsonl', find_format('x.jsonl')(rows)) if row['failure'] is None]
  scores, labels = np.zeros((2, len(rows), len(LABELS)))
  for i, row in enumerate(rows):
    for one in row['top']:
      scores[i, LABELS.index(one['label'])] = one['score']
    labels[i, [LABELS.index(label) for label in row['labels']]] = 1
  assert MultiLabel.get(scores, labels).compute() == pytest.approx(found.metrics)
  assert np.mean([row['right'] for row in rows]) == found.metrics['hit1']
  table = read('.csv', find_format('x.CSV')(found.predictions.list_rows(LABELS, 1, {})))
  good = [row for row in table if not row['failure']]
  assert [json.loads(row['labels']) for row in good] == [row['labels'] for row in rows]
  assert [row['failure'] for row in table if row['name'] == 'plain'] == ['it could not be decoded']


def test_probabilities_are_those_of_the_mean():
  """Of several labels with several views, too."""
  logits = np.array([[9.0, -2.0], [0.0, 1.0]])
  batches = [
    {
      'logits': logits,
      'label': np.array([[1, 0], [1, 0]]),
      'mask': np.ones(2),
      'name': ['v', 'v'],
    }
  ]
  found = evaluate(predict, None, batches, mode='multiclip', multi_label=True)
  want = (1 / (1 + np.exp(-logits))).mean(0)
  np.testing.assert_allclose(found.predictions.probabilities, [want])
  batches = [{**batches[0], 'label': np.zeros(2, int)}]
  found = evaluate(predict, None, batches, mode='multiclip')
  p = np.exp(logits)
  want = (p / p.sum(1, keepdims=True)).mean(0)
  np.testing.assert_allclose(found.predictions.probabilities, [want])


def test_mistakes_are_the_most_confident_first():
  scores = np.array([[3.0, 0], [0, 9.0], [0, 1.0], [5.0, 0], [0, 0]])
  found = Predictions(np.array(list('abcde')), scores, np.array([0, 0, 0, 1, 1]), np.ones(5, int))
  assert found.names[found.find_mistakes()].tolist() == ['b', 'd', 'c', 'e']  # a tie: class 0


def test_a_video_without_a_label_is_no_mistake():
  labels = np.array([[0, 0], [0, 1], [1, 0]])
  found = Predictions(
    np.array(list('abc')), np.tile([9.0, 0], (3, 1)), labels, np.ones(3, int), True
  )
  assert found.names[found.find_mistakes()].tolist() == ['b']


@pytest.mark.parametrize('path', ['x.txt', 'x', 'x.csv.gz'])
def test_a_file_of_another_kind_is_refused(path):
  with pytest.raises(ValueError, match=r'wanted .csv for a table, or .jsonl'):
    find_format(path)
