"""What a user gives is data: it runs no code, it shows no secret, it opens no door."""

import ast
import contextlib
import json
import os
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optuna
import psycopg
import pytest
import sqlalchemy as sa
import tensorflow_datasets as tfds

from benchmarks.postgres import run_server
from launch import arguments, main
from launch.verbs import sweep
from movinet_jax import data
from movinet_jax.convert import ConversionError, read_arrays
from movinet_jax.data import SourceError, motion
from movinet_jax.train import checkpoint
from movinet_jax.train.optimizers import make_optimizer
from movinet_jax.train.state import make_state
from nas.oneshot.samples import read_samples
from nas.trials.study import open_study, read_study
from tests.nas.trials.toy import SPACE, Climb

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ('movinet_jax', 'nas', 'launch', 'configs', 'benchmarks')
SECRET = 'tr0ub4dor'

# Calls that make objects of bytes, or run them, and what makes one harmless: an argument
# that must be there, or must not, with this value. None: nothing does.
LOADERS = {
  **dict.fromkeys(('pickle', 'dill', 'cloudpickle', 'marshal', 'joblib', 'shelve')),
  **dict.fromkeys(('eval', 'exec', 'compile', '__import__', 'runpy', 'os.system')),
  **dict.fromkeys(('yaml.load', 'yaml.unsafe_load', 'pandas.read_pickle')),
  **dict.fromkeys(('optuna.samplers.CmaEsSampler', 'optuna.storages.JournalStorage')),
  **dict.fromkeys(('jax.experimental.serialize_executable', 'jax.profiler.start_server')),
  'numpy.load': ('allow_pickle', False, 'may be absent'),
  'numpy.lib.format.read_array': ('allow_pickle', False, 'may be absent'),
  'torch.load': ('weights_only', True, 'must be there'),
}
# Who imports by a name that is not written there, and where the name comes from.
IMPORTERS = {
  'movinet_jax/__init__.py': 'what it shows of itself, from a table of its own',
  'movinet_jax/serve/__init__.py': 'what it shows of itself, from a table of its own',
  'movinet_jax/registry.py': 'members of a package, among the files of its folder',
  'nas/trials/worker.py': "the objective, by what the coordinator's code says",
}


def list_sources():
  return [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob('*.py'))]


def find_calls(text: str) -> list[tuple[str, ast.Call]]:
  """All calls with the whole name of what is called: np.load is numpy.load."""
  tree, whole = ast.parse(text), {}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for one in node.names:
        name = one.asname or one.name.partition('.')[0]
        whole[name] = one.name if one.asname else name
    elif isinstance(node, ast.ImportFrom) and not node.level:
      for one in node.names:
        whole[one.asname or one.name] = f'{node.module}.{one.name}'
  found = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Call):
      first, dot, rest = ast.unparse(node.func).partition('.')
      found.append((f'{whole.get(first, first)}{dot}{rest}', node))
  return found


def find_unsafe(text: str) -> list[str]:
  """Calls of LOADERS that nothing makes harmless, and shells."""
  found = []
  for name, call in find_calls(text):
    given = {one.arg: getattr(one.value, 'value', ...) for one in call.keywords}
    if given.get('shell', False) is not False:
      found.append(ast.unparse(call))
    match = [known for known in LOADERS if f'{name}.'.startswith(f'{known}.')]
    if not match or name.endswith('Error'):
      continue
    rule = LOADERS[match[0]]
    absent = rule and rule[2] == 'may be absent' and rule[0] not in given
    positional = rule and len(call.args) > 1
    if not rule or positional or not (absent or given.get(rule[0]) is rule[1]):
      found.append(ast.unparse(call))
  return found


@pytest.mark.parametrize(
  'text',
  [
    'import pickle\npickle.load(file)',
    'import pickle as p\np.Unpickler(file)',
    'from pickle import loads\nloads(text)',
    'import numpy as np\nnp.load(path, allow_pickle=True)',
    'import numpy as np\nnp.load(path, allow_pickle=flag)',
    'import numpy as np\nnp.load(path, None, True)',
    'from numpy import load\nload(path, allow_pickle=True)',
    'import torch\ntorch.load(path)',
    'import torch\ntorch.load(path, weights_only=False)',
    'def f(path):\n  import joblib\n  return joblib.load(path)',
    'eval(text)',
    'import subprocess\nsubprocess.run(text, shell=True)',
    'import optuna\noptuna.samplers.CmaEsSampler()',
  ],
)
def test_calls_that_could_run_what_they_read_are_found(text):
  assert len(find_unsafe(text)) == 1


