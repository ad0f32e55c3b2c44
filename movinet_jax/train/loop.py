"""THE loop: time, input and output, and their order. It knows nothing of losses.

Supervised training and every search hand it their own step.
"""

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from movinet_jax import signals
from movinet_jax.schema import Count, Natural, checked
from movinet_jax.train.failures import is_of_a_lost_process
from movinet_jax.train.waiting import DeviceClock, InputWatch


@dataclasses.dataclass(frozen=True)
class LoopOptions:
  """How long a run is and what is due when, in steps; see `run`."""

  total_steps: Count
  log_every: Natural = 100
  eval_every: Natural = 0
  save_every: Natural = 1000
  progress: bool | None = None


class NonFiniteLoss(RuntimeError):
  """The loss or a gradient became NaN or infinite; nothing was saved since.

  Attributes:
    step: number of the update, counted from 1, that went wrong.
    names: file names in its batch (this process's part), [] if the batch has none.
    last_good_step: of the latest checkpoint on disk, None without one.
  """

  def __init__(self, step, names, last_good_step, directory=None):
    self.step, self.names, self.last_good_step = step, names, last_good_step
    saved = 'no checkpoint was saved before'
    if last_good_step is not None:
      saved = f'the last good checkpoint is {directory}/{last_good_step}'
    super().__init__(
      f'Loss or gradients of step {step} are not finite; {saved}. Its batch: '
      f'{", ".join(names) if names else "(no names given)"}'
    )


class Preempted(RuntimeError):
  """The run was asked to stop, and saved `step` before it did. Start it again.

  Attributes:
    step: that is on disk.
    secs: from when the loop knew of the signal until that; 0 if it was there before.
  """

  def __init__(self, step, secs=0.0):
    self.step, self.secs = step, secs
    when = f'was saved {secs:.1f} seconds later' if secs else 'had been saved'
    super().__init__(
      f'Stopped by a signal after step {step}, which {when}. The same command goes on.'
    )


@checked
def run(
  step: Callable,
  state,
  batches: Iterator[Mapping],
  *,
  total_steps: int,
  checkpointer,
  writer,
  evaluate: Callable | None = None,
  log_every: Natural = 100,
  eval_every: Natural = 0,
  save_every: Natural = 1000,
  meta: Mapping | None = None,
  position: Callable[[int], Mapping] | None = None,
  on_step: Callable[[int, Any], None] | None = None,
  on_save: Callable[[int], None] | None = None,
  progress: bool | None = None,
):
  """Runs steps until `total_steps` are made in all, counting those before a resume.

  Order within a step: input, update, finiteness of the update before, then whichever of
  log, save and evaluation is due. The state is saved before it is evaluated, so an
  evaluation may fail or be stopped: a resumed run evaluates that state first. The finite
  flag is read one step late, so that the device always has its next step before the host
  waits. It is read at once where the state is about to be saved, so no bad state is saved.

  A batch is asked for, and begins its way to the devices, while they compute the step before.
  `input_wait_share` is the share of time in which they had ended that step and the next batch
  was not there. Where it stays high, one note says what would help (waiting.py).

  Args:
    step: (state, batch) -> (state, metrics). Metrics are scalars; `finite` is required.
      The entry `aux`, if there is one, is a tree of arrays of any shape: it goes to
      `on_step` and is never logged. The step may donate the state.
    state: where to begin, with a `step` scalar; fresh or restored.
    batches: iterator that stands at batch number `state.step`. `name` in a batch lists
      its files; `mask` counts its clips; `batches.failed` counts clips that could not
      be decoded so far; `batches.advise(step_secs)` says what would make the input keep up.
    checkpointer: a Checkpointer.
    writer: a Writer.
    evaluate: state -> dict of scalars, written as 'eval/...'; runs every eval_every
      steps and after the last. Its metrics are added to the checkpoint.
    log_every, eval_every, save_every: in steps; 0 is never, and the last step always
      logs, evaluates and saves.
    meta: JSON that goes into every checkpoint: config, label map, model, preprocessing.
    position: number of batches consumed -> JSON, where the input stands; by default
      {'batches': number}. It only answers: side effects belong to `on_save`.
    on_step: called with the number of each step, counted from 1, and its `aux` (None
      without one) as soon as the step is dispatched. Its arrays may still be computed, so
      it should not read them.
    on_save: called with the number of a step whose state is about to be saved, which is
      known to be finite. Files that it writes are on disk before the checkpoint, and if it
      fails, the checkpoint is not written. A run killed between the two repeats the
      steps and calls it again, so it replaces what it wrote for the same step.
    progress: whether to show a bar; by default, if stderr is a terminal.

  Returns:
    The state after total_steps, which is on disk.

  Raises:
    NonFiniteLoss: see there.
    Preempted: after a signal to stop (movinet_jax/signals.py), when the step is finished
      and saved; an evaluation is left undone. A second SIGINT stops at once.
    ValueError: if the batches end early, the state is already past total_steps, or a
      number of steps is negative.
  """
  first = int(state.step)
  if first > total_steps:
    raise ValueError(f'The state has made {first} steps, but total_steps is {total_steps}.')
  position = position or (lambda number: {'batches': number})
  on_step = on_step or (lambda number, aux: None)
  on_save = on_save or (lambda number: None)
  watch = _FiniteWatch(checkpointer)
  saves = _Saves(checkpointer, writer)
  with (
    _finishing(checkpointer, writer, saves),
    DeviceClock() as clock,
    _StopSignal().listening() as stop,
    _make_bar(first, total_steps, progress) as bar,
  ):
    log = _Log(writer, batches, clock)

    def evaluate_saved(number):
      with log.paused(), stop.at_once(number):
        results = evaluate(state)
      writer.write(number, {f'eval/{name}': value for name, value in results.items()})
      checkpointer.add_metrics(number, results)

    def is_evaluated(number):
      last = number == total_steps
      return evaluate is not None and (last or _due(number, eval_every))

    # A stop, a kill or a failure may have come between a save and its evaluation.
    if is_evaluated(first) and checkpointer.read_metrics(first) == {}:
      evaluate_saved(first)
    for number in range(first + 1, total_steps + 1):
      with log.waiting():
        batch = _next_batch(batches, number, total_steps)
      called = time.perf_counter()
      state, metrics = step(state, batch)
      clock.follow(metrics['finite'], called)
      scalars, aux = _split_aux(metrics)
      on_step(number, aux)
      watch.add(number, scalars['finite'], batch.get('name'))
      log.add(scalars, batch)
      stopping, last = stop.is_asked(number), number == total_steps
      if stopping or last or _due(number, log_every):
        watch.check_all()
        checkpointer.check()  # or a save that failed is known at the next one only
        saves.note()
        bar.set_postfix(log.write(number), refresh=False)
      if stopping or last or is_evaluated(number) or _due(number, save_every):
        watch.check_all()
        with log.paused():
          on_save(number)
          info = {**(meta or {}), 'position': dict(position(number))}
          checkpointer.save(state, info)
          saves.expect()
      bar.update()
      if stopping and (is_evaluated(number) or not last):
        checkpointer.wait()
        raise Preempted(number, stop.count_secs())
      if is_evaluated(number):
        evaluate_saved(number)
  return state


