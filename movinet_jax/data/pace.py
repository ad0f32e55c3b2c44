"""How fast clips are read, and what would make that as fast as a run's steps."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

from movinet_jax.cores import count_cores
from movinet_jax.data.clip import Clip
from movinet_jax.data.frames import FrameFolder
from movinet_jax.data.source import Source


@dataclasses.dataclass(frozen=True)
class Spent:
  """What reading clips has taken, added up over the threads and processes that read.

  Attributes:
    clips: how many were read.
    secs: of the clock, from asking for a clip until it lies in its batch.
    core_secs: of a core. The rest of `secs` is waiting: for a disk, or for a core.
  """

  clips: int = 0
  secs: float = 0.0
  core_secs: float = 0.0

  def __add__(self, other: 'Spent') -> 'Spent':
    return Spent(self.clips + other.clips, self.secs + other.secs, self.core_secs + other.core_secs)


def start_watch() -> Callable[[int], Spent]:
  """Starts to measure this thread; what it returns is called with the clips read since."""
  secs, core_secs = time.perf_counter(), time.thread_time()
  return lambda clips: Spent(clips, time.perf_counter() - secs, time.thread_time() - core_secs)


@dataclasses.dataclass(frozen=True)
class Reading:
  """How a process reads a stream of clips.

  Attributes:
    source, clip: what is read.
    clips: of a batch of this process.
    workers, threads: that read it; see LoaderOptions.
    spent: so far.
  """

  source: Source
  clip: Clip
  clips: int
  workers: int
  threads: int
  spent: Spent = Spent()

  def add(self, spent: Spent) -> 'Reading':
    return dataclasses.replace(self, spent=self.spent + spent)

  @property
  def batch_secs(self) -> float:
    """Of the clock, that one thread takes for a batch."""
    return self.clips * self.spent.secs / max(self.spent.clips, 1)

  @property
  def batch_core_secs(self) -> float:
    """Of a core, that a batch takes."""
    return self.clips * self.spent.core_secs / max(self.spent.clips, 1)

  def count_workers(self, step_secs: float) -> int:
    """Workers that make a batch in every step of this length."""
    return max(1, math.ceil(self.batch_secs / step_secs / self.threads))


def advise(readings: Sequence[Reading], step_secs: float, cores: float | None = None) -> str:
  """Says what steps need of their input, what reads it now, and what to change.

  Args:
    readings: of the streams that every step takes a batch of.
    step_secs: how long the devices compute a step.
    cores: that this process may use; by default asked of the system.
  """
  cores, step_secs = cores or count_cores(), max(step_secs, 1e-6)
  clips, workers = sum(r.clips for r in readings), readings[0].workers
  secs, core_secs = (
    sum(getattr(r, name) for r in readings) / clips for name in ('batch_secs', 'batch_core_secs')
  )
  need, by = clips * core_secs / step_secs, 'worker' if workers else 'thread'
  each = f' for each of its {len(readings)} streams' if len(readings) > 1 else ''
  said = (
    f'A step computes for {step_secs:.3g} s and takes {clips} clips; a {by} takes {secs:.3g} s for '
    f'a clip, {core_secs:.3g} s of a core. So the step needs {_say(need)} cores to read. Here are '
    f'{cores}, and loader.workers={workers}{each}. '
  )
  wanted = max(r.count_workers(step_secs) for r in readings)
  cheaper = _find_cheaper(readings[0].source, readings[0].clip)
  if need <= cores and wanted > workers:
    return f'{said}Take loader.workers={wanted}'
  if need <= cores:
    return f'{said}They would do if nothing else used the cores. What takes fewer: {cheaper}'
  most = math.ceil(cores / len(readings))
  more = f'Take loader.workers={most}, all that these cores can do. ' if most > workers else ''
  hosts = math.ceil(need / cores)
  return f'{said}{more}What takes fewer: {cheaper}; or share the batch among {hosts} x the hosts'


def _say(cores: float) -> str:
  return f'{cores:.1f}' if cores < 10 else f'{cores:,.0f}'


def _find_cheaper(source: Source, clip: Clip) -> str:
  """What clips of a dataset would take less time to read."""
  wanted, side = clip.least_side, source.short_side
  if isinstance(source.records[0].video, FrameFolder):
    return f'pictures of {wanted} pixels on the shorter side, or fewer of them a clip'
  ways = ['folders of pictures', 'fewer frames a clip', 'a smaller stride']
  if side is None:
    ways.insert(0, f'videos of {wanted} pixels on the shorter side with a key frame every 12')
  elif side > wanted:
    ways.insert(0, f'a dataset built with --short-side {wanted} (this one has {side})')
  return f'{", ".join(ways[:-1])}, or {ways[-1]} (docs/data.md, Speed)'
