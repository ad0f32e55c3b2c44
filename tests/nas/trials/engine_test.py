"""Searches of a second, with real workers: what they find, and what may go wrong."""

import collections
import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from nas.history import Proposal, Signal, State
from nas.trials import pool
from nas.trials.engine import AllFailed, coordinate
from nas.trials.outcome import Refused
from nas.trials.study import SILENCE_SECS, Study, open_study, read_study
from tests.nas.trials import toy


def read_log(path) -> list[list[str]]:
  """(what, number, attempt, key) of the trials that workers began and ended."""
  return [line.split(' ', 3) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  """A search by a single worker."""
  folder = tmp_path_factory.mktemp('reference')
  arguments = {'log': f'{folder}/log'}
  trials = toy.run(f'{folder}/a.db', folder, workers=1, prune=True, arguments=arguments)
  return trials, read_log(folder / 'log')


def test_a_search_meets_every_end_and_learns(reference):
  trials, _ = reference
  states = collections.Counter(t.state for t in trials)
  assert set(states) == {State.DONE, State.PRUNED, State.FAILED, State.DISCARDED}
  assert [t.number for t in trials] == list(range(30))
  assert any(t.note['parent'] for t in trials)
  reasons = {t.reason for t in trials if t.state is State.FAILED}
  assert 'MemoryError: RESOURCE_EXHAUSTED: out of memory' in reasons
  assert 'the value is nan, wanted a finite number' in reasons


def test_no_network_is_trained_twice(reference):
  trials, log = reference
  begun = [key for what, _, _, key in log if what == 'begin']
  assert len(begun) == len(set(begun))
  first = {}
  for trial in trials:
    same = first.setdefault(trial.choices.tobytes(), trial)
    assert (trial.state, trial.value) == (same.state, same.value)
    assert dict(trial.metrics) == dict(same.metrics)
    if same is not trial:
      assert trial.reason.startswith(f'as trial {same.number}')
  assert len(first) == len(begun) < len(trials)


def test_who_works_beside_whom_and_how_fast_changes_nothing(reference, address, tmp_path):
  again = toy.run(address, tmp_path, workers=3, prune=True, arguments={'secs': 0.1})
  assert toy.make_digest(again) == toy.make_digest(reference[0])


def test_thresholds_are_those_of_settled_trials(reference, tmp_path):
  pruned = [t for t in reference[0] if t.state is State.PRUNED]
  whole = toy.run(f'{tmp_path}/a.db', tmp_path, workers=2)
  assert pruned
  assert not [t for t in whole if t.state is State.PRUNED]


@dataclasses.dataclass(frozen=True)
class Listed:
  """Proposes what it is given, and waits or stops where a signal stands."""

  space: object
  answers: tuple = ()

  def propose(self, history, rng):
    if len(history) < len(self.answers):
      return self.answers[len(history)]
    done = all(t.finished for t in history)
    return Signal.STOP if done else Signal.WAIT


def run_listed(
  tmp_path, objective: str, count: int = 3, arguments=(), different: int = 3, **options
):
  """A search of a few different networks, with an objective of this file."""
  generators = [np.random.default_rng(n % different) for n in range(count)]
  answers = tuple(Proposal(toy.SPACE.canonical(toy.SPACE.sample(rng))) for rng in generators)
  algorithm = Listed(toy.SPACE, answers)
  with open_study(
    f'{tmp_path}/a.db', 'x', space=toy.SPACE, algorithm=toy.Climb(toy.SPACE, budget=1)
  ) as study:
    name = f'tests.nas.trials.engine_test:{objective}'
    options = {'workers': 1, 'folder': tmp_path / 'logs', **options}
    return coordinate(study, algorithm, name, dict(arguments), **options)


def make_killed(times: int, code: int = 0):
  def run(job, report):
    if job['number'] == 1 and job['attempt'] <= times:
      if code:
        os._exit(code)
      os.kill(os.getpid(), signal.SIGKILL)
    return {'state': 'done', 'value': job['attempt']}

  return run


def make_full():
  def run(job, report):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  return run


def test_a_full_disk_is_no_failure_of_a_trial(tmp_path):
  with pytest.raises(OSError, match=r'No space left.*of a worker') as error:
    run_listed(tmp_path, 'make_full')
  assert error.value.errno == errno.ENOSPC
  _, trials = read_study(f'{tmp_path}/a.db', 'x')
  assert {t.state for t in trials} == {State.RUNNING}
  trials = run_listed(tmp_path, 'make_killed', arguments={'times': 0}, max_attempts=1)
  assert [t.value for t in trials] == [1, 1, 1]  # and it cost no attempt


def make_away():
  def run(job, report):
    if job['number'] == 1 and job['attempt'] == 1:
      raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return {'state': 'done', 'value': job['attempt']}

  return run


def test_a_disk_that_is_away_is_no_failure_of_a_trial_either(tmp_path):
  trials = run_listed(tmp_path, 'make_away')
  assert [t.value for t in trials] == [1, 2, 1]


def test_a_worker_that_died_has_its_trial_begun_again(tmp_path):
  trials = run_listed(tmp_path, 'make_killed', arguments={'times': 2})
  assert [t.value for t in trials] == [1, 3, 1]


@pytest.mark.parametrize(
  ('code', 'cause'), [(0, r'signal 9 \(Killed, .*memory'), (3, 'exit code 3')]
)
def test_a_trial_that_kills_its_workers_fails_in_the_end(tmp_path, code, cause):
  arguments = {'times': 9, 'code': code}
  trials = run_listed(tmp_path, 'make_killed', arguments=arguments, max_attempts=2)
  assert [t.state.value for t in trials] == ['done', 'failed', 'done']
  assert trials[1].reason.startswith('its worker died 2 times, the last time by ')
  assert re.search(cause, trials[1].reason)


def make_slow(nap: str):
  def run(job, report):
    if job['number'] == 1:
      subprocess.Popen(['sleep', nap])
      time.sleep(60)
    return {'state': 'done', 'value': 1.0}

  return run


def test_a_trial_may_not_take_for_ever_and_leaves_no_process(tmp_path):
  nap = str(10_000_000 + os.getpid())  # of this test and no other
  trials = run_listed(tmp_path, 'make_slow', arguments={'nap': nap}, trial_secs=0.7)
  assert [t.state.value for t in trials] == ['done', 'failed', 'done']
  assert '0.7 seconds (trial_secs)' in trials[1].reason
  assert not find_processes(f'sleep\x00{nap}')


def find_processes(text: str) -> list[int]:
  """Processes whose command line has a text, ended ones aside."""
  found = []
  for pid in filter(str.isdecimal, os.listdir('/proc')):
    try:
      with open(f'/proc/{pid}/cmdline') as file:
        if text in file.read():
          found.append(int(pid))
    except OSError:
      continue
  return found


def make_picky(good=(), discarded=(), dies: bool = False):
  """Trains some trials, discards some, and fails the rest or kills their workers."""

  def run(job, report):
    if job['number'] in good:
      return {'state': 'done', 'value': 1.0}
    if job['number'] in discarded:
      return {'state': 'discarded', 'reason': 'macs'}
    if dies:
      os._exit(3)
    raise RuntimeError(f'no device for {job["number"]}')

  return run


@pytest.mark.parametrize(('lag', 'workers'), [(0, 1), (4, 3)])
def test_a_search_whose_trials_all_fail_stops_and_goes_on_as_if_none_had(
  lag, workers, address, tmp_path
):
  options = {'workers': workers, 'prune': True, 'budget': 12, 'lag': lag}
  with pytest.raises(AllFailed, match=r'[5-7] trials .*trial \d, RuntimeError: no device') as error:
    toy.run(address, tmp_path, arguments={'broken': 'no device'}, **options)
  assert str(tmp_path) in str(error.value)
  assert not find_processes(f'toy:make_objective\x00{os.getpid()}')
  _, trials = read_study(address, 'toy')
  assert {t.state for t in trials} == {State.RUNNING}
  again = toy.run(address, tmp_path, max_attempts=1, **options)
  whole = toy.run(f'{tmp_path}/whole.db', tmp_path, **{**options, 'workers': 1})
  assert toy.make_digest(again) == toy.make_digest(whole)
  assert len(again) == 12


@pytest.mark.parametrize(
  ('count', 'arguments', 'options', 'wanted'),
  [
    (9, {}, {}, 'trial 4, RuntimeError: no device for 4'),
    (9, {}, {'max_failures': 1}, '1 trial failed .*trial 0,'),
    (9, {}, {'different': 2}, 'trial 4, as trial 0: RuntimeError'),  # copies burn it as well
    (3, {}, {}, '3 trials failed .*trial 2,'),  # and so does a search that is soon over
    (9, {'discarded': [0, 2]}, {'max_failures': 2}, '2 trials failed .*trial 3,'),
    (9, {'dies': True}, {'max_failures': 2, 'max_attempts': 1}, 'trial 1, .*exit code 3'),
  ],
)
def test_what_counts_as_a_failure_while_nothing_is_trained(
  count, arguments, options, wanted, tmp_path
):
  options = {'different': count, **options}
  with pytest.raises(AllFailed, match=wanted):
    run_listed(tmp_path, 'make_picky', count, arguments, **options)
  trials = run_listed(tmp_path, 'make_picky', count, {'good': list(range(count))}, **options)
  assert {t.state for t in trials} <= {State.DONE, State.DISCARDED}
  assert [t.number for t in trials] == list(range(count))


@pytest.mark.parametrize('good', [0, 4, 8])
def test_one_trial_that_was_trained_is_enough_to_go_on(good, tmp_path):
  options = {'different': 9, 'max_failures': 9 if good == 8 else 5}
  trials = run_listed(tmp_path, 'make_picky', 9, {'good': [good]}, **options)
  assert [t.number for t in trials if t.state is State.DONE] == [good]
  again = run_listed(tmp_path, 'make_picky', 9, {'good': list(range(9))}, **options)
  assert toy.make_digest(again) == toy.make_digest(trials)  # What failed has failed.


@pytest.mark.parametrize('budget', [5, 12])
def test_a_sweep_that_was_killed_before_it_stopped_goes_on_all_the_same(
  budget, tmp_path, monkeypatch
):
  """And so does the study of a version that knew no such stop."""

  def die(*arguments, **options):
    raise SystemExit(137)

  options = {'budget': budget, 'workers': 1}
  with monkeypatch.context() as patch:
    patch.setattr(Study, 'reopen', die)
    with pytest.raises(SystemExit):
      toy.run(f'{tmp_path}/a.db', tmp_path, arguments={'broken': 'no device'}, **options)
  _, trials = read_study(f'{tmp_path}/a.db', 'toy')
  assert [t.state for t in trials] == [State.FAILED] * 5
  with pytest.raises(AllFailed, match='still no device'):
    toy.run(f'{tmp_path}/a.db', tmp_path, arguments={'broken': 'still no device'}, **options)
  again = toy.run(f'{tmp_path}/a.db', tmp_path, **options)
  whole = toy.run(f'{tmp_path}/whole.db', tmp_path, **options)
  assert toy.make_digest(again) == toy.make_digest(whole)


def make_gated(log: str, gate: str):
  """Waits for a file; trial 0 fails where it is not there."""
  objective = toy.make_objective(log=log)

  def run(job, report):
    ready = os.path.exists(gate)
    if not ready:
      toy._write(log, 'waits', job)
      if job['number'] == 0:
        raise RuntimeError('no device')
      time.sleep(1000)
    return objective(job, report)

  return run


def test_a_coordinator_goes_on_with_what_another_has_opened_again(postgres, tmp_path):
  """Also where that has withdrawn a trial that it is training."""
  log, gate = tmp_path / 'log', tmp_path / 'gate'
  arguments = {'log': str(log), 'gate': str(gate)}
  options = {'budget': 6, 'lag': 0, 'workers': 1}
  objective = 'tests.nas.trials.engine_test:make_gated'
  process = start(tmp_path, storage=postgres, arguments=arguments, objective=objective, **options)
  await_line(log, 2)  # Trial 0 has failed, and trial 1, proposed in its light, waits.
  gate.touch()
  algorithm = toy.Climb(toy.SPACE, budget=6, lag=0)
  with open_study(postgres, 'toy', space=toy.SPACE, algorithm=algorithm, seed=7) as study:
    assert [t.state.value for t in study.history] == ['failed', 'running']
    assert study.reopen(kept=1)
    assert not study.reopen(kept=1)  # That was done: there is one trial now.
  error = process.communicate(timeout=30)[1]
  assert process.returncode == 0, error
  assert 'trial 1 was taken over by nobody' in error
  whole = toy.run(f'{tmp_path}/b.db', tmp_path, **options)
  assert toy.make_digest(read_study(postgres, 'toy').trials) == toy.make_digest(whole)


def make_old_key(proposal) -> str:
  return f'of an earlier version {proposal.choices.tolist()}'


def test_networks_of_an_earlier_version_are_not_trained_again(tmp_path):
  """Whatever its keys were."""
  run_listed(tmp_path, 'make_killed', 3, {'times': 0}, key=make_old_key)
  trials = run_listed(tmp_path, 'make_killed', 5, {'times': 0})
  assert [t.reason for t in trials] == ['', '', '', 'as trial 0', 'as trial 1']


def make_refused(refuses: bool):
  def run(job, report):
    if refuses:
      raise Refused('the folder is of another trial: seed: was 1, now 0')
    return {'state': 'done', 'value': job['attempt']}

  return run


def test_a_folder_that_is_refused_stops_the_search_and_costs_no_attempt(tmp_path):
  with pytest.raises(ValueError, match='of another trial: seed: was 1, now 0'):
    run_listed(tmp_path, 'make_refused', arguments={'refuses': True})
  options = {'arguments': {'refuses': False}, 'max_attempts': 1}
  assert [t.value for t in run_listed(tmp_path, 'make_refused', **options)] == [1, 1, 1]


def make_exceptional():
  errors = [
    ValueError('bad spec'),
    FloatingPointError('loss'),
    RuntimeError('x' * 9999),
  ]

  def run(job, report):
    if job['number'] == len(errors):
      return {'state': 'done', 'value': 1.0}
    raise errors[job['number']]

  return run


def test_exceptions_are_reasons_and_their_tracebacks_are_in_the_log(tmp_path):
  trials = run_listed(tmp_path, 'make_exceptional', count=4, different=4)
  reasons = [t.reason for t in trials]
  assert reasons[:2] == ['ValueError: bad spec', 'FloatingPointError: loss']
  assert reasons[2].startswith('RuntimeError: xxx')
  assert len(reasons[2]) <= 500
  log = (tmp_path / 'logs/worker-0.log').read_text()
  assert 'raise errors[job' in log
  assert 'trial 2, attempt 1' in log


def make_environment():
  def run(job, report):
    time.sleep(0.3)
    return {'state': 'done', 'value': float(os.environ['DEVICE'])}

  return run


def test_each_worker_has_its_environment(tmp_path):
  options = {'workers': 2, 'environments': [{'DEVICE': '5'}, {'DEVICE': '6'}]}
  trials = run_listed(tmp_path, 'make_environment', **options)
  assert sorted({t.value for t in trials}) == [5, 6]
  with pytest.raises(ValueError, match='2 workers want as many environments, got 1'):
    run_listed(tmp_path, 'make_environment', workers=2, environments=[{}])


def make_broken(kind: str):
  if kind == 'value':
    raise ValueError('no such dataset')
  if kind == 'killed':
    os.kill(os.getpid(), signal.SIGKILL)
  print('the first words\nthe last words', flush=True)
  os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
  ('objective', 'arguments', 'message'),
  [
    ('make_broken', {'kind': 'value'}, 'ValueError: no such dataset'),
    ('make_broken', {'knid': 'value'}, "unexpected keyword argument 'knid'"),
    ('make_nothing', {}, "no attribute 'make_nothing'"),
  ],
)
def test_an_objective_that_cannot_be_made_ends_it_at_once(tmp_path, objective, arguments, message):
  with pytest.raises(ValueError, match=message):
    run_listed(tmp_path, objective, arguments=arguments)
  # And no trial is to blame.
  trials = run_listed(tmp_path, 'make_killed', arguments={'times': 0})
  assert [t.value for t in trials] == [1, 1, 1]


