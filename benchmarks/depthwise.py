"""Depthwise 3D convolution: sums of shifted products against XLA's grouped convolution.

python benchmarks/depthwise.py        prints one JSON line; about two minutes on two cores
"""

import json

import jax
import jax.numpy as jnp
from timing import compile_program, describe_machine, time_in_turns

from movinet_jax.ops import depthwise_conv3d

# (B, T, H, W, C), kernel, stride: layers of MoViNet-A0 on 8 frames of 172².
SHAPES = [
  ((1, 8, 22, 22, 80), (3, 3, 3), 1),
  ((1, 8, 22, 22, 184), (3, 3, 3), 1),
  ((1, 8, 43, 43, 80), (3, 3, 3), 2),
  ((1, 8, 86, 86, 24), (1, 5, 5), 2),
  ((1, 8, 11, 11, 184), (5, 3, 3), 1),
]


def main():
  for shape, kernel_shape, stride in SHAPES:
    print(json.dumps(measure(shape, kernel_shape, stride)), flush=True)


def measure(shape, kernel_shape, stride) -> dict:
  x = jax.random.normal(jax.random.key(0), shape)
  kernel = jax.random.normal(jax.random.key(1), (*kernel_shape, 1, shape[-1]))

  def forward(form):
    def run(x, kernel):
      return depthwise_conv3d(x, kernel, stride=(stride, stride), form=form)

    return run

  def both(form):
    def loss(x, kernel):
      return jnp.sum(forward(form)(x, kernel) ** 2)

    return jax.value_and_grad(loss, (0, 1))

  forms, result = ('shifted', 'native'), {'x': shape, 'kernel': kernel_shape}
  for name, make in (('forward', forward), ('forward_backward', both)):
    programs = {form: compile_program(make(form), x, kernel)[0] for form in forms}
    calls = {form: lambda p=p: p(x, kernel) for form, p in programs.items()}
    times = time_in_turns(calls)
    result[name] = {f'{form}_ms': round(ms, 3) for form, ms in times.items()}
    result[name]['ratio'] = round(times['native'] / times['shifted'], 1)
  return {'benchmark': 'depthwise', 'stride': stride, **result, **describe_machine()}


if __name__ == '__main__':
  main()
