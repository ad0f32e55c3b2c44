"""What a network takes on the device at hand: time, memory, and what it takes to compile it.

A call is what a user gets: frames as bytes on the host go in, probabilities on the host come out.
The weights are constants of the program, and a stream's state is carried from call to call. One
stream in float32 is timed as `serve.Live` runs it. Of training, a call is a step on clips that are
on the device already.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import JaxRuntimeError
from scipy import special

from launch.runs.named import Named
from movinet_jax import cost, export, published, serve, timing
from movinet_jax.train import losses, optimizers, state, steps

Kind = Literal['stream', 'clip', 'train']
_TOTAL_STEPS = 1000  # of the learning rate's schedule, which costs nothing


@dataclasses.dataclass(frozen=True)
class Case:
  """What is timed of a network.

  Attributes:
    kind: 'stream', the next frames of streams, with their states; 'clip', whole clips; or
      'train', a step of training on whole clips.
    frames, height, width: of each call and stream or clip.
    batch: streams or clips at a time.
    dtype: 'float32' or 'bfloat16', what is computed in.
  """

  network: Named
  kind: Kind
  frames: int
  height: int
  width: int
  batch: int
  dtype: str

  @property
  def shape(self) -> tuple[int, ...]:
    return self.batch, self.frames, self.height, self.width, 3

  def describe(self) -> str:
    """What goes in: 'stream 1 x 172²', 'clip 50 x 128 x 172'."""
    square = self.height == self.width
    size = f'{self.height}²' if square else f'{self.height} x {self.width}'
    return f'{self.kind} {self.frames} x {size}'


@dataclasses.dataclass(frozen=True)
class Timing:
  """What a case takes.

  Attributes:
    times: of one call.
    compile_secs: of XLA, not from a cache.
    peak_bytes: the most memory in use; None where nobody says it, as of an exported file.
    peak_from: who says so: 'device', or 'program' for what the compiler counts: arguments,
      weights, results and temporaries.
  """

  times: timing.Times
  compile_secs: float
  peak_bytes: int | None = None
  peak_from: Literal['device', 'program'] | None = None


def measure(case: Case, weights: Mapping, secs: float = 3.0) -> Timing:
  """Compiles a case and times it.

  Args:
    weights: variables of the network.
    secs: how long to time it; see timing.measure_call.

  Raises:
    ValueError: the network cannot do this; says why.
    JaxRuntimeError: the device has too little memory, or its compiler fails.
  """
  if isinstance(case.network.model, export.Network):
    return _measure_file(case, secs)
  model = case.network.model.clone(dtype=jnp.dtype(case.dtype))
  call, program, compile_secs, held_bytes = _MAKERS[case.kind](case, model, weights)
  found = cost.count_memory(program)
  peak, before = found.total - found.code + held_bytes, _read_peak()
  times = timing.measure_call(call, secs, _count_period(case))
  after = _read_peak()
  # The device remembers its highest peak only: a lower one leaves no trace there.
  known = after is not None and after > before
  return Timing(times, compile_secs, after if known else peak, 'device' if known else 'program')


def _measure_file(case: Case, secs: float) -> Timing:
  """Loads an exported file into its runtime, and times it there."""
  network = case.network.model
  manifest = network.artifact.manifest
  if case.kind == 'train':
    raise ValueError('it is an exported file, which cannot be trained')
  if case.kind == 'clip' and network.spec.causal:
    raise ValueError('it is a stream, and no clip: time the network that it was exported from')
  if case.dtype != 'float32':
    raise ValueError(f'it computes in float32, and not in {case.dtype}')
  if case.frames != manifest.frames:
    raise ValueError(f'a call of it sees {manifest.frames} frames, and not {case.frames}')
  began = time.perf_counter()
  session = network.artifact.make_session(case.batch, network.threads)
  load_secs = time.perf_counter() - began
  if session.batch != case.batch:
    raise ValueError(f'a call of it sees {session.batch} videos, and not {case.batch}')
  video = _draw_video(case)

  def call():
    return special.softmax(session(video.astype(np.float32) / 255), axis=-1)

  return Timing(timing.measure_call(call, secs, 1), load_secs)


def _make_stream(case: Case, model, weights: Mapping):
  carried = model.init_state(case.batch, (case.height, case.width))
  if not carried:
    raise ValueError('it has no stream: it sees whole clips only')
  video, held = _draw_video(case), _count_bytes(weights)
  if case.batch == 1 and case.dtype == 'float32':
    with timing.without_cache():
      live = serve.Live(model, weights, (case.height, case.width), case.frames)
    step = live.step
    return lambda: live(video[0]).probabilities[None], step.program, step.compile_secs, held
  constants = jax.tree.map(jnp.asarray, weights)

  def step(video, carried):
    logits, carried = model.apply(constants, steps.to_float(video), carried)
    return jax.nn.softmax(logits), carried

  program, secs = timing.compile_program(step, video, carried)

  def call():
    nonlocal carried
    probabilities, carried = program(video, carried)
    return np.asarray(probabilities)

  return call, program, secs, held


def _make_clip(case: Case, model, weights: Mapping):
  constants = jax.tree.map(jnp.asarray, weights)

  def run(video):
    return jax.nn.softmax(model.apply(constants, steps.to_float(video))[0])

  video = _draw_video(case)
  program, secs = timing.compile_program(run, video)
  return lambda: np.asarray(program(video)), program, secs, _count_bytes(weights)


def _make_train(case: Case, model, weights: Mapping):
  """A step as a config makes it, with the state donated."""
  tx = optimizers.make_optimizer(batch_size=case.batch, total_steps=_TOTAL_STEPS)
  loss = losses.make_loss('softmax', label_smoothing=0.1)
  step = steps.make_train_step(model, tx, loss, seed=0)
  carried = jax.device_put(state.make_state(weights, tx))
  label = np.arange(case.batch) % model.num_classes
  batch = {'video': _draw_video(case), 'label': label, 'mask': np.ones(case.batch, np.float32)}
  batch = jax.device_put(batch)
  program, secs = timing.compile_program(step, carried, batch, donate_argnums=0)

  def call():
    nonlocal carried
    carried, metrics = program(carried, batch)
    return metrics

  return call, program, secs, 0


_MAKERS: Mapping[Kind, Callable] = {
  'stream': _make_stream,
  'clip': _make_clip,
  'train': _make_train,
}


def _draw_video(case: Case) -> np.ndarray:
  """Bytes [B, T, H, W, 3] of noise: the time of a network does not depend on what it sees."""
  return np.random.default_rng(0).integers(0, 256, case.shape, np.uint8)


def _count_bytes(tree) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _read_peak() -> int | None:
  """Bytes that were in use at most since the process began; None where the device does not say."""
  return (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use')


def _count_period(case: Case) -> int:
  """Calls after which an ensemble, whose members see every so many frames, repeats itself."""
  if case.kind != 'stream':
    return 1
  strides = [member.stride for member in getattr(case.network.model.spec, 'members', ())]
  return math.lcm(*strides, case.frames) // case.frames


@dataclasses.dataclass(frozen=True)
class Printed:
  """A published time of what a case is.

  Attributes:
    ms: of a frame for a stream, else of the clip.
    latency: where it stands, and what it is of.
  """

  ms: float
  latency: published.Latency

  def to_json(self) -> dict:
    one = self.latency
    return {'ms': self.ms, 'device': one.device, 'source': one.source, 'differs': one.differs}


def find_printed(case: Case) -> list[Printed]:
  """Published times of one stream or clip of the native input; [] for others and for training."""
  spec = case.network.model.spec  # for a trained network may have been evaluated on other clips
  if case.kind == 'train' or case.batch > 1 or {case.height, case.width} != {spec.resolution}:
    return []
  found = published.find_latencies(case.network.name)
  if case.kind == 'stream':
    return [Printed(one.frame_ms, one) for one in found if one.frame_ms]
  # A clip of other frames than the network's own has a size that no source prints.
  if case.frames != spec.frames:
    return []
  return [
    Printed(one.clip_ms, one) for one in found if one.clip_ms and one.frames in (None, spec.frames)
  ]


@dataclasses.dataclass(frozen=True)
class Row:
  """A case, and what came of it.

  Attributes:
    timing: None if it failed.
    error: why it failed.
  """

  case: Case
  timing: Timing | None
  error: str = ''

  @property
  def frame_ms(self) -> float:
    """Milliseconds of a call for each frame of each stream or clip."""
    return self.timing.times.median_ms / self.case.batch / self.case.frames

  @property
  def clip_ms(self) -> float:
    """Milliseconds of a call for each clip."""
    return self.timing.times.median_ms / self.case.batch

  @property
  def per_sec(self) -> float:
    """Frames of streams, or clips, a second."""
    return 1e3 / (self.frame_ms if self.case.kind == 'stream' else self.clip_ms)

  @property
  def printed(self) -> list[Printed]:
    return find_printed(self.case)

  def to_json(self, about: Mapping) -> dict:
    """A row for machines: the same keys in every row, None for what it does not have.

    Args:
      about: the machine.
    """
    case, found, clips = self.case, self.timing, self.case.kind != 'stream'
    times = found and found.times
    return {
      'network': case.network.text,
      'name': case.network.name,
      'trained': case.network.variables is not None,
      'num_classes': case.network.model.num_classes,
      'kind': case.kind,
      'frames': case.frames,
      'height': case.height,
      'width': case.width,
      'batch': case.batch,
      'dtype': case.dtype,
      'call_ms': times and times.median_ms,
      'call_p10_ms': times and times.p10_ms,
      'call_p90_ms': times and times.p90_ms,
      'calls': times and times.calls,
      'frame_ms': times and self.frame_ms,
      'clip_ms': self.clip_ms if times and clips else None,
      'frames_per_sec': times and 1e3 / self.frame_ms,
      'clips_per_sec': self.per_sec if times and clips else None,
      'compile_secs': found and found.compile_secs,
      'peak_bytes': found and found.peak_bytes,
      'peak_from': found and found.peak_from,
      'published': [one.to_json() for one in self.printed],
      'error': self.error or None,
      'machine': dict(about),
    }


def try_measure(case: Case, weights: Mapping, secs: float = 3.0) -> Row:
  """As `measure`, with what a network or the device cannot do as the error of the row."""
  try:
    return Row(case, measure(case, weights, secs))
  except (ValueError, MemoryError, JaxRuntimeError) as error:
    said = (str(error).strip().splitlines() or [''])[0]
    short = isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in said
    return Row(case, None, f'too little memory ({said})' if short else said)