@pytest.mark.parametrize(
  ('kind', 'end'),
  [
    ('segfault', r'by signal 11 \(.*\), after the words "the last words" \('),
    ('killed', r'by signal 9 \(Killed, .* memory runs out\), without a word \('),
  ],
)
def test_workers_that_die_at_their_start_end_it_soon(kind, end, tmp_path, monkeypatch):
  monkeypatch.setattr(pool, '_STARTS', 2)
  log = tmp_path / 'logs/worker-0.log'
  log.parent.mkdir()
  log.write_text('the words of an earlier run\n')
  with pytest.raises(pool.WorkersDied, match=f'2 times in a row .*{end}') as error:
    run_listed(tmp_path, 'make_broken', arguments={'kind': kind})
  assert f'its log is {log}' in str(error.value)
  assert str(error.value).count('\n') == 0


def make_unlucky(folder):
  """The environment of workers that cannot be started, as by a broken install."""
  folder.mkdir()
  (folder / 'numpy.py').write_text('raise ImportError("libcudart.so: no such file")\n')
  return {'PYTHONPATH': str(folder)}


def test_a_worker_that_cannot_start_costs_the_trials_of_others_nothing(
  address, tmp_path, monkeypatch
):
  """Both trials are free at once, and neither has lost an attempt."""
  monkeypatch.setattr(pool, '_STARTS', 3)
  options = {'budget': 5, 'max_attempts': 1, 'workers': 2}
  with pytest.raises(pool.WorkersDied, match='"ImportError: libcudart'):
    toy.run(
      address,
      tmp_path,
      environments=[{}, make_unlucky(tmp_path / 'unlucky')],
      arguments={'secs': 1000},
      **options,
    )
  _, trials = read_study(address, 'toy')
  assert [t.state for t in trials] == [State.RUNNING] * 2
  began = time.monotonic()
  again = toy.run(address, tmp_path, **options)
  assert time.monotonic() - began < 60  # None was waited for.
  whole = toy.run(f'{tmp_path}/b.db', tmp_path, **{**options, 'workers': 1})
  assert toy.make_digest(again) == toy.make_digest(whole)


