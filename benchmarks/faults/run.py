"""A run of `movinet train` on the smallest task, and what is on disk of it."""

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks.faults.job import Job
from movinet_jax.data import motion
from movinet_jax.train import checkpoint

CONFIG = 'benchmarks/faults/small.py'
TOTAL, SAVE_EVERY = 40, 10  # steps, as the config has them
STRUCK = 15  # the step after which things happen, between two saves


class Lost(AssertionError):
  """Something that a run had reported is not there any more, or is another."""


class Place:
  """A folder for runs, with the videos and compiled programs that they share."""

  def __init__(self, folder: Path):
    self.folder = folder
    self.videos = folder / 'videos'
    motion.write_motion(str(self.videos), videos_per_class=8, frames=8, size=24, seed=1)
    self.environment = {
      'JAX_COMPILATION_CACHE_DIR': os.environ.get(
        'JAX_COMPILATION_CACHE_DIR', str(folder / 'cache')
      ),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    self._finals: dict[int, str] = {}

  def start(self, words, name: str, count: int = 1) -> Job:
    """Starts `movinet WORDS`; what it says goes to logs of this name."""
    logs = self.folder / 'logs' / name
    return Job(words, logs, count=count, environment=self.environment)

  def make_folder(self, name: str) -> Path:
    """A new folder, for no second run of a name is to find what the first one left."""
    for number in itertools.count():
      folder = self.folder / f'{name}-{number}'
      if not folder.exists():
        folder.mkdir()
        return folder

  def find_undisturbed(self, count: int) -> str:
    """The digest of what a run of so many processes ends with, if nothing happens."""
    if count not in self._finals:
      run = Run(self, f'undisturbed-{count}', count=count)
      with run.start() as job:
        job.await_end()
        job.expect({0})
      self._finals[count] = run.make_digest()
    return self._finals[count]


class Run:
  """A workdir of `movinet train`, and its command.

  Attributes:
    workdir: its folder.
    count: of processes.
  """

  def __init__(
    self,
    place: Place,
    name: str,
    *,
    count: int = 1,
    workdir: Path | None = None,
    videos: Path | None = None,
    **changes,
  ):
    """Args:
    workdir: that of `name` in the place, unless given.
    videos: those of the place, unless given.
    changes: of the config, by key.
    """
    self.place, self.name, self.count = place, name, count
    self.workdir = workdir or place.make_folder(name)
    roots = {f'data.{split}.root': videos or place.videos for split in ('train', 'eval')}
    self._words = [
      'train',
      f'--config={CONFIG}',
      f'--workdir={self.workdir}',
      *(f'--config.{key}={value}' for key, value in {**roots, **changes}.items()),
    ]
    self._rows, self._saved = {}, 0

  def start(self) -> Job:
    return self.place.start(self._words, self.name, self.count)

  def read_rows(self) -> list[dict]:
    """The training steps that the run has written down, in that order."""
    path = self.workdir / 'metrics.jsonl'
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    # The last one may be half written; a kill leaves it so for good.
    rows = [json.loads(line) for line in lines if line.endswith('}\n')]
    return [row for row in rows if 'loss' in row]

  def is_at(self, step: int) -> Callable[[], bool]:
    return lambda: any(row['step'] >= step for row in self.read_rows())

  def is_writing(self) -> bool:
    """Whether a checkpoint is there in part."""
    folder = self.workdir / 'checkpoints'
    return folder.exists() and any('tmp' in path.name for path in folder.iterdir())

  def read_saved(self) -> int:
    """The step of the last whole checkpoint, 0 without one."""
    return max(checkpoint.count_steps(self.workdir / 'checkpoints'), default=0)

  def remember(self):
    """Notes what has been reported and saved so far.

    Raises:
      Lost: what was noted before is not there any more.
    """
    rows, saved = self.read_rows(), self.read_saved()
    known = {row['step']: row['loss'] for row in rows}
    if saved < self._saved or not known.items() >= self._rows.items():
      raise Lost(f'{self.workdir} had saved {self._saved} and reported {self._rows}')
    self._rows, self._saved = known, saved

  def go_on(self) -> float:
    """Gives the same command again and awaits its end: seconds to its first new step.

    Raises:
      Lost: what was remembered is gone, or steps made again came to another result, or
        the end is not that of an undisturbed run.
    """
    self.remember()
    known = len(self.read_rows())
    with self.start() as job:
      job.await_until(lambda: len(self.read_rows()) > known)
      secs = time.monotonic() - job.began
      job.await_end()
      job.expect({0})
    self._check(self.read_rows()[known:])
    if self.make_digest() != self.place.find_undisturbed(self.count):
      raise Lost(f'{self.workdir} ended with other parameters than an undisturbed run')
    return secs

  def count_repeated(self) -> int:
    """Steps that were reported, but come after the last checkpoint: they are made again."""
    return max(0, max(self._rows, default=0) - self._saved)

  def _check(self, after):
    steps = [row['step'] for row in after]
    if steps != list(range(self._saved + 1, TOTAL + 1)):
      raise Lost(f'{self.workdir} had saved {self._saved}, then made {steps}')
    for row in after:
      if row['loss'] != self._rows.get(row['step'], row['loss']):
        raise Lost(f'{self.workdir}: step {row["step"]} was {row["loss"]} the 2nd time')

  def make_digest(self) -> str:
    """Of all parameters, averages and statistics of the last checkpoint, to the bit."""
    digest = hashlib.sha256()
    for ema in (False, True):
      tree, meta = checkpoint.load_variables(self.workdir / 'checkpoints', ema=ema)
      digest.update(str(meta['step']).encode())
      for path, array in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(f'{path}{array.dtype}{array.shape}'.encode())
        digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()
