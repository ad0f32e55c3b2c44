"""What fits is found, what does not is said, and nothing is written."""

import importlib.util
import json
import os
import shutil

import jax
import pytest

from launch.config import load_config, merge_config
from launch.main import main
from launch.pods.gpus import KINDS
from launch.pods.preflight import apart, checks
from launch.pods.preflight import machine as machines
from launch.pods.preflight.capacity import find_largest
from launch.pods.preflight.findings import Findings
from launch.pods.preflight.machine import Machine
from launch.pods.preflight.program import Compiled
from launch.runs import search as searches
from launch.runs import sweep as sweeps
from launch.runs import training
from launch.runs.kinds import RUNS
from launch.verbs import preflight
from movinet_jax import schema
from movinet_jax.cost import Memory

# A network that compiles in seconds.
SMALL = {
  'model.spec.blocks': (
    {'features': 8, 'stride': 2, 'layers': ({'kernel': (3, 3, 3), 'expand': 16},)},
  ),
  'model.spec.head': 16,
  'model.spec.project': 16,
  'model.spec.stem': 8,
}


def make_compiled(clips, total):
  if total is None:
    return Compiled(clips, 0.0, refusal='Used 9G of 8G hbm.')
  return Compiled(clips, 0.0, memory=Memory(total, 0, 0, 0))


def search(largest, *, grows, start=4.0, compiles=50, limit=1000, known=()):
  """(found, units tried), of a device on which `largest` units fit and no more.

  Args:
    grows: bytes of so many units, None where the compiler refuses.
  """
  tried = []

  def attempt(units):
    tried.append(units)
    assert (grows(units) or limit + 1) <= limit or units > largest
    return make_compiled(units, grows(units))

  known = {n: make_compiled(n, grows(n)) for n in known}
  machine = Machine('', (), limit, 1, here=True)
  return find_largest(attempt, known, machine, compiles, start), tried


@pytest.mark.parametrize('start', [1, 4, 300])
@pytest.mark.parametrize('largest', [0, 1, 2, 7, 37, 256])
def test_the_largest_batch_is_found(largest, start):
  """Where the compiler only says yes or no: bisection."""
  fits = lambda n: 10 if n <= largest else None  # noqa: E731
  found, tried = search(largest, grows=fits, start=start)
  assert found == (largest, largest + 1)
  assert len(tried) == len(set(tried)) <= 20


def test_memory_that_grows_along_a_line_is_cut_at_the_limit():
  found, tried = search(48, grows=lambda n: 40 + 20 * n, known=[4])
  assert found == (48, 49)
  assert len(tried) <= 4
  # A device that is as good as full: no further program is compiled.
  found, tried = search(49, grows=lambda n: 20 * n, known=[49])
  assert (found, tried) == ((49, 50), [])


def test_compiles_are_bounded():
  found, tried = search(10**9, grows=lambda n: 10, known=[4], compiles=3)
  assert len(tried) == 3
  assert found == (max(tried), None)
  # Without a known limit nothing is sought.
  assert search(9, grows=lambda n: 10, known=[4], limit=None)[1] == []


def test_sizes_stay_in_proportion():
  cfg = {'batch_size': 256, 'policy_batch_size': 1024, 'candidates': 16}
  assert searches.resize(cfg, 32) == {**cfg, 'batch_size': 32, 'policy_batch_size': 128}
  assert training.resize({'batch_size': 8}, 24) == {'batch_size': 24}


def test_a_command_that_cannot_be_checked_is_an_error(capsys):
  for argv, said in (
    (['--', 'stream', '--config=x'], "unknown verb whose step can be checked 'stream'"),
    (['--'], 'no command after --'),
    ([], 'say which command to check, after --'),
    (['--', 'train', '--config=configs/movinet/quickstar.py'], 'no config file'),
    (
      ['--topology=v5e:3x3', '--', 'train', '--config=configs/movinet/quickstart.py'],
      'v5e:3x3',
    ),
  ):
    assert main(['preflight', *argv]) == 2
    assert said in capsys.readouterr().err


def test_without_a_compiler_for_tpus_it_is_said_how_to_get_one(monkeypatch, capsys):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  argv = ['--topology=v5e:2x2', '--', 'train', '--config=configs/movinet/quickstart.py']
  assert main(['preflight', *argv]) == 2
  assert "pip install 'jax[tpu]'" in capsys.readouterr().err
  argv[0] = '--topology=h100:8'
  assert main(['preflight', *argv]) == 2
  assert "pip install 'jax[cuda13]'" in capsys.readouterr().err