def test_what_a_worker_said_before_another_could_not_start_is_heard(tmp_path, monkeypatch):
  monkeypatch.setattr(pool, '_STARTS', 1)
  environments = [{}, make_unlucky(tmp_path / 'unlucky')]
  name = 'tests.nas.trials.engine_test:make_killed'
  with pool.Pool(name, {'times': 0}, environments=environments, folder=tmp_path) as workers:
    for number in range(2):
      workers.give({'number': number, 'attempt': 1})
      await_line(tmp_path / f'worker-{number}.log', 1)
    time.sleep(1)  # Both have begun to say what they will.
    events = workers.wait(0)
    event = next(events)
    assert (event.number, event.outcome['state']) == (0, 'done')
    with pytest.raises(pool.WorkersDied):
      next(events)
    assert workers.numbers == {1}


def test_waiting_for_nobody_is_a_fault_and_no_endless_loop(tmp_path):
  algorithm = Listed(toy.SPACE, (Signal.WAIT,))
  with (
    open_study(
      f'{tmp_path}/a.db', 'x', space=toy.SPACE, algorithm=toy.Climb(toy.SPACE, budget=1)
    ) as study,
    pytest.raises(RuntimeError, match='Listed waits, and no trial is running'),
  ):
    coordinate(study, algorithm, 'x:y', {}, folder=tmp_path)