def test_calls_that_cannot_are_not():
  text = """
import numpy as np, torch, re, importlib
np.load(path); np.load(path, allow_pickle=False); torch.load(path, weights_only=True)
model.eval(); re.compile(text); cache.load(path)
"""
  assert find_unsafe(text) == []


def test_nothing_that_is_read_can_run():
  found = {file: find_unsafe(file.read_text()) for file in list_sources()}
  assert {str(file): calls for file, calls in found.items() if calls} == {}


def test_who_imports_by_name_is_known():
  """A new one is to be looked at: no name may come from a file that a user gives."""
  found = {
    str(file.relative_to(ROOT))
    for file in list_sources()
    for name, _ in find_calls(file.read_text())
    if name == 'importlib.import_module'
  }
  assert found == set(IMPORTERS)


def test_whose_members_are_loaded_by_name_is_written_in_the_code():
  packages = [
    ast.unparse(call.args[0])
    for file in list_sources()
    for name, call in find_calls(file.read_text())
    if name in ('movinet_jax.registry.load_member', 'movinet_jax.registry.load_members')
  ]
  assert len(packages) >= 10
  assert set(packages) == {'__name__', '__package__', 'families.__name__', 'sources.__name__'}


class Exploit:
  """Makes a file, if it is ever unpickled."""

  def __init__(self, sign: pathlib.Path):
    self.sign = sign

  def __reduce__(self):
    return pathlib.Path.touch, (self.sign,)


@pytest.fixture
def sign(tmp_path):
  """A path where nothing may appear."""
  sign = tmp_path / 'sign'
  pickle.loads(pickle.dumps(Exploit(sign)))  # It would work.
  assert sign.exists()
  sign.unlink()
  yield sign
  assert not sign.exists()


def write_archive(path, sign, **arrays):
  """An archive with an array of objects."""
  np.savez(path, **arrays, evil=np.array([Exploit(sign)], object))


def write_pickle(path, sign, **_):
  """A pickle and nothing else, which np.load would take for one if it were let."""
  path.write_bytes(pickle.dumps(Exploit(sign)))


CARRIERS = pytest.mark.parametrize('write', [write_archive, write_pickle])


@CARRIERS
def test_weights(write, sign, tmp_path):
  path = tmp_path / 'weights.npz'
  write(path, sign)
  with pytest.raises(ConversionError, match=r'weights\.npz is damaged, or no \.npz'):
    read_arrays(path)


@pytest.mark.parametrize('suffix', ['pt', 'pth', 'pyth'])
def test_weights_of_pytorch(sign, tmp_path, suffix):
  torch = pytest.importorskip('torch')
  path = tmp_path / f'weights.{suffix}'
  torch.save({'model_state': Exploit(sign)}, path)
  with pytest.raises(ConversionError, match='more than tensors') as error:
    read_arrays(path)
  assert 'weights_only' not in str(error.value)  # PyTorch's advice how to run it


@pytest.mark.parametrize(('version', 'is_safe'), [('2.5.1+cpu', False), ('2.6.0', True)])
def test_pytorch_that_runs_code_in_spite_of_all(version, is_safe, tmp_path, monkeypatch):
  path, asked = tmp_path / 'weights.pt', []
  path.touch()

  def load(path, **options):
    asked.append(options)
    raise pickle.UnpicklingError('rerun with weights_only=False')

  torch = types.SimpleNamespace(__version__=version, load=load)
  monkeypatch.setitem(sys.modules, 'torch', torch)
  wanted = 'more than tensors' if is_safe else 'pip install'
  with pytest.raises(ConversionError, match=wanted) as error:
    read_arrays(path)
  assert asked == [{'map_location': 'cpu', 'weights_only': True}] * is_safe
  assert 'weights_only' not in str(error.value)


