"""Names of X3D variables in PyTorch state dicts: PyTorchVideo's, and SlowFast's by them.

PyTorchVideo's stem has its names the wrong way round: `conv_t` holds the spatial kernel and
`conv_xy` the temporal one. SlowFast's has them right.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np

from movinet_jax.convert.report import ConversionError

KIND = 'pytorch'
_NORM = {
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}
_STEM = {'stem_space': 'conv.conv_t', 'stem/conv': 'conv.conv_xy', 'stem/norm': 'norm'}
_PARTS = {
  'expand/conv': 'branch2.conv_a',
  'expand/norm': 'branch2.norm_a',
  'depthwise/conv': 'branch2.conv_b',
  'depthwise/norm': 'branch2.norm_b.0',
  'se/reduce': 'branch2.norm_b.1.block.0',
  'se/expand': 'branch2.norm_b.1.block.2',
  'project/conv': 'branch2.conv_c',
  'project/norm': 'branch2.norm_c',
  'shortcut': 'branch1_conv',
  'shortcut/conv': 'branch1_conv',
  'shortcut/norm': 'branch1_norm',
}
_HEAD = {
  'project/conv': 'pool.pre_conv',
  'project/norm': 'pool.pre_norm',
  'hidden/conv': 'pool.post_conv',
  'classifier': 'proj',
}
# SlowFast's names, and PyTorchVideo's for the same.
_SLOWFAST_PARTS = {
  'branch1': 'branch1_conv',
  'branch1_bn': 'branch1_norm',
  'branch2.a': 'branch2.conv_a',
  'branch2.a_bn': 'branch2.norm_a',
  'branch2.b': 'branch2.conv_b',
  'branch2.b_bn': 'branch2.norm_b.0',
  'branch2.se.fc1': 'branch2.norm_b.1.block.0',
  'branch2.se.fc2': 'branch2.norm_b.1.block.2',
  'branch2.c': 'branch2.conv_c',
  'branch2.c_bn': 'branch2.norm_c',
}
_SLOWFAST_ENDS = {
  's1.pathway0_stem.conv_xy': 'blocks.0.conv.conv_t',
  's1.pathway0_stem.conv': 'blocks.0.conv.conv_xy',
  's1.pathway0_stem.bn': 'blocks.0.norm',
  'head.conv_5': 'blocks.5.pool.pre_conv',
  'head.conv_5_bn': 'blocks.5.pool.pre_norm',
  'head.lin_5': 'blocks.5.pool.post_conv',
  'head.projection': 'blocks.5.proj',
}
_STAGES = 4
_SHORTCUT = '.branch1_conv.weight'
_SLOWFAST_BLOCK = re.compile(r'^s(\d+)\.pathway0_res(\d+)\.(.*)$')


def find_name(key: str) -> str | None:
  """Makes a key of a state dict PyTorchVideo's; None if it is no weight of an X3D."""
  module, _, leaf = key.removeprefix('sd/').rpartition('.')
  if module.startswith('blocks.'):
    return f'{module}.{leaf}'
  if module in _SLOWFAST_ENDS:
    return f'{_SLOWFAST_ENDS[module]}.{leaf}'
  match = _SLOWFAST_BLOCK.match(module)
  if not match or match[3] not in _SLOWFAST_PARTS:
    return None
  stage, layer, part = match.groups()
  return f'blocks.{int(stage) - 1}.res_blocks.{layer}.{_SLOWFAST_PARTS[part]}.{leaf}'


def find_fields(names: Collection[str]) -> dict[str, object]:
  """Fields of the Spec that a state dict shows: whether every shortcut has a norm.

  PyTorchVideo leaves it out where the width stays, SlowFast does not. Where all widths change
  both have the same arrays, and `shortcut_norm` makes no difference.
  """
  convs = {name.removesuffix('_conv.weight') for name in names if name.endswith(_SHORTCUT)}
  return {'shortcut_norm': all(f'{c}_norm.weight' in names for c in convs)} if convs else {}


def make_names(paths: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
  """PyTorchVideo's name of each variable path ('params', 'stem', 'conv', 'kernel')."""
  stages = {_find_block(path[1])[0] for path in paths if path[1].startswith('stage')}
  return {path: _name(path, head=len(stages) + 1) for path in paths}


def _name(path, head):
  _, first, *rest, leaf = path
  if first.startswith('stage'):
    stage, layer = _find_block(first)
    prefix = f'blocks.{stage + 1}.res_blocks.{layer}.{_PARTS["/".join(rest)]}'
  elif first.startswith('stem'):
    prefix = f'blocks.0.{_STEM["/".join([first, *rest])]}'
  else:
    prefix = f'blocks.{head}.{_HEAD["/".join([first, *rest])]}'
  if 'norm' in rest:
    return f'{prefix}.{_NORM[leaf]}'
  return f'{prefix}.{"bias" if leaf == "bias" else "weight"}'


def _find_block(name: str) -> tuple[int, int]:
  stage, layer = re.findall(r'\d+', name)
  return int(stage), int(layer)


def fit_array(key: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
  """Gives an array of a state dict the shape of ours, None where it cannot be.

  PyTorch has outputs and inputs before a kernel's sizes, we have them behind.
  """
  del key
  if array.ndim > 1:
    array = np.moveaxis(array, (1, 0), (-2, -1))
  if [n for n in array.shape if n != 1] != [n for n in shape if n != 1]:
    return None
  return array.reshape(shape)


def make_keys(names: Mapping, spec) -> dict:
  """The key of each variable path in a state dict: the canonical name, or SlowFast's.

  Args:
    names: the canonical name of each path.
    spec: of the network. PyTorchVideo has none with a norm in every shortcut, SlowFast has.

  Raises:
    ConversionError: the network is a stream, or has other stages than the published code.
  """
  if spec.causal:
    raise ConversionError(
      'the published code of X3D has no streams: its network with these weights would see later '
      'frames too and give other scores; write an .npz'
    )
  if len(spec.stages) != _STAGES:
    raise ConversionError(
      f'the published code of X3D has networks of {_STAGES} stages, and this one has '
      f'{len(spec.stages)}: write an .npz'
    )
  return {path: to_slowfast(name) if spec.shortcut_norm else name for path, name in names.items()}


def to_slowfast(name: str) -> str:
  """SlowFast's name for one of PyTorchVideo's."""
  ends = {value: key for key, value in _SLOWFAST_ENDS.items()}
  parts = {value: key for key, value in _SLOWFAST_PARTS.items()}
  module, _, leaf = name.rpartition('.')
  if module in ends:
    return f'{ends[module]}.{leaf}'
  stage, layer, part = re.match(r'blocks\.(\d+)\.res_blocks\.(\d+)\.(.*)', module).groups()
  return f's{int(stage) + 1}.pathway0_res{layer}.{parts[part]}.{leaf}'


def write_array(key: str, array: np.ndarray) -> np.ndarray:
  """Gives our array the axes of a state dict: those of dense layers are two, of kernels five."""
  if array.ndim < 2:
    return array
  if not re.search(r'proj(ection)?\.weight$', key):
    array = array.reshape((1,) * (5 - array.ndim) + array.shape)
  return np.moveaxis(array, (-2, -1), (1, 0))