def test_a_finished_search_starts_no_worker(tmp_path):
  trials = toy.run(f'{tmp_path}/a.db', tmp_path, budget=5)
  (tmp_path / 'worker-0.log').unlink()
  again = toy.run(f'{tmp_path}/a.db', tmp_path, budget=5)
  assert toy.make_digest(again) == toy.make_digest(trials)
  assert not (tmp_path / 'worker-0.log').exists()


def test_arguments_that_are_no_json_are_refused(tmp_path):
  with pytest.raises(ValueError, match="objective's arguments must be JSON"):
    run_listed(tmp_path, 'make_killed', arguments={'times': {1, 2}})


@pytest.mark.parametrize('settings', [{'workers': 0}, {'max_attempts': 0}, {'max_failures': 0}])
def test_settings_out_of_range(tmp_path, settings):
  with pytest.raises(ValueError, match=f'{next(iter(settings))}'):
    toy.run(f'{tmp_path}/a.db', tmp_path, **settings)


def start(tmp_path, **options) -> subprocess.Popen:
  """A coordinator in a process of its own."""
  options = {'storage': f'{tmp_path}/a.db', 'folder': str(tmp_path), **options}
  command = [sys.executable, '-m', 'tests.nas.trials.toy', json.dumps(options)]
  return subprocess.Popen(command, cwd=toy.ROOT, stderr=subprocess.PIPE, text=True)