@contextlib.contextmanager
def _finishing(checkpointer, writer, saves):
  """However a run ends, what it gave away is on disk then.

  But for a run that has lost one of its processes: a checkpoint wants all of them, and
  would wait for that one.
  """
  try:
    yield
  except BaseException as error:
    if not is_of_a_lost_process(error):
      checkpointer.wait()
      with contextlib.suppress(OSError):  # of a full disk: the first error says more
        saves.note()
    raise
  else:
    checkpointer.wait()
    saves.note()
  finally:
    writer.flush()


class _Saves:
  """Notes which state is on disk, should it ever be missed there."""

  def __init__(self, checkpointer, writer):
    self._checkpointer, self._writer, self._noted = checkpointer, writer, None
    self._is_due = True  # a run of an earlier version has noted nothing

  def expect(self):
    """Makes `note` look for a new checkpoint: it lists a folder, which may be far away."""
    self._is_due = True

  def note(self):
    step = self._checkpointer.latest_step() if self._is_due else None
    if step not in (None, self._noted):
      self._writer.note_save(step)
      self._noted, self._is_due = step, False


def _split_aux(metrics):
  scalars = dict(metrics)
  return scalars, scalars.pop('aux', None)


def _due(number, every):
  return every > 0 and number % every == 0


def _next_batch(batches, number, total_steps):
  try:
    return next(batches)
  except StopIteration:
    raise ValueError(
      f'The input ended before step {number} of {total_steps}; training input must '
      'repeat without end.'
    ) from None


class _FiniteWatch:
  """Reads each step's finite flag when the step after it has been dispatched."""

  def __init__(self, checkpointer):
    self._checkpointer = checkpointer
    self._pending = None

  def add(self, number, finite, names):
    earlier, self._pending = self._pending, (number, finite, names)
    self._check(earlier)

  def check_all(self):
    earlier, self._pending = self._pending, None
    self._check(earlier)

  def _check(self, pending):
    if pending is None:
      return
    number, finite, names = pending
    if not bool(finite):
      # What is being written was checked before; it becomes the last good one.
      self._checkpointer.wait()
      raise NonFiniteLoss(
        number,
        [str(name) for name in names] if names is not None else [],
        self._checkpointer.latest_step(),
        self._checkpointer.directory,
      )


