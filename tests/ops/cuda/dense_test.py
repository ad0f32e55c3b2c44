"""The kernel for a frame's products is the product, and what a GPU gets is lean."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.ops.cuda import dense
from movinet_jax.ops.cuda.kernel import DTYPES
from tests.ops.cuda import host, plain

# pixels, channels, features, what is given, start, finish, dtype: features that make no packs of
# four, one pixel, and every activation.
CASES = [
  ((49, 96, 40), 'GATED ADDED', '', '', 'bfloat16'),
  ((484, 80, 32), 'GATED ADDED', '', 'relu', 'float32'),
  ((700, 10, 24), '', '', 'hard_swish', 'bfloat16'),
  ((36, 300, 104), 'OFFSET GATED', 'relu6', 'silu', 'float32'),
  ((33, 7, 5), 'OFFSET ADDED', 'hard_swish', 'relu6', 'float32'),
  ((1, 50, 70), 'OFFSET', 'silu', 'logistic', 'float32'),
  ((900, 6, 8), 'ADDED', 'logistic', 'hard_swish', 'float32'),
]


def reference(case, x, offset, gate, matrix, bias, shortcut):
  """In float32."""
  _, flags, start, finish, _ = case
  given = {'OFFSET': ('offset', offset), 'GATED': ('gate', gate), 'ADDED': ('shortcut', shortcut)}
  given = dict(given[flag] for flag in flags.split())
  x = x.astype(np.float32)
  return np.asarray(plain.multiply(x, matrix, bias, start=start, finish=finish, **given))


def draw(case, seed):
  """x, offset, gate, matrix, bias and shortcut of a case, as the kernel takes them."""
  (p, c, f), *_, dtype = case
  random = np.random.default_rng(seed)
  shapes = (p, c), (c,), (c,), (c, f), (f,), (p, f)
  types = dtype, 'float32', 'float32', dtype, 'float32', dtype
  return [random.normal(size=s).astype(jnp.dtype(t)) for s, t in zip(shapes, types, strict=True)]


def make_kernel(case):
  (pixels, channels, features), given, start, finish, dtype = case
  x = jax.ShapeDtypeStruct((pixels, channels), jnp.dtype(dtype))
  return dense.make_multiply(x, features, tuple(given.split()), start, finish)


@pytest.fixture(scope='module')
def errors(tmp_path_factory):
  """The largest error of each case relative to the largest value, and of one without its gate."""
  kernels = []
  for n, case in enumerate(CASES):
    with pytest.MonkeyPatch.context() as patch:
      if n % 2:  # as of more channels than a block holds at once
        patch.setattr(dense, '_SHARED_FLOATS', 256)
      kernels.append(make_kernel(case))
  assert {dict(one.constants)['C'] > dict(one.constants)['CHUNK'] for one in kernels} == {0, 1}
  assert {kind for _, _, *kinds, _ in CASES for kind in kinds} == dense.ACTIVATIONS
  library = host.compile_kernels(kernels, tmp_path_factory.mktemp('kernels'))
  found = []
  for n, (case, kernel) in enumerate(zip(CASES, kernels, strict=True)):
    operands = draw(case, n)
    x, offset, gate, matrix, bias, shortcut = operands
    given = [x, matrix, np.concatenate([bias, offset]) if 'OFFSET' in case[1] else bias]
    given += [gate] if 'GATED' in case[1] else []
    given += [shortcut] if 'ADDED' in case[1] else []
    (ours,) = host.run(library, n, kernel, *given)
    theirs = reference(case, *operands)
    found.append(np.abs(ours.astype(np.float32) - theirs).max() / np.abs(theirs).max())
    if n == 0:
      ungated = reference((case[0], 'ADDED', *case[2:]), *operands)
      without_gate = np.abs(ours.astype(np.float32) - ungated).max() / np.abs(theirs).max()
  return [*found, without_gate]


@host.needs_compiler
@pytest.mark.parametrize('n', range(len(CASES)), ids=lambda n: '-'.join(map(str, CASES[n])))
def test_products(errors, n):
  """Run on this CPU, thread for thread. Only the result is rounded."""
  assert errors[n] < (4e-3 if CASES[n][-1] == 'bfloat16' else 1e-6)


@host.needs_compiler
def test_a_missing_gate_would_be_seen(errors):
  assert errors[-1] > 0.1


@host.needs_compiler
def test_the_operands_are_those_of_the_kernel(monkeypatch, tmp_path):
  """All that may be given, in the order that the kernel reads."""
  monkeypatch.setattr(dense, 'launch', functools.partial(host.launch, tmp_path))
  case = (20, 12, 8), 'OFFSET GATED ADDED', 'hard_swish', 'relu', 'bfloat16'
  x, offset, gate, matrix, bias, shortcut = operands = draw(case, 0)
  found = dense.multiply(
    *map(jnp.asarray, (x, matrix.astype(np.float32), bias)),
    **{'offset': offset, 'gate': gate, 'shortcut': shortcut},
    **{'start': 'hard_swish', 'finish': 'relu'},
  )
  theirs = reference(case, *operands)
  assert np.abs(found.astype(np.float32) - theirs).max() < 4e-3 * np.abs(theirs).max()


@host.needs_nvrtc
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('shape', [(3136, 16, 40), (196, 240, 56), (49, 384, 104), (1600, 24, 64)])
def test_sums_and_weights_are_registers(shape, dtype):
  kernel = make_kernel((shape, 'OFFSET GATED ADDED', 'silu', 'hard_swish', dtype))
  assert host.count_registers(kernel) <= 128
