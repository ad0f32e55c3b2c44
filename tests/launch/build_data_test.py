"""The verb build-data."""

import importlib
import pathlib
import shutil
import sys

import pytest

from launch.verbs import build_data
from movinet_jax.data import builders, open_source

VIDEOS = pathlib.Path(__file__).parent.parent / 'fixtures' / 'videos'


def test_motion(tmp_path, capsys):
  out = str(tmp_path / 'motion')
  arguments = ['motion', '--out', out, '--videos-per-class', '2', '--size', '16']
  assert build_data.main([*arguments, '--classes', 'left,up']) == 0
  assert '6 videos' in capsys.readouterr().out
  assert open_source('folder', root=out, split='train').labels == ('left', 'up')
  assert build_data.main([*arguments, '--classes', 'left,upp']) == 2
  assert "did you mean 'up'" in capsys.readouterr().err


def test_kinetics(tmp_path, capsys):
  (tmp_path / 'csv').mkdir()
  (tmp_path / 'csv' / 'train.csv').write_text(
    'label,youtube_id,time_start,time_end,split\nx,-aaaaaaaaaa,0,1,train\ny,bbbbbbbbbbb,0,1,train\n'
  )
  (tmp_path / 'videos').mkdir()
  shutil.copy(VIDEOS / 'h264_10bit.mp4', tmp_path / 'videos' / '-aaaaaaaaaa_000000_000001.mp4')
  arguments = ['kinetics', '--annotations', str(tmp_path / 'csv')]
  arguments += ['--videos', str(tmp_path / 'videos'), '--out', str(tmp_path / 'out')]
  arguments += ['--version', '400', '--short-side', '64', '--workers', '1']
  for _ in range(2):  # the second time it is there
    assert build_data.main(arguments) == 0
    out = capsys.readouterr().out
    assert '1 classes without a training clip' in out
    train = next(line for line in out.splitlines() if line.startswith('train'))
    assert train.split() == ['train', '2', '1', '1', '0', '1']
  source = open_source('tfds', directory=str(tmp_path / 'out/kinetics/400/1.0.0'))
  assert len(source) == 1


def test_wrong_version_is_refused_at_once(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, 'movinet_jax.data.kinetics', None)  # not imported
  arguments = ['kinetics', '--version', '500', '--annotations', 'a', '--videos', 'v']
  with pytest.raises(SystemExit) as stopped:
    build_data.main([*arguments, '--out', str(tmp_path / 'out')])
  assert stopped.value.code == 2
  assert "invalid choice: '500'" in capsys.readouterr().err


BUILDER = """
import os

from movinet_jax.data import motion

SUMMARY = 'one video a class'
DESCRIPTION = 'Makes one video a class.'
EXAMPLE = 'movinet build-data planted --out x'


def add_arguments(parser):
  parser.add_argument('--out', required=True)
  parser.add_argument('--frames', type=int, default=2)


def build(arguments):
  videos = motion.write_motion(
    arguments.out, videos_per_class=1, frames=arguments.frames, size=16, splits=(('train', 1.0),)
  )
  yield f'{videos} videos'
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
  (tmp_path / 'planted.py').write_text(BUILDER)
  monkeypatch.setattr(builders, '__path__', [*builders.__path__, str(tmp_path)])
  importlib.invalidate_caches()
  yield
  sys.modules.pop(f'{builders.__name__}.planted', None)


@pytest.mark.usefixtures('planted')
def test_a_builder_is_one_file_in_the_folder(tmp_path, capsys):
  out = str(tmp_path / 'videos')
  assert build_data.main(['planted', '--out', out]) == 0
  assert capsys.readouterr().out == '4 videos\n'
  assert len(open_source('folder', root=out, split='train')) == 4
  assert build_data.main(['planted', '--out', out, '--frames', '3']) == 2
  assert out in capsys.readouterr().err
  with pytest.raises(SystemExit):
    build_data.main(['--help'])
  shown = capsys.readouterr().out
  assert 'one video a class' in shown
  assert 'movinet build-data planted --out x' in shown


def test_help(capsys):
  with pytest.raises(SystemExit):
    build_data.main(['--help'])
  assert 'movinet build-data motion --out data/motion' in capsys.readouterr().out
