"""The command finds its verbs and answers errors with words and codes."""

import errno
import os
import pathlib
import re
import subprocess
import sys

import pytest

from launch import errors, main
from launch.verbs import list_verbs
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


def test_the_docs_have_one_table_of_exit_codes():
  docs = pathlib.Path(__file__).parents[2] / 'docs'
  rows = [f'| {int(c)} | {c.meaning} | {c.remedy} |' for c in errors.ExitCode]
  assert set(rows) <= set((docs / 'reliability.md').read_text().splitlines())
  tables = [p.name for p in docs.glob('*.md') if re.search(r'^\| 75 \|', p.read_text(), re.M)]
  assert tables == ['reliability.md']
