"""Convolves with a sum of shifted products over a padded copy of the input.

This is the sum for TPUs, whose compiler would otherwise store a padded window for each tap. The sum
for CPUs differs in how it adds.
"""

import dataclasses
from collections.abc import Callable

import jax

from movinet_jax.ops.depthwise import shifted
from movinet_jax.ops.depthwise.plan import Plan

UNPADDED = ((0, 0),) * 3


def add_taps(x: jax.Array, kernel: jax.Array, stride: tuple[int, int]) -> jax.Array:
  """Convolves a padded x [B, T, H, W, C]; returns float32."""
  return shifted.add_taps(x, kernel, stride, UNPADDED)


def convolve(
  x: jax.Array, kernel: jax.Array, plan: Plan, add_taps: Callable = add_taps
) -> jax.Array:
  return add_taps(shifted.pad(x, plan.pads), kernel, plan.stride).astype(plan.dtype)


def transpose(
  g: jax.Array, kernel: jax.Array, plan: Plan, add_taps: Callable = add_taps
) -> jax.Array:
  # One padded copy serves all phases.
  around = [axis.pads for axis in shifted.make_axes(plan)]
  padded = shifted.pad(g, around)

  def add_phase(kernel, pads):
    cuts = [(a - m, b - n) for (a, b), (m, n) in zip(pads, around, strict=True)]
    return add_taps(shifted.pad(padded, cuts), kernel, (1, 1))

  return shifted.add_phases(g, kernel, plan, add_phase)


def correlate(x: jax.Array, g: jax.Array, plan: Plan) -> jax.Array:
  x = shifted.pad(x, plan.pads)
  return shifted.correlate(x, g, dataclasses.replace(plan, x=x.shape[1:], pads=UNPADDED))
