"""The shifted sum is a depthwise convolution: values, both gradients, everywhere."""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from movinet_jax.ops import depthwise_conv3d, same_padding, time_padding
from movinet_jax.ops.depthwise import cpu, native, padded
from movinet_jax.ops.depthwise import shifted as shifted_sum
from movinet_jax.ops.depthwise.plan import Plan

KERNELS = (
  (1, 3, 3),
  (3, 3, 3),
  (5, 3, 3),
  (1, 5, 5),
  (7, 1, 1),
  (2, 2, 2),
  (1, 1, 2),
)
STRIDES = ((1, 1), (2, 2), (3, 2))
SIZES = ((8, 7), (5, 6))
TIMES = ('causal', 'same', 'valid')
FRAMES = 7


# All strides, sizes and times of a kernel; and strides that jump over pixels.
GRIDS = [list(itertools.product([kernel], STRIDES, SIZES, TIMES)) for kernel in KERNELS]
GRIDS += [[((1, 1, 1), (2, 3), (7, 8), 'same'), ((3, 2, 1), (4, 3), (9, 8), 'causal')]]


def make_case(kernel, stride, size, time, dtype):
  """x, kernel and the cotangent of the output."""
  random = np.random.default_rng(hash((kernel, stride, size)) % 2**32)
  frames = FRAMES - kernel[0] + 1 if time == 'valid' else FRAMES
  out = [-(-n // s) for n, s in zip(size, stride, strict=True)]
  shapes = (2, FRAMES, *size, 3), (*kernel, 1, 3), (2, frames, *out, 3)
  return [jnp.asarray(random.normal(size=s), dtype) for s in shapes]


def reference(x, kernel, stride, time):
  """XLA's grouped convolution in float32, padded by this library's rule."""
  spatial = [
    same_padding(n, k, s) for n, k, s in zip(x.shape[2:4], kernel.shape[1:3], stride, strict=True)
  ]
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, *stride),
    (time_padding(kernel.shape[0], time), *spatial),
    dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
    feature_group_count=x.shape[-1],
  )


def shifted(x, kernel, stride, time):
  return depthwise_conv3d(x, kernel, stride=stride, time=time, form='shifted')


def with_gradients(function, grid, cases, optimization=3):
  """(y, dx, dkernel) of every case of a grid, in one program: compiling is what costs."""

  def run(cases):
    results = []
    for (_, stride, _, time), (x, kernel, g) in zip(grid, cases, strict=True):
      y, pull = jax.vjp(lambda x, k, s=stride, t=time: function(x, k, s, t), x, kernel)
      results.append((y, *pull(g.astype(y.dtype))))
    return results

  options = {'xla_backend_optimization_level': optimization}
  return jax.jit(run, compiler_options=options)(cases)


def relative_error(ours, theirs):
  ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
  assert ours.shape == theirs.shape
  return np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-6)


@pytest.mark.parametrize('grid', GRIDS, ids=lambda grid: str(grid[0][0]))
@pytest.mark.parametrize(('dtype', 'tolerance'), [(jnp.float32, 3e-6), (jnp.bfloat16, 4e-3)])
def test_values_and_gradients(grid, dtype, tolerance):
  """In bfloat16 only inputs and outputs are rounded: sums are as exact as float32."""
  cases = [make_case(*case, dtype) for case in grid]
  full = jax.tree.map(lambda a: a.astype(jnp.float32), cases)
  ours = with_gradients(shifted, grid, cases)
  theirs = with_gradients(reference, grid, full, optimization=0)
  for case, us, them in zip(grid, ours, theirs, strict=True):
    for name, a, b in zip(('y', 'dx', 'dkernel'), us, them, strict=True):
      assert a.dtype == dtype
      assert relative_error(a, b) < tolerance, (case, name)


