"""A study: the trials of a search, in a database that several coordinators may share.

Every change is one transaction that says what it takes for granted, and changes nothing
where that is no longer so: a new trial that it is the next, an outcome that its trial is
still ours, a takeover that the owner is gone, or has been silent for too long. So nobody
holds a lock while it thinks, and whoever was stopped in the middle of anything, and wakes
up late, finds that it has lost.

A trial keeps its number whoever trains it, and however often it is begun. (Optuna's own way
is a new trial for every retry; there a kill between the two loses the trial, and whoever
counts trials has to count their roots.)
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import optuna
import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection

from nas.history import Proposal, State, Trial
from nas.space import Space
from nas.trials.database import Database
from nas.trials.owner import hold_name, is_gone
from nas.trials.record import Attempt, Format, Record, find_state

VERSION = 1
BEAT_SECS, SILENCE_SECS = 20, 120  # between signs of life, and without any


def open_study(
  storage: str,
  name: str,
  *,
  space: Space,
  algorithm,
  seed: int = 0,
  about: Mapping | None = None,
  free: Collection[str] = (),
  beat_secs: float = BEAT_SECS,
  silence_secs: float = SILENCE_SECS,
) -> 'Study':
  """Opens a study, or begins it, and makes sure that it is the one that is meant.

  Args:
    storage: 'sqlite:///PATH' or a path: the database of one coordinator at a time. Or
      'postgresql://USER@HOST/DATABASE', of as many as there are machines.
    name: of the study in the database.
    space: what is searched.
    algorithm: a dataclass of nas.algorithms, whose settings, which are its keyword-only
      fields, belong to the study. Functions among them do not, and neither does what else
      it is given: what these depend on belongs in `about`.
    seed: of the search.
    about: JSON of all else that its decisions depend on: recipe, data, limits, what is
      pruned, what fails, …
    free: keys of what may change when a study goes on, such as 'algorithm.budget'.
    beat_secs: between the signs of life of a coordinator that shares the database.
    silence_secs: without any, until others take over its trials.

  Raises:
    ValueError: the study is another one, names what differs; the address is no address.
    OSError: the database cannot be used.
  """
  if silence_secs < 2 * beat_secs:
    raise ValueError(
      f'silence_secs ({silence_secs:g}) must be at least twice beat_secs ({beat_secs:g})'
    )
  identity = make_identity(space, algorithm, seed, about or {})
  with contextlib.ExitStack() as closing:
    database = Database(storage, alone=True)
    closing.callback(database.close)
    study_id = _claim(database, name, identity, free)
    owner = closing.enter_context(hold_name())
    study = Study(database, study_id, name, space, identity, owner)
    study.beat_secs, study.silence_secs = beat_secs, silence_secs
    study.refresh(whole=True)
    study.closing = closing.pop_all()
  return study


class SavedStudy(NamedTuple):
  """A study as it was when it was read; see make_identity."""

  identity: dict
  trials: list[Trial]


def read_study(storage: str, name: str) -> SavedStudy:
  """Reads a study, which others may be working on.

  Raises:
    ValueError, OSError: there is no such study, or no such database.
  """
  database = Database(storage, alone=False)
  try:
    study = _load(database, name)
    rows = study.get_trials(deepcopy=False)
    identity = study.user_attrs.get('identity', {})
    return SavedStudy(identity, [Format(None).read_row(row).trial for row in rows])
  finally:
    database.close()


def make_identity(space: Space, algorithm, seed: int, about: Mapping) -> dict:
  """What makes a study the same, as JSON.

  Raises:
    ValueError: a setting or `about` is no JSON.
  """
  settings = {
    field.name: getattr(algorithm, field.name)
    for field in dataclasses.fields(algorithm)
    if field.kw_only and not callable(getattr(algorithm, field.name))
  }
  identity = {
    'version': VERSION,
    'space': space.digest,
    'algorithm': {'name': type(algorithm).__name__, **settings},
    'seed': seed,
    'about': dict(about),
  }
  try:
    return json.loads(json.dumps(identity, allow_nan=False))
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'the settings of {type(algorithm).__name__} and `about` must be JSON: {error}'
    ) from error


def _claim(database, name, identity, free) -> int:
  """Begins a study, or checks the one that is there; returns its number."""
  storage = database.storage
  with database.setting_up():
    try:
      study_id = storage.get_study_id_from_name(name)
    except KeyError:
      study_id = storage.create_new_study([StudyDirection.MAXIMIZE], name)
    was = storage.get_study_user_attrs(study_id).get('identity')
    if was is None and storage.get_n_trials(study_id):
      raise ValueError(f'the study {name!r} in {database.name} was made by no sweep')
    if was is not None:
      _compare(f'the study {name!r} in {database.name}', was, identity, free)
    if was != identity:
      storage.set_study_user_attr(study_id, 'identity', identity)
  return study_id


def _compare(what, was, now, free):
  # Late, for it loads Flax, which a coordinator can do without.
  from movinet_jax.train.workdir import find_differences, show_differences

  lines = find_differences(was, now) if was != now else []
  if fixed := [line for line in lines if line.partition(':')[0] not in free]:
    raise ValueError(
      f'{what} was begun with other settings:\n  {show_differences(fixed)}\n'
      'Give the old ones to go on with that study. To begin another study, give another '
      '--workdir, and with --storage another --config.study as well.'
    )


def _load(database, name) -> optuna.Study:
  try:
    return optuna.load_study(study_name=name, storage=database.storage)
  except KeyError:
    names = ', '.join(optuna.get_all_study_names(database.storage)) or 'none'
    raise ValueError(f'there is no study {name!r} in {database.name}; there are: {names}') from None


_PARAMS = (
  'insert into trial_params (trial_id, param_name, param_value, distribution_json) '
  'values (:trial_id, :param_name, :param_value, :distribution_json)'
)
_STATE = 'select state from trials where trial_id = :id'
_KEPT = (
  'select key, value_json from trial_user_attributes '
  "where trial_id = :id and key in ('attempt', 'outcome')"
)
_EDITION = "select value_json from study_user_attributes where study_id = :id and key = 'edition'"
_ALL = (
  'select t.trial_id, t.number, t.state, a.value_json from trials t '
  "left join trial_user_attributes a on a.trial_id = t.trial_id and a.key = 'outcome' "
  'where t.study_id = :id order by t.number'
)
_OPEN = (
  "update trials set state = 'RUNNING', datetime_complete = null where trial_id = :trial",
  "delete from trial_user_attributes where trial_id = :trial and key = 'outcome'",
  'delete from trial_intermediate_values where trial_id = :trial',
  'update trial_user_attributes set value_json = :attempt '
  "where trial_id = :trial and key = 'attempt'",
)
_TABLES = (
  *('trial_user_attributes', 'trial_system_attributes', 'trial_params', 'trial_values'),
  *('trial_intermediate_values', 'trial_heartbeats', 'trials'),
)
_WITHDRAW = tuple(f'delete from {table} where trial_id = :trial' for table in _TABLES)
_SILENCE = (
  'select t.trial_id, extract(epoch from now()::timestamp - h.heartbeat) '
  'from trials t left join trial_heartbeats h on h.trial_id = t.trial_id '
  "where t.study_id = :id and t.state = 'RUNNING'"
)


class _Now(NamedTuple):
  """How a trial stands in the database: Optuna's state, and what we keep with it."""

  state: str
  attempt: Mapping | None
  outcome: Mapping | None


