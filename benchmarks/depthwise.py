"""Depthwise 3D convolution by itself: every form, in turns in one run, and PyTorch beside them.

  python benchmarks/depthwise.py                  on what is here: JSON lines, then a table
  python benchmarks/depthwise.py --dtype=float32 --kinds all --shapes 0 4
  python benchmarks/depthwise.py --quick          tiny shapes: shows that it runs
  python benchmarks/depthwise.py v5e:2x2          what the compiler says of a TPU that is not
                                                  here (pip install libtpu): its roofline
                                                  estimate, the bytes moved and the temporary
                                                  memory of one chip

On an accelerator: nine layers of MoViNet-A2 and X3D-M, clips of 50 and 16 frames, 8 at a time,
in bfloat16. On a CPU: five layers of MoViNet-A0, one clip of 8 frames in float32; it takes a few
minutes. The kinds are `forward`, `input_gradient` and `kernel_gradient` alone, and `all` three as
training has them.

Many calls are queued before each synchronisation, and inputs are rotated, so that neither the
way to the device nor its caches count. Outputs are compared with the shifted form in float32:
`error` is the largest difference over the largest value. `floor_ms` is the time in which the
device copies as many bytes as a call needs: each input read once and each output written once
(`all` is three such passes). `copy_share` is the floor over the time.

PyTorch runs in a process of its own before JAX takes memory, in both layouts, with
cudnn.benchmark; `ratio` is the better layout's time over that of a form. Where PyTorch is not
installed its side is left out.
"""

import argparse
import concurrent.futures
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it is not installed
if __name__ == '__main__':
  # Or JAX would take most of the memory before PyTorch and what compiles beside it.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import jax
import jax.numpy as jnp
from tables import format_number, print_table
from timing import describe_machine, estimate_program, is_out_of_memory, measure_copy_rate

from movinet_jax.names import check_name
from movinet_jax.ops import depthwise_conv3d
from movinet_jax.ops.depthwise import FORMS
from movinet_jax.timing import queue_in_turns

KINDS = ('forward', 'input_gradient', 'kernel_gradient', 'all')
DTYPES = ('bfloat16', 'float32')
# The largest difference that rounding explains, over the largest value.
TOLERANCE = {'bfloat16': 2e-2, 'float32': 1e-4}
_ROTATED_BYTES = 256e6  # of all inputs of a shape: more than the caches of a GPU hold
_MOST_SETS = 16


