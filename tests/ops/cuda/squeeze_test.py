"""The kernel that squeezes a frame makes its means, its running mean and their product."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.ops.cuda import squeeze
from movinet_jax.ops.cuda.kernel import DTYPES
from tests.ops.cuda import host, plain

# pixels, channels, features, whether the frame's number counts, dtype: channels that make no packs,
# and more packs than threads.
CASES = [
  (121, 184, 96, False, 'bfloat16'),
  (49, 10, 5, True, 'float32'),
  (7, 2044, 16, False, 'float32'),
  (30, 513, 17, True, 'bfloat16'),
]


def make_kernel(pixels, channels, features, placed, dtype):
  z = jax.ShapeDtypeStruct((pixels, channels), jnp.dtype(dtype))
  return squeeze.make_squeeze(z, features, placed)


@pytest.fixture(scope='module')
def library(tmp_path_factory):
  return host.compile_kernels(
    [make_kernel(*case) for case in CASES], tmp_path_factory.mktemp('kernels')
  )


@host.needs_compiler
@pytest.mark.parametrize('n', range(len(CASES)), ids=lambda n: '-'.join(map(str, CASES[n])))
def test_means_and_products(library, n):
  """Run on this CPU, thread for thread."""
  pixels, channels, features, placed, dtype = CASES[n]
  random = np.random.default_rng(n)
  z = (random.normal(size=(pixels, channels)) + 1).astype(jnp.dtype(dtype))
  shapes = (channels,), (1,), (2 * channels, features), (2 * channels,), (1,)
  operands = [random.normal(size=shape).astype(np.float32) for shape in shapes]
  running, weight, matrix, place, scale = operands
  raw, new = host.run(library, n, make_kernel(*CASES[n]), z, *operands[: 5 if placed else 3])

  mean = z.astype(np.float64).mean(0)
  wanted = running + (mean - running) * weight
  np.testing.assert_allclose(new, wanted, atol=1e-6 * np.abs(wanted).max())
  wanted = (np.concatenate([wanted, mean]) + placed * scale * place) @ matrix
  np.testing.assert_allclose(raw, wanted, atol=2e-6 * np.abs(wanted).max())


@host.needs_compiler
def test_the_operands_are_those_of_the_kernel(monkeypatch, tmp_path):
  """All that may be given, in the order that the kernel reads."""
  monkeypatch.setattr(squeeze, 'launch', functools.partial(host.launch, tmp_path))
  random = np.random.default_rng(0)
  shapes = (9, 4), (4,), (1,), (8, 6), (8,)
  given = [random.normal(size=shape).astype(np.float32) for shape in shapes]
  raw, new = squeeze.squeeze(*map(jnp.asarray, given), scale=0.3)
  wanted_raw, wanted_new = plain.squeeze(*given, scale=0.3)
  np.testing.assert_allclose(new, wanted_new, atol=1e-6)
  np.testing.assert_allclose(raw, wanted_raw, atol=1e-5)


@host.needs_nvrtc
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('shape', [(3136, 40, 24), (49, 640, 160), (36, 2048, 512)])
def test_sums_are_registers(shape, dtype):
  assert host.count_registers(make_kernel(*shape, True, dtype)) <= 64
