"""What a search that trains networks one by one has tried so far.

Each network tried is a trial, numbered from 0. What a search proposes as trial n depends
on its seed, n and the trials before n alone: so the trials are the state of the search, and
one that is killed, or runs on many machines, makes the same decisions.
"""

import dataclasses
import enum
import functools
from collections.abc import Mapping, Sequence

import numpy as np

BEST = 5  # networks that a conclusion recommends
DISCARDS = 1_000  # networks over a limit, with none within it, that end a search


class State(enum.StrEnum):
  """Where a trial stands. All but RUNNING are final."""

  RUNNING = 'running'
  DONE = 'done'  # trained to the end, `value` says how good
  PRUNED = 'pruned'  # stopped early; `value` is what it had reached
  DISCARDED = 'discarded'  # over a limit, and so never trained
  FAILED = 'failed'  # out of memory, a loss that is not finite, its worker died, …


class Signal(enum.Enum):
  """What an algorithm answers in place of a proposal."""

  WAIT = 'wait'  # for a trial that is still running
  STOP = 'stop'  # the search is over


@dataclasses.dataclass(frozen=True)
class Proposal:
  """A network to be trained.

  Attributes:
    choices: [D], of the search's space.
    note: JSON that the algorithm keeps with the trial and finds in the history again.
    train: changes to the training config by key, such as {'model.dropout': 0.5}.
  """

  choices: np.ndarray
  note: Mapping = dataclasses.field(default_factory=dict)
  train: Mapping = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Trial:
  """A proposal and what became of it.

  Attributes:
    number: from 0, in the order of proposals.
    choices, note, train: see Proposal.
    state: a State.
    value: fitness, larger is better; of DONE trials, and of PRUNED ones what they reached.
    metrics: what is known of the network: top1, macs, params, latency_ns, …
    reason: in words, of FAILED and DISCARDED trials and of PRUNED ones.
  """

  number: int
  choices: np.ndarray
  note: Mapping = dataclasses.field(default_factory=dict)
  train: Mapping = dataclasses.field(default_factory=dict)
  state: State = State.RUNNING
  value: float | None = None
  metrics: Mapping = dataclasses.field(default_factory=dict)
  reason: str = ''

  @functools.cached_property
  def key(self) -> bytes:
    """Equal for equal choices. Kept, for proposals look at all trials again."""
    return make_key(self.choices)

  @property
  def finished(self) -> bool:
    return self.state is not State.RUNNING


def make_key(choices: np.ndarray) -> bytes:
  """Equal for equal choices, of whatever type a storage gives back."""
  return np.asarray(choices, np.int32).tobytes()


@dataclasses.dataclass(frozen=True)
class Conclusion:
  """What a search makes of its trials; also of the first few, while it runs.

  Attributes:
    best: numbers of the networks that it recommends among its trials, best first.
    path: numbers of the trials that led there, in order: the accepted steps of an
      expansion, the ancestors of an evolution's best.
    facts: JSON of what else it found: scaling coefficients, factors, …
  """

  best: tuple[int, ...] = ()
  path: tuple[int, ...] = ()
  facts: Mapping = dataclasses.field(default_factory=dict)


def find_settled(trials: Sequence[Trial], lag: int) -> Sequence[Trial] | None:
  """The trials that proposal n = len(trials) may look at: numbers below n - lag.

  With a lag of at least the workers' number less one nobody waits for the one trial just
  begun, and who finished first changes nothing.

  Returns:
    None while one of them is running.
  """
  seen = trials[: max(0, len(trials) - lag)]
  return seen if all(trial.finished for trial in seen) else None


def count_trained(trials: Sequence[Trial]) -> int:
  """How many trials count against a budget: all but the discarded ones.

  Running ones are counted, whatever becomes of them: so the trials that a budget allows are
  the same whoever finishes first.
  """
  return sum(trial.state is not State.DISCARDED for trial in trials)


def find_signal(trials: Sequence[Trial], budget: int) -> Signal | None:
  """What to answer when the budget is used; None while it is not.

  WAIT while a trial is running, for one that ends as discarded makes room for another.

  Raises:
    ValueError: very many networks were discarded and none was trained, which would go on
      for ever.
  """
  trained = count_trained(trials)
  if trained >= budget:
    return Signal.STOP if all(trial.finished for trial in trials) else Signal.WAIT
  untrained = (State.DISCARDED, State.RUNNING)
  if len(trials) - trained >= DISCARDS and all(trial.state in untrained for trial in trials):
    last = next(t for t in reversed(trials) if t.state is State.DISCARDED)
    raise ValueError(
      f'all {len(trials) - trained:,} networks tried are over a limit, and none was '
      f'trained: raise the limits, or let the space have smaller ones; the last one: '
      f'{last.reason}'
    )
  return None


def count_states(trials: Sequence[Trial]) -> dict[str, int]:
  """How many trials there are of each state, by its name."""
  return {state.value: sum(t.state is state for t in trials) for state in State}


def list_best(trials: Sequence[Trial]) -> tuple[int, ...]:
  """Numbers of the BEST trials, best first."""
  return tuple(trial.number for trial in rank(trials)[:BEST])


def rank(trials: Sequence[Trial]) -> list[Trial]:
  """DONE trials, best first; of equals the earlier."""
  done = [trial for trial in trials if trial.state is State.DONE]
  return sorted(done, key=lambda trial: (-trial.value, trial.number))


def list_records(trials: Sequence[Trial]) -> tuple[int, ...]:
  """Numbers of the trials that were better than all before them."""
  records, best = [], None
  for trial in trials:
    if trial.state is State.DONE and (best is None or trial.value > best):
      best = trial.value
      records.append(trial.number)
  return tuple(records)
