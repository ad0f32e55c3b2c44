"""The command finds its verbs and answers errors with words and codes."""

import errno
import io
import os
import pathlib
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from launch import errors, main, verbs
from launch.verbs import find_verb, list_verbs
from movinet_jax.data import SourceError, TooManyFailures, WorkerDied
from movinet_jax.train.loop import NonFiniteLoss, Preempted
from nas.trials.pool import WorkersDied


def test_help_lists_every_verb(capsys):
  assert main.main(['--help']) == 0
  printed = capsys.readouterr().out
  verbs = list_verbs()
  assert {'train', 'evaluate', 'stream', 'check-data', 'build-data'} <= set(verbs)
  assert all(f'  {verb} ' in printed for verb in verbs)


@pytest.mark.parametrize('verb', sorted(list_verbs()))
def test_every_verb_has_help_with_an_example(verb, capsys):
  with pytest.raises(SystemExit) as stop:
    main.main([verb, '--help'])
  assert stop.value.code == 0
  assert f'movinet {verb} ' in capsys.readouterr().out


@pytest.mark.parametrize('errors', ['strict', 'surrogateescape', 'replace'])
def test_output_of_any_encoding_takes_any_text(errors, monkeypatch):
  monkeypatch.setattr(verbs, 'find_verb', lambda _: SimpleNamespace(main=print))
  stream = io.TextIOWrapper(io.BytesIO(), 'ascii', errors)
  monkeypatch.setattr(sys, 'stdout', stream)
  main.main(['train', 'é\udce9'])
  stream.flush()
  printed = stream.buffer.getvalue()
  assert printed == (b"['\\xe9\\udce9']\n" if errors != 'replace' else b"['?\\udce9']\n")


def test_a_wrong_verb_names_the_nearest(capsys):
  assert main.main(['trian']) == 2
  assert "did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize(
  ('error', 'code'),
  [
    (Preempted(3), 75),
    (WorkerDied('killed'), 75),
    (WorkersDied('5 times'), 69),
    (NonFiniteLoss(3, ['a.mp4'], None), 70),
    (TooManyFailures('a.mp4'), 65),
    (SourceError('no folder'), 2),
    (ValueError('bad'), 2),
    (MemoryError(), 2),
    (FileNotFoundError('gone'), 2),
    (OSError(errno.ENOSPC, 'disk full'), 74),
    (OSError(errno.ESTALE, 'stale file handle'), 75),
    (BlockingIOError(errno.EAGAIN, 'another run'), 75),
    (PermissionError(errno.EACCES, 'permission denied'), 2),
    (AssertionError('ours'), None),
  ],
)
def test_exit_codes(error, code):
  assert errors.find_exit_code(error) == code


@pytest.mark.parametrize(
  ('number', 'advice'),
  [
    (errno.ENOSPC, 'make room, then'),
    (errno.EIO, 'when it answers again,'),
    (errno.EAGAIN, 'when it has ended,'),
    (errno.EACCES, 'see to its permissions, then'),
  ],
)
def test_errors_of_disks_say_what_to_do(number, advice):
  said = errors.explain(OSError(number, os.strerror(number), '/runs/a'))
  what = f"[Errno {number}] {os.strerror(number)}: '/runs/a'"
  assert said == f'{what}: {advice} the same command goes on'


def test_version(capsys):
  assert main.main(['--version']) == 0
  assert capsys.readouterr().out.startswith('movinet 0.')


@pytest.mark.parametrize(('error', 'code'), [(KeyboardInterrupt, 130), (ValueError, 2)])
def test_a_verb_that_stops_says_so(error, code, monkeypatch, capsys):
  from launch.verbs import cost

  def stop(argv):
    raise error('here')

  monkeypatch.setattr(cost, 'main', stop)
  assert main.main(['cost']) == code
  assert capsys.readouterr().err.startswith('movinet cost: ')


def test_a_reader_that_leaves_one_of_several_processes_ends_all(monkeypatch, capfd):
  """An ordinary end would wait for the others, which wait in a collective for it."""
  from launch.verbs import cost

  def write(argv):
    raise BrokenPipeError

  codes = []
  monkeypatch.setattr(cost, 'main', write)
  monkeypatch.setattr(main.cluster, 'abandon', codes.append)
  monkeypatch.setattr(main.os, 'dup2', lambda *pair: None)
  assert main.main(['cost']) == 141
  assert codes == [141]


