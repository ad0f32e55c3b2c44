"""A trial as its study keeps it: in the rows of Optuna's that its dashboard shows."""

import dataclasses
import functools
import json
from collections.abc import Mapping

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.trial import TrialState

from nas.history import Proposal, State, Trial
from nas.space import Space
from nas.trials.outcome import make_failure

_OPTUNA = {
  State.DONE: TrialState.COMPLETE,
  State.PRUNED: TrialState.PRUNED,
  State.DISCARDED: TrialState.PRUNED,
  State.FAILED: TrialState.FAIL,
}


@dataclasses.dataclass(frozen=True)
class Attempt:
  """Who trains a trial, and for the how many'th time.

  Attributes:
    number: from 1.
    owner: the coordinator that does; '' if whoever comes first may.
    cause: what ended the attempt before.
  """

  number: int = 1
  owner: str = ''
  cause: str = ''


@dataclasses.dataclass(frozen=True)
class Record:
  """A trial and what its study knows besides.

  Attributes:
    trial: as algorithms see it.
    trial_id: the database's.
    key: of trials that train the same network in the same way.
    attempt: the latest.
    same_as: number of the trial that this one is a copy of.
    thresholds: training step -> least value to go on.
    outcome: see nas.trials.outcome; may be here before the trial is called finished.
  """

  trial: Trial
  trial_id: int
  key: str
  attempt: Attempt
  same_as: int | None = None
  thresholds: Mapping[int, float] = dataclasses.field(default_factory=dict)
  outcome: Mapping | None = None

  @property
  def number(self) -> int:
    return self.trial.number

  @property
  def curve(self) -> dict[int, float]:
    """Training step -> value, of a trial that is over."""
    return _read_steps((self.outcome or {}).get('curve', {}))

  def make_job(self) -> dict:
    """What a worker is told."""
    return {
      'number': self.number,
      'choices': self.trial.choices.tolist(),
      'note': dict(self.trial.note),
      'train': dict(self.trial.train),
      'key': self.key,
      'thresholds': {str(step): value for step, value in self.thresholds.items()},
      'attempt': self.attempt.number,
    }

  def end(self, outcome: Mapping) -> 'Record':
    """The record of the trial when it is over."""
    ended = dataclasses.replace(
      self.trial,
      state=State(outcome['state']),
      value=outcome['value'],
      metrics=outcome['metrics'],
      reason=outcome['reason'],
    )
    return dataclasses.replace(self, trial=ended, outcome=outcome)


class Format:
  """How trials of a space are written."""

  def __init__(self, space: Space):
    self._space = space

  def make_row(
    self,
    proposal: Proposal,
    key: str,
    attempt: Attempt,
    thresholds: Mapping[int, float],
    same_as: int | None,
  ) -> optuna.trial.FrozenTrial:
    """A new trial that is running: all of it, so that it is there whole or not at all.

    Raises:
      ValueError: the proposal is none of the space, or not JSON.
    """
    choices = self._space.check(proposal.choices)
    wanted = {
      'note': _to_json('note', proposal.note),
      'train': _to_json('train', proposal.train),
      'thresholds': {str(step): value for step, value in thresholds.items()},
      'same_as': same_as,
    }
    return optuna.create_trial(
      state=TrialState.RUNNING,
      user_attrs={
        'choices': choices.tolist(),
        'key': key,
        'attempt': dataclasses.asdict(attempt),
        **{name: value for name, value in wanted.items() if value not in ({}, None)},
      },
    )

  def is_of(self, trial: Trial, proposal: Proposal) -> bool:
    """Whether a trial is what this proposal makes."""
    return (
      np.array_equal(trial.choices, self._space.check(proposal.choices))
      and trial.note == _to_json('note', proposal.note)
      and trial.train == _to_json('train', proposal.train)
    )

  def read_row(self, row: optuna.trial.FrozenTrial) -> Record:
    """The record of a trial in the database.

    Raises:
      ValueError: no sweep made it.
    """
    kept = row.user_attrs
    if missing := {'choices', 'key', 'attempt'} - kept.keys():
      raise ValueError(
        f'trial {row.number} of the study was made by no sweep: it has no '
        f'{", ".join(sorted(missing))}'
      )
    trial = Trial(
      row.number,
      np.array(kept['choices'], np.int32),
      kept.get('note', {}),
      kept.get('train', {}),
    )
    record = Record(
      trial,
      row._trial_id,
      kept['key'],
      Attempt(**kept['attempt']),
      kept.get('same_as'),
      _read_steps(kept.get('thresholds', {})),
      kept.get('outcome'),
    )
    if not row.state.is_finished():
      return record
    # Without an outcome, somebody ended it by hand.
    ended = record.outcome or make_failure('it was ended from outside of the sweep')
    return record.end(ended)

  def make_params(self, proposal: Proposal) -> list[dict]:
    """Rows of Optuna's for the open decisions, for people: by path, choices in words."""
    choices = self._space.check(proposal.choices)
    return [
      {
        'param_name': self._space.decisions[n].path,
        'param_value': float(choices[n]),
        'distribution_json': self._distributions[n],
      }
      for n in np.flatnonzero(self._space.is_open(choices))
    ]

  @functools.cached_property
  def _distributions(self) -> list[str]:
    """Of each decision, as Optuna writes it: its choices in words."""
    found = [CategoricalDistribution(_name(values)) for values in self._space.values]
    return [distribution_to_json(distribution) for distribution in found]


def find_state(outcome: Mapping) -> tuple[TrialState, list[float] | None]:
  """Optuna's state and values of a trial that ended so."""
  value = outcome['value']
  return _OPTUNA[State(outcome['state'])], None if value is None else [value]


def _name(values) -> list[str]:
  """Choices as words; numbered where two have the same, but for decisions inside."""
  words = [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
  if len(set(words)) < len(words):
    words = [f'{i}: {word}' for i, word in enumerate(words)]
  return words


def _to_json(name: str, value: Mapping) -> dict:
  """As it will be read again: algorithms see the same before and after a restart."""
  try:
    return json.loads(json.dumps(dict(value), allow_nan=False))
  except (TypeError, ValueError) as error:
    raise ValueError(f'the {name} of a proposal is no JSON: {error}') from error


def _read_steps(steps: Mapping[str, float]) -> dict[int, float]:
  return {int(step): value for step, value in steps.items()}
