"""Where a run's numbers go: metrics.jsonl, TensorBoard, and a line on stdout."""

import contextlib
import errno
import fcntl
import json
import math
import os
import sys
from pathlib import Path

import jax
from tqdm import tqdm

from movinet_jax import signals
from movinet_jax.train.saved_steps import count_steps, list_incomplete
from movinet_jax.train.workdir import CHECKPOINTS, METRICS, replace_file

LAST_SAVE = 'last_save.json'


class Writer:
  """Writes scalars of a step to the workdir, from the first process only.

  metrics.jsonl only grows: after a resume it can hold a step twice, and the later line
  stands.
  """

  def __init__(self, workdir, *, tensorboard: bool = True, stdout: bool = True):
    """Opens `workdir/metrics.jsonl` and, if wanted, `workdir/tensorboard`.

    Raises:
      BlockingIOError: another Writer has them open, in this process or another.
    """
    self._first = jax.process_index() == 0
    self._stdout = stdout and self._first
    self._file = self._summary = None
    if self._first:
      self._folder = folder = Path(workdir)
      folder.mkdir(parents=True, exist_ok=True)
      self._file = _open_lines(folder / METRICS)
      if not self._file.tell():  # a run of earlier versions has lines, and no note of saves
        self.note_save(None)
      if tensorboard:
        self._summary = _make_summary(folder / 'tensorboard')

  def write(self, step: int, scalars: dict[str, float]):
    """One line per call; a value that is not finite becomes null in JSON."""
    if not self._first:
      return
    values = {name: float(value) for name, value in scalars.items()}
    known = {k: v if math.isfinite(v) else None for k, v in values.items()}
    self._file.write(json.dumps({'step': step, **known}) + '\n')
    self._file.flush()
    os.fsync(self._file.fileno())  # what was told is kept, though the machine goes
    self._tell_tensorboard('write_scalars', step, values)
    if self._stdout:
      # Through tqdm, which lifts the progress bar out of the way.
      text = '  '.join(f'{name} {value:.5g}' for name, value in values.items())
      try:
        tqdm.write(f'step {step}  {text}', file=sys.stdout)
      except OSError as error:
        signals.survive(error)

  def note_save(self, step: int | None):
    """Notes which checkpoint is on disk, None for none so far; see `check_nothing_lost`."""
    if self._first:
      replace_file(self._folder / LAST_SAVE, json.dumps({'step': step}) + '\n')

  def chart(self, step: int, scalars: dict[str, float]):
    """Scalars for TensorBoard alone: those too many for a line that a person reads."""
    self._tell_tensorboard('write_scalars', step, scalars)

  def flush(self):
    """Raises an OSError of what could not be written, be it of an earlier step."""
    self._tell_tensorboard('flush')

  def close(self):
    self._tell_tensorboard('close')
    if self._file is not None:
      self._file.close()

  def _tell_tensorboard(self, what, *arguments):
    if self._summary is None:
      return
    try:
      getattr(self._summary, what)(*arguments)
    except Exception as error:
      # It writes in another thread, and wraps what TensorFlow made of the system's error.
      if os.strerror(errno.ENOSPC) not in str(error):
        raise
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'tensorboard') from error

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()


def _open_lines(path):
  # A run killed in the middle of a line must not spoil the next one's first.
  torn = path.exists() and not path.read_bytes().endswith(b'\n') and path.stat().st_size
  file = path.open('a')
  _lock(file, path)
  if torn:
    file.write('\n')
  return file


def _lock(file, path):
  """Two runs in one workdir would write over each other's checkpoints."""
  try:
    # The lock is on the lines' own file and lasts as long as that is open: no lock file is
    # left in the workdir, and runs of older versions see it.
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.close()
    said = 'another run is writing there'
    raise BlockingIOError(error.errno, said, str(path)) from None
  except OSError:  # This file system cannot lock.
    pass


def _make_summary(folder):
  # Here and not above: this import starts TensorFlow, which takes seconds.
  from clu import metric_writers

  return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))


def check_nothing_lost(workdir):
  """Checks that a workdir which once held a checkpoint still does.

  A run would begin at step 0 again, and save over what may yet be found.

  Raises:
    FileNotFoundError: none is left that could be read.
  """
  folder = Path(workdir)
  traces = [path for path in (folder / LAST_SAVE, folder / METRICS) if path.exists()]
  if not traces or count_steps(folder / CHECKPOINTS):
    return
  saved = _read_saved(folder)
  if saved:
    left = [f'{n} has no {name}' for n, name in list_incomplete(folder / CHECKPOINTS).items()]
    raise FileNotFoundError(
      f'{folder} has reached step {max(saved)}, but {folder / CHECKPOINTS} has no whole checkpoint '
      f'({", ".join(left) or "it is empty"}): bring one back, or choose another --workdir; to '
      f'begin this one at step 0, remove {" and ".join(map(str, traces))}'
    )


def _read_saved(folder: Path) -> list[int]:
  """Steps that were saved, as far as a workdir tells without its checkpoints."""
  path = folder / LAST_SAVE
  if not path.exists():  # as earlier versions left it: what was logged may have been saved
    return [row['step'] for row in read_rows(folder)]
  try:
    step = json.loads(path.read_text())['step']
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(f'{path} is damaged: it tells which step was saved last') from error
  return [] if step is None else [step]


def read_rows(workdir) -> list[dict]:
  """What metrics.jsonl of a workdir holds, in the order in which it was written.

  Lines that a kill has torn are passed over.
  """
  rows = []
  for line in (Path(workdir) / METRICS).read_text(errors='replace').splitlines():
    with contextlib.suppress(json.JSONDecodeError):
      rows.append(json.loads(line))
  return [row for row in rows if isinstance(row, dict) and type(row.get('step')) is int]
