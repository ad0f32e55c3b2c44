"""What coordinators may do to a study, and what happens where two do it at once."""

import dataclasses
import subprocess
import sys
import time

import numpy as np
import optuna
import pytest
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

from nas.history import Proposal, State
from nas.space import OneOf, Space
from nas.trials import database, owner
from nas.trials.outcome import make_failure, make_outcome
from nas.trials.study import open_study, read_study
from tests.nas.trials import toy

DONE = make_outcome({'state': 'done', 'value': 0.1 + 0.2, 'curve': {1: 0.5}})


def open_toy(address, **changes):
  algorithm = toy.Climb(toy.SPACE, budget=9)
  settings = {'space': toy.SPACE, 'algorithm': algorithm, 'seed': 7}
  short = {'beat_secs': 0.2, 'silence_secs': 0.5}
  return open_study(address, 'toy', **{**settings, **short, **changes})


def add(study, number: int = 0, **changes):
  choices = toy.SPACE.canonical(toy.SPACE.sample(np.random.default_rng(number)))
  proposal = Proposal(choices, {'parent': None, 'pair': (1, 2)}, {'lr': 0.5})
  options = {'key': f'key {number}', 'thresholds': {1: 0.25}, 'same_as': None}
  return study.add(proposal, **{**options, **changes})


def start_owner(address) -> subprocess.Popen:
  """A process that has begun a trial."""
  code = (
    'import time; from tests.nas.trials.study_test import add, open_toy; '
    f'study = open_toy({address!r}); add(study); print(flush=True); time.sleep(1000)'
  )
  process = subprocess.Popen([sys.executable, '-c', code], cwd=toy.ROOT, stdout=subprocess.PIPE)
  assert process.stdout.readline() == b'\n'
  return process


def is_same(trials, others) -> bool:
  return [repr(t) for t in trials] == [repr(t) for t in others]


def test_a_study_is_the_same_when_it_is_opened_again(address):
  ends = [
    make_outcome({'state': 'done', 'value': 1 / 3, 'metrics': {'macs': 10**12, 'x': None}}),
    make_outcome({'state': 'pruned', 'value': -0.1, 'reason': 'bad', 'curve': {5: -0.1}}),
    make_outcome({'state': 'discarded', 'reason': 'macs', 'metrics': {'macs': 3}}),
    make_failure('MemoryError: …'),
  ]
  with open_toy(address) as study:
    for number, outcome in enumerate([*ends, None]):
      record = add(study, number)
      assert record.trial.state is State.RUNNING
      assert outcome is None or study.finish(record, outcome)
    before, records = list(study.history), list(study.records)
  with open_toy(address) as study:
    assert is_same(study.history, before)
    assert study.history[0].note == {'parent': None, 'pair': [1, 2]}
    assert study.history[0].choices.dtype == np.int32
    assert study.records[1].curve == {5: -0.1}
    assert [r.thresholds for r in study.records] == [{1: 0.25}] * 5
    assert [r.key for r in study.records] == [r.key for r in records]
    assert list(study.running) == [4]
  identity, trials = read_study(address, 'toy')
  assert identity == study.identity
  assert is_same(trials, before)
  states = [t.state.value for t in trials]
  assert states == ['done', 'pruned', 'discarded', 'failed', 'running']


def test_the_dashboard_sees_choices_in_words_values_and_curves(address):
  with open_toy(address) as study:
    record = add(study)
    study.finish(record, DONE)
    storage = study.database.storage
    (row,) = optuna.load_study(study_name='toy', storage=storage).trials
  described = toy.SPACE.describe(record.trial.choices)
  assert row.params.keys() == described.keys()
  assert row.params['stem'] == str(described['stem'])
  ops = {row.params[p] for p in described if p.endswith('/op')}
  assert ops <= {'conv', 'pool', 'attend'}
  assert (row.state, row.value) == (optuna.trial.TrialState.COMPLETE, 0.1 + 0.2)
  assert row.intermediate_values == {1: 0.5}
  assert row.user_attrs['outcome'] == DONE