class Tiny(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    return nn.BatchNorm(use_running_average=not train)(nn.Dense(2)(x))


def make_tiny():
  variables = Tiny().init(jax.random.key(0), jnp.zeros((1, 3)))
  return make_state(variables, make_optimizer(batch_size=8, total_steps=10))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A folder of checkpoints with one, of step 0, and its recomputed statistics."""
  folder, state = tmp_path_factory.mktemp('run') / 'checkpoints', make_tiny()
  with checkpoint.Checkpointer(folder) as saver:
    saver.save(state, {'labels': ['run', 'jump']})
    saver.add_statistics(0, jax.device_get(state.batch_stats))
  return folder


@pytest.fixture
def copied(saved, tmp_path):
  return pathlib.Path(shutil.copytree(saved, tmp_path / 'checkpoints'))


@CARRIERS
def test_statistics_of_a_checkpoint(write, sign, copied):
  write(copied / '0' / 'statistics.npz', sign)
  with pytest.raises(ValueError, match=r'0/statistics\.npz is damaged'):
    checkpoint.load_variables(copied)


def test_every_other_file_of_a_checkpoint(sign, saved, tmp_path):
  """A pickle in the place of each is never run; most are missed, in a sentence."""
  files = [path.relative_to(saved) for path in saved.rglob('*') if path.is_file()]
  refused = []
  for file in files:
    folder = pathlib.Path(shutil.copytree(saved, tmp_path / 'copy'))
    write_pickle(folder / file, sign)
    for read in (checkpoint.load_variables, restore):
      try:
        read(folder)
      except ValueError as error:
        refused.append((file.name, read.__name__, str(folder) in str(error)))
    shutil.rmtree(folder)
  assert all(named for *_, named in refused)
  for name in ('_METADATA', 'metadata', 'manifest.ocdbt'):
    assert {(name, 'load_variables', True), (name, 'restore', True)} <= {*refused}


def restore(folder):
  with checkpoint.Checkpointer(folder) as reader:
    return reader.restore(make_tiny())


@CARRIERS
def test_samples_of_a_search(write, sign, tmp_path):
  keys = ['steps', 'choices', 'accuracy', 'reward', 'cost', 'policy_steps']
  arrays = {key: np.zeros((1,)) for key in keys}
  path = tmp_path / '00000001.npz'
  write(path, sign, **arrays)
  with pytest.raises(ValueError, match=r'00000001\.npz is damaged, or no samples'):
    read_samples(tmp_path, 1)
  evil = np.array([Exploit(sign)], object)
  np.savez(path, **arrays, probabilities=evil)
  with pytest.raises(ValueError, match='pickle'):
    read_samples(tmp_path, 1)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """A dataset as tfds writes it, of one video."""

  class Videos(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')
    code_path = None

    def _info(self):
      features = {
        'video': tfds.features.Text(),
        'label': tfds.features.ClassLabel(names=['run', 'jump']),
        'name': tfds.features.Text(),
      }
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        metadata=tfds.core.MetadataDict(digests={'train': 'abc'}),
      )

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      yield 'a', {'video': b'film', 'label': 'run', 'name': 'a'}

  builder = Videos(data_dir=tmp_path_factory.mktemp('built'), file_format='array_record')
  builder.download_and_prepare()
  return str(builder.data_path)


@pytest.fixture
def dataset(built, tmp_path):
  return pathlib.Path(shutil.copytree(built, tmp_path / 'dataset'))


def name_class(features, name):
  features['featuresDict']['features']['name']['pythonClassName'] = name


def name_old_class(features, name):
  features.clear()
  features.update(type=name, content={})


def name_inner_class(features, name):
  """Inside a text that tfds reads as JSON once more."""
  inner = json.dumps({'name': {'type': name, 'content': {}}})
  del features['featuresDict']
  features['jsonFeature'] = {'json': inner}


@pytest.mark.parametrize('change', [name_class, name_old_class, name_inner_class])
def test_datasets(change, dataset, sign, tmp_path, monkeypatch):
  """tfds imports the modules that a dataset names."""
  assert len(data.open_source('tfds', directory=str(dataset))) == 1
  code = f'import pathlib\npathlib.Path({str(sign)!r}).touch()\n'
  (tmp_path / f'evil_{change.__name__}.py').write_text(code)
  monkeypatch.syspath_prepend(tmp_path)  # where the user stands, or what is installed
  path = dataset / 'features.json'
  features = json.loads(path.read_text())
  change(features, f'evil_{change.__name__}.Feature')
  path.write_text(json.dumps(features))
  with pytest.raises(SourceError, match=r'features\.json says .*evil_'):
    data.open_source('tfds', directory=str(dataset))


def test_studies(sign, tmp_path):
  """Optuna's CMA-ES keeps a pickle in the database, and runs what it finds there."""
  path = f'sqlite:///{tmp_path}/study.db'
  settings = {'space': SPACE, 'algorithm': Climb(SPACE, budget=3)}
  open_study(path, 'toy', **settings).__exit__()
  study = optuna.load_study(study_name='toy', storage=path)
  evil = pickle.dumps(Exploit(sign)).hex()
  for key in ('cma:optimizer', 'cma:optimizer:0', 'cma:n_restarts'):
    study._storage.set_study_system_attr(study._study_id, key, evil)
  study._storage.remove_session()
  assert read_study(path, 'toy').trials == []
  with open_study(path, 'toy', **settings) as opened:
    assert opened.history == []


@pytest.mark.parametrize('place', ['inside', 'beside'])
def test_a_report_runs_no_code_of_its_workdir(place, sign, tmp_path, capsys, monkeypatch):
  home = tmp_path / 'downloaded'
  home.mkdir()
  monkeypatch.chdir(tmp_path)
  path = home / 'evil.py' if place == 'inside' else tmp_path / 'configs/movinet/folder.py'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f'import pathlib\npathlib.Path({str(sign)!r}).touch()\n')
  recipe = str(path.relative_to(tmp_path))
  (home / 'config.json').write_text(json.dumps({'study': 'a', 'train_with': recipe}))
  assert main.main(['sweep', f'--workdir={home}', '--report']) == 2
  assert f"would run '{recipe}'" in capsys.readouterr().err