class _Log:
  """Metrics between two log steps: their means, the speed, the devices' wait for input."""

  def __init__(self, writer, batches, clock):
    self._writer, self._batches, self._clock = writer, batches, clock
    self._input = InputWatch(batches)
    self._reset()

  def _reset(self):
    self._metrics, self._clips = [], 0
    self._began, self._idle_secs, self._pause_secs = time.perf_counter(), 0.0, 0.0
    self._busy_before = self._clock.busy_secs

  def add(self, metrics, batch):
    self._metrics.append(metrics)
    if 'mask' in batch:
      self._clips += int(np.sum(np.asarray(batch['mask']) > 0))

  @contextlib.contextmanager
  def waiting(self):
    """Time in which the loop waits for a batch; what the devices compute meanwhile is no wait."""
    began = time.perf_counter()
    yield
    self._idle_secs += self._clock.count_idle_secs(began)

  @contextlib.contextmanager
  def paused(self):
    """Time that is not training's: evaluation, saves."""
    began = time.perf_counter()
    yield
    self._pause_secs += time.perf_counter() - began

  def write(self, number) -> dict[str, str]:
    """Writes the means and starts anew; returns what the bar shows."""
    read = jax.device_get(self._metrics)
    names = [name for name in read[0] if name != 'finite']
    values = {name: float(np.mean([m[name] for m in read])) for name in names}
    secs = max(time.perf_counter() - self._began - self._pause_secs, 1e-9)
    # Every process reads its own part of the batch.
    values['examples_per_sec'] = self._clips * jax.process_count() / secs
    values['input_wait_share'] = min(self._idle_secs / secs, 1.0)
    if hasattr(self._batches, 'failed'):
      values['failed_decodes'] = float(self._batches.failed)
    values.update(_read_memory())
    self._writer.write(number, values)
    busy_secs = self._clock.busy_secs - self._busy_before
    if note := self._input.add(len(self._metrics), secs, self._idle_secs, busy_secs):
      _tell(note)
    self._reset()
    shown = ('loss', 'examples_per_sec')
    return {name: f'{values[name]:.4g}' for name in shown if name in values}


def _tell(note: str):
  if jax.process_index():
    return
  try:
    tqdm.write(f'Note: {note}', file=sys.stderr)
  except OSError as error:
    signals.survive(error)


def _read_memory() -> dict[str, float]:
  """The most that a device of this process has held so far; a CPU does not say."""
  found = [device.memory_stats() or {} for device in jax.local_devices()]
  held = [stats['peak_bytes_in_use'] for stats in found if 'peak_bytes_in_use' in stats]
  return {'device_peak_mb': max(held) / 1e6} if held else {}


def _make_bar(first, total_steps, progress):
  if progress is None:
    progress = sys.stderr.isatty()
  hidden = not progress or jax.process_index() > 0
  return tqdm(total=total_steps, initial=first, disable=hidden, unit='step', dynamic_ncols=True)


class _StopSignal:
  """Turns signals into a question the loop asks after each step; a second SIGINT is one.

  Several processes must stop at the same step, or the others wait for ever in a
  collective; there, JAX's preemption service listens to SIGTERM and agrees on one.
  """

  def __init__(self):
    self._asked_at = None  # seconds of time.monotonic
    self._saved_step = None
    self._alone = jax.process_count() == 1

  @contextlib.contextmanager
  def listening(self):
    alone = signals.listening(self._ask) if self._alone else contextlib.nullcontext()
    with alone:
      yield self

  def _ask(self, number):
    if self._asked_at is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked_at = self._asked_at or time.monotonic()
    if self._saved_step is not None:
      raise Preempted(self._saved_step)

  @contextlib.contextmanager
  def at_once(self, saved_step):
    """Within, a signal is obeyed at once: nothing since `saved_step` would be lost."""
    self._saved_step = saved_step
    try:
      if self._asked_at is not None:
        raise Preempted(saved_step)
      yield
    finally:
      self._saved_step = None

  def is_asked(self, step) -> bool:
    if self._alone:
      return self._asked_at is not None
    asked = multihost_utils.reached_preemption_sync_point(step)
    if asked:
      self._asked_at = time.monotonic()
    return asked

  def count_secs(self) -> float:
    """Since it is known that the run is asked to stop."""
    return time.monotonic() - self._asked_at