class _Row(NamedTuple):
  """How a trial stands: Optuna's state, and the outcome as JSON, None without one."""

  trial_id: int
  number: int
  state: str
  outcome: str | None

  @property
  def is_trained(self) -> bool:
    """Whether it has ended, or is about to, with a value."""
    ended = json.loads(self.outcome or '{}').get('state')
    return self.state == 'COMPLETE' or ended in (State.DONE, State.PRUNED)


def _make_unbegun(row: _Row) -> str:
  # Without an outcome, somebody ended it by hand.
  attempt = Attempt(number=0, cause=json.loads(row.outcome or '{}').get('reason', ''))
  return json.dumps(dataclasses.asdict(attempt))


def _is_as(now: _Now, record: Record) -> bool:
  """Whether a trial still runs, and is still whose it was."""
  return now.state == 'RUNNING' and now.attempt == dataclasses.asdict(record.attempt)


class Study:
  """The trials of a search, as they are in the database and, for a while, were.

  Attributes:
    identity: see make_identity.
    owner: this coordinator, of all that there are: see nas.trials.owner.
    history: what algorithms see.
    records: the same with all that is known besides.
    running: records of trials that are not over, by number.
    copied: key -> number of the first trial that has it.
    edition: how often failed trials were opened again. All else here is of this edition.
  """

  def __init__(
    self,
    database: Database,
    study_id: int,
    name: str,
    space: Space,
    identity: dict,
    owner: str,
  ):
    self.database, self.space, self.identity = database, space, identity
    self.owner, self.closing = owner, contextlib.ExitStack()
    self.history: list[Trial] = []
    self.records: list[Record] = []
    self.running: dict[int, Record] = {}
    self.copied: dict[str, int] = {}
    self.edition = 0
    self.beat_secs, self.silence_secs = BEAT_SECS, SILENCE_SECS
    self._id, self._format = study_id, Format(space)
    self._name, self._optuna = name, _load(database, name)
    self._storage = database.storage
    self._silent: set[int] = set()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.closing.close()

  @property
  def seed(self) -> int:
    return self.identity['seed']

  def refresh(self, *, whole: bool = False):
    """Looks at what others have done; `whole` even where there are no others."""
    if not (whole or self.database.is_shared):
      return
    # Asked first: should it change now, what is read next is read again the next time.
    edition = self.database.insist(self._ask_edition)
    if edition != self.edition:
      self._forget()
      self.edition = edition
    try:
      rows = self.database.insist(lambda: self._optuna.get_trials(deepcopy=False))
    except KeyError as error:
      raise ValueError(f'the study is gone from {self.database.name}: was it deleted?') from error
    for row in rows:
      if row.number >= len(self.records) or row.number in self.running:
        self._keep(self._format.read_row(row))
    if self.database.is_shared:
      self._silent = self._find_silent()
    # Said to be over, and somebody was killed before it was written down.
    for record in [r for r in self.running.values() if r.outcome]:
      self._conclude(record, record.outcome)

  def may_take(self, record: Record) -> bool:
    """Whether nobody works on a trial that runs."""
    if record.same_as is not None:
      return False
    alone = not self.database.is_shared
    return alone or self._is_left(record) or record.trial_id in self._silent

  def add(
    self,
    proposal: Proposal,
    key: str,
    thresholds: Mapping[int, float],
    same_as: int | None,
  ) -> Record | None:
    """Adds the next trial, as ours to train; None if somebody else did before."""
    attempt = Attempt(owner=self.owner if same_as is None else '')
    row = self._format.make_row(proposal, key, attempt, thresholds, same_as)
    params = self._format.make_params(proposal)
    row.number = len(self.records)

    def is_next(connection) -> bool:
      self.database.lock(connection, 'studies', 'study_id', self._id)
      count = sa.text('select count(*) from trials where study_id = :id')
      is_last = connection.execute(count, {'id': self._id}).scalar() == row.number
      # Of another edition there may be as many trials, and others.
      return is_last and self._read_edition(connection) == self.edition

    def add_params(connection):
      # Optuna would look up, for each, what its distribution was: most of the time of a
      # trial, and ours never change.
      newest = sa.text('select max(trial_id) from trials where study_id = :id')
      trial_id = connection.execute(newest, {'id': self._id}).scalar()
      rows = [{'trial_id': trial_id, **param} for param in params]
      connection.execute(sa.text(_PARAMS), rows)

    create = functools.partial(self._storage.create_new_trial, self._id, row)
    row._trial_id = self.database.try_to(create, is_next, add_params)
    if row._trial_id is None:
      self.refresh(whole=True)
      return None
    if self.database.is_shared:
      self.database.insist(lambda: self.beat([row._trial_id]))
    return self._keep(self._format.read_row(row))

  def is_of(self, trial: Trial, proposal: Proposal) -> bool:
    """Whether a trial is what this proposal makes."""
    return self._format.is_of(trial, proposal)

  def take(self, record: Record, cause: str) -> Record | None:
    """Begins a trial again, as ours; None if it is somebody else's, or over."""
    attempt = Attempt(record.attempt.number + 1, self.owner, cause)
    if self.database.is_shared and not self._break_silence(record):
      return None
    return self._hand_over(record, attempt)

  def release(self, record: Record):
    """Leaves a trial of ours to whoever comes first, as if it had not been begun."""
    before = Attempt(record.attempt.number - 1, '', record.attempt.cause)
    self._hand_over(record, before)

  def reopen(self, kept: int) -> bool:
    """Opens failed trials again, provided that no trial was trained to its end.

    They are then as if nobody had begun them, and the reason why they failed is the cause in
    their attempt. What this object holds stays as it was until the next refresh, for reports.

    Another coordinator sees at its next refresh, or when a write of its own is refused, that
    the edition of the study has changed, and reads all trials anew. Until then it takes those
    opened here for failed, which changes nothing: it can add no trial, as the edition is part
    of that check. Its results for a trial that was withdrawn are dropped.

    Args:
      kept: trials from this number on are withdrawn, as they were proposed in the light of
        those that failed.

    Returns:
      False, and nothing is changed, if a trial was trained, or was added meanwhile.
    """

    def write() -> bool:
      with self.database.storage.engine.begin() as connection:
        # In this order: `add` locks the study, all other writes one trial and nothing else.
        self.database.lock(connection, 'studies', 'study_id', self._id)
        self.database.lock(connection, 'trials', 'study_id', self._id)
        rows = [_Row(*row) for row in connection.execute(sa.text(_ALL), {'id': self._id})]
        if len(rows) != len(self.records) or any(row.is_trained for row in rows):
          return False
        failed = [row for row in rows if row.state == 'FAIL' and row.number < kept]
        opened = [{'trial': row.trial_id, 'attempt': _make_unbegun(row)} for row in failed]
        withdrawn = [{'trial': row.trial_id} for row in rows if row.number >= kept]
        for texts, trials in ((_OPEN, opened), (_WITHDRAW, withdrawn)):
          for text in texts if trials else ():
            connection.execute(sa.text(text), trials)
        if opened or withdrawn:
          self._set_edition(connection, self._read_edition(connection) + 1)
        return True

    return self.database.insist(write)

  def beat(self, trial_ids: Iterable[int]):
    """Gives a sign that somebody works on these trials."""
    for trial_id in trial_ids:
      self._storage.record_heartbeat(trial_id)

  def finish(self, record: Record, outcome: Mapping) -> bool:
    """Keeps what became of a trial; False if it is not ours any more, or over."""
    if record.same_as is None and record.attempt.owner != self.owner:
      return False

    def is_ours(connection) -> bool:
      now = self._look(connection, record)
      # Ours already, if it was written and the answer was lost.
      return _is_as(now, record) and now.outcome in (None, outcome)

    keep = self._setting(record, 'outcome', dict(outcome))
    if self._change(keep, is_ours):
      self._conclude(record, outcome)
      return True
    return False

  def _conclude(self, record, outcome):
    """Writes down what is known: anybody may, for it is the same whoever does."""
    state, values = find_state(outcome)

    def write():
      try:
        for step, value in outcome['curve'].items():
          self._storage.set_trial_intermediate_value(record.trial_id, int(step), value)
        self._storage.set_trial_state_values(record.trial_id, state, values)
      except (UpdateFinishedTrialError, KeyError):
        pass  # Somebody else did, or has withdrawn the trial.

    self.database.insist(write)
    self._keep(record.end(outcome))

  def _break_silence(self, record) -> bool:
    """Gives the sign that an owner did not give: to others, the trial is not free now."""

    def is_free(connection) -> bool:
      now = self._look(connection, record)
      rows = connection.execute(sa.text(_SILENCE), {'id': self._id}).all()
      left = self._is_left(record) or record.trial_id in self._pick_silent(rows)
      return left and _is_as(now, record)

    return self._change(lambda: self.beat([record.trial_id]), is_free)

  def _hand_over(self, record, attempt) -> Record | None:
    def is_so(connection) -> bool:
      now = self._look(connection, record)
      return _is_as(now, record) and now.outcome is None

    give = self._setting(record, 'attempt', dataclasses.asdict(attempt))
    if self._change(give, is_so):
      return self._keep(dataclasses.replace(record, attempt=attempt))
    return None

  def _setting(self, record, key, value) -> Callable[[], None]:
    set_attribute = self._storage.set_trial_user_attr
    return functools.partial(set_attribute, record.trial_id, key, value)

  def _change(self, write: Callable[[], None], check) -> bool:
    """Writes if a check allows it; if not, looks again at how things are."""
    done = self.database.try_to(lambda: (write(),), check)
    if not done:
      self.refresh(whole=True)
    return bool(done)

  def _look(self, connection, record) -> '_Now':
    """How a trial stands, which stays so until the transaction ends."""
    trial = {'id': record.trial_id}
    self.database.lock(connection, 'trials', 'trial_id', record.trial_id)
    state = connection.execute(sa.text(_STATE), trial).scalar()
    kept = dict(connection.execute(sa.text(_KEPT), trial).all())
    return _Now(state, *(json.loads(kept.get(k, 'null')) for k in ('attempt', 'outcome')))

  def _find_silent(self) -> set[int]:
    """Ids of running trials whose owners have given no sign for too long.

    By the server's clock alone. A trial without any sign was added by somebody who was
    killed before the first: it gets one now, so that its time begins to run.
    """
    rows = self.database.query(_SILENCE, id=self._id)
    if unseen := [trial_id for trial_id, secs in rows if secs is None]:
      self.database.insist(lambda: self.beat(unseen))
    return self._pick_silent(rows)

  def _pick_silent(self, rows) -> set[int]:
    return {i for i, secs in rows if secs is not None and secs > self.silence_secs}

  def _is_left(self, record) -> bool:
    """Whether nobody else owns a trial, or nobody who is still there."""
    owner = record.attempt.owner
    return owner in ('', self.owner) or is_gone(owner)

  def _ask_edition(self) -> int:
    with self.database.storage.engine.connect() as connection:
      return self._read_edition(connection)

  def _read_edition(self, connection) -> int:
    text = connection.execute(sa.text(_EDITION), {'id': self._id}).scalar()
    return json.loads(text or '0')

  def _set_edition(self, connection, edition: int):
    change = (
      "delete from study_user_attributes where study_id = :id and key = 'edition'",
      'insert into study_user_attributes (study_id, key, value_json) '
      "values (:id, 'edition', :text)",
    )
    for text in change:
      connection.execute(sa.text(text), {'id': self._id, 'text': json.dumps(edition)})

  def _forget(self):
    # Optuna never looks again at a trial that it has seen finished.
    self._optuna = self.database.insist(lambda: _load(self.database, self._name))
    for known in (self.records, self.history, self.running, self.copied):
      known.clear()

  def _keep(self, record: Record) -> Record:
    number = record.number
    if number == len(self.records):
      self.records.append(record)
      self.history.append(record.trial)
      self.copied.setdefault(record.key, number)
    self.records[number], self.history[number] = record, record.trial
    if record.trial.finished:
      self.running.pop(number, None)
    else:
      self.running[number] = record
    return record