@pytest.mark.parametrize('module', [cpu, native, padded, shifted_sum], ids=lambda m: m.__name__)
@pytest.mark.parametrize('case', [GRIDS[1][9], GRIDS[-1][1]], ids=str)
def test_every_form_has_the_three_operations(module, case):
  """As platforms that are not here lower them; `cuda` has tests of its own."""
  x, kernel, g = make_case(*case, jnp.float32)
  _, stride, size, time = case
  spatial = (same_padding(n, k, s) for n, k, s in zip(size, kernel.shape[1:3], stride, strict=True))
  pads = (time_padding(kernel.shape[0], time), *spatial)
  plan = Plan(x.shape[1:], kernel.shape[:3], stride, pads, 'float32', 'float32')
  taps = kernel[..., 0, :]

  @jax.jit
  def run(x, taps, g):
    return (
      module.convolve(x, taps, plan),
      module.transpose(g, taps, plan),
      module.correlate(x, g, plan),
    )

  y, pull = jax.vjp(lambda x, k: reference(x, k, stride, time), x, kernel)
  dx, dk = pull(g)
  for ours, theirs in zip(run(x, taps, g), (y, dx, dk[..., 0, :]), strict=True):
    assert relative_error(ours, theirs) < 3e-6


@pytest.mark.parametrize('platform', ['cpu', 'tpu', 'cuda'])
def test_no_platform_adds_over_devices_by_itself(platform):
  """Inside shard_map, where a branch that only some devices take would then hang."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  x, kernel, g = make_case((3, 3, 3), (1, 1), (5, 6), 'same', jnp.float32)
  split = jax.sharding.PartitionSpec('data')

  def gradients(x, kernel, g):
    _, pull = jax.vjp(lambda x, k: depthwise_conv3d(x, k[0]), x, kernel)
    return pull(g)

  specs = {'in_specs': (split,) * 3, 'out_specs': (split, split)}
  mapped = jax.jit(jax.shard_map(gradients, mesh=mesh, **specs))
  traced = mapped.trace(x, kernel[None], g)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert 'all_reduce' not in text


def test_the_native_form_is_the_same_operation():
  x, kernel, _ = make_case((3, 3, 3), (2, 2), (8, 7), 'causal', jnp.float32)
  options = {'stride': (2, 2), 'time': 'causal'}
  native = depthwise_conv3d(x, kernel, form='native', **options)
  auto = depthwise_conv3d(x, kernel, **options)
  assert relative_error(auto, native) < 1e-6


def test_many_taps_sum_in_float32():
  """A bfloat16 sum of 576 ones would stop at 256."""
  x = jnp.ones((1, 1, 24, 24, 1), jnp.bfloat16)
  y = depthwise_conv3d(x, jnp.ones((1, 24, 24, 1, 1), jnp.bfloat16), stride=(24, 24))
  assert y.dtype == jnp.bfloat16
  assert y.item() == 576


def test_derivatives_of_derivatives():
  """The operation, its transpose and its correlation are each other's derivatives."""
  x, kernel, _ = make_case((3, 3, 2), (2, 1), (5, 6), 'causal', jnp.float32)

  def convolve(x, kernel):
    return shifted(x, kernel, (2, 1), 'causal')

  check_grads(convolve, (x, kernel), order=3, modes=('fwd', 'rev'), rtol=2e-2)


def test_a_program_holds_one_operation():
  """Whatever the form: tracing all of them took longer than tracing the rest of a network."""
  x, kernel, _ = make_case((3, 3, 3), (1, 1), (8, 7), 'same', jnp.float32)
  (call,) = jax.make_jaxpr(depthwise_conv3d)(x, kernel).eqns
  names = [equation.primitive.name for equation in call.params['jaxpr'].eqns]
  assert names[-1] == 'depthwise_convolve'
  assert set(names[:-1]) <= {'reshape', 'squeeze', 'slice'}