def test_choices_that_read_alike_are_told_apart(tmp_path):
  hard = OneOf((1, {'a': OneOf((1, 2))}, {'a': OneOf((3, 4))}, '1'))
  space = Space({'x': hard})
  algorithm = toy.Climb(space, budget=9)
  with open_study(str(tmp_path / 'a.db'), 'x', space=space, algorithm=algorithm) as study:
    for number, choices in enumerate(([0, 0, 0], [1, 1, 0], [2, 0, 1], [3, 0, 0])):
      assert study.add(Proposal(np.array(choices)), str(number), {}, None)
    trials = optuna.load_study(study_name='x', storage=study.database.storage).trials
  words = [t.params['x'] for t in trials]
  assert len(set(words)) == 4
  assert trials[1].params['x:1/a'] == '2'
  assert trials[2].params['x:2/a'] == '4'


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'space': Space({'x': OneOf((1, 2))})}, 'space: was'),
    ({'seed': 8}, 'seed: was 7, now 8'),
    (
      {'algorithm': toy.Climb(toy.SPACE, budget=10)},
      r'algorithm\.budget: was 9, now 10',
    ),
    ({'about': {'data': {'root': 'x'}}}, r'about\.data\.root: was absent, now "x"'),
  ],
)
def test_another_study_of_that_name_is_refused(address, changes, message):
  open_toy(address).__exit__()
  with pytest.raises(ValueError, match=message) as error:
    open_toy(address, **changes)
  # Beside the trials of this one, another name alone would be a trap.
  assert '--workdir, and with --storage another --config.study' in str(error.value)
  with open_toy(address) as study:  # and the first is as it was
    assert study.history == []


def test_what_is_free_may_change_and_is_kept(address):
  open_toy(address).__exit__()
  more = toy.Climb(toy.SPACE, budget=12)
  open_toy(address, algorithm=more, free=('algorithm.budget',)).__exit__()
  with pytest.raises(ValueError, match=r'budget: was 12, now 9'):
    open_toy(address)


def test_a_study_that_no_sweep_made_is_refused(tmp_path):
  address = f'sqlite:///{tmp_path}/study.db'
  study = optuna.create_study(storage=address, study_name='toy')
  study.ask()
  with pytest.raises(ValueError, match='made by no sweep'):
    open_toy(address)


def test_settings_that_cannot_be_compared_are_refused(tmp_path):
  @dataclasses.dataclass
  class Strange:
    space: Space
    _: dataclasses.KW_ONLY
    table: object = dataclasses.field(default_factory=set)

  with pytest.raises(ValueError, match='settings of Strange and `about` must be JSON'):
    open_toy(str(tmp_path / 'a.db'), algorithm=Strange(toy.SPACE))
  with pytest.raises(ValueError, match='must be JSON'):
    open_toy(str(tmp_path / 'a.db'), about={'limit': float('nan')})
  assert not list(tmp_path.iterdir())


def test_a_study_that_is_not_there_is_named_and_so_are_those_that_are(address):
  open_toy(address).__exit__()
  with pytest.raises(ValueError, match=r"no study 'tyo'.* there are: toy"):
    read_study(address, 'tyo')


def test_a_study_deleted_under_a_sweep(address):
  with open_toy(address) as study:
    add(study)
    optuna.delete_study(study_name='toy', storage=study.database.storage)
    with pytest.raises(ValueError, match='was it deleted'):
      add(study, 1)


def test_a_proposal_of_another_space_or_no_json_is_refused(tmp_path):
  with open_toy(str(tmp_path / 'a.db')) as study:
    with pytest.raises(ValueError, match='whole numbers'):
      study.add(Proposal(np.zeros(2, np.int32)), 'key', {}, None)
    choices = toy.SPACE.canonical(np.zeros(len(toy.SPACE), np.int32))
    with pytest.raises(ValueError, match='note of a proposal is no JSON'):
      study.add(Proposal(choices, {'x': np.float32(1)}), 'key', {}, None)
    assert study.history == []


# Two coordinators, of which one does not know what the other has done.


def test_of_two_who_add_a_trial_one_is_first(postgres):
  with open_toy(postgres) as one, open_toy(postgres) as two:
    assert add(one)
    assert add(two, 1) is None
    assert is_same(two.history, one.history)
    assert add(two, 1).number == 1


def test_the_check_is_part_of_the_transaction_that_adds(postgres, monkeypatch):
  """Optuna tries again by itself where a transaction fails, when others were quicker."""
  with open_toy(postgres) as one, open_toy(postgres) as two:
    storage = one.database.storage
    prepare, failures = storage._get_prepared_new_trial, iter([True])

    def fail_once(*args):
      if next(failures, None):
        storage.scoped_session().rollback()  # the connection breaks
        add(two)
        raise StorageInternalError
      return prepare(*args)

    monkeypatch.setattr(storage, '_get_prepared_new_trial', fail_once)
    assert add(one, 1) is None
    one.refresh()
    two.refresh()
    assert [r.key for r in two.records] == ['key 0']
    assert is_same(one.history, two.history)