class Shape(NamedTuple):
  """A layer: its input [B, T, H, W, C], its kernel, the stride and padding of space."""

  layer: str
  x: tuple[int, int, int, int, int]
  kernel: tuple[int, int, int]
  stride: int = 1
  padding: str = 'same'

  @property
  def y(self) -> tuple[int, int, int, int, int]:
    b, t, h, w, c = self.x
    return b, t, -(-h // self.stride), -(-w // self.stride), c

  def count_bytes(self, kind: str, dtype: str) -> int:
    """Bytes of each input and output once; those of the kernel are nothing beside them."""
    passes = 3 if kind == 'all' else 1
    return passes * (math.prod(self.x) + math.prod(self.y)) * jnp.dtype(dtype).itemsize

  def describe(self) -> dict:
    about = self._asdict()
    return {**about, 'layer': self.layer, 'kernel': 'x'.join(map(str, self.kernel))}


ACCELERATOR_SHAPES = (
  Shape('A2', (8, 50, 56, 56, 40), (3, 3, 3)),
  Shape('A2', (8, 50, 14, 14, 240), (5, 3, 3)),
  Shape('A2', (8, 50, 28, 28, 120), (3, 3, 3), 2),
  Shape('A2', (8, 50, 7, 7, 480), (1, 5, 5)),
  Shape('X3D-M', (8, 16, 56, 56, 54), (3, 3, 3), 1, 'centred'),
  Shape('A2', (8, 50, 14, 14, 240), (3, 3, 3)),
  Shape('A2', (8, 50, 14, 14, 240), (5, 1, 1)),
  Shape('A2', (8, 50, 112, 112, 40), (1, 5, 5), 2),
  Shape('X3D-M', (8, 16, 14, 14, 216), (3, 3, 3), 1, 'centred'),
)
CPU_SHAPES = (
  Shape('A0', (1, 8, 22, 22, 80), (3, 3, 3)),
  Shape('A0', (1, 8, 22, 22, 184), (3, 3, 3)),
  Shape('A0', (1, 8, 43, 43, 80), (3, 3, 3), 2),
  Shape('A0', (1, 8, 86, 86, 24), (1, 5, 5), 2),
  Shape('A0', (1, 8, 11, 11, 184), (5, 3, 3)),
)
QUICK_SHAPES = (
  Shape('tiny', (1, 4, 6, 5, 8), (3, 3, 3), 2),
  Shape('tiny', (2, 5, 4, 4, 8), (5, 1, 1), 1, 'centred'),
)


def find_defaults(quick: bool, backend: str = '') -> dict:
  """Shapes, dtype, kinds and forms that suit a JAX backend; by default, the one that is here."""
  backend = backend or jax.default_backend()
  here = {
    'gpu': (ACCELERATOR_SHAPES, 'bfloat16', KINDS, ('cuda', 'shifted')),
    'cpu': (CPU_SHAPES, 'float32', ('forward', 'all'), ('shifted', 'native')),
  }
  other = ACCELERATOR_SHAPES, 'bfloat16', KINDS, ('shifted', 'native')
  shapes, dtype, kinds, forms = here.get(backend, other)
  if quick:
    shapes, kinds = QUICK_SHAPES, KINDS
  return {'shapes': shapes, 'dtype': dtype, 'kinds': kinds, 'forms': forms}


def make_functions(shape: Shape, form: str) -> dict:
  """By kind, functions of (x, kernel, g), g being the gradient of the output."""

  def run(x, kernel):
    stride = shape.stride, shape.stride
    return depthwise_conv3d(x, kernel, stride=stride, padding=shape.padding, form=form)

  def input_gradient(x, kernel, g):
    return jax.vjp(lambda x: run(x, kernel), x)[1](g)[0]

  def kernel_gradient(x, kernel, g):
    return jax.vjp(lambda kernel: run(x, kernel), kernel)[1](g)[0]

  def all_of_it(x, kernel, g):
    y, pull_back = jax.vjp(run, x, kernel)
    return y, *pull_back(g)

  def forward(x, kernel, g):
    return run(x, kernel)

  return dict(zip(KINDS, (forward, input_gradient, kernel_gradient, all_of_it), strict=True))


class Programs:
  """The convolution of some shapes in some forms: compiled by several threads, then measured."""

  def __init__(self, *, shapes: Sequence[Shape], dtype: str, kinds, forms, quick: bool = False):
    self.shapes, self.dtype, self.kinds, self.forms = shapes, dtype, kinds, forms
    self.quick = quick
    # Programs of a CPU use all cores to compile one, and all memory bandwidth to run.
    threads = 1 if jax.default_backend() == 'cpu' else max(1, (os.cpu_count() or 2) // 2)
    self._pool = concurrent.futures.ThreadPoolExecutor(threads)
    self._references, self._found = {}, {}

  def compile(self):
    """Compiles everything; what fails is told when it is measured."""
    for shape in self.shapes:
      plain = make_functions(shape, 'shifted')['all']
      self._references[shape] = self._submit(plain, _list_inputs(shape, 'float32'))
      inputs = _list_inputs(shape, self.dtype)
      for form in self.forms:
        functions = make_functions(shape, form)
        for kind in self.kinds:
          self._found[shape, kind, form] = self._submit(functions[kind], inputs)
    concurrent.futures.wait([*self._references.values(), *self._found.values()])

  def _submit(self, function, inputs) -> concurrent.futures.Future:
    try:
      lowered = jax.jit(function).lower(*inputs)
    except Exception as error:  # a form that cannot run here says so in its row
      failed = concurrent.futures.Future()
      failed.set_exception(error)
      return failed
    return self._pool.submit(lowered.compile)

  def measure(self) -> Iterator[dict]:
    """A row for each shape and kind."""
    rate = measure_copy_rate()
    for shape in self.shapes:
      try:
        yield from self._measure_shape(shape, rate)
      except Exception as error:
        if not is_out_of_memory(error):
          raise
        yield {'benchmark': 'depthwise', **shape.describe(), 'failed': 'out of memory'}

  def _measure_shape(self, shape: Shape, rate: float) -> Iterator[dict]:
    reference = self._compute_reference(shape)
    sets = _draw_sets(shape, self.dtype)
    for kind in self.kinds:
      floor = 1e3 * shape.count_bytes(kind, self.dtype) / rate
      row = {'benchmark': 'depthwise', **shape.describe(), 'dtype': self.dtype, 'kind': kind}
      row |= {'copy_gb_a_sec': round(rate / 1e9, 1), 'floor_ms': format_number(floor)}
      wanted = reference if kind == 'all' else (reference[KINDS.index(kind)],)
      calls, errors, failed = {}, {}, {}
      for form in self.forms:
        try:
          program = self._found[shape, kind, form].result()
          errors[form] = format_number(_find_error(program(*sets[0]), wanted), 2)
          calls[form] = lambda n, p=program: p(*sets[n % len(sets)])
        except Exception as error:
          failed[form] = _describe_error(error)
      pace = {'rounds': 3, 'queue_secs': 1e-3} if self.quick else {}
      times = queue_in_turns(calls, **pace)
      row['ms'] = {form: format_number(ms) for form, ms in times.items()}
      row['copy_share'] = {form: format_number(floor / ms) for form, ms in times.items()}
      row['error'] = errors
      if wrong := [f for f, error in errors.items() if not error < TOLERANCE[self.dtype]]:
        row['wrong'] = wrong
      yield {**row, **({'failed': failed} if failed else {})}

  def _compute_reference(self, shape: Shape):
    """(y, input gradient, kernel gradient) in float32 of the first set."""
    inputs = [a.astype(jnp.float32) for a in _draw_sets(shape, self.dtype, most=1)[0]]
    return self._references[shape].result()(*inputs)


def _describe_error(error: Exception) -> str:
  if is_out_of_memory(error):
    return 'out of memory'
  return f'{type(error).__name__}: {(str(error).splitlines() or [""])[0][:200]}'


def _list_inputs(shape: Shape, dtype: str) -> list[jax.ShapeDtypeStruct]:
  kernel = *shape.kernel, 1, shape.x[-1]
  return [jax.ShapeDtypeStruct(s, dtype) for s in (shape.x, kernel, shape.y)]


def _draw_sets(shape: Shape, dtype: str, most: int = _MOST_SETS) -> list[list[jax.Array]]:
  """Random (x, kernel, g), as many as it takes to fill the caches; one on a CPU."""
  size = shape.count_bytes('forward', dtype)
  count = 1 if jax.default_backend() == 'cpu' else math.ceil(_ROTATED_BYTES / size)
  scale = [1.0, 1 / math.sqrt(math.prod(shape.kernel)), 1.0]

  def draw(n: int) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(n), 3)
    inputs = zip(keys, _list_inputs(shape, dtype), scale, strict=True)
    return [(jax.random.normal(k, s.shape, s.dtype) * a).astype(s.dtype) for k, s, a in inputs]

  draw = jax.jit(draw)  # one program for all sets
  return [draw(n) for n in range(min(count, most))]


@jax.jit
def _compare(found: jax.Array, wanted: jax.Array) -> jax.Array:
  """The largest difference over the largest value; infinite if anything is not finite."""
  found, wanted = found.astype(jnp.float32), wanted.astype(jnp.float32)
  error = jnp.max(jnp.abs(found - wanted)) / jnp.max(jnp.abs(wanted))
  return jnp.where(jnp.isfinite(found).all(), error, jnp.inf)


def _find_error(found, wanted) -> float:
  found = found if isinstance(found, tuple) else (found,)
  return max(float(_compare(*pair)) for pair in zip(found, wanted, strict=True))


def make_torch_command(arguments: Sequence[str]) -> list[str]:
  """The command that measures PyTorch; see depthwise_torch.py."""
  return [sys.executable, str(Path(__file__).with_name('depthwise_torch.py')), *arguments]


def has_torch() -> bool:
  """Whether PyTorch is installed; it is not imported."""
  return importlib.util.find_spec('torch') is not None


def measure_torch(shapes, dtype: str, kinds, quick: bool) -> list[dict]:
  """PyTorch's rows, measured by a process that has ended when this returns."""
  order = {'shapes': shapes, 'dtype': dtype, 'kinds': list(kinds), 'quick': quick}
  done = subprocess.run(make_torch_command([json.dumps(order)]), stdout=subprocess.PIPE, text=True)
  rows = [json.loads(line)['row'] for line in done.stdout.splitlines() if line[:1] == '{']
  if done.returncode:
    rows.append({'failed': f'PyTorch ended with exit code {done.returncode}'})
  return rows


def join_torch(row: dict, torch_rows: Sequence[Mapping]) -> dict:
  """A row of ours with the times of PyTorch for the same call, and the ratios to the better."""
  keys = 'x', 'kernel', 'stride', 'dtype', 'kind'
  theirs = [t for t in torch_rows if all(_plain(t.get(k)) == _plain(row.get(k)) for k in keys)]
  times = {f'torch {t["layout"]}': t['ms'] for t in theirs if 'ms' in t}
  if not times or 'ms' not in row:
    return row
  best, floor = min(times.values()), row['floor_ms']
  return {
    **row,
    'ms': {**row['ms'], **times},
    'copy_share': {**row['copy_share'], **{k: format_number(floor / v) for k, v in times.items()}},
    'ratio': {form: format_number(best / ms) for form, ms in row['ms'].items()},
  }


def _plain(value):
  return list(value) if isinstance(value, tuple) else value


def print_depthwise_table(rows: Sequence[Mapping]):
  """In Markdown, a line for each shape and kind."""
  lines = []
  for row in rows:
    line = {'layer': row['layer'], 'x': 'x'.join(map(str, row['x']))}
    line |= {'kernel': row['kernel'] + (f' / {row["stride"]}' if row['stride'] > 1 else '')}
    line |= {key: row.get(key) for key in ('dtype', 'kind', 'floor_ms')}
    line |= {f'{name}, ms': ms for name, ms in row.get('ms', {}).items()}
    shares = row.get('copy_share', {})
    line |= {f'{f}, of copy': f'{100 * s:.0f} %' for f, s in shares.items() if 'torch' not in f}
    line |= {f'{form} to torch': f'{r:g} x' for form, r in row.get('ratio', {}).items()}
    lines.append(line | {k: str(row[k]) for k in ('failed', 'wrong') if k in row})
  print_table(lines)


def estimate(shape: Shape, topology: str) -> dict:
  """What the compiler says of 8 clips in bfloat16 on one chip of a TPU that is not here."""
  kernel = *shape.kernel, 1, shape.x[-1]
  given = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((8, *shape.x[1:]), kernel)]
  result = {'benchmark': 'depthwise', 'kernel': shape.kernel, 'stride': shape.stride}
  result |= {'x': given[0].shape, 'topology': topology}

  def forward(form, x, kernel):
    return depthwise_conv3d(x, kernel, stride=(shape.stride,) * 2, form=form)

  def loss(form, x, kernel):
    return jnp.sum(forward(form, x, kernel).astype(jnp.float32) ** 2)

  for name, function in (
    ('forward', forward),
    ('forward_backward', jax.value_and_grad(loss, (1, 2))),
  ):
    result[name] = {
      form: estimate_program(lambda x, k, f=form, run=function: run(f, x, k), topology, *given)
      for form in ('shifted', 'native')
    }
  return {**result, 'jax': jax.__version__}


