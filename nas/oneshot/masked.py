"""Layers at full width of which a network uses the first channels: what supernets are made of.

A network's channels are the first ones. Those behind them are zeros in every array, so no
product with them counts, and weights that only meet them get a gradient of exactly 0. Norms use
the statistics of the batch and keep none, because those of other networks would be wrong.

Weights are dicts, named as `movinet_jax.layers` names those of one network alone, so that
`cut_conv` makes the one of the other.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from movinet_jax import ops
from movinet_jax.layers import BatchNorm
from movinet_jax.layers.norm import batch_moments, normalise
from nas.cost import CostTable

he_normal = jax.nn.initializers.he_normal()


@dataclasses.dataclass(frozen=True)
class MaskedNet:
  """A one-shot network of such layers; its weights are a nested dict that `init` makes.

  Attributes:
    space: the networks that it holds.
    num_classes: N.
    form: how depthwise convolutions are computed (ops.depthwise_conv3d).
    dtype: what is computed in; weights and logits are float32.
    remat: compute each block of layers again in the backward pass instead of storing it.
  """

  space: Any
  num_classes: int
  form: str = 'auto'
  dtype: jnp.dtype = jnp.float32
  remat: bool = True

  def make_cost_table(self, cost: str = 'macs', **options) -> CostTable:
    """What the space's networks cost, see the space's `make_cost_table`."""
    return self.space.make_cost_table(cost, num_classes=self.num_classes, **options)

  def _multiply(self, params, x):
    return multiply(params, x, self.dtype)


@functools.partial(jax.jit, static_argnums=0)
def draw(make: Callable, key) -> dict:
  """Makes weights of normal numbers that are drawn all at once.

  Drawn one by one, those of a large supernet take minutes: each shape is a program to compile.

  Args:
    make: takes a function from a shape to normal numbers, and returns the weights.
  """
  wanted = []

  def count(shape):
    wanted.append(math.prod(shape))
    return jnp.zeros(shape)

  jax.eval_shape(lambda: make(count))
  ends = itertools.accumulate(wanted)
  parts = iter(jnp.split(jax.random.normal(key, (sum(wanted),)), list(ends)[:-1]))
  return make(lambda shape: next(parts).reshape(shape))


def init_conv(key, shape, *, init=he_normal, scale: float = 1.0) -> dict:
  """Makes the weights of a convolution without a bias and of its norm.

  Args:
    key: what `init` makes the kernel of.
    shape: of the kernel; its last axis is channels out.
    scale: that the norm multiplies by at first.
  """
  norm = {'scale': jnp.full(shape[-1], scale, jnp.float32), 'bias': jnp.zeros(shape[-1])}
  return {'conv': {'kernel': init(key, shape)}, 'norm': norm}


def init_dense(key, inputs: int, outputs: int, *, init=he_normal) -> dict:
  """Makes the weights of a product with a bias."""
  return {'kernel': init(key, (inputs, outputs)), 'bias': jnp.zeros(outputs)}


def multiply(params: Mapping, x: jax.Array, dtype) -> jax.Array:
  """Multiplies channels [..., C] by a matrix, computed in `dtype`; adds a bias where one is."""
  return ops.pointwise_conv(x, params['kernel'].astype(dtype), params.get('bias'))


def norm(params, x, width, activation: str, epsilon: float = BatchNorm.epsilon) -> jax.Array:
  """Normalises x [B, ..., C] by the batch, activates it, and keeps the first `width` channels."""
  mean, var = batch_moments(x[None])
  y = normalise(x, mean[0], var[0], params['scale'], params['bias'], epsilon)
  return keep_first(ops.get_activation(activation)(y), width)


def keep_first(x: jax.Array, width) -> jax.Array:
  """Puts zeros in place of all but the first `width` channels; the width may be traced."""
  return jnp.where(jnp.arange(x.shape[-1]) < width, x, jnp.zeros((), x.dtype))


def widen(x: jax.Array, channels: int) -> jax.Array:
  """Makes x [..., C] as wide as `channels`: adds zeros, or leaves out what is zeros."""
  pads = [(0, 0)] * (x.ndim - 1) + [(0, max(0, channels - x.shape[-1]))]
  return jnp.pad(x, pads)[..., :channels]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def choose_depthwise(x, taps, number, kernels, options) -> jax.Array:
  """Convolves x [B, T, H, W, C] with one of several depthwise kernels.

  Only the chosen one is computed. The switch holds nothing else, and its gradient is a switch
  as well: automatic differentiation would store what each branch wants to keep, with zeros for
  all branches that were not taken.

  Args:
    taps: [sum of KT KH KW, C], those of each kernel one behind the other.
    number: int32, of the kernel.
    kernels: their sizes (KT, KH, KW).
    options: of ops.depthwise_conv3d, as pairs.
  """
  branches = [
    functools.partial(_convolve_part, kernels=kernels, number=n, options=options)
    for n in range(len(kernels))
  ]
  return branches[0](x, taps) if len(branches) == 1 else lax.switch(number, branches, x, taps)


def _choose_forward(x, taps, number, kernels, options):
  return choose_depthwise(x, taps, number, kernels, options), (x, taps, number)


def _choose_backward(kernels, options, saved, gradient):
  x, taps, number = saved

  def branch(n):
    run = functools.partial(_convolve_part, kernels=kernels, number=n, options=options)
    return lambda x, taps, gradient: jax.vjp(run, x, taps)[1](gradient)

  branches = [branch(n) for n in range(len(kernels))]
  if len(branches) == 1:
    return *branches[0](x, taps, gradient), None
  return *lax.switch(number, branches, x, taps, gradient), None


choose_depthwise.defvjp(_choose_forward, _choose_backward)


def _convolve_part(x, taps, *, kernels, number, options):
  kernel = taps[find_taps(kernels, number)].astype(x.dtype)
  kernel = kernel.reshape(*kernels[number], 1, x.shape[-1])
  return ops.depthwise_conv3d(x, kernel, **dict(options))


def find_taps(kernels: Sequence[tuple[int, int, int]], number: int) -> slice:
  """The rows of one of several kernels whose taps are stored one behind the other."""
  ends = [math.prod(kernel) for kernel in kernels]
  return slice(sum(ends[:number]), sum(ends[: number + 1]))


def cut_conv(params: Mapping, inputs: int | None, outputs: int) -> dict:
  """Cuts the first channels out of a convolution and its norm.

  Args:
    inputs: channels in; None for depthwise kernels and stems, which have all of them.
  """
  kernel = params['conv']['kernel'][..., :outputs]
  if inputs is not None:
    kernel = kernel[..., :inputs, :]
  return {
    'conv': {'kernel': kernel},
    'norm': {key: value[:outputs] for key, value in params['norm'].items()},
  }


def begin_statistics(shapes) -> dict:
  """Makes the batch statistics that norms begin with: means of 0, variances of 1.

  Args:
    shapes: the `batch_stats` of a network alone.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, s: jnp.full(s.shape, float(path[-1].key == 'var'), s.dtype), shapes
  )
