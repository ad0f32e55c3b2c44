"""Flax modules that every family shares: (x, state) -> (y, state)."""

from movinet_jax.layers.conv import ConvNorm, DepthwiseConv, PointwiseConv, SpatialConv
from movinet_jax.layers.norm import BatchNorm
from movinet_jax.layers.pool import (
  AveragePool,
  GlobalPool,
  SlidingPool,
  SpatialPool,
  TemporalSoftmaxPool,
)
from movinet_jax.layers.residual import ReZero, StochasticDepth
from movinet_jax.layers.squeeze_excite import SE_KINDS, SqueezeExcite
from movinet_jax.layers.stream import Thread, check_video, init_state, rematerialise

__all__ = [
  'SE_KINDS',
  'AveragePool',
  'BatchNorm',
  'ConvNorm',
  'DepthwiseConv',
  'GlobalPool',
  'PointwiseConv',
  'ReZero',
  'SlidingPool',
  'SpatialConv',
  'SpatialPool',
  'SqueezeExcite',
  'StochasticDepth',
  'TemporalSoftmaxPool',
  'Thread',
  'check_video',
  'init_state',
  'rematerialise',
]
