"""What an evaluation predicted of each video: which it got right, and the files of that."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Videos with their scores, M of them, and those that could not be decoded.

  Attributes:
    names: [M] text.
    scores: [M, N], by which metrics rank: logits, or logarithms of averaged probabilities.
    labels: [M] int, or [M, N] of 0 and 1 where videos have several.
    views: [M], how many views of each video were seen.
    multi_label: whether videos have several labels.
    averaged: whether scores are logarithms of averaged probabilities.
    failed: labels, as a row of `labels`, by the name of each video that was not decoded.
  """

  names: np.ndarray
  scores: np.ndarray
  labels: np.ndarray
  views: np.ndarray
  multi_label: bool = False
  averaged: bool = False
  failed: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.names)

  @property
  def probabilities(self) -> np.ndarray:
    """Float64 [M, N]: softmax of the scores, or of each class its sigmoid."""
    if self.averaged and self.multi_label:
      return np.exp(self.scores)
    return find_probabilities(self.scores, self.multi_label)

  def rank(self) -> np.ndarray:
    """Classes from best to worst, int [M, N]: of equal scores the lower number first."""
    return np.argsort(-self.scores.astype(np.float64), axis=-1, kind='stable')

  def is_right(self) -> np.ndarray:
    """Bool [M]: whether the best class is the video's, or one of its classes."""
    best = self.rank()[:, 0]
    if self.multi_label:
      return self.labels[np.arange(len(self)), best] > 0
    return best == self.labels

  def find_mistakes(self) -> np.ndarray:
    """The rows whose best class is wrong, those with the highest probability first.

    A video without a label is none of them: every class would be wrong.
    """
    wrong = ~self.is_right()
    if self.multi_label:
      wrong &= (self.labels > 0).any(axis=-1)
    wrong = np.flatnonzero(wrong)
    return wrong[np.argsort(-self.probabilities[wrong].max(axis=-1), kind='stable')]

  def list_labels(self, label) -> list[int]:
    """The class numbers of a row of `labels`."""
    return np.flatnonzero(label).tolist() if self.multi_label else [int(label)]

  def list_rows(self, labels: Sequence[str], topk: int, reasons: Mapping[str, str]) -> list[dict]:
    """One plain row per video, by name, for a file.

    Args:
      labels: the name of each class.
      topk: the number of best classes to list.
      reasons: why videos failed, by their names.

    Returns:
      dicts of name, label (`labels`, a list, where videos have several), right (None of a video
      that failed), views, failure (None of one that did not) and top, a list of dicts of label
      and score, a probability.
    """
    ranked, chances, right = self.rank()[:, :topk], self.probabilities, self.is_right()
    rows = []
    for i, name in enumerate(self.names):
      top = [{'label': labels[n], 'score': float(chances[i, n])} for n in ranked[i]]
      found = {'right': bool(right[i]), 'views': int(self.views[i]), 'failure': None, 'top': top}
      rows.append({**self._start_row(str(name), self.labels[i], labels), **found})
    for name, label in self.failed.items():
      reason = reasons.get(name) or 'it could not be decoded'
      found = {'right': None, 'views': 0, 'failure': reason, 'top': []}
      rows.append({**self._start_row(name, label, labels), **found})
    return sorted(rows, key=lambda row: row['name'])

  def _start_row(self, name: str, label, labels: Sequence[str]) -> dict:
    held = [labels[number] for number in self.list_labels(label)]
    return {'name': name, **({'labels': held} if self.multi_label else {'label': held[0]})}


def find_probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
  """Softmax of logits [M, N], or the sigmoid of each: float64."""
  logits = logits.astype(np.float64)
  if multi_label:
    with np.errstate(over='ignore'):  # 1 / inf is the 0 that it should be
      return 1 / (1 + np.exp(-logits))
  shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return shifted / shifted.sum(axis=-1, keepdims=True)


def _format_lines(rows: Sequence[Mapping]) -> str:
  return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


def _format_table(rows: Sequence[Mapping]) -> str:
  """CSV, whose last columns are label_1, score_1, label_2, …; of several labels a JSON list."""
  most = max((len(row['top']) for row in rows), default=0)
  ranks = [f'{kind}_{rank}' for rank in range(1, most + 1) for kind in ('label', 'score')]
  columns = [key for key in rows[0] if key != 'top'] if rows else []
  file = io.StringIO(newline='')
  writer = csv.writer(file)
  writer.writerow([*columns, *ranks])
  for row in rows:
    cells = [_format_cell(row[key]) for key in columns]
    best = [cell for one in row['top'] for cell in (one['label'], repr(one['score']))]
    writer.writerow([*cells, *best, *[''] * (len(ranks) - len(best))])
  return file.getvalue()


def _format_cell(value) -> str:
  if value is None:
    return ''
  return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


FORMATS = {'.csv': _format_table, '.jsonl': _format_lines}


def find_format(path: str):
  """Returns what formats the rows of `Predictions.list_rows` for a file, by its suffix.

  Raises:
    ValueError: the suffix is another than .csv and .jsonl.
  """
  suffix = Path(path).suffix.lower()
  if suffix not in FORMATS:
    raise ValueError(
      f'{path} ends in {suffix or "no suffix"!r}: wanted .csv for a table, or .jsonl for a JSON '
      'object a line'
    )
  return FORMATS[suffix]