def test_a_report_runs_a_recipe_that_its_user_names(tmp_path, monkeypatch):
  given = []
  monkeypatch.setattr(sweep.sweep, 'resolve', given.append)
  monkeypatch.setattr(sweep.study, 'redraw', lambda *_: {'trials': {}, 'facts': {}})
  recipe = '--config.train_with=my/own.py'
  file = '--config=configs/sweep/quickstart.py'
  main.main(['sweep', f'--workdir={tmp_path}', '--report', file, recipe])
  assert given[0]['train_with'] == 'my/own.py'


def test_a_report_takes_no_words_that_it_does_not_know(tmp_path, capsys):
  with pytest.raises(SystemExit):
    main.main(['sweep', f'--workdir={tmp_path}', '--report', f'--database={HOSTILE}'])
  said = capsys.readouterr().err
  assert '--database=' in said
  assert SECRET not in said


HOSTILE = f'postgresql://me:{SECRET}@127.0.0.1:9/nas'


@pytest.mark.parametrize(
  'words',
  [
    [f'--storage={HOSTILE}'],
    ['--storage', HOSTILE],
    [f'--storage=postgresql://127.0.0.1:9/nas?user=me&password={SECRET}'],
    [f'--storage=postgresql://me:a@{SECRET}@127.0.0.1/nas'],
    [f'--storage=postgresql//me:{SECRET}@127.0.0.1/nas'],
    [f'--storage=postgresql://me/me:{SECRET}@127.0.0.1/nas'],
    [f'--storage=host=h password={SECRET}'],
    [f'--storage=mysql://me:{SECRET}@h/nas'],
    [f'--Storage={HOSTILE}'],
    [f'--database={HOSTILE}', '--report'],
    [f'--config.storage={HOSTILE}'],
    [HOSTILE],
  ],
)
def test_a_password_in_a_command_is_refused_and_not_repeated(words, tmp_path, capfd):
  command = [
    'sweep',
    '--config=configs/sweep/quickstart.py',
    f'--workdir={tmp_path}/run',
  ]
  try:
    code = main.main([*command, *words])
  except SystemExit as error:  # argparse's
    code = error.code
  printed = ''.join(capfd.readouterr())
  assert code == 2
  assert SECRET not in printed
  assert len(printed) > 20
  assert not (tmp_path / 'run').exists()


