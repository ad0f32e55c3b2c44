"""The networks that a one-shot search has tried, on disk beside its checkpoints.

A part is written whenever the state is saved, and holds the steps since the part before. A
run that resumes after a kill repeats the steps after its checkpoint and writes their
networks again, so no network is missing and none is there twice.
"""

import dataclasses
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from nas.cost import CostTable


@dataclasses.dataclass(frozen=True)
class Samples:
  """The n networks that a search ran, in the order of their steps.

  Attributes:
    steps: [n] at which each was run.
    choices: [n, D].
    accuracy, reward: [n], on one batch each.
    cost: [n] int64, of the kind that has a target.
  """

  steps: np.ndarray
  choices: np.ndarray
  accuracy: np.ndarray
  reward: np.ndarray
  cost: np.ndarray

  def __post_init__(self):
    lengths = {k: len(v) for k, v in vars(self).items()}
    if len(set(lengths.values())) > 1:
      raise ValueError(f'samples need arrays of one length, got {lengths}')

  def __len__(self) -> int:
    return len(self.steps)


_KEYS = (
  *(f.name for f in dataclasses.fields(Samples)),
  'policy_steps',
  'probabilities',
)
# The errors of reading a part that is cut short, altered, or not a part.
_DAMAGED = (
  *(ValueError, TypeError, KeyError, EOFError, RuntimeError),
  *(zipfile.BadZipFile, zlib.error),
)


class SampleWriter:
  """Gathers the samples of steps and writes a part when told."""

  def __init__(self, folder: Path, cost: CostTable, *, first: int, every: int):
    """Begins after step `first`; keeps the policy of every `every`-th step too."""
    self._folder, self._cost, self._every = folder, cost, every
    self._rows: list[tuple[int, Mapping]] = []
    folder.mkdir(parents=True, exist_ok=True)
    for part in _list_parts(folder):
      # A kill prevented the checkpoint of this part: its steps come again.
      if int(part.stem) > first and not jax.process_index():
        part.unlink()

  def add(self, step: int, samples: Mapping[str, jax.Array]):
    """Keeps the samples of a step on the devices, without waiting for them."""
    self._rows.append((step, samples))

  def write(self, step: int) -> list[tuple[int, np.ndarray]]:
    """Writes the samples added since, whole or not at all; returns the kept (step, policy)."""
    rows, self._rows = jax.device_get(self._rows), []
    kept = [(n, s['probabilities']) for n, s in rows if self._every and n % self._every == 0]
    if not rows or jax.process_index():
      return kept
    choices = np.concatenate([s['choices'] for _, s in rows])
    part = {
      'steps': np.repeat([n for n, _ in rows], len(rows[0][1]['reward'])),
      'choices': choices.astype(np.int8 if choices.max(initial=0) < 128 else np.int16),
      'accuracy': np.concatenate([s['accuracy'] for _, s in rows]),
      'reward': np.concatenate([s['reward'] for _, s in rows]),
      'cost': self._cost.count(choices),
      'policy_steps': np.array([n for n, _ in kept], np.int64),
      'probabilities': np.array([p for _, p in kept], np.float32),
    }
    path = self._folder / f'{step:08d}.npz'
    partial = path.with_suffix('.part')
    with partial.open('wb') as file:
      np.savez_compressed(file, **part)
      file.flush()
      os.fsync(file.fileno())
    partial.replace(path)
    return kept


def read_samples(folder: Path, last: int):
  """Reads the parts up to a step: (Samples, (steps [S], probabilities [S, D, N])).

  Either is None if there is none.

  Raises:
    ValueError: a part is damaged.
  """
  files = [f for f in _list_parts(folder) if int(f.stem) <= last]
  parts = []
  for file in files:
    try:
      with np.load(file) as arrays:
        parts.append({key: arrays[key] for key in _KEYS})
    except _DAMAGED as error:
      raise ValueError(f'{file} is damaged, or no samples: {error}') from error
  if not parts:
    return None, None
  joined = {
    key: np.concatenate([p[key] for p in parts if len(p[key])] or [parts[0][key]])
    for key in parts[0]
  }
  policy = joined.pop('policy_steps'), joined.pop('probabilities')
  return Samples(**joined), policy if len(policy[0]) else None


def _list_parts(folder: Path) -> list[Path]:
  return sorted(file for file in folder.glob('*.npz') if file.stem.isdecimal())
