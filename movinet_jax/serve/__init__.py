"""Live: a network on a stream of frames, in constant memory."""

from movinet_jax.serve.cuts import mark_scenes
from movinet_jax.serve.live import Latency, Live, Prediction
from movinet_jax.serve.memory import (
  MEMORIES,
  Exact,
  Forgetting,
  Memory,
  Window,
  make_memory,
)
from movinet_jax.serve.recorder import Recorder

__all__ = [
  'MEMORIES',
  'Exact',
  'Forgetting',
  'Latency',
  'Live',
  'Memory',
  'Prediction',
  'Recorder',
  'Window',
  'make_memory',
  'mark_scenes',
]
