"""What a stream remembers: all frames alike, a window of seconds, or less and less.

A causal network averages over all frames since the beginning of a video. That is right for
a clip and wrong for a camera: after an hour of one class, the average does not notice the
next one for another hour. Each kind of memory here is a pure function from state to state
around the same network.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from movinet_jax import ops
from movinet_jax.names import check_name

Run = Callable[[jax.Array, Mapping], tuple[jax.Array, Mapping]]


class Memory(Protocol):
  """What a stream carries from call to call in place of the network's state."""

  def begin(self, start: Mapping) -> Any:
    """Makes what is carried of the network's state at the beginning of a video."""

  def step(self, run: Run, video: jax.Array, carried: Any) -> tuple[jax.Array, Any]:
    """Runs the network on the next frames.

    Args:
      run: (video, state) -> (logits, state).
      video: [B, T, H, W, 3]; T is the same at every call.
      carried: what the call before returned.

    Returns:
      logits [B, N], and what is carried to the next call.
    """


@dataclasses.dataclass(frozen=True)
class Exact:
  """All frames since the beginning weigh the same, as in evaluation."""

  def begin(self, start):
    return start

  def step(self, run, video, carried):
    return run(video, carried)


@dataclasses.dataclass(frozen=True)
class Window:
  """Frames of the last seconds weigh the same, earlier ones nothing.

  Two states run side by side and begin anew by turns, each every `secs` seconds. The older one
  answers, so an answer comes from the last `secs` / 2 to `secs` seconds. Until the stream is
  `secs` old, all of it counts. A call takes up to twice the time of an exact one: what is the same
  for both states is computed once.

  Attributes:
    secs: length of the window. It is rounded to an even number of calls, 2 at least.
    fps: frames that the network gets for a second of video.
  """

  secs: float
  fps: float

  def __post_init__(self):
    _check_above_0(secs=self.secs, fps=self.fps)

  def begin(self, start):
    return {'older': start, 'younger': start, 'calls': jnp.zeros((), jnp.int32)}

  def step(self, run, video, carried):
    due = carried['calls'] == self.count_calls(video.shape[1])
    younger = carried['younger']
    older = jax.tree.map(lambda new, old: jnp.where(due, new, old), younger, carried['older'])
    # Zeros are a video that has not begun (layers.init_state).
    younger = jax.tree.map(lambda leaf: jnp.where(due, jnp.zeros_like(leaf), leaf), younger)
    calls = jnp.where(due, 0, carried['calls']) + 1
    logits, older = run(video, older)
    _, younger = run(video, younger)
    return logits, {'older': older, 'younger': younger, 'calls': calls}

  def count_calls(self, frames: int) -> int:
    """Calls of so many frames in half a window, after which a state begins anew."""
    return max(1, round(self.secs * self.fps / frames / 2))


@dataclasses.dataclass(frozen=True)
class Forgetting:
  """A frame weighs half as much as one that came a half-life later.

  Frames of one call weigh the same. On a CPU a call takes longer than an exact one, which
  `serve.frame` runs.

  Attributes:
    half_life_secs: infinite for a stream that forgets nothing.
    fps: frames that the network gets for a second of video.
  """

  half_life_secs: float
  fps: float

  def __post_init__(self):
    _check_above_0(half_life_secs=self.half_life_secs, fps=self.fps)

  def begin(self, start):
    return ops.forget(start, 1.0)

  def step(self, run, video, carried):
    keep = 0.5 ** (video.shape[1] / self.fps / self.half_life_secs)
    return run(video, ops.forget(carried, keep))


MEMORIES = ('exact', 'window', 'forget')


def make_memory(kind: str, secs: float, fps: float) -> Memory:
  """Makes a memory by its name.

  Args:
    kind: one of MEMORIES.
    secs: length of the window, or the half-life; `exact` needs none.
    fps: frames that the network gets for a second of video.

  Raises:
    ValueError: no such kind, or seconds or a rate that are not above 0.
  """
  check_name(kind, MEMORIES, 'memory')
  if kind == 'exact':
    return Exact()
  return Window(secs, fps) if kind == 'window' else Forgetting(secs, fps)


def _check_above_0(**values: float):
  for name, value in values.items():
    if not value > 0 or (name == 'fps' and math.isinf(value)):
      raise ValueError(f'{name} is {value}; wanted a number above 0')
