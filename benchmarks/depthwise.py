"""Depthwise 3D convolution: sums of shifted products against XLA's grouped convolution.

python benchmarks/depthwise.py               measured here: a JSON line a shape; two minutes
python benchmarks/depthwise.py v5e:2x2       what the compiler says of a TPU that is not here
                                             (pip install libtpu): its roofline estimate, the
                                             bytes moved and the temporary memory of one chip
"""

import json
import sys

import jax
import jax.numpy as jnp
from timing import describe_machine, estimate_program

from movinet_jax.ops import depthwise_conv3d
from movinet_jax.timing import compile_program, time_in_turns

# (T, H, W, C), kernel, stride: layers of MoViNet-A0 on 8 frames of 172².
SHAPES = [
  ((8, 22, 22, 80), (3, 3, 3), 1),
  ((8, 22, 22, 184), (3, 3, 3), 1),
  ((8, 43, 43, 80), (3, 3, 3), 2),
  ((8, 86, 86, 24), (1, 5, 5), 2),
  ((8, 11, 11, 184), (5, 3, 3), 1),
]
FORMS = ('shifted', 'native')


def main(arguments):
  for shape, kernel_shape, stride in SHAPES:
    if arguments:
      found = estimate((8, *shape), kernel_shape, stride, *arguments)
    else:
      found = measure((1, *shape), kernel_shape, stride)
    row = {'benchmark': 'depthwise', 'kernel': kernel_shape, 'stride': stride, **found}
    print(json.dumps(row), flush=True)


def make_functions(form, stride) -> dict:
  def forward(x, kernel):
    return depthwise_conv3d(x, kernel, stride=(stride, stride), form=form)

  def loss(x, kernel):
    return jnp.sum(forward(x, kernel).astype(jnp.float32) ** 2)

  return {
    'forward': forward,
    'forward_backward': jax.value_and_grad(loss, (0, 1)),
  }


def measure(shape, kernel_shape, stride) -> dict:
  x = jax.random.normal(jax.random.key(0), shape)
  kernel = jax.random.normal(jax.random.key(1), (*kernel_shape, 1, shape[-1]))
  functions, result = {f: make_functions(f, stride) for f in FORMS}, {'x': shape}
  for name in functions['native']:
    programs = {f: compile_program(functions[f][name], x, kernel)[0] for f in FORMS}
    times = time_in_turns({f: lambda p=p: p(x, kernel) for f, p in programs.items()})
    result[name] = {f'{form}_ms': round(ms, 3) for form, ms in times.items()}
    result[name]['ratio'] = round(times['native'] / times['shifted'], 1)
  return {**result, **describe_machine()}


def estimate(shape, kernel_shape, stride, topology) -> dict:
  x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((*kernel_shape, 1, shape[-1]), jnp.bfloat16)
  functions = {form: make_functions(form, stride) for form in FORMS}
  result = {'x': shape, 'topology': topology}
  for name in functions['native']:
    result[name] = {
      form: estimate_program(functions[form][name], topology, x, kernel) for form in FORMS
    }
  return {**result, 'jax': jax.__version__}


if __name__ == '__main__':
  main(sys.argv[1:])