@pytest.mark.parametrize(
  ('command', 'classes'),
  [
    ('train --config=configs/movinet/kinetics600.py:a0', 600),
    ('train --config=configs/movinet/folder.py', None),
    ('search --config=configs/search/movinet.py', 600),
    ('search --config=configs/search/quickstart.py', None),
    ('sweep --config=configs/sweep/x3d.py', 400),
    ('sweep --config=configs/sweep/quickstart.py', None),
    ('train --config=configs/movinet/kinetics600.py:a0 --config.data.classes.count=100', 100),
    ("train --config=configs/movinet/folder.py --config.data.classes.names=('a','b')", 2),
    ('search --config=configs/search/movinet.py --config.data.classes.count=100', 100),
    ('sweep --config=configs/sweep/x3d.py --config.data.classes.count=100', 100),
  ],
)
def test_without_data_the_recipe_says_how_many_classes_there_are(command, classes):
  read = preflight.read_command(command.split())
  kind = RUNS[read.verb]
  assert kind.count_classes(schema.build(kind.Config, read.config, '')) == classes
  if kind is sweeps and 'classes' not in command:  # which may change its recipe
    config = {**read.config, 'recipe': {'model': {'num_classes': 7}}}
    assert kind.count_classes(schema.build(kind.Config, config, '')) == 7


def test_a_workdir_that_cannot_be_written_does_not_pass(tmp_path):
  report = Findings(quiet=True)
  (tmp_path / 'file').write_text('')
  (tmp_path / 'sweep').mkdir()
  (tmp_path / 'sweep' / 'config.json').write_text('{"study": "a"}')
  for workdir, ok in (
    (str(tmp_path / 'a' / 'b'), True),
    (str(tmp_path / 'file' / 'b'), False),
    (str(tmp_path / 'sweep'), False),
    ('', None),
  ):
    checks._check_workdir(checks.Command('train', {}, workdir), report)
    assert report.rows[-1]['ok'] is ok, report.rows[-1]
  assert 'movinet sweep' in report.rows[-2]['said']
  assert not report.ok
  assert sorted(os.listdir(tmp_path)) == ['file', 'sweep']


def test_all_steps_of_a_search_are_built():
  read = load_config('configs/search/tsnet.py:quickstart').to_dict()
  names, here = list(read['steps']), Machine('', jax.devices(), 1000, 1, here=True)
  report = Findings(quiet=True)
  checks._tell_steps(read, 4, here, report)
  assert report.rows[0]['ok']
  assert all(name in report.rows[0]['said'] for name in names)
  read['steps'][names[0]]['batch_size'] = 64
  checks._tell_steps(read, 4, here, report)
  assert report.rows[1]['ok'] is None
  assert f'not {names[0]}' in report.rows[1]['said']
  read['steps'][names[0]]['searched'] = ('nothing/*',)
  with pytest.raises(ValueError, match='nothing'):
    checks._tell_steps(read, 4, here, report)
  whole = load_config('configs/search/quickstart.py').to_dict()
  checks._tell_steps(whole, 4, here, report)
  assert len(report.rows) == 2


PAIR = 'configs/movinet/quickstart.py:pair'


def choose_members(config, only=''):
  """The members whose steps are compiled, and the row that says so."""
  report = Findings(quiet=True)
  here = Machine('', jax.devices(), None, 1, here=True)
  chosen = checks.choose_members(config, only, 4, here, report)
  return list(chosen), report.rows[-1]['said']