def test_where_a_password_belongs_is_said(capsys, tmp_path):
  main.main(['sweep', f'--workdir={tmp_path}', f'--storage={HOSTILE}', '--report'])
  said = capsys.readouterr().err
  assert 'postgresql://me@127.0.0.1:9/nas' in said
  assert 'PGPASSWORD' in said


def test_errors_of_arguments_keep_the_rest_of_an_address(capsys):
  with pytest.raises(SystemExit):
    arguments.make_parser('sweep', 'Doc.').parse_args([f'--what={HOSTILE}'])
  assert 'postgresql://me:***@127.0.0.1:9/nas' in capsys.readouterr().err


def test_errors_of_arguments_show_no_secret_of_a_stream(capsys):
  with pytest.raises(SystemExit):
    arguments.make_parser('stream', 'Doc.').parse_args(
      ['--sorce=rtsp://cam/user=me&password=S3C', 'http://me:S3C@x/a?S3C', 'rtmp://x/live/S3C']
    )
  said = capsys.readouterr().err
  assert '--sorce=rtsp://cam/user=*** http://me:***@x/a?*** rtmp://x/live/***' in said
  assert 'S3C' not in said


@pytest.fixture
def guarded():
  """The address of a database of which a user needs a password."""
  with run_server() as address:
    with psycopg.connect(address, autocommit=True) as connection:
      connection.execute(f"create role clerk login superuser password '{SECRET}'")
      (path,) = connection.execute('show hba_file').fetchone()
      rules = pathlib.Path(path)
      rule = 'all clerk {}scram-sha-256\n'
      ours = f'local {rule.format("")}host {rule.format("127.0.0.1/32 ")}'
      rules.write_text(ours + rules.read_text())
      connection.execute('select pg_reload_conf()')
    url = sa.make_url(address).set(username='clerk', password=None)
    yield url.render_as_string(hide_password=False)


def test_wrong_and_missing_passwords(guarded, tmp_path, monkeypatch):
  study = {'space': SPACE, 'algorithm': Climb(SPACE, budget=3)}
  wrong = sa.make_url(guarded).set(password=f'{SECRET}-old')
  with pytest.raises(OSError, match='password authentication failed') as error:
    open_study(wrong.render_as_string(hide_password=False), 'toy', **study)
  assert SECRET not in str(error.value)
  with pytest.raises(OSError, match='no password supplied'):
    open_study(guarded, 'toy', **study)
  monkeypatch.setenv('PGPASSWORD', SECRET)
  open_study(guarded, 'toy', **study).__exit__()


def list_family(pid: int) -> list[int]:
  """A process and all that it has started."""
  try:
    path = pathlib.Path(f'/proc/{pid}/task/{pid}/children')
    children = [int(child) for child in path.read_text().split()]
  except OSError:  # It has ended.
    return []
  return [pid, *(each for child in children for each in list_family(child))]


def read_command(pid: int) -> str:
  try:
    return pathlib.Path(f'/proc/{pid}/cmdline').read_text().replace('\0', ' ')
  except OSError:
    return ''


def list_doors(pid: int) -> set[str]:
  """Addresses on which a process accepts TCP connections, as ss writes them."""
  held = set()
  with contextlib.suppress(OSError):  # It may end, or close something, meanwhile.
    for link in os.scandir(f'/proc/{pid}/fd'):
      held.add(os.readlink(link))
  found = set()
  for kind in ('tcp', 'tcp6'):
    for line in pathlib.Path(f'/proc/self/net/{kind}').read_text().splitlines()[1:]:
      _, local, _, state, *_, inode = line.split()[:10]
      if state == '0A' and f'socket:[{inode}]' in held:
        found.add(local.partition(':')[0])
  return found


LOOPBACK = {
  '0100007F',
  '00000000000000000000000001000000',
  '0000000000000000FFFF00000100007F',
}


def dump(address: str) -> str:
  """All that a database holds."""
  found = []
  with psycopg.connect(address) as connection:
    tables = connection.execute(
      "select table_name from information_schema.tables where table_schema = 'public'"
    ).fetchall()
    for (table,) in tables:
      found += connection.execute(f'select t::text from "{table}" t').fetchall()
  assert any('toy-secret' in row for (row,) in found)
  return '\n'.join(row for (row,) in found)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='processes are looked at in /proc')
