"""Live: a network on a stream of frames, in constant memory."""

from movinet_jax.serve.cuts import mark_scenes
from movinet_jax.serve.exported import LiveFile
from movinet_jax.serve.live import Latency, Live, Prediction
from movinet_jax.serve.memory import (
  MEMORIES,
  Exact,
  Forgetting,
  Memory,
  Window,
  make_memory,
)
from movinet_jax.serve.page import Broadcast, BrowserCamera, Page, Viewers
from movinet_jax.serve.recorder import Recorder
from movinet_jax.serve.steps import Resets, Step, find_fps, predict

__all__ = [
  'MEMORIES',
  'Broadcast',
  'BrowserCamera',
  'Exact',
  'Forgetting',
  'Latency',
  'Live',
  'LiveFile',
  'Memory',
  'Page',
  'Prediction',
  'Recorder',
  'Resets',
  'Step',
  'Viewers',
  'Window',
  'find_fps',
  'make_memory',
  'mark_scenes',
  'predict',
]
