"""Devices: one mesh, whose axis 'data' splits the batch; all else is replicated.

Under `jax.jit` the sharded batch is one array, so a mean over it is a mean over all
devices: losses, gradients and batch statistics are global without further code.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices=None) -> Mesh:
  """A mesh over all devices of all processes, or over those given."""
  devices = np.asarray(jax.devices() if devices is None else devices)
  return Mesh(devices.reshape(-1), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def split(mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec('data'))


def place_shapes(tree, mesh):
  """Shapes (`jax.eval_shape`) -> shapes of arrays replicated on the mesh."""
  sharding = replicated(mesh)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )


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
  check_batch({name: x.shape[0] for name, x in arrays.items()}, mesh)
  put = jax.make_array_from_process_local_data
  return {name: put(split(mesh), x) for name, x in arrays.items()} | inner


def check_batch(sizes: dict[str, int], mesh):
  """Checks the batch sizes of this process's arrays against its devices."""
  if len(set(sizes.values())) != 1:
    raise ValueError(f'The arrays of a batch have different lengths: {sizes}.')
  size = next(iter(sizes.values()))
  devices = len(mesh.local_devices)
  if size % devices:
    raise ValueError(
      f'A batch of {size} clips cannot be split over {devices} devices of this '
      f'process; take {size - size % devices or devices} or '
      f'{size + devices - size % devices}, and pad the last batch with a mask.'
    )


def shard_step(step, mesh):
  """Compiles a pure step for the mesh: (state, host batch) -> (state, metrics).

  The state is donated: after a call only the returned one may be used. A state fresh
  from `make_state` is put on the devices by the first call.
  """
  compiled = jax.jit(
    step,
    in_shardings=(replicated(mesh), split(mesh)),
    out_shardings=replicated(mesh),
    donate_argnums=0,
  )

  def run(state, batch):
    state = jax.device_put(state, replicated(mesh))
    return compiled(state, shard_batch(batch, mesh))

  return run


def read_local_rows(array) -> np.ndarray:
  """The rows [B, ...] of a batch-sharded array that this process put in, in order."""
  if array.is_fully_replicated:
    return np.asarray(array)
  parts = {(s.index[0].start or 0): s.data for s in array.addressable_shards}
  return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])
