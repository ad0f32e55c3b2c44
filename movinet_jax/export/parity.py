"""Measures how far a written file is from its network."""

import dataclasses

import jax
import numpy as np

from movinet_jax.export import as_jax
from movinet_jax.export.program import CALLS, ExportError
from movinet_jax.export.session import Session
from movinet_jax.export.source import Source

CALLS_COMPARED = 8
# How much a file may differ for each kind of weights, relative to the largest logit, or to the
# largest value of a state. Accuracy on videos says more about files of 8 bits.
BOUNDS = {'float32': 1e-5, 'float16': 2e-2, 'int8': 0.2, 'int8-dynamic': 0.2}
LEAST_CORRELATION = 0.95  # of the logits, whatever the weights


@dataclasses.dataclass(frozen=True)
class Parity:
  """How much a file differs over several calls with the states fed back.

  Attributes:
    calls: how many were compared.
    logits: the largest difference of the logits of any call, relative to the largest logit.
    states: of the states after the last call the largest difference, each relative to its largest
      value.
    correlation: of the logits with the network's; None if those are all equal.
    bound: the most that `logits` and `states` may be.
  """

  calls: int
  logits: float
  states: float
  correlation: float | None
  bound: float

  @property
  def holds(self) -> bool:
    near = max(self.logits, self.states) <= self.bound
    return near and (self.correlation is None or self.correlation >= LEAST_CORRELATION)


class Reference:
  """Answers of the network itself to a few calls of seeded noise."""

  def __init__(self, source: Source):
    self.source = source
    self.batch = source.batch or 2
    if self.batch == 1:
      self.batch = 2  # for files that take any number; others are compared with the first video
    stream = bool(source.begin())
    self._calls = CALLS_COMPARED if stream else 1
    step, state = jax.jit(source.make_step()), source.begin_videos(self.batch)
    self.logits = []
    for video in self.list_videos():
      logits, state = step(video, state)
      self.logits.append(np.asarray(logits))
    self.states = {name: np.asarray(leaf) for name, leaf in source.pack_state(state).items()}

  def list_videos(self) -> list[np.ndarray]:
    """The frames of each call, [B, T, H, W, 3] float32."""
    rng = np.random.default_rng(0)
    shape = (self.batch, *self.source.shape[1:])
    return [rng.uniform(size=shape).astype(np.float32) for _ in range(self._calls)]

  def compare(self, session: Session, weights: str) -> Parity:
    """Runs a file on the same frames, and compares logits and final states."""
    videos = session.batch
    found = [session(video[:videos]) for video in self.list_videos()]
    wanted = np.stack(self.logits)[:, :videos]
    found, states = np.stack(found), session.read_states()
    error, bound = _find_error(found, wanted), BOUNDS[weights]
    off = max((self._compare_state(name, one) for name, one in states.items()), default=0.0)
    if weights == 'float32' and max(error, off) > bound:
      bound = max(bound, 10 * self._measure_rounding())
    return Parity(self._calls, error, off, _correlate(found, wanted), bound)

  def _compare_state(self, name: str, found: np.ndarray) -> float:
    if name == CALLS:
      return float(np.abs(found - self._calls).max())
    wanted = self.states[name]
    if wanted.ndim:
      wanted = wanted[: len(wanted) * found.size // wanted.size]
    return _find_error(found.ravel(), wanted.ravel())

  def _measure_rounding(self) -> float:
    """Measures how much the graph in float32 differs from the graph in float64."""
    program = self.source.program
    images = [video[: program.batch].reshape(-1, *video.shape[2:]) for video in self.list_videos()]
    with jax.enable_x64(True):
      narrow, wide = (run_graph(program, images, dtype) for dtype in (np.float32, np.float64))
    return _find_error(narrow, wide)


def run_graph(program, images, dtype) -> np.ndarray:
  """Runs a graph in another precision; returns the logits of each call, [calls, B, N].

  Args:
    images: of each call, [N, H, W, 3].
  """
  graph = program.graph
  step = jax.jit(as_jax.emit(graph, dtype))
  states = {name: np.zeros(graph.inputs[name].shape, dtype) for name in program.states}
  found = []
  for image in images:
    given = [image.astype(dtype) if name not in states else states[name] for name in graph.inputs]
    outputs = dict(zip(graph.outputs, step(*given), strict=True))
    states = {name: outputs[after] for name, after in program.states.items()}
    found.append(np.asarray(outputs['logits']))
  return np.stack(found)


def _correlate(found: np.ndarray, wanted: np.ndarray) -> float | None:
  if np.ptp(found) == 0 or np.ptp(wanted) == 0 or not np.isfinite(found).all():
    return None
  return float(np.corrcoef(found.ravel(), wanted.ravel())[0, 1])


def _find_error(found: np.ndarray, wanted: np.ndarray) -> float:
  """Returns the largest difference relative to the largest value; NaN counts as infinite."""
  scale = np.abs(wanted).max(initial=0) or 1.0
  error = np.abs(np.asarray(found, np.float64) - wanted).max(initial=0) / scale
  return float(error) if np.isfinite(error) else float('inf')


def check(parity: Parity, name: str, weights: str):
  """Raises ExportError if a file differs by more than its bound."""
  if parity.holds:
    return
  correlation = 'none' if parity.correlation is None else f'{parity.correlation:.3f}'
  raise ExportError(
    f'{name} with --weights={weights} differs from the network: logits by {parity.logits:.1e} of '
    f'the largest one after {parity.calls} calls, states by {parity.states:.1e} (bound '
    f'{parity.bound:.1e}), correlation {correlation} (at least {LEAST_CORRELATION:g})'
  )