def test_a_reader_that_leaves_is_not_success():
  # `true` has gone long before the verb has counted anything.
  verb = f'{sys.executable} -m launch.main cost movinet/a0 --layers'
  command = ['bash', '-c', f'{verb} | true; exit ${{PIPESTATUS[0]}}']
  assert subprocess.run(command).returncode == 141


@pytest.mark.skipif(sys.platform != 'linux', reason='a setting of glibc')
def test_the_command_uses_huge_pages():
  code = 'import os, sys; from launch import main; main.use_huge_pages(); '
  code += "print(os.getpid(), os.environ['GLIBC_TUNABLES'], sys.argv[1:])"
  run = subprocess.Popen([sys.executable, '-c', code, 'a b'], stdout=subprocess.PIPE)
  printed = run.communicate()[0].decode()
  assert printed.split(maxsplit=2) == [*(str(run.pid), 'glibc.malloc.hugetlb=1', "['a b']\n")]


@pytest.mark.parametrize(
  ('closed', 'verb', 'code'),
  [('>&-', '--version', 0), ('2>&-', 'trian', 2), ('<&- >&- 2>&-', '--version', 0)],
)
def test_a_daemon_may_have_closed_its_streams(closed, verb, code):
  command = f'{sys.executable} -m launch.main {verb} {closed}'
  assert subprocess.run(['bash', '-c', command]).returncode == code


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='there is no /dev/full')
@pytest.mark.parametrize(('full', 'verb', 'code'), [('>', '--version', 74), ('2>', 'trian', 2)])
def test_where_lines_go_may_be_full(full, verb, code):
  command = f'{sys.executable} -m launch.main {verb} {full} /dev/full'
  assert subprocess.run(['bash', '-c', command]).returncode == code


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path):
  code = 'from launch import main; main._open_streams(); file = open("out", "w"); print("lost")'
  subprocess.run(
    ['bash', '-c', f"exec {sys.executable} -c '{code}' >&-"],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
    check=True,
  )
  assert (tmp_path / 'out').read_text() == ''


def test_help_does_without_documentation(monkeypatch, capsys):
  """As under `python -OO`, which keeps none."""
  for verb in list_verbs():
    monkeypatch.setattr(find_verb(verb), '__doc__', None)
  assert main.main(['--help']) == 0
  assert '  train' in capsys.readouterr().out.splitlines()
  with pytest.raises(SystemExit):
    main.main(['train', '--help'])
  assert '--workdir' in capsys.readouterr().out


def test_the_cache_is_never_at_the_root(monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  monkeypatch.setenv('XDG_CACHE_HOME', '')
  main._set_environment()
  assert os.environ['JAX_COMPILATION_CACHE_DIR'] == os.path.expanduser('~/.cache/movinet-jax')


def test_the_current_folder_hides_no_module_from_what_is_started(monkeypatch, tmp_path):
  monkeypatch.delenv('PYTHONPATH', raising=False)
  monkeypatch.delenv('PYTHONSAFEPATH', raising=False)
  main._set_environment()
  (tmp_path / 'nas').mkdir()
  for name in ('nas/__init__', 'queue', 'random', 'selectors'):
    (tmp_path / f'{name}.py').write_text(f'raise RuntimeError("{name} of the current folder")')
  # As workers of a sweep are started, and those that decode videos.
  for command in (['-m', 'nas.trials.worker'], ['-c', 'import queue, random, selectors, nas']):
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    assert 'of the current folder' not in done.stderr
  assert done.returncode == 0, done.stderr


def test_the_docs_have_one_table_of_exit_codes():
  docs = pathlib.Path(__file__).parents[2] / 'docs'
  rows = [f'| {int(c)} | {c.meaning} | {c.remedy} |' for c in errors.ExitCode]
  assert set(rows) <= set((docs / 'reliability.md').read_text().splitlines())
  tables = [p.name for p in docs.glob('*.md') if re.search(r'^\| 75 \|', p.read_text(), re.M)]
  assert tables == ['reliability.md']
