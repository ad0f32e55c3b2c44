"""The kernels are the convolution and its gradients, and what a GPU gets is lean."""

import contextlib
import dataclasses
import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.ops import depthwise_conv3d, space_padding, time_padding
from movinet_jax.ops.cuda import nvrtc
from movinet_jax.ops.depthwise import cuda, shifted
from movinet_jax.ops.depthwise.plan import Plan
from tests.ops.cuda.host import compile_kernels, count_registers, needs_compiler, needs_nvrtc, run

needs_plugin = pytest.mark.skipif(
  importlib.util.find_spec('jax_cuda13_plugin') is None, reason='no compiler for GPUs is installed'
)

# x, kernel, stride, time, padding, dtype: every size, stride and padding, channels that make no
# pairs or no whole blocks, and frames of several programs.
CASES = [
  ((2, 9, 6, 7, 6), (3, 3, 3), (1, 1), 'same', 'same', 'float32'),
  ((1, 30, 9, 8, 10), (5, 3, 3), (2, 2), 'causal', 'same', 'float32'),
  ((2, 4, 9, 8, 5), (1, 5, 5), (3, 3), 'same', 'centred', 'bfloat16'),
  ((1, 8, 8, 9, 4), (7, 7, 7), (2, 1), 'same', 'same', 'float32'),
  ((1, 9, 4, 4, 66), (5, 1, 1), (1, 1), 'valid', 'same', 'bfloat16'),
  ((3, 7, 14, 14, 3), (3, 1, 7), (1, 3), 'causal', 'centred', 'float32'),
  ((1, 5, 7, 7, 2), (5, 5, 5), (1, 1), 'same', 'same', 'bfloat16'),
  ((2, 3, 11, 5, 70), (2, 4, 2), (2, 3), 'causal', 'same', 'float32'),
  ((1, 3, 7, 6, 4), (1, 1, 1), (2, 2), 'same', 'same', 'float32'),
  ((2, 40, 5, 6, 6), (3, 3, 3), (2, 2), 'valid', 'same', 'float32'),
]

# The clips, kernels and strides of MoViNet-A2 and X3D-M, each padded by its family's rule.
NETWORKS = [
  ((50, 56, 56, 40), (3, 3, 3), 1, 'same'),
  ((50, 14, 14, 240), (5, 3, 3), 1, 'same'),
  ((50, 56, 56, 120), (3, 3, 3), 2, 'same'),
  ((50, 7, 7, 480), (1, 5, 5), 1, 'same'),
  ((16, 56, 56, 54), (3, 3, 3), 1, 'centred'),
  ((50, 14, 14, 240), (5, 1, 1), 1, 'same'),
  ((50, 112, 112, 40), (1, 5, 5), 2, 'same'),
  ((16, 14, 14, 216), (7, 7, 7), 1, 'same'),
]


def make_plan(x, taps, stride, time, padding, dtype):
  """For x [B, T, H, W, C]."""
  pads = (
    time_padding(taps[0], time),
    *(space_padding(padding, x[2 + a], taps[1 + a], stride[a]) for a in (0, 1)),
  )
  return Plan(x[1:], taps, stride, pads, dtype, 'float32')


def make_kernels(clips, plan):
  return (
    cuda.make_convolve(clips, plan),
    cuda.make_convolve(clips, plan, transposed=True),
    cuda.make_correlate(clips, plan),
  )


def reference(x, kernel, g, stride, time, padding):
  """y, dx and dkernel, of XLA's grouped convolution in float32."""

  def convolve(x, kernel):
    return depthwise_conv3d(
      x, kernel[..., None, :], stride=stride, time=time, padding=padding, form='native'
    )

  y, pull = jax.vjp(convolve, *(jnp.asarray(a, jnp.float32) for a in (x, kernel)))
  return y, *pull(jnp.asarray(g, jnp.float32))


