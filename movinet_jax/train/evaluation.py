"""Evaluation of a network on videos: every video counted exactly once.

Three protocols: 'clip' runs one clip per video whole, as MoViNet reports (supplement,
C.4); 'stream' feeds the same clip chunk by chunk and reads the last logits; 'multiclip'
averages the probabilities of several views of a video, as X3D and SlowFast report. Apart from
them, `evaluate_frames` says how often the answer is right frame by frame.
"""

import dataclasses
import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from movinet_jax import inference
from movinet_jax.names import check_name
from movinet_jax.train.mesh import (
  make_mesh,
  read_local_rows,
  replicated,
  shard_batch,
  split,
)
from movinet_jax.train.metrics import Classification, MultiLabel
from movinet_jax.train.predictions import Predictions, find_probabilities
from movinet_jax.train.waiting import run_ahead

MODES = ('clip', 'stream', 'multiclip')
TOPK = (1, 5)


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What an evaluation found.

  Attributes:
    mode: 'clip', 'stream' or 'multiclip'.
    metrics: scalars: top1, top5, loss, mean_class_accuracy; or mAP, hit1 and others.
    per_class: [N], accuracy, or average precision; NaN for a class without a video.
    confusion: [N, N] videos by (label, predicted class); None for many labels a video.
    evaluated: videos counted.
    missing: videos expected and not seen (their decoding failed); None if unknown.
    views: views seen, over all videos.
    secs: wall clock, compilation included.
    predictions: of each video, what the metrics are of; in all processes those of all.
  """

  mode: str
  metrics: dict[str, float]
  per_class: np.ndarray
  confusion: np.ndarray | None
  evaluated: int
  missing: int | None
  views: int
  secs: float
  predictions: Predictions | None = None


@dataclasses.dataclass(frozen=True)
class FrameEvaluation:
  """How often the best class of each frame of a clip was right.

  Attributes:
    accuracy: [T] by kind of answer ('alone', 'so_far'): the mean over videos of 1 where the best
      class was the video's, or one of its classes, and 0 where it was not.
    deviation: [T] by kind, the standard deviation of that over videos, sqrt(p (1 - p)).
    evaluated, missing, secs: as in Evaluation.
  """

  accuracy: dict[str, np.ndarray]
  deviation: dict[str, np.ndarray]
  evaluated: int
  missing: int | None
  secs: float

  @property
  def error(self) -> dict[str, np.ndarray]:
    """[T] by kind, the standard deviation of the accuracy: of a mean over so many videos."""
    return {kind: one / self.evaluated**0.5 for kind, one in self.deviation.items()}


def list_metrics(num_classes: int, multi_label: bool) -> list[str]:
  """Names of the metrics that an evaluation of such data has."""
  scores = np.zeros((0, num_classes))
  labels = scores if multi_label else np.zeros(0, int)
  return list(_make_sums(scores, labels, multi_label, TOPK).compute())


def evaluate(
  predict: Callable,
  variables,
  batches: Iterable[Mapping],
  *,
  mode: str = 'clip',
  multi_label: bool = False,
  topk: tuple[int, ...] = TOPK,
  expected: int | None = None,
) -> Evaluation:
  """Evaluates on all batches.

  Args:
    predict: (variables, batch on the host) -> logits [B, N] of this process's clips, or of
      all on the devices; made once by `make_predict`, so that it is compiled once.
    variables: {'params', 'batch_stats'}; of a TrainState, its `ema`.
    batches: dicts of video, label, mask as for training, and `name`, B names that say
      which video a clip is of; `failed` [B], where given, says which clips are of videos that
      could not be decoded. Every process must have the same number of batches.
    mode: one of MODES; 'clip' and 'stream' want one clip per name.
    multi_label: whether labels are [B, N] of 0 and 1.
    topk: the k of top-k; those that are not below the number of classes are left out.
    expected: number of videos there should be over all processes, to count those
      missing.

  Raises:
    ValueError: for a name that comes twice in 'clip' or 'stream', views that disagree
      about the label, scores that are NaN (the video is named), or no video at all.
  """
  check_name(mode, MODES, 'mode')
  began = time.perf_counter()
  rows = [_read_rows(*found) for found in _predict_all(predict, variables, batches)]
  (names, scores, labels), failed = _gather(rows)
  _check_finite(names, scores)
  predictions = _group(names, scores, labels, mode, multi_label)
  scores, labels = predictions.scores, predictions.labels
  sums = _make_sums(scores, labels, multi_label, topk)
  if multi_label:
    per_class, confusion = sums.class_precision(), None
  else:
    per_class, confusion = sums.class_accuracy(), sums.confusion
  return Evaluation(
    mode=mode,
    metrics=sums.compute(),
    per_class=per_class,
    confusion=confusion,
    evaluated=len(predictions),
    missing=None if expected is None else expected - len(predictions),
    views=int(predictions.views.sum()),
    secs=time.perf_counter() - began,
    predictions=dataclasses.replace(predictions, failed=failed),
  )


def evaluate_frames(
  predict: Callable,
  variables,
  batches: Iterable[Mapping],
  *,
  kinds: Sequence[str],
  expected: int | None = None,
) -> FrameEvaluation:
  """Evaluates the answers of each frame on all batches; of one clip a video.

  Args:
    predict: (variables, batch on the host) -> logits [B, K, T, N], a `make_predict` of
      `make_frame_step`.
    kinds: names of the K answers.
    variables, batches, expected: as for `evaluate`.

  Raises:
    ValueError: for a name that comes twice, scores that are not finite, or no video at all.
  """
  began = time.perf_counter()
  found = _predict_all(predict, variables, batches)
  rows = [_read_rows(batch, _find_right(batch, logits)) for batch, logits in found]
  (names, right, _), _ = _gather(rows)
  _check_finite(names, right.reshape(len(right), -1))
  videos, counts = np.unique(names, return_counts=True)
  _check_once(videos, counts, 'frames')
  return FrameEvaluation(
    accuracy=dict(zip(kinds, right.mean(0), strict=True)),
    deviation=dict(zip(kinds, right.std(0), strict=True)),
    evaluated=len(videos),
    missing=None if expected is None else expected - len(videos),
    secs=time.perf_counter() - began,
  )


def _find_right(batch, logits):
  """1 or 0 for each frame, float64 [B, K, T]; NaN where a logit is not finite.

  All logits of a large data set would not fit into memory.
  """
  label = np.asarray(batch['label'])
  best = logits.argmax(-1)  # of equal scores the lower number
  if label.ndim == 1:
    right = best == label[:, None, None]
  else:
    right = np.take_along_axis(label[:, None, None] > 0, best[..., None], -1)[..., 0]
  return np.where(np.isfinite(logits).all(-1), right, np.nan)


def make_predict(eval_step, mesh=None) -> Callable:
  """Compiles a step of `make_eval_step` or `make_frame_step`.

  Returns:
    (variables, batch on the host) -> logits on the devices, which may still be computed; the
    batch's rows of this process are `read_local_rows` of them.
  """
  mesh = make_mesh() if mesh is None else mesh
  options = inference.find_options(mesh.devices.flat[0].platform)
  compiled = jax.jit(eval_step, out_shardings=split(mesh), compiler_options=options)

  def predict(variables, batch):
    variables = jax.device_put(variables, replicated(mesh))
    video = shard_batch({'video': batch['video']}, mesh)['video']
    return compiled(variables, video)

  return predict


def _predict_all(predict, variables, batches):
  """Yields (batch, logits of this process's clips) of each batch."""

  def dispatch(batch):
    if 'name' not in batch:
      raise ValueError(
        f'A batch has {sorted(batch)} and no name: videos are counted by their names.'
      )
    return predict(variables, batch)

  for batch, logits in run_ahead(dispatch, batches):
    yield batch, read_local_rows(logits)


def _read_rows(batch, logits):
  failed = np.asarray(batch.get('failed', np.zeros(len(logits))), bool)
  keep = (np.asarray(batch['mask']) > 0) | failed
  names = np.asarray([str(name) for name in batch['name']], dtype=np.str_)
  return names[keep], logits[keep], np.asarray(batch['label'])[keep], failed[keep]


def _make_sums(scores, labels, multi_label, topk):
  if multi_label:
    return MultiLabel.get(scores, labels)
  # Every label is among the best N of N.
  topk = [k for k in topk if k == 1 or k < scores.shape[-1]]
  return Classification.get(scores, labels, topk=topk)


def _gather(rows):
  """The rows of all processes, in their order: those to count, and labels of failed videos."""
  if rows:
    rows = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
  if jax.process_count() > 1:
    rows = _gather_arrays(rows)
  if not rows or rows[-1].all():
    raise ValueError('There was no video to evaluate: none could be read.')
  *rows, failed = rows
  names, _, labels = rows
  bad = {str(names[i]): labels[i] for i in np.flatnonzero(failed)}
  return [row[~failed] for row in rows], bad


def _gather_arrays(arrays):
  # Processes hold different numbers of rows, and a gather wants equal shapes: so the
  # arrays travel as bytes, padded to the longest.
  buffer = io.BytesIO()
  np.savez(buffer, *arrays)
  mine = np.frombuffer(buffer.getvalue(), np.uint8)
  sizes = multihost_utils.process_allgather(np.asarray([mine.size])).reshape(-1)
  padded = np.pad(mine, (0, int(sizes.max()) - mine.size))
  everyone = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
  parts = []
  for size, data in zip(sizes, everyone, strict=True):
    with np.load(io.BytesIO(data[:size].tobytes())) as file:
      parts.append([file[name] for name in sorted(file.files)])
  parts = [part for part in parts if part]
  return [np.concatenate(column) for column in zip(*parts, strict=True)]


def gather_failures(failures: Mapping[str, str]) -> dict[str, str]:
  """Reasons by name of the videos that could not be decoded, in any of the processes."""
  if jax.process_count() == 1:
    return dict(failures)
  columns = list(failures), list(failures.values())
  names, reasons = _gather_arrays([np.asarray(c, np.str_) for c in columns])
  return {str(name): str(why) for name, why in zip(names, reasons, strict=True)}


def _check_finite(names, scores):
  bad = ~np.isfinite(scores).all(axis=-1)
  if bad.any():
    raise ValueError(
      f'The network gives scores that are not finite for {int(bad.sum())} clips: '
      f'{", ".join(names[bad][:8])}'
    )


def _check_once(videos, counts, mode):
  if counts.max() > 1:
    raise ValueError(
      f'{str(videos[counts.argmax()])!r} came {counts.max()} times, but mode {mode!r} '
      "counts one clip per video; use mode='multiclip' for several views."
    )


def _group(names, scores, labels, mode, multi_label) -> Predictions:
  """One row per video, by the order of their names."""
  videos, first, index, counts = np.unique(
    names, return_index=True, return_inverse=True, return_counts=True
  )
  whole = Predictions(videos, scores[first], labels[first], counts, multi_label)
  if mode != 'multiclip':
    _check_once(videos, counts, mode)
    return whole
  different = (labels != labels[first][index]).reshape(len(names), -1).any(axis=1)
  if different.any():
    raise ValueError(f'Views of one video disagree about its label: {str(names[different][0])!r}.')
  total = np.zeros((len(videos), scores.shape[1]))
  np.add.at(total, index, find_probabilities(scores, multi_label))
  # As logarithms, of which softmax gives the mean probabilities back.
  with np.errstate(divide='ignore'):
    mean = np.log(total / counts[:, None])
  return dataclasses.replace(whole, scores=np.maximum(mean, -1e30), averaged=True)
