"""Devices: one mesh, whose axis 'data' splits the batch; weights are replicated.

Under `jax.jit` the sharded batch is one array, so a mean over it is a mean over all
devices: losses, gradients and batch statistics are global without further code.

Clips too long or frames too big for one device are split further, over 'time' (frames)
and 'space' (rows of pixels); XLA's partitioner exchanges what convolutions see across the
cuts. Both axes lie within a process, so that each still reads whole clips.
"""

import collections
import dataclasses

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from movinet_jax.schema import Count, checked

AXES = ('data', 'time', 'space')


@dataclasses.dataclass(frozen=True)
class MeshOptions:
  """Parts that frames (`time`) and rows (`space`) of a clip are cut into; see `make_mesh`."""

  time: Count = 1
  space: Count = 1


@checked
def make_mesh(devices=None, *, time: Count = 1, space: Count = 1) -> Mesh:
  """A mesh over all devices of all processes, or over those given.

  Args:
    devices: by default all there are.
    time: parts that the frames of a clip are cut into.
    space: parts that the rows of a frame are cut into.

  Raises:
    ValueError: time x space devices do not divide those of each process.
  """
  # By process: rows of a batch are then those of one process and the next.
  order = sorted(
    jax.devices() if devices is None else devices, key=lambda d: (d.process_index, d.id)
  )
  counts = collections.Counter(d.process_index for d in order)
  for process, count in counts.items():
    if count % (time * space):
      raise ValueError(
        f'mesh.time={time} and mesh.space={space} want a multiple of {time * space} '
        f'devices in every process; process {process} has {count}'
      )
  grid = np.array(order).reshape(-1, time, space)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def replicated(mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def split(mesh, dims: int = 1) -> NamedSharding:
  """How an array of a batch lies on the mesh: videos [B, T, H, W, C] along all axes."""
  return NamedSharding(mesh, PartitionSpec(*AXES if dims == 5 else AXES[:1]))


def place_shapes(tree, mesh):
  """Shapes (`jax.eval_shape`) -> shapes of arrays replicated on the mesh."""
  sharding = replicated(mesh)
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def shard_batch(batch, mesh):
  """Puts this process's part of a batch on its devices, as parts of global arrays.

  Args:
    batch: dict of arrays [B, ...], B clips of this process; a dict in it is a batch of
      its own size. Entries that are not numeric, such as file names, stay with the host
      and are left out.

  Raises:
    ValueError: if B differs between entries, or this process's devices do not divide
      it.
  """
  inner = {k: shard_batch(v, mesh) for k, v in batch.items() if isinstance(v, dict)}
  arrays = {k: np.asarray(v) for k, v in batch.items() if k not in inner}
  arrays = {name: x for name, x in arrays.items() if x.dtype.kind in 'biuf'}
  check_batch({name: x.shape for name, x in arrays.items()}, mesh)
  put = jax.make_array_from_process_local_data
  return {name: put(split(mesh, x.ndim), x) for name, x in arrays.items()} | inner


def check_batch(shapes: dict[str, tuple[int, ...]], mesh):
  """Checks the shapes of this process's arrays against its devices."""
  sizes = {name: shape[0] for name, shape in shapes.items()}
  if len(set(sizes.values())) != 1:
    raise ValueError(f'The arrays of a batch have different lengths: {sizes}.')
  size, shares = next(iter(sizes.values())), mesh.local_mesh.devices.shape[0]
  if size % shares:
    raise ValueError(
      f'A batch of {size} clips cannot be split over {shares} {_describe_shares(mesh)} of '
      f'this process; take {size - size % shares or shares} or '
      f'{size + shares - size % shares}, and pad the last batch with a mask.'
    )
  for shape in shapes.values():
    if len(shape) == 5:
      check_clip(mesh, frames=shape[1], rows=shape[2])


def check_share(batch_size: int, mesh):
  """Raises a ValueError for a batch over all processes that devices cannot share."""
  shares = mesh.devices.shape[0]
  if batch_size % shares:
    less = batch_size - batch_size % shares
    raise ValueError(
      f'batch_size is {batch_size}, which {shares} {_describe_shares(mesh)} cannot share '
      f'evenly: take {f"{less} or " if less else ""}{less + shares}'
    )


def _describe_shares(mesh):
  _, time, space = mesh.devices.shape
  return 'devices' if time * space == 1 else f'groups of {time * space} devices'


def check_clip(mesh, *, frames: int, rows: int):
  """Raises a ValueError for clips that the axes 'time' and 'space' do not divide."""
  _, time, space = mesh.devices.shape
  for name, parts, size, what in (
    ('time', time, frames, 'frames'),
    ('space', space, rows, 'rows of pixels'),
  ):
    if size % parts:
      raise ValueError(f'mesh.{name} is {parts}, which does not divide clips of {size} {what}')


def shard_step(step, mesh):
  """Compiles a pure step for the mesh: (state, host batch) -> (state, metrics).

  The state is donated: after a call only the returned one may be used. A state fresh
  from `make_state` is put on the devices by the first call.
  """
  compiled = jit_step(step, mesh)

  def run(state, batch):
    state = jax.device_put(state, replicated(mesh))
    return compiled(state, shard_batch(batch, mesh))

  return run


def spread_step(step, mesh):
  """A step in which what flows between layers stays cut over time and space.

  XLA's partitioner knows how the videos lie, but goes back to whole clips at the first
  layer that is easier computed whole; told again after each, it exchanges halos instead.
  """
  _, time, space = mesh.devices.shape
  if time * space == 1:
    return step
  cut = split(mesh, 5)

  def keep_cut(call, args, kwargs, context):
    out = call(*args, **kwargs)
    if context.method_name != '__call__' or not isinstance(out, tuple):
      return out
    y, *rest = out
    if y.ndim == 5 and y.shape[1] >= time and y.shape[2] >= space:
      y = jax.lax.with_sharding_constraint(y, cut)
    return y, *rest

  def spread(state, batch):
    with nn.intercept_methods(keep_cut):
      return step(state, batch)

  return spread


def jit_step(step, mesh):
  """`jax.jit` of a step whose state is replicated; a batch says itself how it lies."""
  return jax.jit(step, out_shardings=replicated(mesh), donate_argnums=0)


def read_local_rows(array) -> np.ndarray:
  """The rows [B, ...] of a batch-sharded array that this process put in, in order.

  Waits until they are computed. What is on the host already is what it is.
  """
  if not isinstance(array, jax.Array) or array.is_fully_replicated:
    return np.asarray(array)
  parts = {(s.index[0].start or 0): s.data for s in array.addressable_shards}
  return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])