def find_error(ours, theirs):
  ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
  assert ours.shape == theirs.shape
  return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  """(case, errors of y, dx and dkernel), and of the first case with a pad that is wrong."""
  plans = [make_plan(*case) for case in CASES]
  wrong = dataclasses.replace(plans[0], pads=((0, 2), *plans[0].pads[1:]))
  kernels = []
  for n, (case, plan) in enumerate(zip([*CASES, CASES[0]], [*plans, wrong], strict=True)):
    with pytest.MonkeyPatch.context() as patch:
      if n % 2:  # as of a large batch, where a block serves several groups of rows
        patch.setattr(cuda, '_RESIDENT', 200)
      kernels.append(make_kernels(case[0][0], plan))
  cut = [dict(correlate.constants) for *_, correlate in kernels]
  assert (
    {one['GROUPS'] > 1 for one in cut} == {one['KTS'] < one['KT'] for one in cut} == {True, False}
  )
  flat = [kernel for three in kernels for kernel in three]
  library = compile_kernels(flat, tmp_path_factory.mktemp('kernels'))
  found = []
  for n, (shape, taps, stride, time, padding, dtype) in enumerate([*CASES, CASES[0]]):
    random = np.random.default_rng(n)
    y = kernels[n][0].results[0].shape
    x, g = (random.normal(size=s).astype(jnp.dtype(dtype)) for s in (shape, y))
    kernel = random.normal(size=(*taps, shape[-1])).astype(np.float32)
    operands = (x, kernel), (g, kernel), (x, g)
    ours = [run(library, 3 * n + i, kernels[n][i], *pair)[0] for i, pair in enumerate(operands)]
    ours[2] = ours[2].sum(0)
    theirs = reference(x, kernel, g, stride, time, padding)
    found.append([find_error(a, b) for a, b in zip(ours, theirs, strict=True)])
  return found


@needs_compiler
@pytest.mark.parametrize('n', range(len(CASES)), ids=lambda n: '-'.join(map(str, CASES[n])))
def test_values_and_gradients(results, n):
  """Run on this CPU, thread for thread. Only what is stored as bfloat16 is rounded."""
  rounding = 4e-3 if CASES[n][-1] == 'bfloat16' else 1e-6
  for name, error, bound in zip(
    ('y', 'dx', 'dkernel'), results[n], (rounding, rounding, 1e-6), strict=True
  ):
    assert error < bound, name


@needs_compiler
def test_a_wrong_pad_would_be_seen(results):
  assert min(results[-1]) > 0.1


@needs_nvrtc
@pytest.mark.parametrize('dtype', cuda.DTYPES)
@pytest.mark.parametrize('case', NETWORKS, ids=str)
def test_all_sums_and_taps_are_registers(case, dtype):
  """Nothing is kept in local memory, and so few registers that memory is waited for by many."""
  x, taps, stride, padding = case
  plan = make_plan((8, *x), taps, (stride, stride), 'same', padding, dtype)
  for kernel in make_kernels(8, plan):
    registers = count_registers(kernel)
    assert registers <= 168, f'{kernel.name} {registers}'


def lower(form='auto', shape=(2, 16, 8, 8, 6), platform='cuda'):
  depthwise_conv3d.clear_cache()
  x, kernel = jnp.zeros(shape), jnp.zeros((3, 3, 3, 1, 6))
  traced = depthwise_conv3d.trace(x, kernel, form=form)
  return traced.lower(lowering_platforms=(platform,)).as_text()


@needs_nvrtc
def test_a_gpu_gets_kernels_for_clips_and_none_for_a_few_frames():
  text = lower()
  assert text.count('xla.gpu.ptx') == 1
  assert f'.version {nvrtc.PTX_VERSION}' in text
  assert 'xla.gpu.ptx' not in lower(shape=(1, 3, 8, 8, 6))
  assert 'xla.gpu.ptx' not in lower(platform='cpu')


@pytest.fixture
def fresh():
  """Nothing is known yet of the kernels, the compiler and the GPU."""
  caches = nvrtc.load, nvrtc.begin, cuda._try_out, cuda._warn
  for one in caches:
    one.cache_clear()
  yield
  for one in caches:
    one.cache_clear()
  depthwise_conv3d.clear_cache()


def test_without_a_compiler_one_warning_says_so(monkeypatch, fresh):
  monkeypatch.setattr(nvrtc, 'find_library', lambda: None)
  with pytest.warns(RuntimeWarning, match=r"NVRTC.*pip install 'jax\[cuda13\]'"):
    assert 'xla.gpu.ptx' not in lower()
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    lower()


