"""Flax modules that every family shares: (x, state) -> (y, state)."""

from movinet_jax.layers.context_gate import ContextGate
from movinet_jax.layers.conv import (
  ConvNorm,
  DepthwiseConv,
  PointwiseConv,
  SpatialConv,
)
from movinet_jax.layers.dropout import Dropout
from movinet_jax.layers.network import Network
from movinet_jax.layers.non_local import NonLocal
from movinet_jax.layers.norm import BatchNorm
from movinet_jax.layers.pool import (
  AveragePool,
  GlobalPool,
  MaxPool,
  SlidingPool,
  SpatialPool,
  TemporalSoftmaxPool,
)
from movinet_jax.layers.residual import ReZero, StochasticDepth
from movinet_jax.layers.squeeze_excite import SqueezeExcite
from movinet_jax.layers.stream import Thread, check_video, init_state, rematerialise
from movinet_jax.layers.time import OverTime
from movinet_jax.layers.weights import normal, variance_scaling
from movinet_jax.layers.width import round_to_8

__all__ = [
  'AveragePool',
  'BatchNorm',
  'ContextGate',
  'ConvNorm',
  'DepthwiseConv',
  'Dropout',
  'GlobalPool',
  'MaxPool',
  'Network',
  'NonLocal',
  'OverTime',
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
  'normal',
  'rematerialise',
  'round_to_8',
  'variance_scaling',
]
