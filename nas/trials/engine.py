"""The loop of a search that trains networks one by one: ask, hand out, keep what came out.

One coordinator on a machine, or one on each of many that share a database. What is proposed
as trial n depends on the seed, n and the trials before, and nothing else: so a search makes
the same decisions however many work on it, and whatever is killed.

The same command goes on with a search that was stopped. A trial that was running is begun
again under its number, and its objective finds what it left.
"""

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from movinet_jax import signals
from nas.history import (
  Proposal,
  Signal,
  State,
  Trial,
  count_trained,
  find_settled,
  rank,
)
from nas.trials.outcome import make_failure
from nas.trials.pool import Died, Finished, Pool, Progress
from nas.trials.pruning import Pruning
from nas.trials.record import Record
from nas.trials.study import Study

_WAIT_SECS = 0.5  # for workers, until somebody looks at signals and at what others did
_TRAINED = (State.DONE, State.PRUNED)


class AllFailed(RuntimeError):
  """Trials fail, and none was trained. Once that is mended, start the search again."""


class Stopped(RuntimeError):
  """The search was asked to stop. Start it again, and it goes on."""


def coordinate(
  study: Study,
  algorithm,
  objective: str,
  arguments: Mapping,
  *,
  key: Callable[[Proposal], str] | None = None,
  workers: int = 2,
  environments: Sequence[Mapping[str, str]] = (),
  pruning: Pruning | None = None,
  max_attempts: int = 3,
  max_failures: int = 5,
  trial_secs: float | None = None,
  folder: Path,
  progress: bool | None = None,
) -> list[Trial]:
  """Runs a search to its end, and returns its trials.

  Args:
    study: of nas.trials.study.open_study.
    algorithm: a dataclass of nas.algorithms.
    objective: 'package.module:function', which workers call with `arguments`. It returns
      what they call with each job (number, choices, note, train, key, thresholds, attempt)
      and a function that takes a training step and the value reached there. That returns
      the outcome, see nas.trials.outcome. An exception makes the trial a failed one, but for
      nas.trials.outcome.Refused, which ends the search and costs no attempt.
    arguments: JSON.
    key: equal for proposals that train the same network in the same way: of these one is
      trained, and the others are as it. By default, equal proposals do.
    workers: processes that train, each a trial at a time.
    environments: variables of each worker, laid over those of this process; as many as
      workers, or none.
    pruning: which trials to stop early. Their thresholds are in the job.
    max_attempts: times that a trial is begun, by workers that died or coordinators that
      vanished, before it counts as failed.
    max_failures: trials that may fail here as long as none of the study was trained.
    trial_secs: that a trial may take.
    folder: where the workers' logs go.
    progress: whether to show a bar; by default, if stderr is a terminal.

  Raises:
    Stopped: after a signal to stop (movinet_jax/signals.py), when the workers are killed
      and what they did is left to whoever goes on; that does not count as an attempt.
    ValueError: the objective cannot be made or refuses what it finds, or the algorithm finds
      nothing to propose.
    OSError: the database was away for too long, or a disk is full.
    WorkersDied: again and again, before they were ready. As after Stopped, nothing is
      lost.
    AllFailed: max_failures trials failed and none was trained, or the search ends so. Those
      that failed are opened again in the study, for whoever goes on.
    RuntimeError: the algorithm waits for nobody.
  """
  if workers < 1 or max_attempts < 1:
    raise ValueError(f'wanted at least one worker and attempt, got {workers=} and {max_attempts=}')
  if max_failures < 1:
    raise ValueError(f'max_failures is {max_failures}; wanted a number of trials, at least 1')
  environments = list(environments) or [{}] * workers
  if len(environments) != workers:
    raise ValueError(f'{workers} workers want as many environments, got {len(environments)}')
  pool = Pool(
    objective,
    arguments,
    environments=environments,
    folder=Path(folder),
    trial_secs=trial_secs,
  )
  limits = _Limits(max_attempts, max_failures)
  coordinator = _Coordinator(study, algorithm, pool, key, pruning, limits)
  stop = _Stop()
  with (
    signals.listening(stop.ask),
    _Bar(study, algorithm, progress) as bar,
    pool,
    study.database.checking(stop.check),
  ):
    coordinator.run(stop, bar)
  return list(study.history)


