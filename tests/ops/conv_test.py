"""The stem's forms are one operation."""

import functools
import importlib.util
import itertools
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.ops import pointwise_conv, skip_pixels, spatial_conv

KERNELS = ((1, 1), (3, 3), (2, 5), (5, 2), (7, 4))
STRIDES = ((1, 1), (2, 2), (1, 3), (4, 2))
SIZES = ((8, 7), (5, 6), (3, 9))
GRID = list(itertools.product(KERNELS, STRIDES, SIZES))


def make_case(kernel, size, channels=3):
  random = np.random.default_rng(0)
  x = random.normal(size=(2, 2, *size, channels))
  return jnp.float32(x), jnp.float32(random.normal(size=(1, *kernel, channels, 4)))


def run(form):
  conv = functools.partial(spatial_conv, form=form)

  @jax.jit
  def all_cases(cases):
    strides = [stride for _, stride, _ in GRID]
    return [conv(*c, stride=s) for c, s in zip(cases, strides, strict=True)]

  return all_cases([make_case(kernel, size) for kernel, _, size in GRID])


@pytest.mark.parametrize('form', ['direct', 'patches', 'patches_5d'])
def test_forms_are_the_native_convolution(form):
  for case, ours, theirs in zip(GRID, run(form), run('native'), strict=True):
    _, (sh, sw), (h, w) = case
    assert ours.shape == (2, 2, -(-h // sh), -(-w // sw), 4), case
    np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=str(case))


def test_gradients_agree():
  """The network's own case: 3x3, stride 2, odd and even sides."""
  x, kernel = make_case((3, 3), (9, 8))

  def gradients(form):
    def loss(x, k):
      return jnp.sin(spatial_conv(x, k, stride=(2, 2), form=form)).sum()

    return jax.grad(loss, (0, 1))(x, kernel)

  for ours, theirs in zip(gradients('auto'), gradients('native'), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_direct_form_has_all_derivatives(dtype):
  """Those of XLA's convolution, with centred padding: forward, and twice backward."""
  x, kernel = (a.astype(dtype) for a in make_case((3, 3), (9, 8)))
  tolerance = {'float32': 2e-5, 'bfloat16': 0.05}[dtype]

  def find(form):
    conv = functools.partial(spatial_conv, stride=(2, 2), padding='centred', form=form)
    loss = lambda x, k: jnp.sin(conv(x, k).astype(jnp.float32)).sum()  # noqa: E731
    slope = lambda x, k: jnp.sin(jax.grad(loss, 1)(x, k).astype(jnp.float32)).sum()  # noqa: E731
    _, forward = jax.jvp(conv, (x, kernel), (jnp.cos(x), jnp.sin(kernel)))
    return forward, *jax.grad(loss, (0, 1))(x, kernel), *jax.grad(slope, (0, 1))(x, kernel)

  for ours, theirs in zip(find('direct'), find('native'), strict=True):
    assert ours.dtype == theirs.dtype == dtype
    theirs = np.float32(theirs)
    np.testing.assert_allclose(
      np.float32(ours) / abs(theirs).max(), theirs / abs(theirs).max(), atol=tolerance
    )


def test_errors():
  x, kernel = make_case((3, 3), (4, 4))
  with pytest.raises(ValueError, match=r'\[1, KH, KW, C, F\]'):
    spatial_conv(x, kernel[0], stride=(1, 1))
  with pytest.raises(ValueError, match="unknown form 'fast'"):
    spatial_conv(x, kernel, stride=(1, 1), form='fast')


@pytest.mark.parametrize(
  ('platform', 'channels', 'native'),
  [('cpu', 3, False), ('tpu', 3, False), ('cuda', 3, True), ('cpu', 8, True)],
)
def test_the_form_is_that_of_the_platform_compiled_for(platform, channels, native):
  x, kernel = make_case((3, 3), (9, 8), channels)
  traced = spatial_conv.trace(x, kernel, stride=(2, 2))
  program = traced.lower(lowering_platforms=(platform,)).as_text()
  assert ('stablehlo.convolution' in program) is native


@pytest.mark.parametrize('stride', [1, 2, 3])
def test_pixels_are_skipped_from_the_first_on(stride):
  x, _ = make_case((1, 1), (9, 8))
  np.testing.assert_array_equal(skip_pixels(x, stride), x[:, :, ::stride, ::stride])


@pytest.mark.parametrize('platform', ['cpu', 'tpu', 'cuda'])
def test_gpus_see_skipped_pixels_apart_from_the_product(platform):
  """Elsewhere the slice is free for the compiler to fuse."""

  @jax.jit
  def shorten(x, kernel):
    return pointwise_conv(skip_pixels(x, 2), kernel)

  traced = shorten.trace(jnp.ones((2, 4, 16, 16, 4)), jnp.ones((4, 4)))
  program = traced.lower(lowering_platforms=(platform,)).as_text()
  assert ('optimization_barrier' in program) is (platform == 'cuda')


@pytest.mark.skipif(
  importlib.util.find_spec('jax_cuda13_plugin') is None,
  reason="jax_cuda13_plugin is not installed: pip install 'jax[cuda13]' (Linux)",
)
def test_a_strided_shortcut_compiles_for_a_gpu():
  """The smallest program that aborts the compiler without `skip_pixels`, in its own process."""
  program = """
import jax, jax.numpy as jnp
from launch.pods.preflight.machine import find_chips, find_devices
from movinet_jax.ops import pointwise_conv, skip_pixels

def loss(x, kernel):
  return pointwise_conv(skip_pixels(jnp.maximum(x, 0), 2), kernel).astype(jnp.float32).sum()

place = jax.sharding.SingleDeviceSharding(find_devices(find_chips('h100:1'))[0])
for dtype in (jnp.float32, jnp.bfloat16):
  shapes = (2, 4, 16, 16, 4), (4, 4)
  arguments = [jax.ShapeDtypeStruct(shape, dtype, sharding=place) for shape in shapes]
  jax.jit(jax.grad(loss, (0, 1))).lower(*arguments).compile()
"""
  done = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]


def test_a_stem_on_a_cpu_is_one_pass_over_the_image():
  """What made it fast: no patches are stored, and no product of matrices reads them."""
  x, kernel = make_case((3, 3), (16, 16))
  traced = spatial_conv.trace(x, kernel, stride=(2, 2))
  program = traced.lower(lowering_platforms=('cpu',)).compile().as_text()
  entry = program[program.index('\nENTRY') :]
  assert len(re.findall(r' (?:fusion|call)\(', entry)) <= 2  # padding, and the sum
  assert not re.search(r' (?:dot|convolution|custom-call)\(', program)


def test_readers_of_a_stem_do_not_compute_it_again():
  """As a norm and a mean read it: the products are added once."""
  x, kernel = make_case((3, 3), (16, 16))

  @jax.jit
  def read(x, kernel):
    y = spatial_conv(x, kernel, stride=(2, 2), form='direct')
    return jnp.tanh(y) * 2, y.sum((2, 3)), jnp.exp(y)

  program = read.lower(x, kernel).compile().as_text()
  assert program.count(' multiply(') < 2 * 27  # of 3 x 3 places and 3 channels
