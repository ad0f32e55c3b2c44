"""Defines the operation: its checks, its derivatives, and the form that each platform takes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.dispatch import prim_requires_devices_during_lowering
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import PartitionSpec

from movinet_jax.names import check_name
from movinet_jax.ops.cuda.kernel import LARGEST_GRID
from movinet_jax.ops.depthwise import cpu, cuda, native, padded, shifted
from movinet_jax.ops.depthwise.plan import Plan
from movinet_jax.ops.padding import space_padding, time_padding

FORMS = ('auto', 'shifted', 'native', 'cuda')
FEW = 8  # clips x frames, up to which a GPU runs no kernels of our own


@functools.partial(jax.jit, static_argnames=('stride', 'time', 'padding', 'form'))
def depthwise_conv3d(
  x: jax.Array,
  kernel: jax.Array,
  *,
  stride: tuple[int, int] = (1, 1),
  time: str = 'same',
  padding: str = 'same',
  form: str = 'auto',
) -> jax.Array:
  """Convolves every channel with its own kernel.

  Args:
    x: [B, T, H, W, C].
    kernel: [KT, KH, KW, 1, C], any sizes.
    stride: of height and width; time always has stride 1.
    time: `same`, `causal` or `valid` (no padding: x carries KT - 1 earlier frames).
    padding: of height and width, `same` or `centred`, see ops.space_padding.
    form: `shifted`, `native`, `cuda` (NVIDIA GPUs, kernels up to 7x7x7), or `auto`. `auto` takes
      `native` on a TPU, as its compiler's estimates say, `cuda` for clips on an NVIDIA GPU, and
      `shifted` elsewhere, as measured (docs/performance.md).

  Returns:
    [B, T', ceil(H / stride), ceil(W / stride), C] in x's dtype. All forms but `native` add in
    float32. T' is T, or T - KT + 1 when `time` is `valid`.

  Raises:
    ValueError: shapes, `time`, `padding` or `form` do not fit.
  """
  # A jit of its own names the operation in every trace: movinet_jax.cost counts it by that name.
  if x.ndim != 5 or kernel.ndim != 5 or kernel.shape[3:] != (1, x.shape[-1]):
    raise ValueError(
      f'depthwise_conv3d wants x [B, T, H, W, C] and kernel [KT, KH, KW, 1, C], '
      f'got {x.shape} and {kernel.shape}'
    )
  check_name(form, FORMS, 'form')
  kt, kh, kw = kernel.shape[:3]
  pads = (
    time_padding(kt, time),
    space_padding(padding, x.shape[2], kh, stride[0]),
    space_padding(padding, x.shape[3], kw, stride[1]),
  )
  if x.shape[1] + sum(pads[0]) < kt:
    raise ValueError(
      f'{x.shape[1]} frames with time={time!r} are fewer than the kernel needs ({kt})'
    )
  plan = Plan(x.shape[1:], (kt, kh, kw), stride, pads, x.dtype.name, kernel.dtype.name)
  kernel = kernel[..., 0, :]
  if form == 'native':
    return native.convolve(x, kernel, plan)
  if form == 'cuda':
    cuda.check_plan(plan)
  if jax.sharding.get_abstract_mesh().manual_axes:
    # Under shard_map, the clips may vary between devices while the kernel does not. Adding zeros
    # that depend on both marks both as varying; XLA removes the additions.
    zero = jnp.zeros_like(x.ravel()[0]) + jnp.zeros_like(kernel.ravel()[0])
    x, kernel = x + zero.astype(x.dtype), kernel + zero.astype(kernel.dtype)
  return _convolve_p.bind(x, kernel, plan=plan, form=form)


def _choose(form: str, platform: str | None, clips, plan: Plan, exported: bool):
  """Returns the module to lower an operation with; platform None is any that is not named."""
  if form == 'auto':
    form = 'native' if platform == 'tpu' else 'shifted'
    # An exported program must run with later versions of XLA, which need not know this way to
    # launch a kernel. And a kernel is made for one number of clips.
    known = platform == 'cuda' and isinstance(clips, int) and not exported
    # A few frames take a few microseconds, and XLA fuses them with the operations around them.
    if known and FEW < clips * plan.x[0] <= LARGEST_GRID and cuda.can_run(plan):
      form = 'cuda'
  if form == 'shifted':
    return {'cpu': cpu, 'tpu': padded}.get(platform, shifted)
  return {'native': native, 'cuda': cuda}[form]


def _make_primitive(name: str, find_shape, find_dtype) -> Primitive:
  """Makes the primitive of an operation on two arrays, which every form defines by this name."""
  primitive = Primitive(f'depthwise_{name}')

  def find_aval(a, b, *, plan, form):
    # Under shard_map, a's type says between which devices it varies; the result's says the same.
    del b, form
    shape, dtype = find_shape(a, plan), np.dtype(find_dtype(plan))
    first, *_, last = a.sharding.spec
    ends = (first, last) if len(shape) == 5 else (None, last)
    spec = PartitionSpec(ends[0], *(None,) * (len(shape) - 2), ends[1])
    sharding = a.sharding.update(spec=spec)
    return a.update(shape=shape, dtype=dtype, weak_type=False, sharding=sharding)

  def lower(context, a, b, *, plan, form, platform):
    exported = context.module_context.lowering_parameters.for_export
    module = _choose(form, platform, context.avals_in[0].shape[0], plan, exported)
    function = functools.partial(getattr(module, name), plan=plan)
    return mlir.lower_fun(function, multiple_results=False)(context, a, b)

  def batch(arrays, axes, *, plan, form):
    return _fold(primitive, arrays, axes, plan, form)

  primitive.def_abstract_eval(find_aval)
  primitive.def_impl(lambda a, b, *, plan, form: getattr(shifted, name)(a, b, plan))
  for platform in (None, 'cpu', 'tpu', 'cuda'):
    rule = functools.partial(lower, platform=platform)
    mlir.register_lowering(primitive, rule, platform=platform)
  batching.primitive_batchers[primitive] = batch
  # custom_partitioning, which splits the kernels between devices, needs to know the devices. JAX's
  # own cuDNN kernels register in the same set; it is not public. The price: no platform lowers a
  # convolution for an AbstractMesh.
  prim_requires_devices_during_lowering.add(primitive)
  return primitive


def _fold(primitive, arrays, axes, plan: Plan, form: str):
  """Maps an operation by one call with so many times the channels."""
  (count,) = {a.shape[n] for a, n in zip(arrays, axes, strict=True) if n is not None}

  def widen(array, axis):
    array = jnp.stack([array] * count, -1) if axis is None else jnp.moveaxis(array, axis, -1)
    return array.reshape(*array.shape[:-2], -1)

  channels = plan.x[3]
  wide = dataclasses.replace(plan, x=(*plan.x[:3], channels * count))
  result = primitive.bind(*map(widen, arrays, axes), plan=wide, form=form)
  return result.reshape(*result.shape[:-1], channels, count), result.ndim


_convolve_p = _make_primitive('convolve', lambda a, p: (a.shape[0], *p.y), lambda p: p.dtype)
_transpose_p = _make_primitive('transpose', lambda a, p: (a.shape[0], *p.x), lambda p: p.dtype)
_correlate_p = _make_primitive('correlate', lambda a, p: p.kernel, lambda p: p.kernel_dtype)

# Each operation is linear in both of its arrays, so its derivatives are the other two operations.
ad.defbilinear(
  _convolve_p,
  lambda g, x, kernel, **how: _transpose_p.bind(g, kernel, **how),
  lambda g, x, kernel, **how: _correlate_p.bind(x, g, **how),
)
ad.defbilinear(
  _transpose_p,
  lambda x, g, kernel, **how: _convolve_p.bind(x, kernel, **how),
  lambda x, g, kernel, **how: _correlate_p.bind(x, g, **how),
)
ad.defbilinear(
  _correlate_p,
  lambda kernel, x, g, **how: _transpose_p.bind(g, kernel, **how),
  lambda kernel, x, g, **how: _convolve_p.bind(x, kernel, **how),
)