def test_a_trial_is_whole_or_not_there(address, monkeypatch):
  with open_toy(address) as study:
    half = [{'param_name': 'x'}]
    monkeypatch.setattr(study._format, 'make_params', lambda proposal: half)
    with pytest.raises((StorageInternalError, sa.exc.SQLAlchemyError)):
      add(study)
    study.refresh(whole=True)
    assert study.history == []


def test_who_was_stopped_in_a_transaction_loses_it_and_tries_again(postgres, monkeypatch):
  quick = tuple(s.replace("'60s'", "'300ms'") for s in database._SETTINGS['postgresql'])
  monkeypatch.setitem(database._SETTINGS, 'postgresql', quick)
  with open_toy(postgres) as one, open_toy(postgres) as two:
    lock, stops = one.database.lock, iter([True])

    def lock_and_stop(*args):
      lock(*args)
      if next(stops, None):
        time.sleep(0.6)  # The server lets go of the lock,
        assert add(two)  # and another is first.

    monkeypatch.setattr(one.database, 'lock', lock_and_stop)
    assert add(one, 1) is None
    assert is_same(one.history, two.history)
    assert add(one, 1).number == 1


def test_a_trial_that_somebody_works_on_cannot_be_taken(postgres):
  with open_toy(postgres) as one, open_toy(postgres) as two:
    add(one)
    two.refresh()
    assert not two.may_take(two.running[0])
    assert two.take(two.running[0], 'impatience') is None
    assert one.finish(one.running[0], DONE)


def test_the_trial_of_a_silent_owner_is_taken_and_its_late_word_dropped(postgres):
  with open_toy(postgres) as one, open_toy(postgres) as two:
    add(one)
    time.sleep(0.7)
    two.refresh()
    taken = two.take(two.running[0], 'silence')
    assert (taken.attempt.number, taken.attempt.owner) == (2, two.owner)
    assert taken.attempt.cause == 'silence'
    for _ in range(2):  # first unaware, and then knowing whose it is
      assert not one.finish(one.records[0], make_failure('too late'))
      assert one.records[0].attempt.owner == two.owner
    assert two.finish(taken, DONE)
    one.refresh()
    assert is_same(one.history, two.history)
    assert one.history[0].value == 0.1 + 0.2


@pytest.mark.parametrize('here', [True, False])
def test_the_trial_of_an_owner_that_was_killed(here, postgres, tmp_path, monkeypatch):
  """Others on its machine see that it is gone; to those elsewhere it is silent."""
  opening = {'beat_secs': 20, 'silence_secs': 120}
  with open_toy(postgres, **opening) as two:
    one = start_owner(postgres)
    two.refresh()
    assert not two.may_take(two.running[0])
    assert two.take(two.running[0], 'impatience') is None
    one.kill()
    one.communicate()
    if not here:
      monkeypatch.setattr(owner, '_MEMORY', tmp_path)
    two.refresh()
    assert two.may_take(two.running[0]) is here
    assert (two.take(two.running[0], 'its end') is not None) is here


def test_an_owner_that_was_silent_and_speaks_again_keeps_its_trial(postgres):
  with open_toy(postgres) as one, open_toy(postgres) as two:
    record = add(one)
    time.sleep(0.7)
    two.refresh()
    one.beat([record.trial_id])
    assert two.may_take(two.running[0])  # as far as it knows
    assert two.take(two.running[0], 'silence') is None


def test_who_does_not_know_that_trials_were_opened_again_changes_nothing(postgres):
  with open_toy(postgres) as one, open_toy(postgres) as two:
    one.finish(add(one), make_failure('no device'))
    two.refresh()
    left = add(two, 1)  # in the light of the first, which failed
    one.refresh()
    assert one.reopen(kept=1)
    one.refresh()
    again = add(one, 2)
    # There are as many trials as before.
    assert not two.finish(left, DONE)
    assert is_same(two.history, one.history)
    assert [r.key for r in two.records] == ['key 0', 'key 2']
    assert two.take(two.running[0], 'hope').attempt.number == 1
    assert one.finish(again, DONE)


def test_no_trial_is_added_to_those_of_another_edition(postgres):
  with open_toy(postgres) as one, open_toy(postgres) as two:
    for number in range(2):
      one.finish(add(one, number), make_failure('no device'))
    two.refresh()
    one.reopen(kept=1)
    one.refresh()
    add(one, 2)
    assert add(two, 3) is None
    assert is_same(two.history, one.history)
    assert add(two, 3).number == 2