def parse_arguments() -> argparse.Namespace:
  raw = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
  add = parser.add_argument
  add('topology', nargs='?', help='of TPUs that are not here, such as v5e:2x2')
  add('--dtype', choices=DTYPES, help='default: bfloat16; on a CPU float32')
  add('--kinds', nargs='+', choices=KINDS, help='default: all four; on a CPU forward and all')
  forms = [form for form in FORMS if form != 'auto']
  add('--forms', nargs='+', help=f'of {", ".join(forms)}; default: those that suit the device')
  add('--shapes', nargs='+', type=int, metavar='N', help='numbers of the shapes, from 0')
  add('--no-torch', action='store_true', help='leave PyTorch out')
  add('--quick', action='store_true', help='tiny shapes, few calls')
  arguments = parser.parse_args()
  for form in arguments.forms or ():
    check_name(form, forms, 'form')
  return arguments


def main() -> int:
  arguments = parse_arguments()
  if arguments.topology:
    for shape in CPU_SHAPES:
      print(json.dumps(estimate(shape, arguments.topology)), flush=True)
    return 0
  jax.config.update('jax_enable_compilation_cache', False)
  chosen = find_defaults(arguments.quick)
  chosen |= {k: v for k in ('dtype', 'kinds', 'forms') if (v := getattr(arguments, k))}
  if arguments.shapes:
    chosen['shapes'] = [chosen['shapes'][n] for n in arguments.shapes]
  theirs = []
  if has_torch() and not arguments.no_torch:
    given = chosen['shapes'], chosen['dtype'], chosen['kinds'], arguments.quick
    theirs = measure_torch(*given)
    for row in theirs:
      print(json.dumps(row), flush=True)
  programs, began = Programs(**chosen, quick=arguments.quick), time.perf_counter()
  programs.compile()
  machine = {**describe_machine(), 'compile_secs': round(time.perf_counter() - began, 1)}
  print(json.dumps(machine), flush=True)
  rows = []
  for row in programs.measure():
    rows.append(join_torch(row, theirs))
    print(json.dumps(rows[-1]), flush=True)
  print_depthwise_table(rows)
  return 1 if any('wrong' in row for row in rows) else 0


if __name__ == '__main__':
  sys.exit(main())
