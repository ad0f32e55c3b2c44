"""Live streams through an exported file, in its own runtime."""

import copy

import numpy as np
from scipy import special

from movinet_jax.export import IMAGE, Artifact
from movinet_jax.serve.live import Latency, Live
from movinet_jax.serve.memory import Exact, Memory, Window


class LiveFile(Live):
  """Feeds a stream to an exported file, as `Live` does to a network.

      live = LiveFile(export.read('mine/model.tflite'))
      for frame in frames:
        prediction = live(frame[None])

  A file has no state that forgets little by little, so its memory is `Exact` or `Window`.
  """

  def __init__(
    self, artifact: Artifact, *, threads: int | None = None, memory: Memory | None = None
  ):
    """Loads the file.

    Args:
      threads: of its runtime; by default its own choice.
      memory: `Exact` by default.

    Raises:
      ValueError: the file sees clips, or several videos at once, or cannot have this memory.
    """
    manifest, memory = artifact.manifest, memory or Exact()
    if not artifact.file.states:
      raise ValueError(f'{artifact.path} sees whole clips: a live stream needs a stream network')
    if not isinstance(memory, Exact | Window):
      raise ValueError(
        f'--memory=forget is for checkpoints: {artifact.path} can have exact or window'
      )
    session = artifact.make_session(threads=threads)
    if session.batch != 1:
      raise ValueError(
        f'{artifact.path} sees {session.batch} videos at once: export it with --batch=1'
      )
    self._normalize = special.expit if manifest.probabilities == 'sigmoid' else special.softmax
    windowed = isinstance(memory, Window)
    # The last one is the younger state of a window, see `Window`.
    self._streams = [session, session.fork()] if windowed else [session]
    self._half = memory.count_calls(manifest.frames) if windowed else None
    # Some runtimes compile at the first call.
    session(session.interface.inputs[IMAGE].make_zeros())
    self.latency = Latency()
    self.reset()

  def fork(self) -> 'LiveFile':
    other = copy.copy(self)
    other._streams = [stream.fork() for stream in self._streams]
    other.reset()
    return other

  def forget(self):
    self._calls = 0
    for stream in self._streams:
      stream.reset()

  def _answer(self, frames: np.ndarray) -> np.ndarray:
    if self._calls == self._half:
      self._streams.reverse()
      self._streams[1].reset()
      self._calls = 0
    self._calls += 1
    video = frames[None].astype(np.float32) / 255
    logits, *_ = [stream(video) for stream in self._streams]
    return self._normalize(logits[0])