def test_members_of_an_ensemble_are_compiled_where_they_differ():
  config = load_config(PAIR).to_dict()
  assert choose_members(config) == (['member0'], 'member0, member1; compiled is member0 for both')
  assert choose_members(config, 'member1')[0] == ['member1']
  for change in (
    {'batch_size': 8},
    {'clip': {'train': {'size': 16}}},
    {'model': {'spec': {'head': 16}}},
    {'optimizer': {'name': 'sgd'}},
  ):
    changed = load_config(PAIR).to_dict()
    own = changed['members']['member0']['config']
    changed['members']['member0']['config'] = merge_config({**config, **own}, change)
    changed['members']['member0']['config'].pop('members')
    chosen, said = choose_members(changed)
    assert chosen == ['member0', 'member1'], change
    assert said == 'member0, member1; compiled are member0, member1'
  chosen, said = choose_members(changed, 'member0')
  assert (chosen, said) == (['member0'], 'member0, member1; compiled is member0')


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    ('--member=7', "unknown member of this ensemble 'member7'"),
    ('--config.members.member1.config.clip.eval.stride=3', 'got stride=3'),
    ('--config.members.member1.config.model.dtype=float99', 'float99'),
    ('--config.members.member1.stride=4', 'stride=4'),
  ],
)
def test_what_a_training_of_an_ensemble_refuses_does_not_pass(given, said, capsys):
  assert main(['preflight', '--classes=4', '--', 'train', f'--config={PAIR}', given]) == 2
  printed = capsys.readouterr().out
  (line,) = [line for line in printed.splitlines() if said in line]
  assert line.startswith('✗')
  assert 'It will not run' in printed


def test_the_classes_of_members_are_compared_where_the_data_is(motion_videos, tmp_path):
  root = tmp_path / 'videos'
  shutil.copytree(motion_videos, root)
  for folder in root.glob('*/down'):
    folder.rename(folder.with_name('other'))
  config = load_config(PAIR).to_dict()
  for split in ('train', 'eval'):
    config['data'][split]['root'] = motion_videos
  here = Machine('', jax.devices(), None, 1, here=True)
  own = {split: {'root': str(root)} for split in ('train', 'eval')}
  config['members']['member1']['config']['data'] = own
  with pytest.raises(ValueError, match='the same classes'):
    checks.choose_members(config, '', 4, here, Findings(quiet=True), data_here=True)


def test_a_member_is_for_ensembles():
  with pytest.raises(ValueError, match='no members'):
    checks._find_member(checks.Command('train', {}, '', '1'))
  read = preflight.read_command(['train', f'--config={PAIR}', '--member=1'])
  assert checks._find_member(read) == 'member1'


def test_rows_of_a_part_are_named(capsys):
  whole = Findings()
  part = whole.name_part('member1')
  part.add('memory', 'too little', ok=False, total_bytes=3)
  assert not whole.ok
  assert whole.rows == [
    {'name': 'memory', 'part': 'member1', 'ok': False, 'said': 'too little', 'total_bytes': 3}
  ]
  assert 'member1: too little' in capsys.readouterr().out


def test_of_a_slice_the_compiler_says_what_fits():
  slice_ = Machine('', (), 1000, 1, here=False, topology='v5e:4x4', refuses=True)
  gpus = Machine('', (), 1000, 1, here=False, topology='h100:8')
  here = Machine('', (), 1000, 1, here=True)
  assert make_compiled(1, 1001).fits(slice_)
  for machine in (gpus, here):
    assert make_compiled(1, 1000).fits(machine)
    assert not make_compiled(1, 1001).fits(machine)
  assert not any(make_compiled(1, None).fits(one) for one in (slice_, gpus, here))


ABORT = (
  'F1128 19:50:29.134224    6707 triton_tiling_propagation.cc:703] Check failed: '
  'subdim_size_accumulator == dim_size (3136 vs. 112) \n*** Check failure stack trace: ***'
)


@pytest.mark.parametrize(
  ('end', 'said'),
  [
    (f'sys.stderr.write({ABORT!r}); sys.stderr.flush(); os.abort()', 'dim_size (3136 vs. 112)'),
    ('os.abort()', 'SIGABRT'),
    ('os.kill(os.getpid(), 9)', 'memory of this host'),
  ],
)
def test_a_compiler_that_aborts_is_a_finding(end, said, monkeypatch, capsys):
  monkeypatch.setattr(apart, '_CODE', f'import os, sys; {end}')
  gpus = Machine('h100:1', jax.devices()[:1], 1 << 40, 1, here=False, topology='h100:1')
  monkeypatch.setattr(preflight, 'find_machine', lambda topology: gpus)
  argv = ['preflight', '--topology=h100:1', '--classes=4', '--json', '--', 'train']
  assert main([*argv, f'--config={PAIR}', '--member=0']) == 2
  found = json.loads(capsys.readouterr().out)
  rows = {row['name']: row for row in found['rows']}
  assert rows['compiler']['ok'] is False
  assert said in rows['compiler']['said']
  assert ('triton_gemm=false' in rows['compiler']['said']) is ('tiling' in end)
  assert 'memory' not in rows
  assert rows['largest batch']['ok'] is None  # not sought


