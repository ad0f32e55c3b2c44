"""Evaluations of whole sources, and the batch statistics that they may need first."""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import tqdm

from movinet_jax import data, layers
from movinet_jax.schema import Count
from movinet_jax.train import evaluation, mesh, precise_norm, steps


@dataclasses.dataclass(frozen=True)
class PreciseNorm:
  """The number of training batches that recompute batch statistics, and of clips in each.

  SlowFast takes 200 batches for X3D.
  """

  batches: Count = 200
  batch_size: Count = 64


def make_evaluate(
  model,
  source: data.Source,
  clip: data.EvalClip,
  loader: data.LoaderOptions,
  batch_size: int,
  *,
  mode: str | None = None,
  chunk_frames: int = 1,
) -> Callable:
  """Compiles the evaluation of a source once: variables -> (Evaluation, failures).

  Every video counts once, and each process reads its share. Failures are the reasons of the
  videos that could not be decoded, by name.

  Args:
    batch_size: videos at a time, rounded up to what all devices share evenly.
    mode: by default what the clip is for: 'multiclip' if it has several views, else 'clip'.
    chunk_frames: frames a call in mode 'stream'.
  """
  mode = mode or ('multiclip' if clip.views > 1 else 'clip')
  step = steps.make_eval_step(model, mode=mode, chunk_frames=chunk_frames)
  score = functools.partial(evaluation.evaluate, mode=mode, multi_label=source.multi_label)
  return _make_scoring(step, score, source, clip, loader, batch_size)


def make_evaluate_frames(
  model,
  source: data.Source,
  clip: data.EvalClip,
  loader: data.LoaderOptions,
  batch_size: int,
) -> Callable:
  """Compiles the evaluation of each frame once: variables -> (FrameEvaluation, failures).

  The features of each frame are classified alone and, of a stream, its answers after each frame
  are evaluated, too. Of an ensemble only those are: its members see different frames.

  Args are those of `make_evaluate`; the clip is one view.

  Raises:
    ValueError: an ensemble that is no stream.
  """
  kinds = ('alone',) * isinstance(model, layers.Network) + ('so_far',) * model.spec.causal
  if not kinds:
    raise ValueError(
      'an ensemble whose members are no streams has no answer for a frame: evaluate the frames of '
      'each member, by its own checkpoint'
    )
  step = steps.make_frame_step(model, kinds)
  score = functools.partial(evaluation.evaluate_frames, kinds=kinds)
  return _make_scoring(step, score, source, clip, loader, batch_size)


def _make_scoring(step, score, source, clip, loader, batch_size) -> Callable:
  """Makes variables -> (score of a step's answers on all videos, failures)."""
  predict = evaluation.make_predict(step, mesh.make_mesh())
  size = -(-batch_size // jax.device_count()) * jax.device_count()
  # A bad file of a small split must not end an evaluation: it is counted as missing.
  options = dataclasses.asdict(dataclasses.replace(loader, max_failed_share=1.0))
  shard = jax.process_index(), jax.process_count()
  room = {'batch_size': size, 'train': False, 'workers': loader.workers, 'shard': shard}
  data.check_shared_memory(source, clip, **room)  # now, not at the first evaluation

  def run(variables):
    with data.make_batches(
      source, clip, batch_size=size, train=False, shard=shard, **options
    ) as batches:
      shown = _show(batches, 'Evaluating', -(-len(source) // size))
      views = _split_views(_until_all_failed(shown, batches, len(source)))
      result = score(predict, variables, views, expected=len(source))
    return result, evaluation.gather_failures(batches.failures)

  return run


def make_recompute(
  norm: PreciseNorm,
  model,
  source: data.Source,
  clip: data.TrainClip,
  loader: data.LoaderOptions,
  seed: int,
  sampling: data.Sampling | None = None,
) -> Callable:
  """Makes variables -> the same with the batch statistics of training clips.

  Every call reads the same batches.
  """
  estimate = precise_norm.make_estimate(model, mesh.make_mesh())
  options = {'batch_size': norm.batch_size, 'seed': seed, **dataclasses.asdict(loader)}
  shard = jax.process_index(), jax.process_count()
  room = {'batch_size': norm.batch_size, 'train': True, 'workers': loader.workers, 'shard': shard}
  data.check_shared_memory(source, clip, **room)

  def recompute(variables):
    with data.make_batches(
      source, clip, train=True, shard=shard, sampling=sampling, **options
    ) as stream:
      batches = itertools.islice(stream, norm.batches)
      shown = _show(batches, 'Batch statistics', norm.batches)
      return {**variables, 'batch_stats': estimate(variables, shown)}

  return recompute


def _show(batches, title: str, total: int):
  """The batches behind a progress bar, in the first process of those on a terminal."""
  hidden = True if jax.process_index() else None  # None: unless stderr is a terminal
  return tqdm.tqdm(batches, desc=title, total=total, unit='batch', leave=False, disable=hidden)


def _until_all_failed(shown, batches, videos):
  yield from shown
  if len(batches.failures) == videos:
    named = [f'{name}: {reason}' for name, reason in batches.failures.items()]
    raise ValueError('\n  '.join(['no video could be decoded:', *named[:8]]))


def _split_views(batches):
  """Gives every view [K, T, H, W, 3] of a video a row of its own, K batches for one."""
  for batch in batches:
    if batch['video'].ndim == 5:
      yield batch
      continue
    for k in range(batch['video'].shape[1]):
      yield {**batch, 'video': batch['video'][:, k]}