@needs_nvrtc
def test_compiled_kernels_are_kept_beside_programs(tmp_path, monkeypatch):
  """A second process finds them; a damaged file is compiled again; the text is always the same."""
  compile_anew = nvrtc.find_ptx
  source = 'extern "C" __global__ void own(float *x) { x[threadIdx.x] *= 3; }'
  with _cache_in(None):
    plain = compile_anew(source)
  with _cache_in(tmp_path / 'new'):
    assert compile_anew(source) == plain
    (file,) = (tmp_path / 'new').iterdir()
    monkeypatch.setattr(nvrtc, '_compile', _refuse)
    assert compile_anew(source) == plain
    with pytest.raises(AssertionError, match='compiled again'):
      compile_anew(source.replace('3', '4'))
    file.write_text(plain[:100])
    with pytest.raises(AssertionError, match='compiled again'):
      compile_anew(source)
  with _cache_in('gs://bucket/cache'):
    assert nvrtc._find_kept(source) is None


def _refuse(*_):
  raise AssertionError('compiled again')


@contextlib.contextmanager
def _cache_in(folder):
  before = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', folder and str(folder))
  try:
    yield
  finally:
    jax.config.update('jax_compilation_cache_dir', before)


@needs_nvrtc
@pytest.mark.parametrize(
  ('convolve', 'message'),
  [
    # As on a GPU whose XLA cannot launch: this CPU cannot, either.
    (cuda.convolve, 'ValueError: the kernel convolve'),
    (lambda x, kernel, plan: 1.01 * shifted.convolve(x, kernel, plan), 'differs by '),
    (shifted.convolve, None),
  ],
)
def test_a_small_convolution_is_tried_on_a_gpu_first(monkeypatch, fresh, convolve, message):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(cuda, 'convolve', convolve)
  monkeypatch.setattr(cuda, 'correlate', shifted.correlate)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    plan = make_plan((1, 16, 8, 8, 6), (3, 3, 3), (1, 1), 'same', 'same', 'float32')
    assert cuda.can_run(plan) == (message is None)
  said = [str(one.message) for one in caught if one.category is RuntimeWarning]
  assert said == [] if message is None else message in said[0], said


@pytest.mark.parametrize(
  ('kernel', 'stride', 'dtype', 'message'),
  [
    ((3, 3, 3), 1, 'float16', r'float32 and bfloat16.*got float16.*form=auto'),
    ((3, 9, 3), 1, 'float32', r'7x7x7.*3x9x3.*form=auto'),
    ((3, 3, 3), 4, 'float32', r'strides up to 3.*stride \(4, 4\).*form=auto'),
    ((3, 3, 3), 1, 'float32', r'NVIDIA GPUs only.*form=auto'),
  ],
)
def test_what_no_kernel_does_is_refused(kernel, stride, dtype, message):
  x, kernel = jnp.zeros((1, 4, 16, 16, 2), dtype), jnp.zeros((*kernel, 1, 2), dtype)
  with pytest.raises(ValueError, match=message):
    depthwise_conv3d(x, kernel, stride=(stride, stride), form='cuda')


@needs_plugin
@needs_nvrtc
def test_programs_for_one_and_for_eight_gpus():
  """In a process of its own: a compiler that gives up takes its process with it."""
  script = Path(__file__).with_name('compile.py')
  done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
  assert done.stdout.split() == ['one', 'eight', 'mapped'], done.stderr[-3000:]


@needs_nvrtc
def test_kernels_are_compiled_while_a_gpu_program_is_traced(monkeypatch):
  """On a GPU here; for another, when the program is lowered."""
  begun = []
  monkeypatch.setattr(nvrtc, 'begin', begun.append)
  plan = make_plan((1, 16, 8, 8, 6), (3, 3, 3), (1, 1), 'same', 'same', 'float32')
  shapes = jax.ShapeDtypeStruct((1, *plan.x), 'float32'), jnp.zeros((3, 3, 3, 6))
  jax.eval_shape(lambda x, k: cuda.launch(cuda.make_convolve(1, plan), x, k), *shapes)
  assert not begun
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  jax.eval_shape(lambda x, k: cuda.launch(cuda.make_convolve(1, plan), x, k), *shapes)
  assert begun == [cuda.make_convolve(1, plan).source]
