"""Files of arrays, and what is none."""

import pathlib
import shutil

import numpy as np
import pytest

from movinet_jax.convert import ConversionError, read_arrays

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'movinet' / 'ckpt_tiny_base_3d'


@pytest.fixture
def checkpoint(tmp_path):
  """Prefix of a checkpoint that may be damaged."""
  for path in GOLDEN.glob('ckpt-1.*'):
    (tmp_path / path.name).write_bytes(path.read_bytes())
  return tmp_path / 'ckpt-1'


def cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0xFF
  path.write_bytes(data)


def empty(path):
  path.write_bytes(b'')


DAMAGES = pytest.mark.parametrize('damage', [cut, alter, empty])


def test_checkpoints_by_prefix_index_and_folder():
  by_prefix = read_arrays(GOLDEN / 'ckpt-1')
  for path in GOLDEN / 'ckpt-1.index', str(GOLDEN):
    assert by_prefix.keys() == read_arrays(path).keys()
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


@pytest.mark.parametrize('name', ['ckpt-2', 'ckpt-2.index', 'weights.h5'])
def test_paths_where_nothing_is(name):
  with pytest.raises(FileNotFoundError, match=r'no weights at .*expected an \.npz'):
    read_arrays(GOLDEN / name)


def test_a_missing_archive(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'nowhere\.npz'):
    read_arrays(tmp_path / 'nowhere.npz')


@DAMAGES
def test_a_damaged_index_is_named(checkpoint, damage):
  damage(checkpoint.with_name('ckpt-1.index'))
  with pytest.raises(ConversionError, match=r'/ckpt-1\.index is damaged'):
    read_arrays(checkpoint)


@pytest.mark.parametrize('damage', [cut, alter, empty, pathlib.Path.unlink])
def test_damaged_or_lost_data_are_named(checkpoint, damage):
  damage(checkpoint.with_name('ckpt-1.data-00000-of-00001'))
  with pytest.raises(ConversionError, match=r'/ckpt-1\.data-\* is missing or damaged: model/'):
    read_arrays(checkpoint)


@DAMAGES
@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_a_damaged_archive_is_named(tmp_path, save, damage):
  path = tmp_path / 'weights.npz'
  save(path, weights=np.random.default_rng(0).random(1000))
  assert read_arrays(path)['weights'].shape == (1000,)
  damage(path)
  with pytest.raises(ConversionError, match=r'weights\.npz is damaged'):
    read_arrays(path)


def test_one_array_is_no_archive(tmp_path):
  path = tmp_path / 'weights.npz'
  with path.open('wb') as file:
    np.save(file, np.ones(3))
  with pytest.raises(ConversionError, match=r'no \.npz archive'):
    read_arrays(path)


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
