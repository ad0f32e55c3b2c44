"""Files of arrays, and what is none."""

import pathlib
import shutil

import numpy as np
import pytest

from movinet_jax.convert import read_arrays

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'movinet' / 'ckpt_tiny_base_3d'


def test_checkpoints_by_prefix_and_by_folder():
  by_prefix = read_arrays(GOLDEN / 'ckpt-1')
  by_folder = read_arrays(str(GOLDEN))
  assert by_prefix.keys() == by_folder.keys()
  assert any('_stem/_conv/kernel' in key for key in by_prefix)
  assert all(array.dtype != object for array in by_prefix.values())


def test_a_folder_of_two_checkpoints_needs_a_choice(tmp_path):
  for name in ('ckpt-1', 'ckpt-2'):
    shutil.copy(GOLDEN / 'ckpt-1.index', tmp_path / f'{name}.index')
  with pytest.raises(FileNotFoundError, match='holds 2 TensorFlow checkpoints'):
    read_arrays(tmp_path)


def test_an_empty_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds 0 TensorFlow checkpoints'):
    read_arrays(tmp_path)


@pytest.mark.parametrize('name', ['ckpt-2', 'ckpt-1.index', 'weights.h5'])
def test_paths_where_nothing_is(name):
  with pytest.raises(FileNotFoundError, match=r'no weights at .*expected an \.npz'):
    read_arrays(GOLDEN / name)


def test_a_missing_archive(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'nowhere\.npz'):
    read_arrays(tmp_path / 'nowhere.npz')


class Bomb:
  def __reduce__(self):
    return print, ('unpickled',)


def test_pickles_are_not_opened(tmp_path, capsys):
  """An archive of objects would run code of whoever wrote it."""
  path = tmp_path / 'weights.npz'
  np.savez(path, weights=np.array([Bomb()], dtype=object))
  with pytest.raises(ValueError, match='allow_pickle'):
    read_arrays(path)
  assert 'unpickled' not in capsys.readouterr().out
