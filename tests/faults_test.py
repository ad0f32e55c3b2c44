"""Faults that are made to real commands: nothing is lost, and the exit code says what to do.

`python -m benchmarks.faults` makes all of them; these are those that find the most.
"""

import pytest

from benchmarks.faults import disk, processes, scenarios, sweeps
from benchmarks.faults.report import HEAD, Report, make_row
from benchmarks.faults.run import Lost, Place, Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def place(tmp_path_factory) -> Place:
  return Place(tmp_path_factory.mktemp('faults'))


def make(fault, *arguments, **options) -> Report:
  try:
    return fault(*arguments, **options)
  except disk.CannotHere as error:
    pytest.skip(str(error))


def test_one_of_four_processes_is_killed(place):
  found = processes.kill_a_process(place)
  assert len(found.codes) == 3
  assert found.noticed_secs < 60  # JAX by itself would take 100
  if 75 in found.codes:
    assert found.says.endswith('the same command goes on')


def test_a_loss_that_is_not_finite_ends_all_processes_alike(place):
  found = processes.feed_nan(place)
  assert set(found.codes) == {70}
  assert 'the last good checkpoint is' in found.says


def test_a_full_disk(place):
  found = make(disk.fill_the_disk_but_for_lines, place)
  assert 'No space left on device' in found.says
  assert found.noticed_secs < 60


@pytest.mark.parametrize('fault', [disk.forbid_writing, disk.forbid_reading])
def test_a_workdir_that_may_not_be_used_any_more(place, fault):
  found = make(fault, place)
  assert 'Permission denied' in found.says
  assert found.noticed_secs < 60  # and not when Orbax' threads have given up


def test_a_run_does_not_begin_where_nothing_can_be_read(place):
  found = make(disk.begin_where_nothing_can_be_read, place)
  assert 'Permission denied' in found.says


def test_a_data_worker_is_killed(place):
  found = processes.kill_a_data_worker(place)
  assert 'a process that decodes videos was ended by signal 9' in found.says


def test_the_disk_of_a_sweep_is_full(place):
  found = make(sweeps.fill_the_disk_of_a_sweep, place)
  assert 'No space left on device' in found.says


def test_the_database_of_a_sweep_is_away(place):
  found = sweeps.drop_the_database(place, outage_secs=5)
  assert 'is out of reach' in found.says


def test_what_is_gone_is_noticed(place):
  """The harness itself: a checkpoint that vanishes, a number that changes."""
  run = Run(place, 'noticed')
  run.remember()
  (run.workdir / 'metrics.jsonl').write_text('{"step": 1, "loss": 2.0}\n')
  run.remember()
  (run.workdir / 'metrics.jsonl').write_text('{"step": 1, "loss": 2.5}\n')
  with pytest.raises(Lost):
    run.remember()


def test_every_fault_has_a_name_and_says_what_it_does():
  known = scenarios.list_scenarios()
  assert {'kill_a_process', 'fill_the_disk', 'drop_the_database'} <= set(known)
  for fault in known.values():
    assert fault.__doc__
    assert '\n' not in fault.__doc__


def test_a_row_of_the_table_has_as_many_cells_as_its_head():
  row = make_row('kill', 'a or b', Report('nothing', 1.0, None, [75, 75], 'a | b', ''))
  head = HEAD.splitlines()[0]
  assert row.replace('\\|', '').count('|') == head.count('|')
