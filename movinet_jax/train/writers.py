"""Where a run's numbers go: metrics.jsonl, TensorBoard, and a line on stdout."""

import contextlib
import json
import math
import sys
from pathlib import Path

import jax
from tqdm import tqdm


class Writer:
  """Writes scalars of a step to the workdir, from the first process only.

  metrics.jsonl only grows: after a resume it can hold a step twice, and the later line
  stands.
  """

  def __init__(self, workdir, *, tensorboard: bool = True, stdout: bool = True):
    """Opens `workdir/metrics.jsonl` and, if wanted, `workdir/tensorboard`."""
    self._first = jax.process_index() == 0
    self._stdout = stdout and self._first
    self._file = self._summary = None
    if self._first:
      folder = Path(workdir)
      folder.mkdir(parents=True, exist_ok=True)
      self._file = _open_lines(folder / 'metrics.jsonl')
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
    if self._summary is not None:
      self._summary.write_scalars(step, values)
    if self._stdout:
      # Through tqdm, which lifts the progress bar out of the way.
      text = '  '.join(f'{name} {value:.5g}' for name, value in values.items())
      tqdm.write(f'step {step}  {text}', file=sys.stdout)

  def chart(self, step: int, scalars: dict[str, float]):
    """Scalars for TensorBoard alone: those too many for a line that a person reads."""
    if self._summary is not None:
      self._summary.write_scalars(step, scalars)

  def flush(self):
    if self._summary is not None:
      self._summary.flush()

  def close(self):
    if self._summary is not None:
      self._summary.close()
    if self._file is not None:
      self._file.close()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()


def _open_lines(path):
  # A run killed in the middle of a line must not spoil the next one's first.
  torn = path.exists() and not path.read_bytes().endswith(b'\n') and path.stat().st_size
  file = path.open('a')
  if torn:
    file.write('\n')
  return file


def _make_summary(folder):
  # Here and not above: this import starts TensorFlow, which takes seconds.
  from clu import metric_writers

  return metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))


def read_rows(workdir) -> list[dict]:
  """What metrics.jsonl of a workdir holds, in the order in which it was written.

  Lines that a kill has torn are passed over.
  """
  rows = []
  for line in (Path(workdir) / 'metrics.jsonl').read_text().splitlines():
    with contextlib.suppress(json.JSONDecodeError):
      rows.append(json.loads(line))
  return [row for row in rows if isinstance(row, dict) and 'step' in row]