@pytest.mark.parametrize('axes', [(0, None), (None, 1), (2, 0)])
def test_vmap(axes):
  """Also differentiated, by the written gradients: the operations stay what they are."""
  x, kernel, g = make_case((3, 3, 3), (2, 2), (5, 6), 'same', jnp.float32)
  xs = x if axes[0] is None else jnp.stack([x, x + 1], axes[0])
  kernels = kernel if axes[1] is None else jnp.stack([kernel, -2 * kernel], axes[1])

  def gradients(x, kernel):
    y, pull = jax.vjp(lambda x, k: shifted(x, k, (2, 2), 'same'), x, kernel)
    return y, *pull(g)

  def loss(x, kernel):
    y = jax.vmap(lambda x, k: shifted(x, k, (2, 2), 'same'), axes)(x, kernel)
    return jnp.sum(y * g)

  mapped = jax.jit(jax.vmap(gradients, axes))(xs, kernels)
  outside = jax.grad(loss, (0, 1))(xs, kernels)
  assert 'depthwise_correlate' in str(jax.make_jaxpr(jax.grad(loss, 1))(xs, kernels))
  for i in range(2):
    one = [a if n is None else jnp.take(a, i, n) for a, n in zip((xs, kernels), axes, strict=True)]
    single = gradients(*one)
    for a, b in zip(mapped, single, strict=True):
      assert relative_error(a[i], b) < 1e-5
    for whole, n, b in zip(outside, axes, single[1:], strict=True):
      if n is not None:
        assert relative_error(jnp.take(whole, i, n), b) < 1e-5


def test_every_sum_is_computed_once():
  """Not once more in each of its readers, where XLA would merge it with all of them."""
  x, kernel, _ = make_case((3, 3, 3), (1, 1), (8, 7), 'same', jnp.float32)

  def block(x, kernel):
    y = shifted(x, kernel, (1, 1), 'same')
    y = (y - y.mean((0, 1, 2, 3))) * lax.rsqrt(y.var((0, 1, 2, 3)) + 1e-3)
    return jnp.sum(jax.nn.silu(y * jax.nn.sigmoid(y.mean((1, 2, 3), keepdims=True))))

  for program, sums in ((block, 1), (jax.grad(block, (0, 1)), 2)):
    text = jax.jit(program).lower(x, kernel).compile().as_text()
    loops = [part.count(' multiply(') for part in text.split('\n}\n')]
    assert sum(count >= 27 for count in loops) == sums, loops


SHARDED = """
import functools, jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from movinet_jax.ops import depthwise_conv3d

assert jax.device_count() == 4
mesh = Mesh(np.array(jax.devices()), ('data',))
random = np.random.default_rng(0)
x = jnp.asarray(random.normal(size=(4, 3, 5, 6, 2)), jnp.float32)
kernel = jnp.asarray(random.normal(size=(3, 3, 3, 1, 2)), jnp.float32)
conv = functools.partial(depthwise_conv3d, stride=(2, 2), time='causal')
loss = lambda x, k: jnp.sum(jnp.sin(conv(x, k)))
wanted = jax.value_and_grad(loss, (0, 1))(x, kernel)

def per_device(x, k):
  k = jax.lax.pcast(k, 'data', to='varying')
  value, (dx, dk) = jax.value_and_grad(loss, (0, 1))(x, k)
  return jax.lax.psum(value, 'data'), (dx, jax.lax.psum(dk, 'data'))

specs = dict(in_specs=(P('data'), P()), out_specs=(P(), (P('data'), P())))
mapped = jax.jit(jax.shard_map(per_device, mesh=mesh, **specs))(x, kernel)
shards = jax.device_put(x, NamedSharding(mesh, P('data')))
automatic = jax.jit(jax.value_and_grad(loss, (0, 1)))
sharded = automatic(shards, kernel)
for got in (mapped, sharded):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, wanted)
text = automatic.lower(shards, kernel).compile().as_text()
assert 'all-gather' not in text, 'the sharded batch was gathered'

# Kernels of GPUs are split by rules of their own, here around the sum of shifted products.
from movinet_jax.ops.depthwise import cuda, shifted
from movinet_jax.ops.depthwise.plan import Plan

mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ('d', 'm'))
plan = Plan((3, 5, 6, 2), (3, 3, 3), (1, 1), ((1, 1),) * 3, 'float32', 'float32')
split = cuda._split('b t h w c, i j k c -> b u v z c', frees=('b', 'c'))(
  lambda x, k, plan: shifted.convolve(x, k, plan)
)
whole, clips, channels = P(), P('d'), P(None, None, None, None, 'm')
for x_spec, k_spec, y_spec in (
  (clips, whole, P('m')), (channels, whole, whole), (whole, P(None, None, None, 'm'), whole),
  (P('d', None, None, None, 'm'), P(None, None, None, 'm'), clips), (P(('d', 'm')), whole, whole),
  (P(None, None, None, None, 'd'), P(None, None, None, 'm'), channels),
  (P(None, None, None, 'm'), whole, clips),
):
  operands = (
    jax.device_put(x, NamedSharding(mesh, x_spec)),
    jax.device_put(kernel[..., 0, :], NamedSharding(mesh, k_spec)),
  )
  function = jax.jit(lambda x, k: split(x, k, plan), out_shardings=NamedSharding(mesh, y_spec))
  wanted = shifted.convolve(x, kernel[..., 0, :], plan)
  np.testing.assert_allclose(function(*operands), wanted, atol=2e-5, err_msg=f'{x_spec} {k_spec}')
print('equal')
"""