def await_line(path, count: int):
  """Until a log has so many lines."""
  until = time.monotonic() + 30
  while not path.exists() or len(path.read_text().splitlines()) < count:
    assert time.monotonic() < until, 'no worker has begun'
    time.sleep(0.02)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_costs_no_attempt(tmp_path, number):
  log = tmp_path / 'log'
  slow = {'secs': 10_000, 'log': str(log)}  # at most: by chance less
  process = start(tmp_path, budget=5, max_attempts=1, arguments=slow)
  await_line(log, 2)
  process.send_signal(number)
  error = process.communicate(timeout=20)[1]
  assert 'Stopped: Stopped by a signal.' in error
  assert not find_processes(f'toy:make_objective\x00{process.pid}')
  _, trials = read_study(f'{tmp_path}/a.db', 'toy')
  assert [t.state for t in trials] == [State.RUNNING] * 2
  again = toy.run(f'{tmp_path}/a.db', tmp_path, budget=5, max_attempts=1)
  whole = toy.run(f'{tmp_path}/b.db', tmp_path, budget=5, workers=1)
  assert toy.make_digest(again) == toy.make_digest(whole)


def test_no_worker_outlives_its_coordinator(tmp_path):
  log = tmp_path / 'log'
  process = start(tmp_path, arguments={'secs': 10_000, 'log': str(log)})
  await_line(log, 2)
  assert len(find_processes(f'toy:make_objective\x00{process.pid}')) == 2
  process.kill()
  process.communicate()
  until = time.monotonic() + 5
  while find_processes(f'toy:make_objective\x00{process.pid}'):
    assert time.monotonic() < until
    time.sleep(0.05)


