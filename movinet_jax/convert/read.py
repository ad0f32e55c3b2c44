"""Files of named arrays: TensorFlow and PyTorch checkpoints, and NumPy archives."""

import contextlib
import os
import pathlib
import pickle
import tempfile
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from movinet_jax.convert.report import ConversionError

# What reading an archive raises that is cut short, altered, or something else.
_DAMAGED = (
  ValueError,
  EOFError,
  OSError,
  RuntimeError,
  zipfile.BadZipFile,
  zlib.error,
)

ABOUT = 'about'  # the entry of an `.npz` that is no array; see archive.py

_TORCH = ('.pt', '.pth', '.pyth')
# Before this a file could run code even if only weights were asked for (CVE-2025-32434).
_SAFE_TORCH = (2, 6)


def exists(path: str | pathlib.Path) -> bool:
  """Whether there is a file or folder, or a TensorFlow checkpoint of this prefix."""
  return os.path.exists(path) or os.path.exists(f'{path}.index')


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Reads all arrays of a file by name.

  Args:
    path: an `.npz` archive, a PyTorch file of a state dict, or a TensorFlow checkpoint: its
      prefix ('…/ckpt-1', whose files are '…/ckpt-1.index' and
      '…/ckpt-1.data-00000-of-00001'), its index file, or its folder.

  Raises:
    FileNotFoundError: neither is there.
    ConversionError: a file is damaged, or not of that kind.
  """
  path = pathlib.Path(path)
  if path.suffix == '.npz':
    return _read_numpy(path)
  if path.suffix in _TORCH:
    return _read_torch(path)
  prefix = _find_prefix(path)
  with _plain_prefix(prefix) as place:
    return _read_tensorflow(prefix, place)


def _read_torch(path):
  """Tensors only: nothing else of a pickle is built, so a file cannot run code."""
  try:
    import torch
  except ImportError as error:
    raise ConversionError(
      f'{path} is a PyTorch file, for which PyTorch is needed: pip install torch'
    ) from error
  version = tuple(int(part) for part in torch.__version__.split('.')[:2])
  if version < _SAFE_TORCH:
    raise ConversionError(
      f'PyTorch {torch.__version__} may run code that is in {path}: pip install "torch>=2.6"'
    )
  if not path.is_file():
    raise FileNotFoundError(f'no weights at {path}')
  try:
    found = torch.load(path, map_location='cpu', weights_only=True)
  except pickle.UnpicklingError as error:
    # PyTorch's own words go on to advise how to run what is in the file.
    raise ConversionError(
      f'{path} is damaged, or holds more than tensors, which could run code and is not '
      'read: where you trust it, save its state_dict() alone'
    ) from error
  except _DAMAGED as error:
    raise ConversionError(f'{path} is damaged, or no PyTorch file: {error}') from error
  for name in ('model_state', 'state_dict', 'model'):  # what zoos wrap weights in
    if isinstance(found, dict) and isinstance(found.get(name), dict):
      found = found[name]
  if not isinstance(found, dict):
    raise ConversionError(f'{path} holds no state dict, but a {type(found).__name__}')
  tensors = {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}
  return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def _find_prefix(path):
  if path.is_dir():
    found = sorted(path.glob('*.index'))
    if len(found) != 1:
      raise FileNotFoundError(
        f'{path} holds {len(found)} TensorFlow checkpoints: name one by its prefix, '
        f'such as {path / "ckpt-1"}'
      )
    path = found[0]
  if path.suffix == '.index':  # What a shell completes a prefix to.
    path = path.with_suffix('')
  if not path.with_name(f'{path.name}.index').is_file():
    raise FileNotFoundError(
      f'no weights at {path}: expected an .npz file, or a TensorFlow checkpoint prefix '
      f'such as DIR/ckpt-1 with DIR/ckpt-1.index beside it'
    )
  return path


def read_text(path: pathlib.Path, entry: str) -> str | None:
  """An entry of an `.npz` that is text; None where there is none.

  Raises: as `read_arrays`.
  """
  with _open_numpy(path) as archive:
    name = f'{entry}.npy'
    return str(_read_member(archive, name)) if name in archive.namelist() else None


def _read_numpy(path):
  with _open_numpy(path) as archive:
    names = [name for name in archive.namelist() if name != f'{ABOUT}.npy']
    return {name.removesuffix('.npy'): _read_member(archive, name) for name in names}


@contextlib.contextmanager
def _open_numpy(path) -> Iterator[zipfile.ZipFile]:
  with path.open('rb') as file:
    try:
      yield zipfile.ZipFile(file)
    except _DAMAGED as error:
      raise ConversionError(f'{path} is damaged, or no .npz archive of arrays: {error}') from error


def _read_member(archive, name):
  with archive.open(name) as file:
    return np.lib.format.read_array(file, allow_pickle=False)


@contextlib.contextmanager
def _plain_prefix(prefix: pathlib.Path) -> Iterator[pathlib.Path]:
  """The prefix by links to its files: TensorFlow takes the letters *?[ of a path for a pattern."""
  with tempfile.TemporaryDirectory(prefix='movinet-') as home:
    for path in prefix.absolute().parent.iterdir():
      if path.name.startswith(f'{prefix.name}.'):
        (pathlib.Path(home) / f'ckpt{path.name.removeprefix(prefix.name)}').symlink_to(path)
    yield pathlib.Path(home) / 'ckpt'


def _read_tensorflow(prefix, place):
  import tensorflow as tf

  try:
    reader = tf.train.load_checkpoint(str(place))
  except tf.errors.OpError as error:
    raise ConversionError(
      f'{prefix}.index is damaged, or no index of a TensorFlow checkpoint: {error}'
    ) from error
  arrays = {}
  for key, dtype in reader.get_variable_to_dtype_map().items():
    if dtype == tf.string:  # The object graph is the one entry that is text.
      continue
    try:
      arrays[key] = reader.get_tensor(key)
    except (tf.errors.OpError, IndexError) as error:  # IndexError: cut short.
      raise ConversionError(
        f'{prefix}.data-* is missing or damaged: {key} cannot be read: {error}'
      ) from error
  return arrays