class _Limits(NamedTuple):
  """See coordinate."""

  attempts: int
  failures: int


class _Coordinator:
  def __init__(self, study, algorithm, pool, key, pruning, limits: _Limits):
    self._study, self._algorithm, self._pool = study, algorithm, pool
    self._key, self._pruning, self._limits = key or _make_key, pruning, limits
    self._causes: dict[int, str] = {}  # of deaths, by number of the trial
    self._failures: list[str] = []  # of trials, here and since this start
    self._edition = study.edition  # of the trials that the workers have

  def run(self, stop, bar):
    study, pool = self._study, self._pool
    with self._leaving(), _Heart(study) as heart:
      self._renew_keys()
      self._begin_failed_again(bar)
      while True:
        stop.check()
        heart.check()
        study.refresh()
        answer = self._hand_out(bar)
        heart.trial_ids = [r.trial_id for r in map(self._find, pool.numbers) if r]
        bar.show()
        if self._is_in_vain(answer):
          self._give_up()
          continue
        if not study.running and answer is Signal.STOP:
          return
        if not study.running and answer is Signal.WAIT:
          name = type(self._algorithm).__name__
          raise RuntimeError(f'{name} waits, and no trial is running: a fault of its own')
        for event in pool.wait(_WAIT_SECS):
          self._handle(event, bar)

  def _renew_keys(self):
    """Finds the trials of earlier versions, which made keys otherwise, by those of today."""
    for record in self._study.records:
      trial = record.trial
      key = self._key(Proposal(trial.choices, trial.note, trial.train))
      if key == record.key:  # as those after it are
        return
      self._study.copied.setdefault(key, record.number)

  @contextlib.contextmanager
  def _leaving(self):
    """However this ends, what is not over is left to others at once."""
    try:
      yield
    except BaseException:
      # As far as the database lets us; else the others wait until we are missed.
      with contextlib.suppress(_Hurried), self._study.database.checking(_hurry):
        self._leave()
      raise

  def _leave(self):
    """Leaves the trials of our workers to others."""
    numbers = self._pool.numbers
    self._pool.close()
    for number in numbers & self._study.running.keys():
      self._study.release(self._study.running[number])

  def _is_in_vain(self, answer: Signal | None = None) -> bool:
    """Whether too many trials failed, or all of a search that is over, and none was trained."""
    history = self._study.history
    over = answer is Signal.STOP and not self._study.running
    enough = len(self._failures) >= self._limits.failures
    failed = over and any(trial.state is State.FAILED for trial in history)
    return (enough or failed) and not any(trial.state in _TRAINED for trial in history)

  def _give_up(self):
    """Ends the search, unless another coordinator has trained something meanwhile.

    Raises:
      AllFailed: quotes the last failure.
    """
    history = self._study.history
    failed = [trial for trial in history if trial.state is State.FAILED]
    last = self._failures[-1] if self._failures else _describe(failed[-1])
    # Another coordinator may have opened some of ours again.
    count = max(len(failed), len(self._failures))
    self._leave()
    if self._reopen():
      raise AllFailed(
        f'{count} {"trial" if count == 1 else "trials"} failed and none was trained; the last is '
        f'{last} (the logs of the workers are in {self._pool.folder}). Mend that: the same '
        'command goes on, and begins the failed trials again. If the settings are at fault, '
        'begin another study in another --workdir'
      )
    self._study.refresh(whole=True)

  def _begin_failed_again(self, bar):
    """What failed before this start may be mended now, and not every stop opens it again."""
    history = self._study.history
    failed = sum(trial.state is State.FAILED for trial in history)
    if failed and not any(trial.state in _TRAINED for trial in history) and self._reopen():
      self._study.refresh(whole=True)
      bar.say(f'no trial was trained so far: {failed} that failed are begun again')

  def _reopen(self) -> bool:
    """Opens failed trials again; False if a trial was trained or added meanwhile.

    What was proposed because they failed is withdrawn. So the search goes on as one in which
    they had not failed, with the same proposals.
    """
    history = [_open(trial) for trial in self._study.history]
    for number, trial in enumerate(history):
      if not self._is_proposed(trial, history[:number]):
        return self._study.reopen(kept=number)
    return self._study.reopen(kept=len(history))

  def _is_proposed(self, trial, history) -> bool:
    """Whether a trial is what the algorithm proposes after others, some of them undecided."""
    try:
      answer = self._ask(history)
    except ValueError:  # These trials do not fit together, or there is nothing to propose.
      return False
    return isinstance(answer, Proposal) and self._study.is_of(trial, answer)

  def _let_go(self, bar):
    """Stops work on trials that others have taken over, ended or withdrawn."""
    for number in self._pool.numbers:
      record = self._find(number)
      if record is None or record.trial.finished or record.attempt.owner != self._study.owner:
        self._pool.cancel(number)
        owner = record.attempt.owner if record else ''
        bar.say(f'trial {number} was taken over by {owner or "nobody"}')
    self._edition = self._study.edition

  def _find(self, number: int) -> Record | None:
    """The record of a trial, None if it was withdrawn."""
    return self._study.records[number] if number < len(self._study.records) else None

  def _hand_out(self, bar) -> Signal | None:
    """Gives every idle worker a trial; returns why one is still idle."""
    self._let_go(bar)
    self._end_copies()
    while self._pool.has_idle and not self._is_in_vain():
      self._let_go(bar)
      found = self._resume() or self._propose()
      if isinstance(found, Signal):
        return found
      if found is not None:
        self._pool.give(found.make_job())
    return None

  def _resume(self) -> Record | None:
    """A trial that somebody began, and nobody works on."""
    for number, record in sorted(self._study.running.items()):
      if number in self._pool.numbers or not self._study.may_take(record):
        continue
      cause = self._causes.pop(number, 'the loss of its coordinator')
      taken = self._study.take(record, cause)
      if taken and taken.attempt.number <= self._limits.attempts:
        return taken
      if taken:
        often = taken.attempt.number - 1
        times = 'once' if often == 1 else f'{often} times, the last time'
        self._finish(taken, make_failure(f'its worker died {times} by {cause}'))
    return None

  def _propose(self) -> Record | Signal | None:
    """The next trial; None if it needs no training, or somebody else was first."""
    study = self._study
    if study.edition != self._edition:
      return None  # Workers may have trials whose numbers are free again.
    answer = self._ask(study.history)
    if isinstance(answer, Signal):
      return answer
    thresholds = {}
    if self._pruning:
      records = study.records[: len(find_settled(study.history, self._pruning.lag))]
      curves = [r.curve for r in records if r.same_as is None]
      thresholds = self._pruning.find_thresholds(curves)
    key = self._key(answer)
    record = study.add(answer, key, thresholds, study.copied.get(key))
    if record and record.same_as is not None:
      self._end_copies()
      return None
    return record

  def _ask(self, history) -> Proposal | Signal:
    """What the algorithm answers; WAIT, too, where thresholds hang on a trial that runs."""
    rng = np.random.default_rng((self._study.seed, len(history)))
    answer = self._algorithm.propose(history, rng)
    if isinstance(answer, Signal) or not self._pruning:
      return answer
    return Signal.WAIT if find_settled(history, self._pruning.lag) is None else answer

  def _end_copies(self):
    """Trials that train what an earlier one did end as that."""
    for record in list(self._study.running.values()):
      if record.same_as is None:
        continue
      first = self._find(record.same_as)
      if first and first.trial.finished:
        reason = [f'as trial {first.number}', first.trial.reason]
        outcome = {**first.outcome, 'reason': ': '.join(filter(None, reason))}
        self._finish(record, outcome)

  def _finish(self, record, outcome) -> bool:
    """Keeps what became of a trial; False if it is not ours any more."""
    kept = self._study.finish(record, outcome)
    if kept and outcome['state'] == State.FAILED:
      self._failures.append(_describe(self._study.history[record.number]))
    return kept

  def _handle(self, event, bar):
    record = self._find(event.number)
    if isinstance(event, Progress):
      bar.reached(event)
    elif isinstance(event, Died):
      self._causes[event.number] = event.cause
      bar.say(f'the worker of trial {event.number} died by {event.cause}')
    elif isinstance(event, Finished):
      if record is None or not self._finish(record, event.outcome):
        bar.say(f'trial {event.number} was taken over; what came of it here is dropped')
      elif event.outcome['state'] == State.FAILED:
        bar.say(f'trial {event.number} failed: {event.outcome["reason"]}')


