"""Flax modules that every family shares: (x, state) -> (y, state)."""

from movinet_jax.layers.bottleneck import Bottleneck, count_squeezed
from movinet_jax.layers.centre import Centre
from movinet_jax.layers.context_gate import ContextGate
from movinet_jax.layers.conv import (
  ConvNorm,
  DepthwiseConv,
  PointwiseConv,
  SpatialConv,
)
from movinet_jax.layers.costs import Costs, add_costs, count_conv, count_norm
from movinet_jax.layers.dropout import Dropout
from movinet_jax.layers.glore import GlobalReasoning
from movinet_jax.layers.head import Average, Hidden
from movinet_jax.layers.network import Network
from movinet_jax.layers.non_local import NonLocal
from movinet_jax.layers.norm import PYTORCH_NORM, BatchNorm
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
from movinet_jax.layers.weights import kaiming_normal, normal, variance_scaling
from movinet_jax.layers.width import round_to_8

__all__ = [
  'PYTORCH_NORM',
  'Average',
  'AveragePool',
  'BatchNorm',
  'Bottleneck',
  'Centre',
  'ContextGate',
  'ConvNorm',
  'Costs',
  'DepthwiseConv',
  'Dropout',
  'GlobalPool',
  'GlobalReasoning',
  'Hidden',
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
  'add_costs',
  'check_video',
  'count_conv',
  'count_norm',
  'count_squeezed',
  'init_state',
  'kaiming_normal',
  'normal',
  'rematerialise',
  'round_to_8',
  'variance_scaling',
]
