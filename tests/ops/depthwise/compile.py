"""Compiles a convolution's values and gradients for H100s that are not here; says what it checked.

Run by cuda_test.py, in a process of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from launch.pods.preflight.machine import find_machine
from movinet_jax.ops import depthwise_conv3d

X, KERNEL = (8, 50, 56, 56, 40), (3, 3, 3, 1, 40)
KERNELS = 'custom_call_target="__gpu$xla.gpu.ptx"'


def loss(x, kernel):
  y = depthwise_conv3d(x, kernel.astype(x.dtype), stride=(2, 2))
  return jnp.sum(jnp.square(y.astype(jnp.float32)))


differentiate = jax.value_and_grad(loss, (0, 1))


def per_device(x, kernel):
  """A loop in shard_map, as a search step is; the devices share the kernel."""

  def step(total, clips):
    value, gradients = differentiate(clips, kernel)
    return total + value, gradients

  total, (dx, dk) = jax.lax.scan(step, 0 * x[0, 0, 0, 0, 0].astype(jnp.float32), x[None])
  return total[None], dx[0], dk[0]


def compile_text(function, devices, x_sharding, kernel_sharding):
  x = jax.ShapeDtypeStruct(X, jnp.bfloat16, sharding=x_sharding)
  kernel = jax.ShapeDtypeStruct(KERNEL, jnp.float32, sharding=kernel_sharding)
  text = jax.jit(function).lower(x, kernel).compile().as_text()
  assert text.count(KERNELS) == 3, text.count(KERNELS)
  assert 'pad(' not in text, 'a padded copy is made'
  assert 'all-gather' not in text, 'the clips are gathered'
  assert ('all-reduce' in text) == (devices > 1)


eight = find_machine('h100:8').devices
one = SingleDeviceSharding(eight[0])
compile_text(differentiate, 1, one, one)
print('one')
mesh = Mesh(np.array(eight), ('data',))
split, shared = NamedSharding(mesh, P('data')), NamedSharding(mesh, P())
compile_text(differentiate, 8, split, shared)
print('eight')
mapped = jax.shard_map(
  per_device, mesh=mesh, in_specs=(P('data'), P()), out_specs=(P('data'), P('data'), P())
)
compile_text(mapped, 8, split, shared)
print('mapped')
