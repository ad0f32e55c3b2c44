"""Times of a sweep's networks are all of one machine, or they decide nothing."""

import json

import pytest

from launch import config, devices
from launch.runs import latencies, study, sweep, trial
from movinet_jax import models
from nas import machine, runtime
from nas.history import State, Trial
from nas.trials.outcome import Refused
from nas.trials.pool import WorkersDied

TWO_CORES = {'device': 'EPYC', 'jax': '0.10.2', 'jaxlib': '0.10.2', 'cores': 2}
ELSEWHERE = {
  'one core': ({'cores': 1}, 'cores 2, now 1'),
  'another device': ({'device': 'H100'}, 'device EPYC, now H100'),
  'another jax': ({'jax': '0.11.0'}, 'jax 0.10.2, now 0.11.0'),
  'another jaxlib': ({'jaxlib': '0.11.0'}, 'jaxlib 0.10.2, now 0.11.0'),
  'flags': ({'XLA_FLAGS': '--xla_a=1'}, 'XLA_FLAGS unknown, now --xla_a=1'),
}


@pytest.fixture
def move(monkeypatch):
  """Moves this process to another machine, where networks take twice as long each time."""
  measured = []

  def measure(model, **options):
    measured.append(model)
    return runtime.Latency(1000 * 2 ** len(measured), 0.1)

  monkeypatch.setattr(runtime, 'measure_latency', measure)

  def go(**changed):
    monkeypatch.setattr(machine, 'describe', lambda: {**TWO_CORES, **changed})
    return measured

  go()
  return go


def make_model(frames):
  return models.create('movinet/a0', frames=frames, resolution=16, num_classes=2)


@pytest.mark.parametrize('name', ELSEWHERE)
def test_a_network_that_was_not_measured_on_the_first_machine_has_no_latency(
  name, move, tmp_path, capsys
):
  changed, said = ELSEWHERE[name]
  measured, first, second = move(), make_model(1), make_model(2)
  latencies.prepare(tmp_path, decides=False)
  known = latencies.measure(first, tmp_path, 1, None)
  assert (known['latency_ns'], known['latency_noise']) == (2000, 0.1)
  move(**changed)
  latencies.prepare(tmp_path, decides=False)
  assert latencies.measure(first, tmp_path, 1, None) == known
  assert capsys.readouterr().err.count(said) == 1
  assert latencies.measure(second, tmp_path, 1, None) == {}
  assert said in capsys.readouterr().err
  assert len(measured) == 1
  move()
  assert latencies.measure(second, tmp_path, 1, None)['latency_on'] == known['latency_on']
  assert len(measured) == 2


@pytest.mark.parametrize('name', ELSEWHERE)
def test_another_machine_is_refused_where_times_decide(name, move, tmp_path):
  changed, said = ELSEWHERE[name]
  measured = move()
  latencies.check(tmp_path, TWO_CORES)
  assert not list(tmp_path.iterdir())
  latencies.prepare(tmp_path, decides=True)  # nothing is measured yet: the machine is settled
  move(**changed)
  for refuse in (
    lambda: latencies.prepare(tmp_path, decides=True),
    lambda: latencies.check(tmp_path, machine.describe()),
    lambda: latencies.measure(make_model(1), tmp_path, 1, 1e9),
  ):
    with pytest.raises(Refused) as caught:
      refuse()
    assert said in str(caught.value)
    assert 'limits.latency_ns' in str(caught.value)
    assert '\n' not in str(caught.value)
  assert not measured


def test_times_of_an_earlier_version_are_of_an_unknown_machine(move, tmp_path):
  folder = tmp_path / 'latency'
  folder.mkdir()
  row = {'device': 'EPYC, 2 cores', 'latency': {'ns': 5, 'noise': 0.1}, 'spec': {}}
  (folder / 'ab12.json').write_text(json.dumps(row))
  with pytest.raises(Refused, match=r'cores unknown, now 2; device EPYC, 2 cores, now EPYC'):
    latencies.prepare(tmp_path, decides=True)
  assert latencies.measure(make_model(1), tmp_path, 1, None) == {}


def test_a_damaged_machine_is_named(move, tmp_path):
  latencies.prepare(tmp_path, decides=True)
  (path,) = tmp_path.glob('latency/machine.json')
  path.write_text('{"device"')
  with pytest.raises(ValueError, match=r'machine\.json is damaged'):
    latencies.prepare(tmp_path, decides=True)


def test_reports_compare_times_of_one_machine(capsys):
  def make(number, **metrics):
    return Trial(number, [0], state=State.DONE, value=0.5, metrics={'macs': 7, **metrics})

  times = {'latency_ns': 5, 'latency_noise': 0.1}
  trials = [
    make(0),
    make(1, **times, latency_on='a'),
    make(2, **times, latency_on='b'),
    make(3, **times, latency_on='a'),
    make(4, **times),  # of an earlier version
  ]
  kept = latencies.keep_one_machine(trials)
  assert [sorted(one.metrics) for one in kept] == [
    ['macs'],
    *[['latency_noise', 'latency_ns', 'latency_on', 'macs'], ['macs']] * 2,
  ]
  assert '2 of 4 latencies' in capsys.readouterr().err
  alike = [trials[0], trials[4]]
  assert latencies.keep_one_machine(alike) == alike
  assert capsys.readouterr().err == ''


def test_a_worker_tells_what_it_measures_on(monkeypatch):
  cores = devices.make_environments(2)[0][devices.CORES]
  told = latencies.describe_worker({devices.CORES: cores})
  assert told == {**machine.describe(), 'cores': len(cores.split(','))}
  with pytest.raises(WorkersDied, match='nonsense'):
    latencies.describe_worker({'JAX_PLATFORMS': 'nonsense'})


@pytest.fixture
def cfg(motion_videos):
  """A sweep in which times decide."""
  given = config.load_config('configs/sweep/quickstart.py:evolve').to_dict()
  place = {'name': 'folder', 'root': motion_videos, 'split': 'train'}
  return {**given, 'data': {'train': place}, 'limits': {'latency_ns': 1e9}}


def test_a_worker_elsewhere_begins_no_trial(cfg, move, tmp_path):
  trial.make_objective(cfg, str(tmp_path))
  move(cores=1)
  with pytest.raises(Refused, match='cores 2, now 1'):
    trial.make_objective(cfg, str(tmp_path))
  trial.make_objective({**cfg, 'limits': {}}, str(tmp_path))


def test_a_study_goes_on_on_no_other_machine(cfg, move, tmp_path, monkeypatch):
  """Nor where workdirs are the machines' own."""
  begun = []
  monkeypatch.setattr(latencies, 'describe_worker', lambda _: machine.describe())
  monkeypatch.setattr(study, 'coordinate', lambda *_, **__: begun.append(1))
  resolved, storage = sweep.resolve(cfg), f'sqlite:///{tmp_path}/study.db'
  study.run(resolved, tmp_path / 'a', storage, workers=1)
  study.run(resolved, tmp_path / 'b', storage, workers=1)
  move(cores=1)
  with pytest.raises(ValueError, match=r'latency_on\.cores: was 2, now 1'):
    study.run(resolved, tmp_path / 'c', storage, workers=2)
  assert len(begun) == 2
  (tmp_path / 'a' / 'latency').mkdir()
  (tmp_path / 'a' / 'latency' / 'machine.json').write_text(json.dumps(TWO_CORES))
  with pytest.raises(Refused, match='cores 2, now 1'):
    study.run(resolved, tmp_path / 'a', storage, workers=2)
  assert len(begun) == 2