def test_a_sweep_leaves_no_password_anywhere(guarded, tmp_path, motion_root, monkeypatch):
  """Not on disk, not printed, in no command of its workers, and not in the database."""
  home = tmp_path / 'run'
  small = {
    'study': 'toy-secret',
    'algorithm.budget': 2,
    'algorithm.population': 1,
    'algorithm.tournament': 1,
    'space.resolution': '(16,)',
    'space.frames': '(1,)',
    'space.frame_stride': '(1,)',
    'space.longest_frames': 1,
    'recipe.loop.total_steps': 2,
    'recipe.batch_size': 8,
    'recipe.optimizer.warmup_steps': 1,
    'recipe.precise_norm.batches': 1,
    'recipe.precise_norm.batch_size': 8,
    'latency_repeats': 1,
    'workers': 1,
  }
  command = [
    *(sys.executable, '-m', 'launch.main', 'sweep'),
    '--config=configs/sweep/quickstart.py:evolve',
    f'--workdir={home}',
    f'--storage={guarded}',
    '--config.data.train.name=folder',
    f'--config.data.train.root={motion_root}',
    *(f'--config.{key}={value}' for key, value in small.items()),
  ]
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'PGPASSWORD': SECRET}
  log, commands, doors = tmp_path / 'log', set(), set()
  with log.open('w') as file:
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
  try:
    while process.poll() is None:
      for pid in list_family(process.pid):
        commands.add(read_command(pid))
        doors |= list_doors(pid)
      time.sleep(0.2)
  finally:
    process.kill()
    process.wait()
  assert process.returncode == 0, log.read_text()
  assert any('nas.trials.worker' in line for line in commands)
  assert not any(SECRET in line for line in commands)
  assert doors <= LOOPBACK
  monkeypatch.setenv('PGPASSWORD', SECRET)
  assert SECRET not in dump(guarded)
  files = [log, *(path for path in home.rglob('*') if path.is_file())]
  assert {'config.json', 'found.json', 'report.html'} <= {path.name for path in files}
  for path in files:
    assert SECRET.encode() not in path.read_bytes(), path


@pytest.fixture
def motion_root(tmp_path):
  root = tmp_path / 'motion'
  motion.write_motion(str(root), videos_per_class=8, frames=8, size=24, seed=1)
  return root


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='ports are looked at in /proc')
@pytest.mark.parametrize('tool', ['optuna-dashboard', 'tensorboard'])
def test_the_pages_that_the_documentation_opens_are_of_this_machine(tool, tmp_path):
  program = pathlib.Path(sys.executable).with_name(tool)
  path = f'sqlite:///{tmp_path}/study.db'
  open_study(path, 'toy', space=SPACE, algorithm=Climb(SPACE, budget=3)).__exit__()
  words = [path] if tool == 'optuna-dashboard' else ['--logdir', str(tmp_path)]
  process = subprocess.Popen(
    [str(program), *words, '--port', '0'],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )
  try:
    end, doors = time.monotonic() + 100, set()
    while not doors and time.monotonic() < end:
      assert process.poll() is None
      time.sleep(0.5)
      doors = set().union(*map(list_doors, list_family(process.pid)))
    assert doors
    assert doors <= LOOPBACK
  finally:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_no_command_opens_a_page_to_the_network():
  """Neither in the source nor in what users are told to type."""
  prose = [ROOT / 'README.md', ROOT / 'Makefile', *sorted((ROOT / 'docs').glob('*.md'))]
  wide = re.compile(r'0\.0\.0\.0|--bind_all|INADDR_ANY|--host[= ](?!127|localhost)\S')
  found = {
    path: wide.findall(path.read_text())
    for path in [*prose, *list_sources()]
    if not path.is_relative_to(ROOT / 'launch' / 'pods')
  }
  assert {str(path): words for path, words in found.items() if words} == {}


def test_the_server_of_the_tests_is_of_this_machine():
  with run_server() as address:
    with psycopg.connect(address) as connection:
      (listening,) = connection.execute('show listen_addresses').fetchone()
    assert listening in ('', '127.0.0.1')


def test_a_config_of_a_workdir_that_is_none(tmp_path, sign, capsys):
  write_pickle(tmp_path / 'config.json', sign)
  assert main.main(['sweep', f'--workdir={tmp_path}', '--report']) == 2
  assert 'config.json is not JSON' in capsys.readouterr().err
