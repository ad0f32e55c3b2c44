"""`movinet latency` measures a space once, and a search takes its times."""

import json
import pathlib

import pytest

from launch import devices, main
from launch.config import load_config
from launch.runs import search
from launch.verbs import latency
from movinet_jax import export
from movinet_jax.models import movinet
from movinet_jax.train.workdir import ConfigMismatch, claim_workdir
from nas import machine, runtime

CONFIG = """
from configs.search import quickstart


def get_config():
  cfg = quickstart.get_config()
  cfg.space.update(
    stem=8, widths=(8,), strides=(2,), depth=2, project=8, head=8, resolution=16,
    kernels=((3, 1, 1),), expansions=(1.0, 2.0), multipliers=(1.0,),
  )
  cfg.search.target = 4e5
  return cfg
"""


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
  """(config, file of times)."""
  folder = tmp_path_factory.mktemp('latency')
  config, out = folder / 'small.py', folder / 'times.jsonl'
  config.write_text(CONFIG)
  options = ['--num-classes=4', '--check=1']
  assert latency.main([f'--config={config}', f'--out={out}', *options]) == 0
  return config, out


def test_a_space_is_measured_once(measured, capsys):
  config, out = measured
  before = out.read_text()
  assert len(before.splitlines()) == 1 + 6  # a head line; stem, head, layers
  measure = [f'--config={config}', f'--out={out}', '--num-classes=4', '--check=0']
  assert latency.main(measure) == 0
  assert out.read_text() == before
  assert '6 of 6 parts are measured already' in capsys.readouterr().out


def test_a_kill_loses_one_part_at_most(measured, tmp_path, capsys):
  config, out = measured
  lines = out.read_text().splitlines(keepends=True)
  again = tmp_path / 'times.jsonl'
  again.write_text(''.join(lines[:4]) + lines[4][:10])
  measure = [f'--config={config}', f'--out={again}', '--num-classes=4', '--check=0']
  assert latency.main(measure) == 0
  assert '3 of 6 parts are measured already' in capsys.readouterr().out


def make_search(config, num_classes=4, **given):
  cfg = load_config(str(config)).to_dict()
  # What one of its networks takes, whatever this machine's times are.
  lines = pathlib.Path(given['latency']).read_text().splitlines()[1:]
  times = {row['part'].split()[0]: row['ns'] for row in map(json.loads, lines)}
  first = max(row['ns'] for row in map(json.loads, lines) if ' /2 ' in row['part'])
  middle = times['stem'] + times['head'] + first
  cfg['search'].update(**{'cost': 'latency_ns', 'target': middle, **given})
  return search.resolve(cfg, num_classes=num_classes)


def test_a_search_takes_the_times(measured):
  config, out = measured
  rows = map(json.loads, out.read_text().splitlines()[1:])
  times = {row['part']: row['ns'] for row in rows}
  most = sum(ns for part, ns in times.items() if not part.startswith('layer'))
  most += max(ns for part, ns in times.items() if '/2' in part)
  most += max(0, *(ns for part, ns in times.items() if '/1' in part))
  found = make_search(config, latency=str(out), target=most)
  assert found.objective.cost.bounds[1] == most
  assert found.aim.cost == 'latency_ns'


def test_a_search_knows_its_times_again(measured, tmp_path):
  """Whatever the file is called; but not with a time changed."""
  config, out = measured
  first = make_search(config, latency=str(out)).latency
  assert first['about']['frames'] == 1
  other = tmp_path / 'other.jsonl'
  head, *rest = out.read_text().splitlines()
  other.write_text('\n'.join([head, *reversed(rest)]))
  assert make_search(config, latency=str(other)).latency == first
  row = json.loads(rest[0])
  rest[0] = json.dumps({**row, 'ns': row['ns'] + 1})
  other.write_text('\n'.join([head, *rest]))
  assert make_search(config, latency=str(other)).latency['digest'] != first['digest']


def test_only_a_search_that_began_with_them_takes_times_of_an_earlier_version(measured, tmp_path):
  config, out = measured
  now = make_search(config, latency=str(out)).latency
  head, *rest = map(json.loads, out.read_text().splitlines())
  about = {key: value for key, value in head['about'].items() if key not in ('cores', 'jaxlib')}
  lines = [{'version': 1, 'about': about}, *({k: row[k] for k in ('part', 'ns')} for row in rest)]
  old = tmp_path / 'old.jsonl'
  old.write_text('\n'.join(map(json.dumps, lines)) + '\n')
  found = make_search(config, latency=str(old))
  assert found.latency['digest'] == now['digest']  # by which it knows them again
  with pytest.raises(ValueError, match=r'version 1, .* cores .*measure again'):
    search.run(found, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('given', 'classes', 'message'),
  [
    ({'target': 1.0}, 4, 'search.target is 1 latency_ns, but networks of this space'),
    ({}, 5, 'times of other networks: num_classes was 4, is now 5'),
  ],
)
def test_times_that_do_not_fit(given, classes, message, measured):
  config, out = measured
  with pytest.raises(ValueError, match=message):
    make_search(config, classes, latency=str(out), **given)


