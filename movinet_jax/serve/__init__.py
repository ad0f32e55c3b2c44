"""Live: a network on a stream of frames, in constant memory."""

from movinet_jax.serve.live import Latency, Live, Prediction
from movinet_jax.serve.recorder import Recorder

__all__ = ['Latency', 'Live', 'Prediction', 'Recorder']
