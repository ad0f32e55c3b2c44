"""The three-channel stem: a sum of products, one product of patches, and XLA's convolution.

python benchmarks/stem.py             measured here: a JSON line a shape
python benchmarks/stem.py v5e:2x2     what the compiler says of a TPU (pip install libtpu)
"""

import json
import sys

import jax
import jax.numpy as jnp
from timing import describe_machine, estimate_program

from movinet_jax.ops import spatial_conv
from movinet_jax.timing import compile_program, time_in_turns

# (B, T, H, W, 3), filters: MoViNet-A0 live and on a clip, A2 live, X3D-S on a clip.
SHAPES = [
  ((1, 1, 172, 172, 3), 8),
  ((1, 8, 172, 172, 3), 8),
  ((1, 1, 224, 224, 3), 16),
  ((1, 13, 160, 160, 3), 24),
]


FORMS = ('direct', 'patches', 'native')
PARTS = ('forward', 'kernel_gradient')


def main(arguments):
  for shape, features in SHAPES:
    found = (estimate if arguments else measure)(shape, features, *arguments)
    row = {'benchmark': 'stem', 'features': features, **found}
    print(json.dumps(row), flush=True)


def measure(shape, features) -> dict:
  x = jax.random.uniform(jax.random.key(0), shape)
  kernel = jax.random.normal(jax.random.key(1), (1, 3, 3, 3, features))
  result = {'x': shape}
  for name, make in zip(PARTS, (forward, gradient), strict=True):
    programs = {form: compile_program(make(form), x, kernel)[0] for form in FORMS}
    times = time_in_turns({f: lambda p=p: p(x, kernel) for f, p in programs.items()})
    result[name] = {f'{form}_ms': round(ms, 3) for form, ms in times.items()}
    result[name]['ratio'] = round(times['native'] / times['direct'], 1)
  return {**result, **describe_machine()}


def estimate(shape, features, topology) -> dict:
  x = jax.ShapeDtypeStruct((8, *shape[1:]), jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((1, 3, 3, 3, features), jnp.bfloat16)
  result = {'x': x.shape, 'topology': topology}
  for name, make in zip(PARTS, (forward, gradient), strict=True):
    result[name] = {form: estimate_program(make(form), topology, x, kernel) for form in FORMS}
  return {**result, 'jax': jax.__version__}


def forward(form):
  return lambda x, kernel: spatial_conv(x, kernel, stride=(2, 2), form=form)


def gradient(form):
  def loss(kernel, x):
    return jnp.sum(forward(form)(x, kernel).astype(jnp.float32) ** 2)

  return lambda x, kernel: jax.grad(loss)(kernel, x)


if __name__ == '__main__':
  main(sys.argv[1:])