@pytest.mark.parametrize(
  ('key', 'value'), [('cores', 96), ('device', 'i386'), ('jax', '0.9'), ('jaxlib', '0.9')]
)
def test_another_machine_s_file_is_left_alone(key, value, measured, capsys, monkeypatch):
  config, out = measured
  before, was = out.read_text(), machine.describe()
  monkeypatch.setattr(machine, 'describe', lambda: {**was, key: value})
  assert main.main(['latency', f'--config={config}', f'--out={out}', '--num-classes=4']) == 2
  (line,) = capsys.readouterr().err.splitlines()[-1:]
  assert f'{key} {was[key]}, now {value}' in line
  assert str(out) in line
  assert out.read_text() == before


@pytest.fixture(scope='module')
def exported(measured, tmp_path_factory):
  """The command that measures in LiteRT, and its file of times."""
  config, _ = measured
  out = tmp_path_factory.mktemp('exported') / 'times.jsonl'
  options = ['--num-classes=4', '--runtime=litert', '--threads=1']
  command = [f'--config={config}', f'--out={out}', *options]
  assert latency.main([*command, '--check=1']) == 0
  return command, out


def test_a_search_takes_the_times_of_another_runtime(measured, exported):
  (config, own), (_, out) = measured, exported
  found, other = (make_search(config, latency=str(path)) for path in (out, own))
  about = found.claim['latency']['about']
  assert about['runtime'].startswith('ai-edge-litert ')
  assert about['threads'] == 1
  assert 'runtime' not in other.claim['latency']['about']
  rows = [json.loads(line) for line in out.read_text().splitlines()[1:]]
  first = sum(row['ns'] for row in rows if row['part'].startswith(('stem', 'head')))
  first += min(row['ns'] for row in rows if ' /2 ' in row['part'])
  assert found.costs['latency_ns'].bounds[0] == first
  claim_workdir(out.parent / 'run', other.claim)
  with pytest.raises(ConfigMismatch, match=r'latency\.about\.runtime'):
    claim_workdir(out.parent / 'run', found.claim, free=search.FREE)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--threads=2'], 'threads 1, now 2'),
    (['--runtime=onnxruntime'], 'runtime ai-edge-litert'),
    (['--runtime=jax'], 'runtime ai-edge-litert'),
    (['--batch=2'], 'batch 1, now 2'),
    (['--threads=4096'], '--threads=4096: this process may use'),
    (['--dtype=bfloat16'], '--dtype=bfloat16: exported files compute in float32'),
  ],
)
def test_times_of_two_runtimes_do_not_mix(options, message, exported, capsys, monkeypatch):
  command, out = exported
  monkeypatch.setattr(devices, 'limit_cores', lambda count, option: None)
  monkeypatch.setattr(machine, 'count_cores', lambda: 2)
  head, before = json.loads(out.read_text().splitlines()[0]), out.read_text()
  monkeypatch.setattr(machine, 'describe', lambda: {**head['about'], 'runtime': None})
  assert main.main(['latency', *command, *options]) == 2
  assert message in capsys.readouterr().err.splitlines()[-1]
  assert out.read_text() == before


def test_jax_keeps_to_its_threads(measured, tmp_path, monkeypatch):
  config, _ = measured
  kept = []
  monkeypatch.setattr(devices, 'limit_cores', lambda *given: kept.append(given))
  monkeypatch.setattr(runtime, 'measure_ns', lambda *given: 7)
  out = tmp_path / 'times.jsonl'
  assert latency.main([f'--config={config}', f'--out={out}', '--threads=1', '--check=0']) == 0
  assert kept == [(1, '--threads')]


def test_a_part_that_cannot_be_exported_is_named(exported, tmp_path, capsys, monkeypatch):
  def refuse(module, *given):
    if isinstance(module, movinet.Bottleneck):
      raise export.ExportError('Bottleneck/expand has the primitive sort')
    return plan(module, *given)

  plan, (command, _) = export.plan_part, exported
  monkeypatch.setattr(export, 'plan_part', refuse)
  assert main.main(['latency', *command, f'--out={tmp_path / "times.jsonl"}']) == 2
  (line,) = capsys.readouterr().err.splitlines()[-1:]
  assert 'layer 8>8 3x1x1:8 se /2 at 8x8: Bottleneck/expand has the primitive sort' in line


def test_a_search_goes_on_with_no_times_of_another_machine(measured, tmp_path, monkeypatch):
  config, out = measured
  claim = make_search(config, latency=str(out)).claim
  assert claim['latency']['about'].items() >= machine.describe().items()
  claim_workdir(tmp_path / 'run', claim)
  assert claim_workdir(tmp_path / 'run', claim)  # with its own it does
  lines = out.read_text().splitlines()
  head = json.loads(lines[0])
  head['about']['cores'] += 1
  digest = machine.make_digest(head['about'])
  rows = [{**json.loads(line), 'about': digest} for line in lines[1:]]
  other = tmp_path / 'other.jsonl'
  other.write_text('\n'.join(map(json.dumps, [head, *rows])))
  cores = head['about']['cores']
  changed = make_search(config, latency=str(other)).claim
  with pytest.raises(ConfigMismatch, match=rf'latency.about.cores: was {cores - 1}, now {cores}'):
    claim_workdir(tmp_path / 'run', changed, free=search.FREE)
