"""The largest batch that fits on a machine."""

from collections.abc import Callable, Mapping

from launch.pods.preflight.machine import Machine
from launch.pods.preflight.program import Compiled

_FULL = 0.97  # of a device's memory: more clips are not looked for


def find_largest(
  attempt: Callable[[int], Compiled],
  known: Mapping[int, Compiled],
  machine: Machine,
  compiles: int,
  start: float,
) -> tuple[int, int | None]:
  """The largest number of units that fits, by bisection.

  Where memory is known to grow along a line, it is cut where that line meets the limit.

  Args:
    attempt: compiles so many units.
    known: what is compiled already.
    machine: what it has to fit.
    compiles: attempts at most.
    start: units to begin with where nothing is known.

  Returns:
    (most units that were seen to fit, least that were seen not to; 0 and None for no
    such). The second is one more than the first also where that one fills the device.
  """
  known, limit = dict(known), machine.memory_bytes
  while True:
    low = max((n for n, found in known.items() if found.fits(machine)), default=0)
    high = min((n for n, one in known.items() if not one.fits(machine)), default=None)
    if low and limit and known[low].memory.total > _FULL * limit:
      return low, low + 1
    if compiles < 1 or limit is None or (high is not None and high - low < 2):
      return low, high
    if not known:
      guess = max(1, int(start))
    elif high is None:
      guess = min(max(_extrapolate(known, limit) or 2 * low, low + 1), 8 * low)
    else:
      guess = _extrapolate(known, limit) or (low + high) // 2
      guess = min(max(guess, low + 1), high - 1)
    known[guess] = attempt(guess)
    compiles -= 1


def _extrapolate(known: Mapping[int, Compiled], limit: int) -> int | None:
  """Where the line through the two largest programs of known memory meets the limit."""
  points = sorted((n, c.memory.total) for n, c in known.items() if c.memory)[-2:]
  if len(points) < 2 or points[0][1] >= points[1][1]:
    return None
  (a, small), (b, large) = points
  return a + int((limit - small) * (b - a) / (large - small))
