import numpy as np
import pytest

from nas.history import State, Trial, count_trained, find_settled, list_records, rank


def make_trials(*ends) -> list[Trial]:
  """Trials from their values; a State instead of a value is how one stands or ended."""
  return [
    Trial(n, np.zeros(1), state=end)
    if isinstance(end, State)
    else Trial(n, np.zeros(1), state=State.DONE, value=end)
    for n, end in enumerate(ends)
  ]


@pytest.mark.parametrize('state', State)
def test_all_states_but_one_are_final(state):
  assert Trial(0, np.zeros(1), state=state).finished == (state is not State.RUNNING)


def test_states_are_written_as_words():
  assert f'{State.DONE}' == 'done'
  assert State('failed') is State.FAILED


@pytest.mark.parametrize('lag', [0, 1, 3])
def test_a_proposal_sees_those_before_it_by_more_than_its_lag(lag):
  trials = make_trials(*range(5))
  # Proposal 5 may look at numbers below 5 - lag.
  assert [t.number for t in find_settled(trials, lag)] == list(range(5 - lag))


def test_with_a_lag_of_all_trials_or_more_nothing_is_seen():
  assert find_settled(make_trials(1.0, 2.0), 2) == []
  assert find_settled(make_trials(1.0, 2.0), 9) == []
  assert find_settled([], 0) == []


def test_one_running_trial_among_those_seen_is_waited_for():
  trials = make_trials(1.0, State.RUNNING, 2.0, State.RUNNING)
  assert find_settled(trials, 2) is None
  assert find_settled(trials, 0) is None
  assert [t.number for t in find_settled(trials, 3)] == [0]


def test_what_is_seen_does_not_depend_on_who_is_finished_among_the_latest():
  one = find_settled(make_trials(1.0, 2.0, State.RUNNING, 4.0), 2)
  other = find_settled(make_trials(1.0, 2.0, 3.0, State.RUNNING), 2)
  assert [(t.number, t.value) for t in one] == [(t.number, t.value) for t in other]


def test_only_discarded_trials_do_not_count():
  assert count_trained(make_trials(*State, 1.0)) == len(State) - 1 + 1
  assert count_trained([]) == 0


def test_only_done_trials_are_ranked_and_of_equals_the_earlier_comes_first():
  trials = make_trials(1.0, 3.0, State.RUNNING, 3.0, -1.0)
  pruned = Trial(5, np.zeros(1), state=State.PRUNED, value=9.0)
  assert [t.number for t in rank([*trials, pruned])] == [1, 3, 0, 4]


def test_a_record_is_better_than_all_before_it():
  trials = make_trials(-5.0, State.FAILED, -5.0, 1.0, 0.0, 1.0, 2.0)
  pruned = Trial(7, np.zeros(1), state=State.PRUNED, value=9.0)
  assert list_records([*trials, pruned]) == (0, 3, 6)
  assert list_records([]) == ()
