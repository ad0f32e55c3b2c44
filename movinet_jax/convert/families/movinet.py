"""Names of MoViNet variables in TensorFlow checkpoints (TensorFlow Model Garden).

Two layouts are in use: `model/layer_with_weights-0/layer_with_weights-k/…` for the
backbone, or `backbone/layer_with_weights-k/…` when the backbone was saved beside the
model. (2+1)D networks wrap each convolution once more and may name its kernel
`depthwise_kernel`. All of that is dropped, so one canonical name stands for each variable:
`backbone/k/_expansion/_conv/kernel`, `head/_classifier/_conv/bias`.
"""

import re
from collections.abc import Mapping

import numpy as np

from movinet_jax.convert.report import ConversionError

KIND = 'tensorflow'
_SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'
_PARTS = {
  'stem': '_stem',
  'expand': '_expansion',
  'depthwise': '_feature',
  'temporal': '_feature',
  'skip': '_skip/_projection',
  'rezero': '_mobile_bottleneck/_rezero',
}
_NORM = {
  'scale': 'gamma',
  'bias': 'beta',
  'mean': 'moving_mean',
  'var': 'moving_variance',
}
_BACKBONE = re.compile(r'^(?:model/layer_with_weights-0|backbone)/layer_with_weights-(\d+)/(.*)$')
_KERNEL = re.compile(r'kernel(/\.ATTRIBUTES/VARIABLE_VALUE)?$')
_HEAD = re.compile(r'^(?:model/)?layer_with_weights-1/(_(?:head|classifier)/.*)$')


def find_name(key: str) -> str | None:
  """Makes a checkpoint key canonical; None if it is no weight of a MoViNet."""
  key = key.removeprefix('var/').removesuffix(_SUFFIX)
  if match := _BACKBONE.match(key):
    key = f'backbone/{match[1]}/{match[2]}'
  elif match := _HEAD.match(key):
    key = f'head/{match[1]}'
  else:
    return None
  key = key.replace('/_conv/_conv/', '/_conv/')
  key = key.replace('/_conv_temporal/_conv/', '/_conv_temporal/')
  return key.replace('/depthwise_kernel', '/kernel')


def make_names(paths: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
  """The canonical name of each variable path ('params', 'stem', 'conv', 'kernel')."""
  blocks = sorted({p[1] for p in paths if p[1].startswith('block')}, key=_order)
  numbers = {'stem': 0, 'project': len(blocks) + 1}
  numbers |= {name: i for i, name in enumerate(blocks, 1)}
  return {path: _name(path, numbers) for path in paths}


def _order(block: str) -> tuple[int, ...]:
  return tuple(map(int, re.findall(r'\d+', block)))


def _name(path, numbers):
  _, part, *rest = path
  if part in ('hidden', 'classifier'):
    return f'head/_{"head" if part == "hidden" else part}/_conv/{rest[-1]}'
  name = f'backbone/{numbers[part]}/'
  if part in ('stem', 'project'):
    rest = [part, *rest]
  return name + _name_in_block(rest, in_head=part == 'project')


def _name_in_block(path, in_head):
  part, *_, leaf = path
  if part == 'se':
    if leaf == 'position_scale':
      return '_attention/_pos_encoding/_rezero/scale'
    return f'_attention/_se_{path[1]}/_conv/{leaf}'
  if part == 'rezero':
    return f'{_PARTS[part]}/{leaf}'
  prefix = _PARTS.get(part, '_project' if in_head else '_projection')
  suffix = '_temporal' if part == 'temporal' else ''
  if len(path) > 1 and path[1] == 'norm':
    return f'{prefix}/_batch_norm{suffix}/{_NORM[leaf]}'
  return f'{prefix}/_conv{suffix}/{leaf}'


def fit_array(key: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
  """Gives an array of the checkpoint the shape of ours, None where it cannot be.

  The same kernels come with and without axes of size one, and depthwise 2D kernels with
  channels before the multiplier instead of after.
  """
  if _is_2d_depthwise(key):
    array = np.swapaxes(array, -1, -2)
  if _drop_ones(array.shape) != _drop_ones(shape):
    return None
  return array.reshape(shape)


def _drop_ones(shape):
  return tuple(n for n in shape if n != 1)


def make_keys(names: Mapping, spec) -> dict:
  """The key of each variable path in a checkpoint of the released layout.

  Args:
    names: the canonical name of each path.
    spec: of the network. That of `conv='2plus1d'` has 2D kernels, which are wrapped once more.

  Raises:
    ConversionError: the network has a temporal softmax, which the published code does not have.
  """
  if spec.temporal_softmax:
    raise ConversionError(
      'the published code of MoViNet has no temporal softmax: its network with these weights would '
      'give other scores; write an .npz'
    )
  return {path: _make_key(name, spec.conv == '2plus1d') for path, name in names.items()}


def _make_key(name, wrapped):
  where, _, rest = name.partition('/')
  key = f'model/layer_with_weights-1/{rest}'
  if where == 'backbone':
    key = f'model/layer_with_weights-0/layer_with_weights-{rest}'
  if wrapped:
    key = re.sub(r'/(_conv|_conv_temporal)/', r'/\1/_conv/', key)
    key = re.sub(r'(/_feature/.*)/kernel$', r'\1/depthwise_kernel', key)
  return key + _SUFFIX


def write_array(key: str, array: np.ndarray) -> np.ndarray:
  """Gives our array the axes of the checkpoint: kernels have five, or four where they are 2D."""
  if not _KERNEL.search(key):
    return array
  kernel = array.reshape((1,) * (5 - array.ndim) + array.shape)
  if '/_conv_temporal/_conv/' in key:
    kernel = kernel[:, 0]  # frames are its rows
  elif '/_conv/_conv/' in key:
    kernel = kernel[0]
  return np.swapaxes(kernel, -1, -2) if _is_2d_depthwise(key) else kernel


def _is_2d_depthwise(key: str) -> bool:
  return key.removesuffix(_SUFFIX).endswith('/depthwise_kernel')
