"""The verb check-data."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from launch.verbs import check_data

VIDEOS = pathlib.Path(__file__).parent.parent / 'fixtures' / 'videos'


@pytest.fixture
def root(tmp_path):
  for name, place in (('h265.mp4', 'a/x.mp4'), ('h264_10bit.mp4', 'b/y.mp4')):
    (tmp_path / 'train' / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(VIDEOS / name, tmp_path / 'train' / place)
  (tmp_path / 'train' / 'b' / 'z.mp4').write_text('no video')
  return tmp_path


def test_folder(root, monkeypatch, capsys):
  monkeypatch.chdir(root)
  assert check_data.main([str(root), '--split', 'train', '--workers', '1']) == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[-1] for line in lines[:4]] == ['3', '0', '2', '1']
  assert 'b/z.mp4' in (root / 'check-train.csv').read_text()
  assert lines[-1] == 'manifest: check-train.csv'
  assert check_data.main([str(root), '--split', 'train', '--strict']) == 65


def test_table(root, capsys):
  (root / 'all.csv').write_text('a/x.mp4,one\nb/z.mp4,two\n')
  manifest = str(root / 'bad.csv')
  arguments = [str(root / 'all.csv'), '--root', str(root / 'train')]
  assert check_data.main([*arguments, '--manifest', manifest, '--workers', '1']) == 0
  assert 'b/z.mp4' in capsys.readouterr().out


def test_strict_with_good_files_only(root):
  (root / 'good.csv').write_text('a/x.mp4,one\n')
  arguments = [str(root / 'good.csv'), '--root', str(root / 'train'), '--strict']
  assert check_data.main([*arguments, '--manifest', str(root / 'good-m.csv')]) == 0


def test_errors_and_help(root, capsys):
  assert check_data.main([str(root), '--split', 'trian']) == 2
  assert "did you mean 'train'" in capsys.readouterr().err
  with pytest.raises(SystemExit):
    check_data.main(['--help'])
  out = capsys.readouterr().out
  assert 'movinet check-data videos --split train' in out
  assert '65 with --strict' in out


def test_pictures(root, tmp_path, capsys):
  for number in range(1, 4):
    path = tmp_path / 'pictures' / 'walk' / 'clip' / f'{number}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (16, 16)).save(path)
  home, manifest = str(tmp_path / 'pictures'), str(tmp_path / 'm.csv')
  assert check_data.main([home, '--fps', '5', '--manifest', manifest, '--strict']) == 0
  assert check_data.main([home, '--manifest', manifest]) == 2
  assert "name='frames' with fps=RATE" in capsys.readouterr().err
  assert check_data.main([home, '--root', home]) == 2
  assert '--root' in capsys.readouterr().err


def test_files_that_are_not_taken_are_told_of(root, capsys):
  (root / 'train' / 'a' / 'y.foo').write_bytes(b'x')
  arguments = [str(root), '--split', 'train', '--manifest', str(root / 'm.csv')]
  assert check_data.main(arguments) == 0
  assert 'Note: 1 of 4 files' in capsys.readouterr().err


@pytest.mark.parametrize('encoding', ['ascii:strict', 'utf-8:strict'])
def test_any_name_is_printed(root, encoding):
  home = os.fsencode(root / 'train' / 'b')
  for name in (b'caf\xe9.mp4', b'a\rb.mp4', 'caf\xe9.mp4'.encode()):
    with open(home + b'/' + name, 'wb') as file:
      file.write(b'x')
  (root / 'train' / 'a' / '日本.foo').write_bytes(b'x')
  command = [sys.executable, '-m', 'launch.main', 'check-data', str(root), '--split', 'train']
  env = {**os.environ, 'PYTHONIOENCODING': encoding, 'PYTHONPATH': os.getcwd()}
  ended = subprocess.run(
    [*command, '--manifest', str(root / 'm.csv')], env=env, capture_output=True, timeout=120
  )
  assert ended.returncode == 0, ended.stderr
  assert rb'b/caf\xe9.mp4' in ended.stdout
  assert rb'b/a\rb.mp4' in ended.stdout
  assert b'Note: 1 of 7 files' in ended.stderr
