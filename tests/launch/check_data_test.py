"""The verb check-data."""

import pathlib
import shutil

import pytest

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
