"""Pure array functions on video, [B, T, H, W, C]."""

from movinet_jax.ops.activation import Activation, get_activation
from movinet_jax.ops.attention import attend
from movinet_jax.ops.buffer import prepend
from movinet_jax.ops.conv import pointwise_conv, skip_pixels, spatial_conv
from movinet_jax.ops.depthwise import depthwise_conv3d
from movinet_jax.ops.nodes import gather_nodes, scatter_nodes
from movinet_jax.ops.padding import (
  centred_padding,
  same_padding,
  space_padding,
  time_padding,
)
from movinet_jax.ops.pool import (
  average_pool,
  cumulative_mean,
  forget,
  global_mean,
  max_pool,
  read_mean,
  running_means,
  sliding_mean,
  spatial_mean,
  total_mean,
)
from movinet_jax.ops.squeeze import SE_KINDS, sine_positions, squeeze_means

__all__ = [
  'SE_KINDS',
  'Activation',
  'attend',
  'average_pool',
  'centred_padding',
  'cumulative_mean',
  'depthwise_conv3d',
  'forget',
  'gather_nodes',
  'get_activation',
  'global_mean',
  'max_pool',
  'pointwise_conv',
  'prepend',
  'read_mean',
  'running_means',
  'same_padding',
  'scatter_nodes',
  'sine_positions',
  'skip_pixels',
  'sliding_mean',
  'space_padding',
  'spatial_conv',
  'spatial_mean',
  'squeeze_means',
  'time_padding',
  'total_mean',
]