def test_of_two_who_take_a_trial_one_gets_it(postgres):
  with open_toy(postgres) as gone:
    add(gone)
  with open_toy(postgres) as one, open_toy(postgres) as two:
    time.sleep(0.7)
    one.refresh()
    two.refresh()
    assert one.take(one.running[0], 'silence')
    assert two.take(two.running[0], 'silence') is None


def test_a_trial_without_any_sign_is_not_forgotten(postgres, monkeypatch):
  with open_toy(postgres) as one:
    monkeypatch.setattr(one, 'beat', lambda ids: None)  # killed before it could
    add(one)
  with open_toy(postgres) as two:
    assert not two.may_take(two.running[0])  # Its time begins with this look.
    time.sleep(0.7)
    two.refresh()
    assert two.take(two.running[0], 'silence')


def test_a_trial_that_was_left_is_free_at_once_and_the_attempt_not_counted(address):
  with open_toy(address) as one:
    one.release(add(one))
  with open_toy(address) as two:
    assert two.may_take(two.running[0])
    assert two.take(two.running[0], 'leaving').attempt.number == 1


@pytest.mark.parametrize('outcome', [DONE, make_failure('no memory')])
def test_an_outcome_that_was_said_but_not_written_down_counts(address, outcome):
  with open_toy(address) as one:
    record = add(one)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(one, '_conclude', lambda *_: None)  # killed in between
      assert one.finish(record, outcome)
  with open_toy(address) as two:
    assert two.history[0].state == outcome['state']
    assert two.running == {}


def test_failed_trials_are_opened_again_with_their_copies(address):
  with open_toy(address) as study:
    for number, same_as in enumerate((None, 0, None, None)):
      record = add(study, number, same_as=same_as)
      if number < 3:
        study.finish(record, make_failure(f'no device for {number}'))
    assert study.reopen(kept=3)
    assert [t.state.value for t in study.history] == [*['failed'] * 3, 'running']  # for reports
  with open_toy(address) as study:
    assert [r.attempt.number for r in study.records] == [0, 0, 0]
    assert study.records[2].attempt.cause == 'no device for 2'
    assert study.records[2].thresholds == {1: 0.25}
    assert study.records[1].same_as == 0
    assert list(study.running) == [0, 1, 2]
    taken = study.take(study.running[0], 'hope')
    assert taken.attempt.number == 1
    assert study.finish(taken, DONE)
    assert add(study, 3).number == 3
    (row, *_) = optuna.load_study(study_name='toy', storage=study.database.storage).trials
    assert (row.state, row.value) == (optuna.trial.TrialState.COMPLETE, 0.1 + 0.2)


@pytest.mark.parametrize('state', ['done', 'pruned'])
def test_nothing_is_opened_again_once_a_trial_was_trained(state, address):
  with open_toy(address) as study:
    study.finish(add(study), make_failure('no memory'))
    study.finish(add(study, 1), make_outcome({'state': state, 'value': 1.0}))
    assert not study.reopen(kept=0)
    before = list(study.history)
  with open_toy(address) as study:
    assert is_same(study.history, before)


def test_a_trial_ended_by_hand_is_a_failed_one(address):
  with open_toy(address) as study:
    add(study)
    optuna.load_study(study_name='toy', storage=study.database.storage).tell(
      0, state=optuna.trial.TrialState.FAIL
    )
    assert not study.finish(study.records[0], DONE)
    assert study.history[0].state is State.FAILED
    assert 'from outside' in study.history[0].reason


def test_an_answer_that_was_lost_is_asked_for_again(address, monkeypatch):
  """A connection may break after the database has done what it was asked."""
  with open_toy(address) as study:
    error = StorageInternalError()
    error.__cause__ = sa.exc.OperationalError('', {}, Exception())

    def lose_answers(name):
      method, lost = getattr(study._storage, name), iter([True])

      def call(*args):
        result = method(*args)
        if next(lost, None):
          raise error
        return result

      monkeypatch.setattr(study._storage, name, call)

    lose_answers('create_new_trial')
    assert add(study) is None  # but it is ours, and nobody works on it
    assert study.running[0].attempt.owner == study.owner
    assert study.may_take(study.running[0])
    lose_answers('set_trial_user_attr')
    assert study.finish(study.running[0], DONE)
    assert [t.state for t in study.history] == [State.DONE]