def test_an_error_of_our_own_is_none_of_the_compiler(monkeypatch):
  monkeypatch.setattr(apart, '_CODE', 'raise ValueError("no such thing")')
  with pytest.raises(ChildProcessError, match='no such thing'):
    apart.compile_apart(apart.Step('train', {}, 4, 'h100:1', 1), 8)


def test_jax_takes_a_part_of_the_memory_of_a_gpu(monkeypatch):
  monkeypatch.setattr(machines, 'find_devices', lambda chips: [None] * chips.chips)
  monkeypatch.delenv('XLA_CLIENT_MEM_FRACTION', raising=False)
  monkeypatch.delenv('XLA_PYTHON_CLIENT_MEM_FRACTION', raising=False)
  whole = KINDS['h100'].memory_bytes
  assert machines.find_machine('h100:8').memory_bytes == int(0.75 * whole)
  monkeypatch.setenv('XLA_CLIENT_MEM_FRACTION', '.9')
  assert machines.find_machine('h100:8').memory_bytes == int(0.9 * whole)


@pytest.mark.slow
def test_a_run_of_this_machine(train_command, tmp_path, capsys):
  command = train_command(tmp_path / 'run', **SMALL)
  assert main(['preflight', '--compiles=1', '--json', '--', *command]) == 0
  found = json.loads(capsys.readouterr().out)
  rows = {row['name']: row for row in found['rows']}
  assert found['ok']
  assert found['largest'] == 8 == rows['config and batch']['clips']
  memory = rows['of which']
  sizes = [memory[key] for key in ('arguments', 'outputs', 'temporaries', 'code')]
  assert rows['memory']['total_bytes'] == sum(sizes)
  # Donated: what comes out is but the metrics.
  assert memory['outputs'] < 4096 < memory['arguments']
  assert rows['a step']['step_secs'] > 0
  assert rows['input']['rate'] > 0
  assert rows['data']['ok']
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_what_does_not_fit_is_told(train_command, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(machines, '_find_memory', lambda device: 1 << 16)
  command = train_command(tmp_path / 'run', **SMALL, **{'data.train.root': str(tmp_path)})
  argv = ['preflight', '--compiles=2', '--classes=4', '--', *command]
  assert main(argv) == 2
  said = capsys.readouterr()
  assert '✗ memory' in said.out
  assert '✗ data' in said.out
  assert 'clips a step: does not fit' in said.err
  assert 'is too large: take smaller clips' in said.out
  assert 'It will not run' in said.out


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason="libtpu is not installed: pip install 'jax[tpu]' (Linux on x86-64)",
)
def test_a_run_of_a_slice_that_is_not_here(train_command, tmp_path, capsys):
  command = train_command(tmp_path / 'run', **SMALL, batch_size=32)
  argv = ['preflight', '--topology=v5e:4x4', '--compiles=1', '--json', '--', *command]
  assert main(argv) == 0
  rows = {row['name']: row for row in json.loads(capsys.readouterr().out)['rows']}
  assert rows['config and batch']['shares'] == 16
  assert rows['between devices']['all-reduce'] > 0
  assert '15.8 GiB' in rows['memory']['said']
  # What 16 chips cannot share, and what 4 hosts would.
  command = train_command(tmp_path / 'run', **SMALL, batch_size=24)
  assert main([*argv[:4], '--', *command]) == 2
  said = json.loads(capsys.readouterr().out)['rows'][-1]
  assert 'take 16 or 32' in said['said']


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('jax_cuda13_plugin') is None,
  reason="jax_cuda13_plugin is not installed: pip install 'jax[cuda13]' (Linux)",
)
def test_a_run_of_gpus_that_are_not_here(train_command, tmp_path, capsys):
  command = train_command(tmp_path / 'run', **SMALL, batch_size=32)
  argv = ['preflight', '--topology=h100:16', '--compiles=1', '--json', '--', *command]
  assert main(argv) == 0
  rows = {row['name']: row for row in json.loads(capsys.readouterr().out)['rows']}
  assert rows['config and batch']['shares'] == 16
  assert rows['between devices']['all-reduce'] > 0
  assert '59.3 GiB' in rows['memory']['said']  # 75 % of what an H100 has
  assert 0 < rows['memory']['total_bytes'] < 1 << 30
