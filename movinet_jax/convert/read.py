"""Files of named arrays: TensorFlow checkpoints and NumPy archives."""

import pathlib
import zipfile

import numpy as np

from movinet_jax.convert.report import ConversionError


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Reads all arrays of a file by name.

  Args:
    path: an `.npz` archive, or the prefix of a TensorFlow checkpoint ('…/ckpt-1', whose
      files are '…/ckpt-1.index' and '…/ckpt-1.data-00000-of-00001'), or its folder.

  Raises:
    FileNotFoundError: neither is there.
    ConversionError: the file is not such an archive.
  """
  path = pathlib.Path(path)
  if path.suffix == '.npz':
    try:
      with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile) as error:
      raise ConversionError(f'{path} is not an .npz archive: {error}') from error
  if path.is_dir():
    path = _find_prefix(path)
  if not path.with_name(f'{path.name}.index').is_file():
    raise FileNotFoundError(
      f'no weights at {path}: expected an .npz file, or a TensorFlow checkpoint prefix '
      f'such as DIR/ckpt-1 with DIR/ckpt-1.index beside it'
    )
  return _read_tensorflow(str(path))


def _find_prefix(folder):
  found = sorted(folder.glob('*.index'))
  if len(found) != 1:
    raise FileNotFoundError(
      f'{folder} holds {len(found)} TensorFlow checkpoints: name one by its prefix, '
      f'such as {folder / "ckpt-1"}'
    )
  return found[0].with_suffix('')


def _read_tensorflow(prefix):
  import tensorflow as tf

  reader = tf.train.load_checkpoint(prefix)
  dtypes = reader.get_variable_to_dtype_map()
  # The object graph is the one entry that is text.
  return {k: reader.get_tensor(k) for k, d in dtypes.items() if d != tf.string}