def _describe(failed: Trial) -> str:
  return f'trial {failed.number}, {" ".join(failed.reason.split())}'


def _open(trial: Trial) -> Trial:
  """A trial as it is once it was opened again, if it failed."""
  if trial.state is not State.FAILED:
    return trial
  return Trial(trial.number, trial.choices, trial.note, trial.train)


def _make_key(proposal: Proposal) -> str:
  train = json.dumps(proposal.train, sort_keys=True)
  return f'{np.asarray(proposal.choices).tolist()} {train}'


class _Hurried(Exception):
  """The database is away, and there is no time to wait for it."""


def _hurry():
  raise _Hurried


class _Heart(threading.Thread):
  """Gives signs of life for our trials, where there are others who would miss us.

  Attributes:
    trial_ids: of the trials that our workers have.
  """

  def __init__(self, study):
    super().__init__(daemon=True)
    self.trial_ids: Sequence[int] = ()
    self._study, self._over, self._error = study, threading.Event(), None

  def __enter__(self):
    if self._study.database.is_shared:
      self.start()
    return self

  def __exit__(self, *error):
    self._over.set()
    if self._study.database.is_shared:
      self.join()

  def check(self):
    if self._error:
      raise self._error

  def run(self):
    try:
      while not self._over.wait(self._study.beat_secs):
        # While the database is away, nobody misses us; the loop tries to reach it.
        with contextlib.suppress(StorageInternalError, SQLAlchemyError):
          self._study.beat(self.trial_ids)
    except Exception as error:
      self._error = error
    finally:
      self._study.database.storage.remove_session()