def test_a_coordinator_that_was_killed_is_not_waited_for_on_its_machine(postgres, tmp_path):
  log = tmp_path / 'log'
  options = {'storage': postgres, 'budget': 5, 'workers': 2}
  process = start(tmp_path, arguments={'secs': 1000, 'log': str(log)}, **options)
  await_line(log, 2)
  process.kill()
  process.communicate()
  began = time.monotonic()
  trials = toy.run(folder=tmp_path, arguments={'log': str(log)}, **options)
  assert time.monotonic() - began < SILENCE_SECS / 2
  whole = toy.run(f'{tmp_path}/b.db', tmp_path, budget=5, workers=1)
  assert toy.make_digest(trials) == toy.make_digest(whole)
  again = [line[1] for line in read_log(log) if line[:1] + line[2:3] == ['begin', '2']]
  assert sorted(again) == ['0', '1']


def test_work_that_others_have_taken_over_is_given_up(postgres, tmp_path, monkeypatch):
  """A coordinator that was taken for dead: its workers end, what they find is dropped."""
  log = tmp_path / 'log'
  slow = {'secs': 100, 'log': str(log)}
  opening = {'beat_secs': 1, 'silence_secs': 2}
  options = {'storage': postgres, 'budget': 1, 'workers': 1, 'opening': opening}
  one = start(tmp_path, arguments=slow, **options)
  await_line(log, 1)
  one.send_signal(signal.SIGSTOP)
  two = start(tmp_path, **options)
  assert two.wait(timeout=30) == 0
  one.send_signal(signal.SIGCONT)
  error = one.communicate(timeout=20)[1]
  assert one.returncode == 0
  assert 'trial 0 was taken over' in error
  _, trials = read_study(postgres, 'toy')
  assert [t.state.value for t in trials] == ['done']
