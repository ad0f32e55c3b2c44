"""The three-channel stem: one product over gathered patches against XLA's convolution.

python benchmarks/stem.py             prints one JSON line a shape
"""

import json

import jax
import jax.numpy as jnp
from timing import compile_program, describe_machine, time_in_turns

from movinet_jax.ops import spatial_conv

# (B, T, H, W, 3), filters: MoViNet-A0 live and on a clip, A2 live, X3D-S on a clip.
SHAPES = [
  ((1, 1, 172, 172, 3), 8),
  ((1, 8, 172, 172, 3), 8),
  ((1, 1, 224, 224, 3), 16),
  ((1, 13, 160, 160, 3), 24),
]


def main():
  for shape, features in SHAPES:
    x = jax.random.uniform(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (1, 3, 3, 3, features))
    result = {'benchmark': 'stem', 'x': shape, 'features': features}
    for name, make in (('forward', forward), ('kernel_gradient', gradient)):
      forms = ('patches', 'native')
      programs = {form: compile_program(make(form), x, kernel)[0] for form in forms}
      calls = {form: lambda p=p, a=(x, kernel): p(*a) for form, p in programs.items()}
      times = time_in_turns(calls)
      result[name] = {f'{form}_ms': round(ms, 3) for form, ms in times.items()}
      result[name]['ratio'] = round(times['native'] / times['patches'], 1)
    print(json.dumps({**result, **describe_machine()}), flush=True)


def forward(form):
  return lambda x, kernel: spatial_conv(x, kernel, stride=(2, 2), form=form)


def gradient(form):
  def loss(kernel, x):
    return jnp.sum(forward(form)(x, kernel) ** 2)

  return lambda x, kernel: jax.grad(loss)(kernel, x)


if __name__ == '__main__':
  main()
