"""Lets an exported file stand in for a network, so that the same code evaluates both."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from movinet_jax.export import formats
from movinet_jax.export.artifact import Artifact
from movinet_jax.export.session import Session


@dataclasses.dataclass(frozen=True)
class Seen:
  """What evaluation and timing read of an architecture.

  Attributes:
    causal: whether it is a stream.
    frames, resolution: of a clip.
  """

  causal: bool
  frames: int
  resolution: int


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
  """An exported file with the interface of a model: (variables, video, state) -> (logits, state).

  It works inside compiled programs, which call the file's runtime and wait. For a single stream,
  `Session` is faster.

  Attributes:
    artifact: the file.
    threads: of its runtime.
  """

  artifact: Artifact
  threads: int | None = None

  dtype = jnp.float32

  @property
  def takes_threads(self) -> bool:
    """Whether its runtime can be told how many threads to use."""
    return formats.load(self.artifact.file.format).THREADS

  @property
  def num_classes(self) -> int:
    return self.artifact.manifest.classes

  @property
  def frames(self) -> int:
    """Frames that one call sees."""
    return self.artifact.manifest.frames

  @property
  def spec(self) -> Seen:
    manifest = self.artifact.manifest
    return Seen(
      causal=bool(self.artifact.file.states),
      frames=manifest.preprocessing['frames'],
      resolution=manifest.image.height,
    )

  @functools.cached_property
  def _session(self) -> Session:
    return self.artifact.make_session(threads=self.threads)

  def init_state(self, batch: int, size=None, dtype=None) -> dict[str, jax.Array]:
    """Makes zeros for each state, [groups, ...]; a group has as many videos as the file takes."""
    del size, dtype
    session, groups, found = self._session, -(-batch // self._session.batch), {}
    for name in session.interface.states:
      zeros = session.interface.inputs[name].make_zeros(session.batch)
      found[name] = jnp.zeros((groups, *zeros.shape), zeros.dtype)
    return found

  def apply(self, variables, video, state=None, *, train: bool = False):
    """Runs the file on all frames, in as many calls as they need.

    Args:
      variables: {}, for the file holds them.
      video: [B, T, H, W, 3] float32 in [0, 1].
      state: of `init_state` or of a call before.

    Returns:
      logits [B, N] after the last frame, and the state.

    Raises:
      ValueError: the frames are no whole number of calls.
    """
    del variables
    if train:
      raise ValueError(f'{self.artifact.path} is an exported network, which cannot be trained')
    frames, (batch, total) = self.frames, video.shape[:2]
    if total % frames or (total != frames and not self.spec.causal):
      raise ValueError(
        f'{self.artifact.path} sees {frames} frames a call: {total} are no whole number of calls'
      )
    state = self.init_state(batch) if state is None else state
    groups = self._group(video)
    for start in range(0, total, frames):
      logits, state = self._call(groups[:, :, start : start + frames], state)
    return logits.reshape(-1, self.num_classes)[:batch], state

  def _group(self, video):
    """Groups videos [B, ..] as [R, b, ..], as many as the file takes; pads the last group."""
    size = self._session.batch
    missing = -video.shape[0] % size
    filled = jnp.pad(video, ((0, missing), *((0, 0),) * 4))
    return filled.reshape(-1, size, *video.shape[1:])

  def _call(self, groups, state):
    """Calls the file once for each group of videos."""
    if self._session.traces:
      return jax.lax.map(lambda given: self._session.step(*given), (groups, state))
    shape = (*groups.shape[:2], self.num_classes)
    shapes = jax.ShapeDtypeStruct(shape, jnp.float32), jax.eval_shape(lambda: state)
    return jax.pure_callback(self._run, shapes, groups, state)

  def _run(self, groups, state):
    state = {name: np.asarray(value) for name, value in state.items()}
    found = [
      self._session.step(videos, {name: value[row] for name, value in state.items()})
      for row, videos in enumerate(np.asarray(groups))
    ]
    logits = np.stack([np.asarray(one) for one, _ in found])
    return logits, {name: np.stack([_read(after[name]) for _, after in found]) for name in state}


def _read(value) -> np.ndarray:
  """Converts a state of any runtime to NumPy."""
  return value.numpy() if hasattr(value, 'numpy') else np.asarray(value)