def test_sharded_batches():
  """Under shard_map, and under jit with a sharded batch, which is never gathered."""
  flags = '--xla_force_host_platform_device_count=4'
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags}
  command = [sys.executable, '-c', SHARDED]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
  assert done.stdout.strip() == 'equal', done.stderr[-3000:]


def test_row_loop_under_shard_map():
  """The one-device form of the kernel gradient also has to trace under shard_map."""
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  x, kernel, g = make_case((3, 3, 3), (1, 1), (5, 6), 'same', jnp.float32)
  spec = jax.sharding.PartitionSpec('data')

  def gradient(x, g):
    k = lax.pcast(kernel, 'data', to='varying')
    _, pull = jax.vjp(lambda k: shifted(x, k, (1, 1), 'same'), k)
    return lax.psum(pull(g)[0], 'data')

  specs = {'in_specs': (spec, spec), 'out_specs': jax.sharding.PartitionSpec()}
  mapped = jax.jit(jax.shard_map(gradient, mesh=mesh, **specs))(x, g)
  _, pull = jax.vjp(lambda k: reference(x, k, (1, 1), 'same'), kernel)
  assert relative_error(mapped, pull(g)[0]) < 1e-5


@pytest.mark.parametrize(
  ('x_shape', 'kernel_shape', 'options', 'message'),
  [
    ((1, 4, 4, 3), (3, 3, 3, 1, 3), {}, r'\[B, T, H, W, C\]'),
    ((1, 4, 4, 4, 3), (3, 3, 3, 1, 4), {}, r'\(3, 3, 3, 1, 4\)'),
    ((1, 4, 4, 4, 3), (3, 3, 3, 3), {}, 'kernel'),
    ((1, 4, 4, 4, 3), (3, 3, 3, 1, 3), {'time': 'casual'}, "got 'casual'"),
    ((1, 4, 4, 4, 3), (3, 3, 3, 1, 3), {'form': 'fast'}, "unknown form 'fast'"),
    ((1, 2, 4, 4, 3), (3, 3, 3, 1, 3), {'time': 'valid'}, r'2 frames .* needs \(3\)'),
  ],
)
def test_errors_say_what_was_got(x_shape, kernel_shape, options, message):
  with pytest.raises(ValueError, match=message):
    depthwise_conv3d(jnp.zeros(x_shape), jnp.zeros(kernel_shape), **options)


@pytest.mark.parametrize(('platform', 'native'), [('cpu', False), ('tpu', True)])
def test_the_form_is_that_of_the_platform_compiled_for(platform, native):
  """Also where another one compiles: a laptop for a pod."""
  x, kernel, _ = make_case((3, 3, 3), (1, 1), (8, 7), 'same', jnp.float32)
  program = depthwise_conv3d.trace(x, kernel).lower(lowering_platforms=(platform,))
  assert ('stablehlo.convolution' in program.as_text()) is native
