"""Any legal path works for every verb, or is refused before anything is computed."""

import os
import pathlib

import jax.numpy as jnp
import pytest
from flax import struct

from launch import main
from launch.runs.study import STUDY, make_storage
from movinet_jax.paths import check_writable, find_local, plain_name
from movinet_jax.train.checkpoint import Checkpointer, load_variables
from nas.trials.database import Database, parse_address, show_address

# Letters that mean something to a shell, a URL, a pattern, a template or a format.
NAMES = (
  *('a b', 'lr[0.1]', 'a?b', 'a*b', 'a#b', 'a%20b', '100%', '{x}', 'a}', "it's", 'say "x"'),
  *('a:b', 'a@b', 'u:p@h', 'ünï', '日本', 'back\\slash', '$HOME', '&x', 'a;b', '-x', '.x'),
  *('x=y', 'a,b', '(x)', '<x>', '~x', 'gs:', ' lead', 'trail ', '[a-z]', 'a\\', '!x', '`x`'),
)


@struct.dataclass
class State:
  step: jnp.ndarray
  params: dict
  ema: dict


@pytest.mark.parametrize('name', NAMES)
def test_checkpoints_are_read_wherever_they_are_written(name, tmp_path):
  weights = {'a': jnp.arange(4.0)}
  state = State(jnp.int32(1), weights, {'params': weights})
  folder = tmp_path / name / 'checkpoints'
  with Checkpointer(folder) as saver:
    saver.save(state, {})
    saver.wait()
    assert saver.restore(state)[1]['step'] == 1
  assert load_variables(folder)[0]['params']['a'].tolist() == [0, 1, 2, 3]
  assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_pattern_in_a_name_takes_nothing_from_another_folder(tmp_path):
  """`a?c` as a pattern also fits `abc`, whose arrays would be merged into its own."""
  for name, value in (('abc', 1.0), ('a?c', 2.0)):
    weights = {'a': jnp.full(4, value)}
    with Checkpointer(tmp_path / name) as saver:
      saver.save(State(jnp.int32(1), weights, {'params': weights}), {})
  for name, value in (('abc', 1.0), ('a?c', 2.0)):
    assert load_variables(tmp_path / name)[0]['params']['a'].tolist() == [value] * 4


def test_only_names_that_are_misread_get_a_link(tmp_path):
  with plain_name(tmp_path / 'a b') as place:
    assert place == tmp_path / 'a b'
  with plain_name(tmp_path / 'a[0]' / 'checkpoints') as place:
    assert place.is_symlink()
    assert os.readlink(place) == str(tmp_path / 'a[0]' / 'checkpoints')
  assert not place.is_symlink()


# In addresses of databases, and in Optuna's templates of them.
@pytest.mark.parametrize('name', [name for name in NAMES if set(name) & set('?#%{}@:')])
def test_a_study_lies_in_its_workdir(name, tmp_path):
  home = tmp_path / name
  home.mkdir()
  storage = make_storage(home)
  Database(storage, alone=True).close()
  assert (home / STUDY).is_file()
  assert sorted(path.name for path in tmp_path.iterdir()) == [name]
  # What is printed for optuna-dashboard, which reads it as an address, names the same file.
  assert parse_address(show_address(parse_address(storage))).database == str(home / STUDY)


@pytest.mark.parametrize(
  'text', ['gs://b/x', 's3://b', 'az://c/x', 'https://h/x', 'hdfs://h/x', 'x+y://z', 'gs:/b']
)
def test_what_is_not_of_this_machine_says_to_mount_it(text):
  with pytest.raises(ValueError, match='mount') as error:
    find_local(text)
  assert text in str(error.value)


def test_a_file_has_no_address():
  with pytest.raises(ValueError, match='give the path alone'):
    find_local('file:///x')
  assert find_local('run:/a') == 'run:/a'  # a folder may be called so


@pytest.mark.parametrize('text', ['a\nb', 'a\x07', os.fsdecode(b'\xff'), 'a\x7f'])
def test_a_name_that_cannot_be_shown_is_refused(text):
  with pytest.raises(ValueError, match='cannot be printed') as error:
    find_local(text)
  assert str(error.value).isprintable()


def test_a_tilde_is_home(monkeypatch):
  monkeypatch.setenv('HOME', '/somewhere')
  assert find_local('~') == '/somewhere'
  assert find_local('~/runs/a') == '/somewhere/runs/a'
  assert find_local('./~') == './~'
  assert find_local('a~b') == 'a~b'
  with pytest.raises(ValueError, match='home of no-such-user'):
    find_local('~no-such-user/x')


def test_a_folder_that_is_called_like_a_bucket_is_one(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('gs:/b').mkdir(parents=True)
  assert find_local('gs:/b') == 'gs:/b'
  with pytest.raises(ValueError, match='mount'):
    find_local('gs://b')  # though an earlier mistake may have made this folder


def test_a_file_that_could_not_be_written_is_known_before(tmp_path):
  check_writable(tmp_path / 'new')
  assert not (tmp_path / 'new').exists()
  (tmp_path / 'old').write_text('kept')
  check_writable(tmp_path / 'old')
  assert (tmp_path / 'old').read_text() == 'kept'
  for path, error in (('old/x', NotADirectoryError), ('no/x', FileNotFoundError)):
    with pytest.raises(error):
      check_writable(tmp_path / path)
  with pytest.raises(IsADirectoryError):
    check_writable(tmp_path)
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(OSError, match='is a pipe or a device'):
    check_writable(tmp_path / 'pipe')


@pytest.mark.slow
def test_a_run_goes_on_and_is_evaluated_there(train_command, tmp_path, capsys):
  name = 'lr[0.1] ?*#%20{b}\\c'
  folder = tmp_path / name
  command = train_command(folder, **{'loop.total_steps': 2})
  assert main.main(command) == 0
  assert main.main(command) == 0
  assert 'All 2 steps' in capsys.readouterr().out
  assert main.main(['evaluate', f'--checkpoint={folder}', '--which=best']) == 0
  assert (folder / 'evaluation-clip-2.json').is_file()
  assert list((folder / 'tensorboard').iterdir())
  assert sorted(path.name for path in tmp_path.iterdir()) == [name]
