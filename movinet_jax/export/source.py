"""Sources of exports: a network with its weights, or a part of one, and the shape of a call."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from movinet_jax.export import copies, states
from movinet_jax.export.graph import IMAGE
from movinet_jax.export.program import BEFORE, ExportError, Program, build, build_part


@dataclasses.dataclass(frozen=True)
class Source:
  """A network's call.

  Attributes:
    model: any network of the package, computing in float32.
    variables: its weights.
    size: (H, W) of a frame.
    frames: that one call sees.
    batch: videos that it sees at once; None for any number, where a format can say that.
  """

  model: nn.Module
  variables: Mapping
  size: tuple[int, int]
  frames: int
  batch: int | None = 1

  @property
  def shape(self) -> tuple[int, ...]:
    """Of a call's video, [B, T, H, W, 3], with 1 for any number of videos."""
    return self.batch or 1, self.frames, *self.size, 3

  @functools.cached_property
  def program(self) -> Program:
    """The call as a graph.

    Raises:
      ExportError: no graph can express it; names the module and the primitive.
    """
    how = {'frames': self.frames, 'batch': self.batch or 1}
    return build(self.model, self.variables, self.size, **how)

  @property
  def free_program(self) -> Program:
    """The same, for a format that can say any number of videos.

    Raises:
      ExportError: any number is asked for, and the graph is of this one.
    """
    if self.batch is None and not self.program.free:
      raise ExportError(
        f'{self.frames} frames a call of any number of videos are more than four axes can say: '
        'say how many with --batch, or take stablehlo'
      )
    return self.program

  def begin(self) -> dict:
    """The state at the beginning of a video; {} of a network that sees clips."""
    return self.begin_videos(self.batch or 1)

  def begin_videos(self, batch: int) -> dict:
    """The same of another number of videos."""
    return self.model.init_state(batch, self.size)

  def make_step(self) -> Callable:
    """The network itself: (video, state) -> (logits, state)."""
    if not self.model.spec.causal:
      return lambda video, state: (self.model.apply(self.variables, video)[0], {})
    return functools.partial(self.model.apply, self.variables)

  def pack_state(self, state: Mapping) -> dict[str, jax.Array]:
    """A state as artifacts name it; see `states`."""
    return states.pack(state)


@dataclasses.dataclass(frozen=True)
class Part:
  """A call of a part of a network, for formats that write its graph: to time it.

  Attributes:
    program: the call as a graph, which reads `before`, or `image`, and makes `after`.
  """

  program: Program

  @property
  def free_program(self) -> Program:
    return self.program

  def repeat(self, count: int) -> 'Part':
    """As many copies of it side by side in one call, see `copies`."""
    return Part(copies.repeat(self.program, count))


def plan_part(module: nn.Module, variables: Mapping, shape: Sequence[int]) -> Part:
  """Plans a call of a part of a network.

  Args:
    module: any module of the package, computing in float32.
    variables: its weights.
    shape: of what it reads, [B, T, H, W, C]; three channels are pixels.

  Raises:
    ExportError: no graph can express it; names the module and the primitive.
  """
  reads = IMAGE if shape[-1] == 3 else BEFORE
  return Part(build_part(module, variables, tuple(shape), reads=reads))


def plan(
  model: nn.Module,
  variables: Mapping,
  size: tuple[int, int],
  *,
  frames: int | None = None,
  batch: int | None = 1,
  graph: bool = True,
) -> Source:
  """Plans a call of a network.

  A network that does not do the same with every frame, such as an ensemble whose members take
  turns, sees as many frames in a call as a turn of it has.

  Args:
    model: any network of the package.
    variables: its weights.
    size: (H, W) of a frame.
    frames: that one call sees; by default 1 of a stream, or a turn, and the native clip.
    batch: videos at once; None for any number.
    graph: whether any format wants a graph. Without one, all networks and calls are possible.

  Raises:
    ExportError: no graph can express it, or another number of frames makes a turn.
  """
  model = model.clone(dtype=jnp.float32)
  first = frames or (1 if model.spec.causal else model.spec.frames)
  source = Source(model, variables, size, first, batch)
  if not graph:
    return source
  turn = _find_turn(source)
  if frames:
    source.program.check_frames()
  return source if source.frames % turn == 0 else dataclasses.replace(source, frames=turn)


def _find_turn(source: Source) -> int:
  """Finds after how many frames a network does the same again."""
  try:
    return source.program.turn
  except ExportError as error:
    if source.shape[0] == 1:
      raise
    raise ExportError(
      f'{error}; --batch=1 may be possible where {source.shape[0]} is not'
    ) from error
