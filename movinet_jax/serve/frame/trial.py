"""Tries two programs of a stream's frame on the device here, and keeps the faster one.

A frame step was measured on CPUs. No GPU has timed one, and what launches its kernels is not a
public interface of XLA. So on a GPU each stream tries its frame step before the first frame.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from movinet_jax.export.program import ExportError

_FRAMES = 30  # of which the first third is not timed
_FASTER = 0.95  # of the network's time: below, so that noise does not choose
# Probabilities may differ by so much of the largest one: bfloat16 rounds where kernels end. This
# finds kernels that do not run or read wrong arrays. Where all classes are about as probable, as
# before training, it may miss smaller faults.
_TOLERANCE = {'float32': 0.02, 'bfloat16': 0.15}


@dataclasses.dataclass(frozen=True)
class Trial:
  """The program that a stream takes, and how long both took.

  Attributes:
    step: the one to take.
    ms: median milliseconds of a call, by the name of the step: 'frame' and 'network'.
  """

  step: Any
  ms: Mapping[str, float]


def choose(
  make_frame: Callable, make_network: Callable, size: tuple[int, int], dtype: str
) -> Trial:
  """Compiles a frame step, and takes it if it answers as the network does and is faster.

  Args:
    make_frame: returns the frame step.
    make_network: returns the step that runs the network as it is written.
    size: (height, width) of a frame.
    dtype: that the stream computes in.

  Raises:
    ExportError: `make_frame` does.
  """
  network = None
  try:
    frame = make_frame()
    network = make_network()
    steps = {'frame': frame, 'network': network}
    answers, ms = run_in_turns(steps, size)
  except ExportError:
    raise
  except Exception as fault:  # of NVRTC, of XLA, or of the driver
    return _give_up(network or make_network(), f'{type(fault).__name__}: {fault}')
  difference = np.abs(answers['frame'] - answers['network']).max() / answers['network'].max()
  if not difference <= _TOLERANCE[dtype]:  # nor if it is no number
    return _give_up(network, f'probabilities differ by {difference:.3g} of the largest')
  return Trial(frame if ms['frame'] < _FASTER * ms['network'] else network, ms)


def _give_up(network, fault: str) -> Trial:
  warnings.warn(
    f'the stream runs as the network is written, slower: {fault}', RuntimeWarning, stacklevel=5
  )
  return Trial(network, {})


def run_in_turns(steps: Mapping[str, Any], size: tuple[int, int]):
  """Returns each step's answers [T, N] to the same frames, and its median milliseconds a frame."""
  random = np.random.default_rng(0)
  states = {name: step.begin() for name, step in steps.items()}
  answers, times = {name: [] for name in steps}, {name: [] for name in steps}
  for _ in range(_FRAMES):
    frame = random.integers(0, 256, (1, 1, *size, 3), np.uint8)
    for name, step in steps.items():
      began = time.perf_counter()
      probabilities, states[name] = step(frame, states[name])
      answers[name].append(np.asarray(probabilities))
      times[name].append(1e3 * (time.perf_counter() - began))
  ms = {name: float(np.median(values[_FRAMES // 3 :])) for name, values in times.items()}
  return {name: np.stack(values) for name, values in answers.items()}, ms