class _Stop:
  """Turns signals into Stopped, where the loop can stop; a second SIGINT is one."""

  def __init__(self):
    self._asked = False

  def ask(self, number):
    if self._asked and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked = True

  def check(self):
    if self._asked:
      raise Stopped('Stopped by a signal. Trials that are over are kept, the same command goes on.')


class _Bar:
  """How far the search is: trials that count, the best value, what runs."""

  def __init__(self, study, algorithm, progress: bool | None):
    if progress is None:
      progress = sys.stderr.isatty()
    self._study, self._shown_at, self._reached = study, 0.0, {}
    self._bar = tqdm(
      # Not every search knows beforehand how many trials it needs.
      total=getattr(algorithm, 'budget', None),
      disable=not progress,
      unit='trial',
      dynamic_ncols=True,
    )

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._shown_at = 0.0
    self.show()
    self._bar.close()

  def reached(self, event: Progress):
    self._reached[event.number] = event

  def say(self, line: str):
    tqdm.write(line, file=sys.stderr)

  def show(self):
    now = time.monotonic()
    if self._bar.disable or now - self._shown_at < _WAIT_SECS:
      return
    self._shown_at = now
    history, running = self._study.history, self._study.running
    shown = {'running': len(running)}
    if best := rank(history):
      shown['best'] = f'{best[0].value:.4g} (trial {best[0].number})'
    if failed := sum(trial.state is State.FAILED for trial in history):
      shown['failed'] = failed
    latest = [self._reached[n] for n in sorted(running) if n in self._reached]
    if latest:
      texts = [f'{e.number}: {e.value:.3g} at {e.step}' for e in latest]
      shown['now'] = ', '.join(texts)
    self._bar.n = count_trained([t for t in history if t.finished])
    self._bar.set_postfix(shown)
